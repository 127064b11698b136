"""Which HTTP client stands behind the seam, and httpx's own made to keep the same limits.

    transport_for(url) ─► lean (`http.py`)                 by default
                       └► httpx's own, `Bounded`           if asked for, or if a proxy is set for this URL

Both answer and fail alike, so whoever sends need not know which one it has. httpx's own costs a hundred
times the CPU at hundreds of requests in flight; it is there for proxies and odd networks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import certifi
import httpx
import structlog

from processor.edges.http.connection import HttpLimits, ReadResponse
from processor.edges.http.pool import LeanTransport

_log = structlog.get_logger(__name__)


class Implementation(StrEnum):
    """The transports there are."""

    LEAN = "lean"
    HTTPX = "httpx"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen and why. `proxy` may hold a password: never log it."""

    implementation: Implementation
    reason: str
    proxy: str | None = None


def choose(url: httpx.URL, wanted: Implementation, proxies: Mapping[str, str], bypass: bool) -> Choice:
    """`proxies` by scheme (`all` for any), as in the environment; `bypass`: NO_PROXY names this host."""
    proxy = None if bypass else proxies.get(url.scheme) or proxies.get("all")
    if proxy:
        return Choice(Implementation.HTTPX, "a proxy is set for this URL", proxy)
    return Choice(wanted, "setting")


def transport_for(
    url: httpx.URL,
    implementation: Implementation = Implementation.LEAN,
    limits: HttpLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx.AsyncBaseTransport:
    """The transport for one destination; says in the log which one it is, and why."""
    limits = limits or HttpLimits()
    tls = tls or tls_context()
    bypass = bool(urllib.request.proxy_bypass(url.host))
    choice = choose(url, implementation, urllib.request.getproxies(), bypass)
    _log.info(
        "http transport chosen",
        host=url.host,
        implementation=choice.implementation.value,
        reason=choice.reason,
    )
    if choice.implementation is Implementation.LEAN:
        return LeanTransport(tls, limits)
    pool = httpx.Limits(
        max_connections=limits.connections_max,
        max_keepalive_connections=limits.connections_max,
        keepalive_expiry=limits.idle_s_max,
    )
    return Bounded(httpx.AsyncHTTPTransport(verify=tls, limits=pool, proxy=choice.proxy), limits)


def tls_context() -> ssl.SSLContext:
    """Certificate and host name are verified, by the system's authorities, or certifi's if it has none."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()  # follows SSL_CERT_FILE and SSL_CERT_DIR
    directory = paths.capath or ""  # read when needed, so what is in it is not counted
    if not context.cert_store_stats()["x509_ca"] and not (directory and os.listdir(directory)):
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    return context


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
