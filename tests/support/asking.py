"""A transport of ours by httpx's interface, for tests that speak httpx: `Asking(transport)`."""

from __future__ import annotations

import httpx

from processor.edges.http.exchange import Transport, ask
from processor.edges.http.request import RequestTemplate

_MADE_BY_US = (b"host", b"content-length")


class Asking(httpx.AsyncBaseTransport):
    """The answers have their bodies; `extensions["truncated"]` says that one was cut."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = [pair for pair in request.headers.raw if pair[0].lower() not in _MADE_BY_US]
        template = RequestTemplate(request.method, request.url, [], request.extensions.get("timeout"))
        status, fields, body, truncated = await ask(self.transport, template, await request.aread(), headers)
        extensions = {"truncated": True} if truncated else {}
        response = httpx.Response(status, headers=list(fields), stream=httpx.ByteStream(body), extensions=extensions)
        response._content = body  # as it came: httpx would decompress it
        return response

    async def aclose(self) -> None:
        await self.transport.aclose()
