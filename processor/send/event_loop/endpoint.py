"""endpoint: the seam to HTTP. A destination's request out, an `Answer` or the reason why there is none back.

    post ─┬─ the transport can `exchange` ─► a receiver is told                 no task, no future
          └─ any other of httpx's ─► a task awaits `handle_async_request`
                                              └─► `ended`, once, never from inside `post`

The seam is httpx's transport interface, called directly: what stands behind it is chosen by the composition
root. A transport that can do without a task for each request says so by having `exchange`. Of an answer the
sender reads the status, at most 64 KiB of the body, and the few headers that the verdicts read. Advice on an accepted
request is read now and then only: a server whose quota is used up says so on every answer.

Owned by the sender's event loop. Not chosen: `httpx.AsyncClient` (129 µs a request over a transport that does
nothing; it also follows redirects, keeps cookies and reads the environment); a task for each request behind
every transport (a quarter of an entry's CPU).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import httpx

from processor.api.bodies import strange
from processor.api.verdicts import BODY_BYTES_MAX, NO_HEADERS, Answer, NoAnswer, is_kept
from processor.interfaces import Clock
from processor.send.destination import RawHeaders, Request

_LOOK_EVERY_S: Final = 0.02
_TROUBLE_CHARS_MAX: Final = 300
_HEADERS_MAX: Final = 64
_HEADER_CHARS_MAX: Final = 64 * 1024
_METHODS_AND_PATHS_MAX: Final = 64
"""Paths are constants of a destination; one made from data would fill memory with templates."""


class Template(Protocol):
    """What the requests to one URL have in common (`processor/edges/http/request.py`)."""

    def build(self, content: bytes, extra_headers: RawHeaders = ()) -> httpx.Request:
        """Raises httpx.LocalProtocolError for a header that is none."""

    def wire(self, content: bytes, extra_headers: RawHeaders = ()) -> bytes:
        """The same request as bytes."""


class Exchange(Protocol):
    """A request that is under way in a transport that can `exchange`."""

    def abandon(self, receiver: Any) -> None: ...


class Exchanging(Protocol):
    """What a transport that needs no task for a request has (`processor/edges/http/pool.py`)."""

    def exchange(self, template: Any, wire: bytes, receiver: Any) -> Exchange: ...

    def fields(self, head: list[bytes]) -> list[tuple[bytes, bytes]]: ...


Templates = Callable[[str, httpx.URL, RawHeaders, Mapping[str, float | None]], Template]
"""Makes a template for method, URL, headers and timeouts by phase (and `total`), in seconds."""


Ended = Answer | NoAnswer | Exception
"""How a request ended; an exception is no transport's, but a mistake of ours."""

WhatT = TypeVar("WhatT")


class Posted(Generic[WhatT]):
    """One request under way, and the receiver of its answer. Mutable: `exchange` or `task` is what carries it."""

    __slots__ = ("_ended", "_endpoint", "_what", "exchange", "task")

    def __init__(self, endpoint: Endpoint, what: WhatT, ended: Callable[[WhatT, Ended], None]) -> None:
        self._endpoint = endpoint
        self._what = what
        self._ended = ended
        self.exchange: Exchange | None = None
        self.task: asyncio.Task[None] | None = None

    def answered(self, status: int, head: list[bytes], body: bytes, truncated: bool) -> None:
        self._ended(self._what, self._endpoint.answer(status, head, body))

    def failed(self, error: Exception) -> None:
        self._ended(self._what, self._endpoint.no_answer(error))

    async def awaited(self, template: Template, body: bytes, headers: RawHeaders) -> None:
        self._ended(self._what, await self._endpoint.awaited(template, body, headers))

    def give_up(self) -> None:
        """The answer is not waited for any more, and `ended` not called."""
        if self.exchange is not None:
            self.exchange.abandon(self)
        elif self.task is not None:
            self.task.cancel()


