"""An ASGI application that listens on a loopback port, in a thread with an event loop of its own.

The caller owns it; `stop` ends the thread and frees the port. The socket listens before the thread runs, so the port is
known at once, and connections wait from the first moment. A stopped application refuses connections, like an API that
is down. It can be started again on the same port.

ASGI cannot break a connection. So an application gets `reset` beside it: it ends a request's connection, and the client
sees what it sees when a load balancer dies.

Not chosen: a process of its own (the tests read the record in process); the standard library's server (it takes a
thread a connection).
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, cast

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

START_S_MAX: Final = 10.0
STOP_S_MAX: Final = 5.0
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest body that is read. Above any limit of a script; a runaway client must not fill the memory."""
KEEP_ALIVE_S: Final = 75
"""Idle connections stay open as long as nginx keeps them."""

_RESET = "sandbox.reset"


class ResettableHttp(HttpToolsProtocol):
    """uvicorn's protocol; each request can reset its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_RESET: {"abort": self._abort}}

    def _abort(self) -> None:
        raw = self.transport.get_extra_info("socket")
        if raw is not None and not self.transport.is_closing():
            # Linger 0: the kernel sends RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def reset(scope: Scope, receive: Receive) -> None:
    """Resets the connection of the request in `scope`. Returns when the client has hung up."""
    cast(Callable[[], None], scope["extensions"][_RESET]["abort"])()
    await hung_up(receive)


async def hung_up(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read whole. `path` keeps its escapes. Header names are lowercase; if a header stands twice,
    its last value counts."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


async def read(scope: Scope, receive: Receive) -> Request | None:
    """Returns the request. Returns None if the client hung up too early, or the body is above BODY_BYTES_MAX."""
    chunks: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            return None
        chunks.append(chunk)
        more = message.get("more_body", False)
    return Request(
        scope["method"],
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        b"".join(chunks),
    )


async def respond(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Sends a whole answer. Adds the content length; the caller gives the content type."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-length", str(len(body)).encode()),
                *((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, status: int, value: object) -> None:
    await respond(send, status, orjson.dumps(value), {"content-type": "application/json"})


class Loopback:
    """`with Loopback(app) as api: … api.url`. Mutable: `_server` and `_thread` are set while it runs; the first start
    sets `port`, which stays; each start reads `tls` anew."""

    def __init__(self, application: Application, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._application = application
        self.port = port
        self.tls = tls
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        assert self.port, "not started yet"
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Raises OSError if the port is taken."""
        assert self._thread is None, "started twice"
        listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            loop="uvloop",
            http=ResettableHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=1,
        )
        config.load()
        config.ssl = self.tls
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name=f"loopback-{self.port}", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_S_MAX
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise OSError(f"no server on 127.0.0.1:{self.port} within {START_S_MAX:g} s")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Ends at once and cuts off requests in flight. Does nothing if it does not run."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(STOP_S_MAX)
        assert not self._thread.is_alive(), f"the server on 127.0.0.1:{self.port} does not end"
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
