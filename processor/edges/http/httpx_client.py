"""httpx_client: any transport of httpx's, by our door (`exchange.py`) and within the limits of our own client.

    exchange ─► a task awaits `handle_async_request` ─► status, fields, at most `body_bytes_max` of the body

A hundred times the CPU of our own at hundreds of requests in flight. It is there so that a fault of ours has a way
around it: `PROCESSOR_HTTP_TRANSPORT=httpx`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator
from typing import cast

import httpx

from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Receiver
from processor.edges.http.proxies import Proxy
from processor.edges.http.request import RawHeaders, RequestTemplate


def httpx_transport(tls: ssl.SSLContext, limits: HttpLimits, proxy: Proxy | None) -> HttpxTransport:
    """httpx's own client, within these limits."""
    pool = httpx.Limits(
        max_connections=limits.connections_max,
        max_keepalive_connections=limits.connections_max,
        keepalive_expiry=limits.idle_s_max,
    )
    through = None
    if proxy is not None:
        said = proxy.authorization
        headers = {} if said is None else {"Proxy-Authorization": said}
        through = httpx.Proxy(proxy.url, headers=headers, ssl_context=tls if proxy.scheme == "https" else None)
    return HttpxTransport(httpx.AsyncHTTPTransport(verify=tls, limits=pool, proxy=through, trust_env=False), limits)


class HttpxTransport:
    """See the module. A deadline for the whole request and the limit of the body are what httpx has not."""

    def __init__(self, inner: httpx.AsyncBaseTransport, limits: HttpLimits) -> None:
        self._inner = inner
        self._limits = limits

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Tasked:
        """As `Transport.exchange`."""
        request = template.build(content, headers)
        total_s = template.timeouts.get("total") or self._limits.total_s_max
        return Tasked(asyncio.get_running_loop().create_task(self._told(request, total_s, receiver)))

    @staticmethod
    def fields(head: RawHeaders) -> RawHeaders:
        """As `Transport.fields`: httpx has read them already."""
        return head

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _told(self, request: httpx.Request, total_s: float, receiver: Receiver) -> None:
        limit = self._limits.body_bytes_max
        body = b""
        try:
            async with asyncio.timeout(total_s):
                response = await self._inner.handle_async_request(request)
                raw = cast(AsyncGenerator[bytes, None], response.aiter_raw())
                async with contextlib.aclosing(response), contextlib.aclosing(raw) as parts:
                    async for part in parts:
                        body += part
                        if len(body) > limit:  # leaving closes the connection: the rest is never read
                            break
        except TimeoutError:
            receiver.failed(httpx.ReadTimeout(f"no whole answer within {total_s} s"))
        except Exception as error:  # whatever it is, somebody waits to be told
            receiver.failed(error)
        else:
            receiver.answered(response.status_code, response.headers.raw, body[:limit], len(body) > limit)


class Tasked:
    """A request that a task carries."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def abandon(self, receiver: Receiver) -> None:
        self._task.cancel()
