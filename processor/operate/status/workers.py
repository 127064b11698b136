"""Asks workers for `/status`, `/readyz` and the gauges of `/metrics`, all at once, each for a few seconds at most.

A name with several addresses (a headless Kubernetes service) is several workers: each address is asked.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

ANSWER_S_MAX: Final = 3.0
"""A worker serves these from a thread of its own; if it takes longer, it is not well."""
WORKERS_MAX: Final = 256
_AT_ONCE_MAX: Final = 32

_GAUGE: Final = re.compile(r"^(processor_\w+)\{[^}]*\} ([0-9.eE+-]+)$", re.MULTILINE)
_GAUGES: Final = ("processor_held_orders", "processor_parked_events", "processor_restore_remaining_records")


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker says of itself. `silent` is why it says nothing; then the rest is empty. `roles` are the objects
    of its `/status`, `gauges` the sums over its partitions."""

    url: str
    silent: str | None = None
    unready: tuple[str, ...] = ()
    roles: tuple[Mapping[str, Any], ...] = ()
    gauges: Mapping[str, int] = field(default_factory=dict)


def ask(urls: Sequence[str]) -> list[Worker]:
    """Returns the answers in the order of the URLs, and of the addresses of each."""
    places = [place for url in urls for place in _places(url)][:WORKERS_MAX]
    if not places:
        return []
    with ThreadPoolExecutor(min(len(places), _AT_ONCE_MAX)) as pool:
        return list(pool.map(_one, places))


def _places(url: str) -> list[str]:
    """Returns one URL for each address of the name; the URL itself if it has one, or cannot be resolved."""
    parsed = httpx.URL(url)
    try:
        found = socket.getaddrinfo(parsed.host, parsed.port or 80, type=socket.SOCK_STREAM)
    except OSError:
        return [url]
    addresses = sorted({str(address[4][0]) for address in found if address[0] is socket.AF_INET}) or sorted(
        {str(address[4][0]) for address in found}
    )
    return [url] if len(addresses) < 2 else [str(parsed.copy_with(host=address)) for address in addresses]


def _one(url: str) -> Worker:
    base = url.rstrip("/")
    try:
        with httpx.Client(timeout=ANSWER_S_MAX, trust_env=False) as client:
            status = client.get(f"{base}/status").raise_for_status().json()
            readiness = client.get(f"{base}/readyz").json()
            metrics = client.get(f"{base}/metrics", headers={"Accept": "text/plain"}).text
    except httpx.TimeoutException:
        return Worker(url, f"does not answer within {ANSWER_S_MAX:g} s")
    except httpx.HTTPStatusError as wrong:
        return Worker(url, f"answers HTTP {wrong.response.status_code} at /status")
    except httpx.HTTPError as broken:
        return Worker(url, f"does not answer: {str(broken) or type(broken).__name__}")
    except ValueError:
        return Worker(url, "answers with something that is not JSON: another program listens there")
    roles = status.get("roles", [status]) if isinstance(status, dict) else []
    reasons = readiness.get("reasons", []) if isinstance(readiness, dict) else []
    return Worker(
        url,
        None if roles else "answers with something that is not a status",
        tuple(str(reason) for reason in reasons),
        tuple(role for role in roles if isinstance(role, dict)),
        _gauges(metrics),
    )


def _gauges(metrics: str) -> dict[str, int]:
    sums = dict.fromkeys(_GAUGES, 0)
    for name, value in _GAUGE.findall(metrics):
        if name in sums:
            sums[name] += int(float(value))
    return sums
