"""A proxy on loopback that opens tunnels (RFC 9110, 9.3.6) or passes requests on (RFC 9112, 3.2.2), as a script for
`serving`."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.http_servers import Peer, Script


def tunnelling(authorization: str | None = None, seen: list[str] | None = None) -> Script:
    """Opens each tunnel that is asked for. `authorization` is the `Proxy-Authorization` that it wants; `seen` takes
    where to."""

    async def script(peer: Peer) -> None:
        head = (await peer.head()).decode("latin-1")
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ")
        assert method == "CONNECT", lines[0]
        if seen is not None:
            seen.append(target)
        if authorization is not None and f"Proxy-Authorization: {authorization}" not in lines:
            await peer.send(_NOT_LET_IN)
            return
        reader, writer = await _connected(target)
        await peer.send(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        try:
            await asyncio.gather(_copy(peer.reader, writer), _copy(reader, peer.writer))
        finally:
            writer.close()

    return script


def passing_on(authorization: str | None = None, seen: list[str] | None = None) -> Script:
    """Passes each request on to the one that its target names, without what was meant for itself."""

    async def script(peer: Peer) -> None:
        onward: asyncio.StreamWriter | None = None
        answers: asyncio.Task[None] | None = None
        try:
            while True:
                request = await peer.request()
                line, *fields = request.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
                method, target, version = line.split(" ")
                assert target.startswith("http://"), line
                where, _, path = target.removeprefix("http://").partition("/")
                if seen is not None:
                    seen.append(where)
                if authorization is not None and f"Proxy-Authorization: {authorization}" not in fields:
                    await peer.send(_NOT_LET_IN)
                    continue
                if onward is None:
                    reader, onward = await _connected(where)
                    answers = asyncio.create_task(_copy(reader, peer.writer))
                kept = [field for field in fields if not field.startswith("Proxy-")]
                onward.write("\r\n".join([f"{method} /{path} {version}", *kept, "", ""]).encode("latin-1"))
                onward.write(request.body)
                await onward.drain()
        finally:
            if onward is not None and answers is not None:
                onward.close()
                answers.cancel()
                await asyncio.wait([answers])

    return script


_NOT_LET_IN = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


async def _connected(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection("127.0.0.1" if host == "localhost" else host, int(port))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
