"""A proxy on loopback that opens tunnels (RFC 9110, 9.3.6), as a script for `serving`."""

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
        wanted = f"Proxy-Authorization: {authorization}"
        if authorization is not None and wanted not in lines:
            await peer.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.rpartition(":")
        address = "127.0.0.1" if host == "localhost" else host
        reader, writer = await asyncio.open_connection(address, int(port))
        await peer.send(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
        try:
            await asyncio.gather(_copy(peer.reader, writer), _copy(reader, peer.writer))
        finally:
            writer.close()

    return script


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
