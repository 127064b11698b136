"""A lean HTTP/1.1 client: thousands of requests in flight, little CPU for each.

One event loop, no threads, no locks. Its interface is `exchange` (`exchange.py`): a request needs no task and no
future; its receiver is called at its end.

    request ─► take an idle connection ─► write it whole ─► the whole answer ─► the connection is idle again
                 │ none is idle             (`connection.py`)                     or goes to the longest waiting
                 ├─► a slot is free: resolve, connect (through a proxy, `proxies.py`), TLS
                 └─► else wait for a connection or a slot, in order

Invariants
- A request is a slot of the quota, so it is never sent again without the sender's knowledge, not even after its
  connection turns out to be dead. That race is made rare instead: an idle connection that the server closes leaves the
  pool as soon as the loop notices, the connection used last is used first, and surplus ones are closed after a time.
- `Origin._opened` counts each connection from before it is opened until its socket is closed: at most
  `connections_max`.
- A request waits for a connection only while none is idle and all slots are taken.

`transport_for` gives httpx's client instead if `PROCESSOR_HTTP_TRANSPORT=httpx` asks for it (`httpx_client.py`).

Not chosen: httpx's own pool (it looks at all its connections for each request: 5,600 µs at 256 in flight); automatic
retries (see above; RFC 9110 section 9.2.2 would allow them); HTTP/2 (one lost segment stalls every order); one limit
over all origins (a destination that is down must not use up the connections of another). Figures:
`python -m tests.benchmarks.http_clients`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from processor.config import HttpTransport
from processor.edges.http.connection import Connection, HttpLimits, Phase, Timeouts, fields
from processor.edges.http.exchange import Exchange, Receiver, Transport
from processor.edges.http.httpx_client import httpx_transport
from processor.edges.http.proxies import Proxy, Tunnel, absolute
from processor.edges.http.request import RawHeaders, RequestTemplate

_NO_TIMEOUTS: Timeouts = {}
T = TypeVar("T")


class Origin:
    """The connections to one scheme, host and port. Mutable; the module has the invariants."""

    def __init__(self, url: httpx.URL, limits: HttpLimits, tls: Callable[[], ssl.SSLContext],
                 jitter: Callable[[], float], proxy: Proxy | None) -> None:  # fmt: skip
        self._limits = limits
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._idle: dict[Connection, None] = {}  # the one used last is last, and is used first
        self._opened = 0  # `_all` and the ones that are being opened
        self._all: set[Connection] = set()
        self._empty: asyncio.Future[None] | None = None  # set once, by aclose
        self._waiting: OrderedDict[asyncio.Future[Connection | None], None] = OrderedDict()
        self._failed_until: dict[str, float] = {}
        self._jitter = jitter
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = tls
        self._secure = url.scheme == "https"
        self._at = url.netloc if proxy is not None and not self._secure else None  # for targets in absolute form

    def now(self) -> float:
        return self._loop.time()

    def addressed(self, wire: bytes) -> bytes:
        """Returns a request in the form that the peer, a server or a proxy, expects."""
        if self._at is None:
            return wire
        assert self._proxy is not None
        return absolute(wire, self._at, self._proxy)

    def take(self, now: float) -> Connection | None:
        """Returns the idle connection that was used last, if one may still be used."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if now < connection.due:
                return connection
            connection.close()  # its alarm is late: the loop was busy
        return None

    async def acquire(self, timeouts: Timeouts, give_up_at: float) -> Connection:
        """Returns a new connection, or the next free one. Raises PoolTimeout, ConnectTimeout, ConnectError."""
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        wait_until = min(self._loop.time() + (timeouts.get("pool") or self._limits.pool_s_max), give_up_at)
        while True:
            connection = self.take(self._loop.time())
            if connection is not None:
                return connection
            if self._opened < self._limits.connections_max:
                self._opened += 1
            else:
                connection = await self._wait(wait_until)
                if connection is not None and connection.phase is Phase.CLOSED:
                    continue  # died on its way to us
            return connection or await self._open(timeouts, give_up_at)

    def release(self, connection: Connection) -> None:
        """Gives a reusable connection to the request that has waited longest, else to the idle ones."""
        now = self._loop.time()
        if self._closed or not connection.rest(now, now + self._limits.idle_s_max):
            connection.close()
        elif not self._waiting or not self._hand_on(connection):
            assert connection not in self._idle
            self._idle[connection] = None

    def closing(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def forget(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.remove(connection)
            if self._empty is not None and not self._all and not self._empty.done():
                self._empty.set_result(None)
            self._free_slot()

    async def aclose(self) -> None:
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(httpx.ConnectError("the transport is closed"))
        for connection in list(self._all):
            connection.stop()
        if self._all:
            self._empty = self._loop.create_future()
            await asyncio.wait([self._empty], timeout=self._limits.close_s_max)

    def _free_slot(self) -> None:
        if not self._hand_on(None):
            self._opened -= 1
        assert 0 <= self._opened <= self._limits.connections_max

    def _hand_on(self, connection: Connection | None) -> bool:
        """Gives a connection, or (None) a slot to open one, to the first waiting request. Returns false if none
        waits."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    async def _wait(self, until: float) -> Connection | None:
        if len(self._waiting) >= self._limits.waiting_max:
            raise httpx.PoolTimeout(f"{len(self._waiting)} requests wait for a connection already")
        assert not self._idle
        waiter: asyncio.Future[Connection | None] = self._loop.create_future()
        self._waiting[waiter] = None
        try:
            async with asyncio.timeout_at(until):
                return await waiter
        except BaseException as error:
            self._waiting.pop(waiter, None)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                connection = waiter.result()  # given to us, but too late
                if connection is None:
                    self._free_slot()
                elif connection.phase is not Phase.CLOSED:
                    self.release(connection)
            if isinstance(error, TimeoutError):
                raise httpx.PoolTimeout(f"none of {self._opened} connections became free in time") from None
            raise

    async def _open(self, timeouts: Timeouts, give_up_at: float) -> Connection:
        """Opens a connection in a slot that is taken already. Frees the slot if that fails."""
        until = min(self._loop.time() + (timeouts.get("connect") or self._limits.connect_s_max), give_up_at)
        where = f"{self._host}:{self._port}"
        try:
            async with asyncio.timeout_at(until):
                connection = await self._connect(until)
        except BaseException as error:
            self._free_slot()
            if isinstance(error, TimeoutError):
                raise httpx.ConnectTimeout(f"{where}: no connection in time") from None
            if isinstance(error, OSError | UnicodeError):  # UnicodeError: a host name that DNS cannot carry
                raise httpx.ConnectError(f"{where}: {error}") from error
            raise
        if connection.adopt():
            self._all.add(connection)
            if not self._closed:
                return connection
            connection.close()
        else:
            self._free_slot()
        raise httpx.ConnectError(f"{where}: closed as soon as it was open")

    async def _connect(self, until: float) -> Connection:
        """Resolves the name anew, so that a change in DNS is followed, and tries one address after the other. Each gets
        an equal share of the remaining time; addresses that failed lately come last."""
        host, port = (self._host, self._port) if self._proxy is None else (self._proxy.host, self._proxy.port)
        found = await self._named(self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))[: self._limits.addresses_max]
        now = self._loop.time()
        self._failed_until = {a: t for a, t in self._failed_until.items() if a in addresses and t > now}
        addresses.sort(key=lambda address: address in self._failed_until)
        age_s = self._limits.age_s_max * (1.0 - self._limits.age_jitter * self._jitter())
        failure = OSError("no address")
        for tried, address in enumerate(addresses):
            try:
                async with asyncio.timeout((until - self._loop.time()) / (len(addresses) - tried)):
                    return await self._connect_to(address, port, now + age_s)
            except OSError as error:  # TimeoutError and ssl.SSLError are OSErrors
                self._failed_until[address] = self._loop.time() + self._limits.failed_address_s
                failure = error
        raise failure

    async def _connect_to(self, address: str, port: int, retire_at: float) -> Connection:
        """Connects to one address: by TCP or TLS, and through a tunnel for TLS behind a proxy."""
        proxy = self._proxy
        tunnelled = proxy is not None and self._secure

        def protocol() -> Connection | Tunnel:
            if not tunnelled:
                return Connection(self, self._limits, retire_at)
            assert proxy is not None
            host = f"[{self._host}]" if ":" in self._host else self._host
            return Tunnel(proxy, f"{host}:{self._port}")

        name, secure = (self._host, self._secure) if proxy is None else (proxy.host, proxy.scheme == "https")
        tls = self._tls() if secure else None
        opening = self._loop.create_connection(protocol, address, port, ssl=tls, server_hostname=name if tls else None)
        transport, made = await self._named(opening)
        return made if isinstance(made, Connection) else await self._through(made, transport, retire_at)

    async def _through(self, tunnel: Tunnel, transport: asyncio.Transport, retire_at: float) -> Connection:
        """Opens TLS with the API through a proxy's tunnel."""
        try:
            await tunnel.opened
            connection = Connection(self, self._limits, retire_at)
            connection.underneath(transport)
            through = await self._loop.start_tls(transport, connection, self._tls(), server_hostname=self._host)
            assert through is not None
            connection.connection_made(through)
            return connection
        except BaseException:
            transport.abort()
            raise

    async def _named(self, step: Awaitable[T]) -> T:
        """Names the proxy in an error on the way to it, because the API is not at fault. Gives a refused connection the
        same words on either event loop."""
        try:
            return await step
        except OSError as error:
            refused = isinstance(error, ConnectionError) and error.errno is not None
            said = os.strerror(error.errno or 0) if refused else str(error)
            if self._proxy is not None:
                raise OSError(f"the proxy {self._proxy}: {said}") from error
            if refused:
                raise OSError(said) from error
            raise


class Queued:
    """An exchange that waits for a connection. Mutable: `_connection`, once it has one."""

    def __init__(self, origin: Origin, wire: bytes, bodyless: bool, timeouts: Timeouts, give_up_at: float,
                 receiver: Receiver) -> None:  # fmt: skip
        self._connection: Connection | None = None
        work = self._send(origin, wire, bodyless, timeouts, give_up_at, receiver)
        self._task = asyncio.get_running_loop().create_task(work)

    async def _send(self, origin: Origin, wire: bytes, bodyless: bool, timeouts: Timeouts, give_up_at: float,
                    receiver: Receiver) -> None:  # fmt: skip
        try:
            self._connection = await origin.acquire(timeouts, give_up_at)
        except Exception as error:  # the receiver waits for any of them
            receiver.failed(error)
        else:
            self._connection.send(wire, bodyless, timeouts, give_up_at, receiver)

    def abandon(self, receiver: Receiver) -> None:
        if self._connection is None:
            self._task.cancel()
        else:
            self._connection.abandon(receiver)


class LeanTransport:
    """See the module. Belongs to the event loop of its first request. `tls` returns the context of each new connection
    to an https origin or proxy. All connections go through `proxy`, if there is one."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], limits: HttpLimits | None = None,
                 jitter: Callable[[], float] = random.random, proxy: Proxy | None = None) -> None:  # fmt: skip
        self._tls = tls
        self._proxy = proxy
        self._limits = limits or HttpLimits()
        self._jitter = jitter
        self._closed = False
        self._origins: dict[tuple[bytes, bytes, int | None], Origin] = {}

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Exchange:
        """Sends the request now if a connection is idle, else as soon as there is one."""
        wire = template.wire(content, headers)
        origin = self._origins.get(template.origin) or self._origin(template.url)
        wire = origin.addressed(wire)
        timeouts = template.timeouts
        now = origin.now()
        give_up_at = now + (timeouts.get("total") or self._limits.total_s_max)
        connection = origin.take(now)
        if connection is None:
            return Queued(origin, wire, template.method == "HEAD", timeouts, give_up_at, receiver)
        connection.send(wire, template.method == "HEAD", timeouts, give_up_at, receiver)
        return connection

    @staticmethod
    def fields(head: list[bytes]) -> list[tuple[bytes, bytes]]:
        return fields(head)

    async def reach(self, url: httpx.URL) -> None:
        """Opens a connection, as a request would, and keeps it. Raises subclasses of httpx.TransportError."""
        origin = self._origins.get((url.raw_scheme, url.raw_host, url.port)) or self._origin(url)
        origin.release(await origin.acquire(_NO_TIMEOUTS, origin.now() + self._limits.total_s_max))

    async def aclose(self) -> None:
        """Closes every connection. Requests under way end with an exception."""
        self._closed = True
        for origin in self._origins.values():
            await origin.aclose()

    def _origin(self, url: httpx.URL) -> Origin:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{url.scheme!r} is neither http nor https")
        if not url.raw_host:
            raise httpx.LocalProtocolError("no host to connect to")
        if len(self._origins) >= self._limits.origins_max:
            raise httpx.LocalProtocolError(f"more than {self._limits.origins_max} origins in one transport")
        origin = Origin(url, self._limits, self._tls, self._jitter, self._proxy)
        self._origins[(url.raw_scheme, url.raw_host, url.port)] = origin
        return origin


def transport_for(
    wanted: HttpTransport, tls: Callable[[], ssl.SSLContext], proxy: Proxy | None, limits: HttpLimits | None = None
) -> Transport:
    """Returns the transport for one destination. Both kinds answer and fail alike."""
    limits = limits or HttpLimits()
    if wanted is HttpTransport.LEAN:
        return LeanTransport(tls, limits, proxy=proxy)
    return httpx_transport(tls(), limits, proxy)