class Endpoint:
    """One base URL behind one transport.

    Mutable. `_templates` by method and path, for the headers of today's key; `trouble` is why the last
    request without an answer had none.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        templates: Templates,
        base_url: str,
        request_s_max: float,
        clock: Clock,
    ) -> None:
        self._transport = transport
        self._direct = cast("Exchanging | None", transport if hasattr(transport, "exchange") else None)
        self._make = templates
        self._base_url = base_url
        self._timeouts = {"connect": 5.0, "write": 10.0, "read": request_s_max, "pool": 10.0, "total": request_s_max}
        self._clock = clock
        self._common: RawHeaders = ()
        self._templates: dict[tuple[str, str], Template] = {}
        self._look_at_s = 0.0
        self.trouble: str | None = None

    def use(self, headers: RawHeaders) -> None:
        """What all requests have in common, from now on."""
        self._common = headers
        self._templates.clear()

    def post(self, request: Request, what: WhatT, ended: Callable[[WhatT, Ended], None]) -> Posted[WhatT]:
        """Sends it, and calls `ended(what, …)` once, later. Total: whatever the transport raises is a reason why there
        is no answer."""
        method, path, body, headers = request
        template = self._templates.get((method, path)) or self._template(method, path)
        posted = Posted(self, what, ended)
        if self._direct is not None:
            try:
                posted.exchange = self._direct.exchange(template, template.wire(body, headers), posted)
            except Exception as error:
                asyncio.get_running_loop().call_soon(posted.failed, error)
        else:
            posted.task = asyncio.get_running_loop().create_task(posted.awaited(template, body, headers))
        return posted

    async def awaited(self, template: Template, body: bytes, headers: RawHeaders) -> Ended:
        """By httpx's interface."""
        try:
            response = await self._transport.handle_async_request(template.build(body, headers))
            content = response.content if response.is_stream_consumed else await _read(response)
        except Exception as error:
            return self.no_answer(error)
        status = response.status_code
        if strange(content) or self._is_advice_due(status):
            return Answer(status, _kept(response.headers.raw), content)
        return Answer(status, NO_HEADERS, content)

    def answer(self, status: int, head: list[bytes], body: bytes) -> Answer:
        """By `exchange`."""
        if strange(body) or self._is_advice_due(status):
            assert self._direct is not None
            return Answer(status, _kept(self._direct.fields(head)), body)
        return Answer(status, NO_HEADERS, body)

    def no_answer(self, error: Exception) -> NoAnswer | Exception:
        reason = no_answer(error)
        if reason is None:
            return error
        self.trouble = f"{type(error).__name__}: {error}"[:_TROUBLE_CHARS_MAX]
        return reason

    def _is_advice_due(self, status: int) -> bool:
        if not 200 <= status < 300:
            return True
        now_s = self._clock.monotonic_s()
        if now_s < self._look_at_s:
            return False
        self._look_at_s = now_s + _LOOK_EVERY_S
        return True

    def _template(self, method: str, path: str) -> Template:
        assert len(self._templates) < _METHODS_AND_PATHS_MAX, "paths made from data"
        template = self._make(method, httpx.URL(self._base_url + path), self._common, self._timeouts)
        self._templates[method, path] = template
        return template


def no_answer(error: Exception) -> NoAnswer | None:
    """What an exception of a transport means; None where it is no transport's, but a mistake of ours."""
    if isinstance(error, (httpx.TimeoutException, TimeoutError)):
        return NoAnswer.TIMEOUT
    if isinstance(error, (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError, OSError)):
        return NoAnswer.CONNECTION
    return None


def _kept(fields: RawHeaders) -> Mapping[str, str]:
    """What the verdicts read; a header that stands several times is its values on lines of their own."""
    kept: dict[str, str] = {}
    for raw, value in fields:
        name = raw.decode("latin-1").lower()
        if is_kept(name) and len(kept) < _HEADERS_MAX:
            text = value.decode("latin-1")
            kept[name] = f"{kept[name]}\n{text}"[:_HEADER_CHARS_MAX] if name in kept else text
    return kept or NO_HEADERS


async def _read(response: httpx.Response) -> bytes:
    """At most BODY_BYTES_MAX; the rest is left where it is, and the connection with it."""
    try:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= BODY_BYTES_MAX:
                break
        return bytes(body[:BODY_BYTES_MAX])
    finally:
        await response.aclose()
