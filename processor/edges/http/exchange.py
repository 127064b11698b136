"""exchange: the interface of HTTP clients. A request goes in with a receiver, which is called once at its end.

    Transport.exchange(template, body, headers, receiver) ─► Exchange        needs no task and no future
                                                 └─► receiver.answered(…) or receiver.failed(error), later

`pool.py` is a transport, `traces.py` wraps one with spans. Every failure is one of httpx's own exceptions, so all
transports fail alike. `ask` is the same as a coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from processor.edges.http.request import RawHeaders, RequestTemplate


class Receiver(Protocol):
    """Waits for an answer. One of the two methods is called, once, and never from inside `exchange`."""

    def answered(self, status: int, head: Any, body: bytes, truncated: bool) -> None:
        """`head` is for the transport's `fields`. `truncated` is true if the body was cut at its limit."""

    def failed(self, error: Exception) -> None:
        """`error` is one of httpx's `TransportError`."""


class Exchange(Protocol):
    """A request under way."""

    def abandon(self, receiver: Receiver) -> None:
        """Stops: `receiver` is not called any more. Closes the connection, unless the answer was faster."""


class Transport(Protocol):
    """The way to one API. Belongs to one event loop."""

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Exchange:
        """Sends a request. Raises subclasses of httpx.TransportError if it can never be sent; the receiver gets every
        later error."""

    def fields(self, head: Any) -> RawHeaders:
        """Returns the header fields of an answer's `head`."""

    async def aclose(self) -> None:
        """Closes every connection. Requests under way end with an exception."""


class Answered(NamedTuple):
    """A whole answer."""

    status: int
    fields: RawHeaders
    body: bytes
    truncated: bool


class Awaited:
    """A receiver that sets a future."""

    def __init__(self, fields: Callable[[Any], RawHeaders]) -> None:
        self._fields = fields
        self.future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()

    def answered(self, status: int, head: Any, body: bytes, truncated: bool) -> None:
        if not self.future.done():  # cancelled
            self.future.set_result(Answered(status, self._fields(head), body, truncated))

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


async def ask(
    transport: Transport, template: RequestTemplate, content: bytes = b"", headers: RawHeaders = ()
) -> Answered:
    """Sends one request and returns its answer. Raises subclasses of httpx.TransportError."""
    awaited = Awaited(transport.fields)
    exchange = transport.exchange(template, content, headers, awaited)
    try:
        return await awaited.future
    except asyncio.CancelledError:
        exchange.abandon(awaited)
        if awaited.future.done() and not awaited.future.cancelled():
            awaited.future.exception()  # else the loop reports an exception that was never retrieved
        raise
