"""One HTTP/1.1 connection: a request out, its whole answer back, or one of httpx's exceptions.

Owned by a `Pool` (`pool.py`); parsed by httptools. No retries, no redirects, no decompression.

A connection's life (`Phase`); every arrow into CLOSED ends the request that is under way, if there is one:

    OPENING ──adopt──► IDLE ──send──► WAITING ──first byte──► READING ──whole answer──► IDLE
       │                │                │                       │
       │                │                │                       └─► CLOSED  the server closes; not HTTP;
       │                │                │                               a limit; a deadline; bytes after it
       │                │                └─► CLOSED  the server closes; a deadline; the task is cancelled
       │                └─► CLOSED  idle too long; too old; unexpected bytes; the server closes
       └─► CLOSED  refused; wrong certificate; deadline

Invariants
- A request is written at most once, and never again after a failure, whatever is known of its fate.
- A connection is IDLE again only if its request was written whole and its answer arrived whole, with nothing after it.
- There is a `_receiver` exactly while a request is under way. The code that clears it calls it once, when the
  connection is already IDLE or CLOSED; an abandoned receiver is never called.
- An answer is reported whole, its body unchanged (no decompression: we ask for none). A body over `body_bytes_max` is
  cut there.

Not chosen: a future a request (with the task it wakes, a quarter of what a request costs); fields of the head as they
are parsed (3 µs for six of them, and nobody reads them of an accepted request: `fields` parses the head again if
asked); a timer a request (one a connection, moved lazily, does); an `httpx.Response` an answer (17 µs); streaming
answers (no answer is read beyond 64 KiB).
RFC 9112 sections 6 (message body) and 9 (connections).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final, Protocol, cast

import httptools
import httpx

from processor.edges.http.exchange import Receiver

Timeouts = Mapping[str, float | None]
"""Seconds by phase (connect, write, read, pool) and in `total`, by httpx's names."""


class Phase(Enum):
    """The phase of a connection; drawn above."""

    OPENING = "opening"
    IDLE = "idle"
    WAITING = "waiting"
    READING = "reading"
    CLOSED = "closed"


_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout\s*=\s*\"?(\d{1,9})", re.IGNORECASE)

# In Python 3.11 each mention of an enum's member costs 0.1 µs, and there are five a request.
_IDLE: Final = Phase.IDLE
_WAITING: Final = Phase.WAITING
_READING: Final = Phase.READING


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of one transport. The seconds apply if a template's timeouts have no number."""

    connections_max: int = 512
    """For each origin. File descriptors (often 1024 a process) would run out in the midst of a burst."""
    waiting_max: int = 10_000
    """Requests that wait for a connection of an origin: a caller without a bound must not fill memory."""
    origins_max: int = 16
    """Origins are settings. A base URL made of data would open a pool for each order."""
    idle_s_max: float = 4.5
    """Shorter than servers keep an idle connection (Node 5 s, most 60), so that we close first, without a race."""
    age_s_max: float = 60.0
    """A busy connection never becomes idle, and would stay with an address that DNS dropped long ago."""
    age_jitter: float = 0.5
    """The random share of the age, so that connections that were opened together are not reopened together."""
    keep_alive_margin_s: float = 1.0
    """A connection is closed this much sooner than its server announced: a request may be on its way by then."""
    head_bytes_max: int = 64 * 1024
    """Status line and headers, with 1xx answers: a flood of headers must not fill memory."""
    body_bytes_max: int = 64 * 1024
    """Only an answer's error codes are read: 50 MB, or an endless body, must cost nothing."""
    wire_bytes_max: int = 1024 * 1024
    """All bytes of one answer: endless 1xx answers, chunk extensions and trailers escape the limits above.
    The longest honest answer is 64 KiB of head and 64 Ki chunks of one byte, 6 bytes each on the wire."""
    connect_s_max: float = 5.0
    write_s_max: float = 10.0
    read_s_max: float = 30.0
    """Between two reads: a server that died without closing its connection would hold an order for ever."""
    pool_s_max: float = 10.0
    total_s_max: float = 60.0
    """All phases together: a body that comes one byte at a time never trips the limit between two reads."""
    addresses_max: int = 8
    """Addresses of a name that one connection tries: each gets a share of `connect_s_max`."""
    failed_address_s: float = 30.0
    """An address that refused comes last for this time: a dead one must not delay each new connection."""
    close_s_max: float = 2.0
    """The longest wait of `aclose` for sockets to close: the event loop may be too busy to report it."""


