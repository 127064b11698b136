"""Which HTTP client sends: our own (`pool.py`), or httpx's by the same door (`httpx_client.py`) where it is asked for.

Both answer and fail alike, so the sender need not know which one it has.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from processor.config import HttpTransport
from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import Transport
from processor.edges.http.httpx_client import httpx_transport
from processor.edges.http.pool import LeanTransport
from processor.edges.http.proxies import Proxy


def transport_for(
    wanted: HttpTransport, tls: Callable[[], ssl.SSLContext], proxy: Proxy | None, limits: HttpLimits | None = None
) -> Transport:
    """The transport for one destination."""
    limits = limits or HttpLimits()
    if wanted is HttpTransport.LEAN:
        return LeanTransport(tls, limits, proxy=proxy)
    return httpx_transport(tls(), limits, proxy)
