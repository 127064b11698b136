"""Which HTTP client sends.

    choose(url)     ─► lean (`pool.py`)                    by default, through a tunnel where a proxy is set
                    └► httpx's own (`httpx_client.py`)     if asked for, or for a proxy that opens no tunnel

Both have the same door, answer and fail alike, so the sender need not know which one it has.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import httpx

from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Transport
from processor.edges.http.httpx_client import HttpxTransport
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
) -> Transport:
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
    return HttpxTransport(httpx.AsyncHTTPTransport(verify=tls(), limits=pool, proxy=proxy, trust_env=False), limits)