class _Fields:
    """Collects the fields of a final answer's head. Mutable: `over` once that is read."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.over = False
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        if not self.over:
            self.fields = []  # an informational answer may have left some

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.over:  # no trailers
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.over = self.over or self.parser.get_status_code() >= 200


def fields(head: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Returns the header fields of a final answer, in their order. `head` was parsed as HTTP before; the bytes after it
    need not be HTTP."""
    reader = _Fields()
    for part in head:
        if not reader.over:
            with suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
                reader.parser.feed_data(part)
    del reader.parser  # it refers back
    return reader.fields


def _announced_s(head: Iterable[bytes]) -> float:
    """Returns the seconds for which the server keeps an idle connection, by its `Keep-Alive: timeout=N`."""
    said = [value for name, value in fields(head) if name.lower() == b"keep-alive"]
    found = _TIMEOUT.search(b",".join(said))
    return inf if found is None else float(found[1])


class Pool(Protocol):
    """What a connection reports to its pool."""

    def release(self, connection: Connection) -> None:
        """A request has ended well: the connection may be used again."""

    def closing(self, connection: Connection) -> None:
        """The connection must not be used again."""

    def forget(self, connection: Connection) -> None:
        """The socket is closed."""


class Connection(asyncio.Protocol):
    """One socket, one request at a time. Mutable; its invariants are asserted at `send` and `_finish`."""

    def __init__(self, pool: Pool, limits: HttpLimits, retire_at: float) -> None:
        self.phase = Phase.OPENING
        self.due = 0.0  # loop time: end of the request's phase, or of the idle time
        self.requests = 0
        self._pool = pool
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._retire_at = retire_at
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._overdue = False
        # The request that is under way: `_receiver` is None exactly when there is none.
        self._receiver: Receiver | None = None
        self._keep_s = inf  # what the server announced in its first answer, less a margin
        self._bodyless = self._unwritten = self._in_body = self._complete = self._keep_alive = False
        self._read_s = self._write_s = self._give_up_at = 0.0
        self._received = self._body_bytes = self._status = 0
        self._head: list[bytes] = []
        self._body: list[bytes] = []

    def adopt(self) -> bool:
        """The pool counts it from now on. Returns false if it was closed in the same moment."""
        if self.phase is Phase.OPENING:
            self.phase = Phase.IDLE
        return self.phase is Phase.IDLE

    def send(self, wire: bytes, bodyless: bool, timeouts: Timeouts, give_up_at: float, receiver: Receiver) -> None:
        """Writes a whole request. The receiver is called at its end."""
        assert self.phase is _IDLE, self.phase
        assert self._receiver is None
        limits = self._limits
        self.phase = _WAITING
        self.requests += 1
        self._receiver = receiver
        self._bodyless = bodyless
        self._in_body = self._complete = self._keep_alive = self._overdue = False
        self._received = self._body_bytes = 0
        self._head = []
        self._body = []
        self._read_s = timeouts.get("read") or limits.read_s_max
        self._write_s = timeouts.get("write") or limits.write_s_max
        self._give_up_at = give_up_at
        self._wake_at(min(self._loop.time() + self._read_s, give_up_at))
        self._transport.write(wire)  # if the socket takes less: calls pause_writing, the write phase starts

    def rest(self, now: float, until: float) -> bool:
        """Idles until then, or until it is too old. Returns false if it is too old already."""
        assert self.phase is _IDLE
        assert self._receiver is None
        until = min(until, self._retire_at, now + self._keep_s)
        self._wake_at(until)
        return now < until

    def close(self) -> None:
        """Closes at once. Idempotent. `connection_lost` frees the slot in the pool."""
        assert self._receiver is None, "ends by _fail or _finish"
        if self.phase is not Phase.CLOSED:
            self.phase = Phase.CLOSED
            self._pool.closing(self)
            self._transport.abort()

    def stop(self) -> None:
        """Closes and fails a request under way."""
        if self._receiver is not None:
            self._fail(httpx.ReadError(f"the transport was closed; {self._progress()}"))
        self.close()

    def abandon(self, receiver: Receiver) -> None:
        """Stops: the receiver is not called. Closes, unless the answer was faster."""
        if self._receiver is receiver:
            self._receiver = None
            self.close()

    def underneath(self, transport: asyncio.BaseTransport) -> None:
        """The transport under TLS, which is closed if TLS ends before `connection_made`."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=1, low=0)  # pause_writing: something is unwritten

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            self.close()  # else the next request would take it for its answer
            return
        limits = self._limits
        self.phase = _READING
        self._received += len(data)
        if not self._in_body:
            self._head.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(httpx.RemoteProtocolError(f"not an HTTP/1.1 answer: {error.__context__ or error}"))
                return
            self._keep_alive = False  # bytes after the answer
        if self._complete or self._body_bytes > limits.body_bytes_max:
            self._finish()
        elif self._received > limits.wire_bytes_max:
            self._fail(httpx.RemoteProtocolError(f"answer of more than {limits.wire_bytes_max} bytes"))
        elif self._received > limits.head_bytes_max and not self._in_body:
            self._fail(httpx.RemoteProtocolError(f"headers of more than {limits.head_bytes_max} bytes"))
        elif not self._unwritten:
            self._wake_at(min(self._loop.time() + self._read_s, self._give_up_at))

    def eof_received(self) -> None:
        self._ended(None)  # returning None closes the transport: half a connection is of no use

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(error)
        if self._alarm is not None:
            self._alarm.cancel()
        del self._parser  # it refers back to us: the garbage collector would have to find each such circle
        self._pool.forget(self)

    def pause_writing(self) -> None:
        self._unwritten = True
        if self._receiver is not None:
            self._wake_at(min(self._loop.time() + self._write_s, self._give_up_at))

    def resume_writing(self) -> None:
        self._unwritten = False
        if self._receiver is not None:
            self._wake_at(min(self._loop.time() + self._read_s, self._give_up_at))

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("bytes after the answer")  # stops the parser

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status == 101:
            raise ValueError("switches to a protocol that was not asked for")
        if self._status >= 200:  # the size of an informational answer is checked after each read
            limit = self._limits.head_bytes_max
            if self._received > limit and sum(len(n) + len(v) + 4 for n, v in fields(self._head)) > limit:
                raise ValueError(f"headers of more than {limit} bytes")
            self._in_body = True
            self._keep_alive = self._parser.should_keep_alive()
            if self.requests == 1:
                self._keep_s = _announced_s(self._head) - self._limits.keep_alive_margin_s
            if self._bodyless:  # HEAD: the parser does not know, and waits for a body; it is not used again
                self._complete = True
                self._keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self._body_bytes <= self._limits.body_bytes_max and not self._bodyless:
            self._body.append(body)
            self._body_bytes += len(body)

    def on_message_complete(self) -> None:
        self._complete = self._in_body  # false for 100 and 103: the answer proper follows

    def _finish(self) -> None:
        receiver = self._receiver
        assert receiver is not None
        assert self._in_body
        assert self.phase is not _IDLE
        self._receiver = None
        head, self._head = self._head, []
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        limit = self._limits.body_bytes_max
        truncated = self._body_bytes > limit
        if truncated:
            body = body[:limit]
        if self._keep_alive and not truncated and not self._unwritten and self.phase is _READING:
            self.phase = _IDLE
            self._pool.release(self)
        else:
            self.close()
        receiver.answered(self._status, head, body, truncated)

    def _fail(self, error: httpx.TransportError) -> None:
        receiver, self._receiver = self._receiver, None
        assert receiver is not None
        self.close()
        receiver.failed(error)

    def _ended(self, error: Exception | None) -> None:
        """Called when the server has closed the connection, or the network has broken it."""
        if self._receiver is None:
            self.close()
        elif error is not None:
            kind = httpx.WriteError if self._unwritten else httpx.ReadError
            self._fail(kind(f"{type(error).__name__}: {error}; {self._progress()}"))
        elif self._in_body and not self._keep_alive and not self._has_length():
            self._finish()  # RFC 9112 section 6.3 rule 8: this body ends with the connection
        else:
            self._fail(httpx.RemoteProtocolError(f"the server closed the connection; {self._progress()}"))

    def _has_length(self) -> bool:
        headers = {name.lower(): value.lower() for name, value in fields(self._head)}
        return b"content-length" in headers or headers.get(b"transfer-encoding", b"").endswith(b"chunked")

    def _progress(self) -> str:
        """Returns words that show whether the server may have taken the request."""
        if self._received:
            return f"{self._received} bytes of an answer had arrived"
        return f"no byte of an answer, request {self.requests} of this connection"

    # One timer a connection: set anew only if it is needed earlier; else it looks again when it rings.

    def _wake_at(self, when: float) -> None:
        if when != self.due:
            self.due = when
            self._overdue = False
        if self._alarm is None or when < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = when
            self._alarm = self._loop.call_at(when, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        now = self._loop.time()
        if self.phase is Phase.CLOSED:
            return
        if now < self.due:
            self._wake_at(self.due)
        elif self._receiver is None:
            self.close()
        elif not self._overdue:
            # After a stall of our own loop the answer may lie in the socket, and timers run before sockets.
            self._overdue = True
            self._alarm_at = now + 0.001
            self._alarm = self._loop.call_at(self._alarm_at, self._on_alarm)
        elif self._unwritten:
            self._fail(httpx.WriteTimeout(f"the request was not taken in time; {self._progress()}"))
        else:
            self._fail(httpx.ReadTimeout(f"no whole answer in time; {self._progress()}"))
