"""Which HTTP client sends, and httpx's own client within the same limits.

    choose(url)     ─► lean (`pool.py`)                    by default, through a tunnel where a proxy is set
                    └► httpx's own, `Bounded`              if asked for, or for a proxy that opens no tunnel

Both answer and fail alike, so the sender need not know which one it has. httpx's own costs a hundred times the CPU at
hundreds of requests in flight; it is there for odd networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import httpx

from processor.edges.http.connection import HttpLimits, ReadResponse
from processor.edges.http.pool import LeanTransport
from processor.edges.http.proxies import Proxy
from processor.edges.http.tls import tls_context


class Implementation(StrEnum):
    """The transports there are."""

    LEAN = "lean"
    HTTPX = "httpx"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen and why."""

    implementation: Implementation
    reason: str
    proxy: Proxy | None = None


def choose(url: httpx.URL, wanted: Implementation, proxy: Proxy | None) -> Choice:
    """The lean client opens tunnels; a proxy that is spoken to by TLS, or for an API without TLS, is httpx's."""
    if proxy is None:
        return Choice(wanted, "setting")
    if url.scheme == "https" and proxy.scheme == "http":
        return Choice(wanted, "a tunnel through a proxy", proxy)
    return Choice(Implementation.HTTPX, "a proxy of this kind is set for this URL", proxy)


def transport_for(
    choice: Choice, limits: HttpLimits | None = None, tls: Callable[[], ssl.SSLContext] = tls_context
) -> httpx.AsyncBaseTransport:
    """The transport for one destination."""
    limits = limits or HttpLimits()
    if choice.implementation is Implementation.LEAN:
        return LeanTransport(tls, limits, proxy=choice.proxy)
    pool = httpx.Limits(
        max_connections=limits.connections_max,
        max_keepalive_connections=limits.connections_max,
        keepalive_expiry=limits.idle_s_max,
    )
    proxy = None
    if choice.proxy is not None:
        said = choice.proxy.authorization
        proxy = httpx.Proxy(choice.proxy.url, headers={} if said is None else {"Proxy-Authorization": said})
    return Bounded(httpx.AsyncHTTPTransport(verify=tls(), limits=pool, proxy=proxy, trust_env=False), limits)


class Bounded(httpx.AsyncBaseTransport):
    """Another transport, with the deadline for the whole request and the body limit that the lean one has."""

    def __init__(self, inner: httpx.AsyncBaseTransport, limits: HttpLimits) -> None:
        self._inner = inner
        self._limits = limits

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        limit = self._limits.body_bytes_max
        total_s = request.extensions.get("timeout", {}).get("total") or self._limits.total_s_max
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
            raise httpx.ReadTimeout(f"no whole answer within {total_s} s") from None
        return ReadResponse(response.status_code, lambda: response.headers.raw, body[:limit], len(body) > limit)

    async def aclose(self) -> None:
        await self._inner.aclose()
