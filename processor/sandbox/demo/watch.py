"""Reads the workers' `/metrics` and `/readyz` for the demo.

Pure, except `Scraper`, which asks. A `Sight` is the metrics of all workers at one moment; two of them give a rate.
"""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from prometheus_client.parser import text_string_to_metric_families

_ANSWER_S_MAX: Final = 2.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sight:
    """`samples` of all workers together, by name and labels; `at_s` on the monotonic clock."""

    at_s: float
    samples: Mapping[tuple[str, Labels], float] = field(default_factory=dict)

    def sum(self, name: str, **labels: str) -> float:
        """Returns the sum of the samples of that name that have these labels."""
        return sum(value for _, value in self._found(name, labels))

    def most(self, name: str, **labels: str) -> float:
        return max((value for _, value in self._found(name, labels)), default=0.0)

    def by(self, name: str, label: str, **labels: str) -> dict[str, int]:
        """Returns the sums by the values of one label, in their order, without zeros."""
        sums: Counter[str] = Counter()
        for found, value in self._found(name, labels):
            sums[found.get(label, "")] += int(value)
        return {value: count for value, count in sorted(sums.items()) if count > 0}

    def quantile(self, name: str, share: float, **labels: str) -> float:
        """Returns a quantile of a histogram as Prometheus computes it: linear within its bucket. NaN if it is empty.
        Above the last finite bound it is that bound."""
        sums: Counter[float] = Counter()
        for found, value in self._found(f"{name}_bucket", labels):
            sums[float(found["le"])] += int(value)
        return quantile(sorted(sums.items()), share)

    def _found(self, wanted: str, labels: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        for (name, found), value in self.samples.items():
            if name == wanted and labels.items() <= found:
                yield dict(found), value


def quantile(buckets: Sequence[tuple[float, int]], share: float) -> float:
    """Returns the quantile. `buckets` are upper bounds with cumulated counts, in order; the last bound is infinite."""
    if not buckets or buckets[-1][1] == 0:
        return math.nan
    rank = share * buckets[-1][1]
    lower, below = 0.0, 0
    for upper, count in buckets:
        if count >= rank and count > below:
            if math.isinf(upper):
                return lower
            return lower + (upper - lower) * (rank - below) / (count - below)
        lower, below = upper, count
    return lower


def parsed(texts: Iterable[str], at_s: float) -> Sight:
    """Returns the sum of the metrics in `texts`, one text a worker."""
    samples: Counter[tuple[str, Labels]] = Counter()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[(sample.name, frozenset(sample.labels.items()))] += sample.value  # type: ignore[assignment]
    return Sight(at_s, samples)


class Scraper:
    """Asks workers on loopback ports. Mutable: `_last` is each worker's last metrics, for when it does not answer."""

    def __init__(self, ports: Mapping[str, int], monotonic_s: Callable[[], float]) -> None:
        """`ports` by the name of their worker."""
        self._names = {port: name for name, port in ports.items()}
        self._ports = tuple(ports.values())
        self._monotonic_s = monotonic_s
        self._last: dict[int, str] = {}

    def sight(self) -> Sight:
        for port in self._ports:
            status, text = _get(port, "/metrics")
            if status == 200:
                self._last[port] = text
        return parsed(self._last.values(), self._monotonic_s())

    def unready(self) -> list[str]:
        """Returns the reasons why workers are not ready; empty if all are."""
        reasons = []
        for port in self._ports:
            status, text = _get(port, "/readyz")
            if status != 200:
                reasons += _reasons(text) or [f"{self._names[port]}: no answer yet"]
        return reasons


def _reasons(text: str) -> list[str]:
    """Returns the reasons in an answer of `/readyz`; empty if there was no answer."""
    try:
        found = orjson.loads(text)["reasons"]
        return [str(reason) for reason in found]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []


def _get(port: int, path: str) -> tuple[int, str]:
    """Returns status and text; status 0 without an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_ANSWER_S_MAX) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""
