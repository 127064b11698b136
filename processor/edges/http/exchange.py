"""exchange: the one door of HTTP. A request goes in with a receiver, which is told once how it ended.

    Transport.exchange(template, body, headers, receiver) ─► Exchange        no task and no future is asked for
                                                 └─► receiver.answered(…) or receiver.failed(error), later

`pool.py` is such a transport, `traces.py` puts spans before one. Every way to fail is one of httpx's own exceptions, so
that they look the same. `ask` is the same as a coroutine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from processor.edges.http.request import RawHeaders, RequestTemplate


class Receiver(Protocol):
    """What waits for an answer. One of the two is called, once, and never from inside `exchange`."""

    def answered(self, status: int, head: Any, body: bytes, truncated: bool) -> None:
        """`head` is for the transport's `fields`. `truncated`: the body was longer than its limit."""

    def failed(self, error: Exception) -> None:
        """`error` is one of httpx's `TransportError`."""


class Exchange(Protocol):
    """A request that is under way."""

    def abandon(self, receiver: Receiver) -> None:
        """It is told nothing from now on. Closes the connection, unless the answer was faster."""


class Transport(Protocol):
    """The way to one API. Belongs to one event loop."""

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Exchange:
        """Sends a request. Raises httpx.TransportError's subclasses where it can never be sent; what happens later is
        the receiver's to hear."""

    def fields(self, head: Any) -> RawHeaders:
        """The header fields of what a receiver was told."""

    async def aclose(self) -> None:
        """Closes every connection; requests under way end with an exception."""


class Answered(NamedTuple):
    """A whole answer."""

    status: int
    fields: RawHeaders
    body: bytes
    truncated: bool


class Awaited:
    """A receiver with a future in which the answer comes."""

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
    """The answer to one request. Raises httpx.TransportError's subclasses."""
    awaited = Awaited(transport.fields)
    exchange = transport.exchange(template, content, headers, awaited)
    try:
        return await awaited.future
    except asyncio.CancelledError:
        exchange.abandon(awaited)
        if awaited.future.done() and not awaited.future.cancelled():
            awaited.future.exception()  # else the loop complains that nobody has asked
        raise
