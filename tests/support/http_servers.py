"""HTTP servers on loopback that do exactly what a script says, above all what no server should.

    async def script(peer: Peer) -> None:      called for each connection; the connection is closed when it ends
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\\r\\n...")

    async with serving(script) as server:      server.url, server.requests, server.connections

`authority()` makes certificates, good and bad, in memory and temporary files.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire."""

    head: bytes
    body: bytes
    connection: int  # which connection of this server, from 1

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@dataclass
class Serving:
    """A running server and what it has seen."""

    host: str = ""
    port: int = 0
    scheme: str = "http"
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    open_most: int = 0
    sent: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/events"


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Serving, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = server.connections

    async def request(self) -> Received:
        """The next request, whole. Raises IncompleteReadError at the end of the connection."""
        head = await self.head()
        received = Received(head, b"", self.number)
        body = await self.reader.readexactly(int(received.header("content-length") or 0))
        received = Received(head, body, self.number)
        self.server.requests.append(received)
        return received

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.server.sent += len(data)

    async def send_slowly(self, data: bytes, pause_s: float) -> None:
        for offset in range(len(data)):
            await self.send(data[offset : offset + 1])
            await asyncio.sleep(pause_s)

    async def closed(self) -> None:
        """Waits for the client to close."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """RST instead of FIN."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]
Send = Callable[[Peer, bytes], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(
    script: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Serving]:
    server = Serving(host=host, scheme="https" if tls else "http")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        server.open_now += 1
        server.open_most = max(server.open_most, server.open_now)
        try:
            await script(Peer(server, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            server.open_now -= 1
            writer.close()
            with contextlib.suppress(Exception):
                async with asyncio.timeout(0.2):
                    await writer.wait_closed()
            writer.transport.abort()
            tasks.discard(task)

    listening = await asyncio.start_server(connected, host, port, ssl=tls, backlog=1024)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tuple(tasks), timeout=2)


def answer(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    """An answer framed by its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answering(data: bytes, send: Send = Peer.send) -> Script:
    """The same answer to every request, for as long as the client likes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await send(peer, data)

    return script


def stuck_after(data: bytes) -> Script:
    """So much of an answer and no more, for as long as the client stays."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        await peer.closed()

    return script


async def silent(peer: Peer) -> None:
    """No answer, for as long as the client stays."""
    await peer.closed()


def once(data: bytes) -> Script:
    """One answer, then the connection is closed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)

    return script


@dataclass(frozen=True, slots=True)
class Authority:
    """Server contexts by what is right or wrong with their certificate, and a client context that trusts us."""

    client: ssl.SSLContext
    good: ssl.SSLContext
    wrong_host: ssl.SSLContext
    expired: ssl.SSLContext
    self_signed: ssl.SSLContext


def authority() -> Authority:
    signing, other = trustme.CA(), trustme.CA()
    a_day = datetime.timedelta(days=1)

    def server(name: str, until: datetime.datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        signing.issue_cert(name, not_before=until and until - a_day, not_after=until).configure_cert(context)
        return context

    self_signed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(other.private_key_pem.bytes() + other.cert_pem.bytes())
        self_signed.load_cert_chain(file.name)
    return Authority(
        client=ssl.create_default_context(cadata=signing.cert_pem.bytes().decode()),
        good=server("localhost"),
        wrong_host=server("elsewhere.example"),
        expired=server("localhost", datetime.datetime.now(datetime.UTC) - a_day),
        self_signed=self_signed,
    )
