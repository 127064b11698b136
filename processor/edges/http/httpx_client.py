"""httpx_client: any transport of httpx's behind our interface (`exchange.py`), within the limits of our own client.

    exchange ─► a task awaits `handle_async_request` ─► status, fields, at most `body_bytes_max` of the body

It takes a hundred times the CPU of our own client at hundreds of requests in flight. It exists as a way around a fault
of ours: `PROCESSOR_HTTP_TRANSPORT=httpx`.
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
    """Returns httpx's own client, within these limits."""
    pool = httpx.Limits(
        max_connections=limits.connections_max,
        max_keepalive_connections=limits.connections_max,
        keepalive_expiry=limits.idle_s_max,
    )
    through = None
    if proxy is not None:
        headers = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
        through = httpx.Proxy(proxy.url, headers=headers, ssl_context=tls if proxy.scheme == "https" else None)
    return HttpxTransport(httpx.AsyncHTTPTransport(verify=tls, limits=pool, proxy=through, trust_env=False), limits)


class HttpxTransport:
    """See the module. It adds a deadline for the whole request and a limit of the body, which httpx does not have."""

    def __init__(self, inner: httpx.AsyncBaseTransport, limits: HttpLimits) -> None:
        self._inner = inner
        self._limits = limits

    def exchange(self, template: RequestTemplate, content: bytes, headers: RawHeaders, receiver: Receiver) -> Tasked:
        request = template.build(content, headers)
        total_s = template.timeouts.get("total") or self._limits.total_s_max
        return Tasked(asyncio.get_running_loop().create_task(self._told(request, total_s, receiver)))

    @staticmethod
    def fields(head: RawHeaders) -> RawHeaders:
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
        except Exception as error:  # the receiver waits for any of them
            receiver.failed(error)
        else:
            receiver.answered(response.status_code, response.headers.raw, body[:limit], len(body) > limit)


class Tasked:
    """A request that a task sends."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def abandon(self, receiver: Receiver) -> None:
        self._task.cancel()
