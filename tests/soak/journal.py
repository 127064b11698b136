"""Each request as the API's side of the connection saw it: what it was, when it came, when it was over and how."""

from __future__ import annotations

import threading
import time

from processor.sandbox.apis.loopback import Application, Message, Receive, Scope, Send
from tests.soak.checks import Request


class Journal:
    """An ASGI application around another. Mutable under its lock: `_over`, `_open` (what is being served)."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._over: list[Request] = []
        self._open: dict[int, tuple[str, float]] = {}
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope.get("headers", ())).get(b"idempotency-key")
        if key is None:
            await self._inner(scope, receive, send)
            return
        entry_id, at_s = key.decode().strip('"'), time.monotonic()
        gone_s: float | None = None
        answered_s: float | None = None
        status: int | None = None
        with self._lock:
            self._count += 1
            number = self._count
            self._open[number] = entry_id, at_s

        async def noting() -> Message:
            nonlocal gone_s
            message = await receive()
            if message["type"] == "http.disconnect" and gone_s is None:
                gone_s = time.monotonic()
            return message

        async def telling(message: Message) -> None:
            nonlocal answered_s, status
            if message["type"] == "http.response.start":
                # Before it is on its way: the client may send its next one as soon as it has the answer.
                status, answered_s = message["status"], time.monotonic()
            await send(message)

        try:
            await self._inner(scope, noting, telling)
        finally:
            hung_up = gone_s is not None and (answered_s is None or gone_s < answered_s)
            until_s = (gone_s if hung_up else answered_s) or time.monotonic()
            with self._lock:
                del self._open[number]
                self._over.append(Request(entry_id, at_s, until_s, hung_up, status))

    def requests(self) -> list[Request]:
        """Also those that are being served, as if they were over now."""
        now_s = time.monotonic()
        with self._lock:
            return [*self._over, *(Request(one, at_s, now_s, False, None) for one, at_s in self._open.values())]
