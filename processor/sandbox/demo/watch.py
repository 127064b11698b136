"""What the demo sees of its workers: their own metrics, read from `/metrics`, and whether `/readyz` agrees.

Pure but for `Scraper`, which asks. A `Sight` is what all workers said at one moment; rates and latencies are
made of two of them.
"""

from __future__ import annotations

import math
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from prometheus_client.parser import text_string_to_metric_families

_ANSWER_S_MAX: Final = 2.0

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Sight:
    """`samples` by name and labels, of all workers together; `at_s` on the monotonic clock."""

    at_s: float
    samples: Mapping[tuple[str, Labels], float] = field(default_factory=dict)

    def sum(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name with these labels among theirs."""
        wanted = set(labels.items())
        return sum(value for (found, theirs), value in self.samples.items() if found == name and wanted <= theirs)

    def most(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return max(
            (value for (found, theirs), value in self.samples.items() if found == name and wanted <= theirs),
            default=0.0,
        )

    def by(self, name: str, label: str, **labels: str) -> dict[str, int]:
        """Sums by the values of one label, those above 0, in their order."""
        wanted = set(labels.items())
        sums: Counter[str] = Counter()
        for (found, theirs), value in self.samples.items():
            if found == name and wanted <= theirs:
                sums[dict(theirs).get(label, "")] += int(value)
        return {value: count for value, count in sorted(sums.items()) if count > 0}

    def quantile(self, name: str, share: float, **labels: str) -> float:
        """A quantile of a histogram, as Prometheus computes it: linear within its bucket. NaN where it is
        empty; the last finite bound where it lies above."""
        wanted = set(labels.items())
        sums: Counter[float] = Counter()
        for (found, theirs), value in self.samples.items():
            if found == f"{name}_bucket" and wanted <= theirs:
                sums[float(dict(theirs)["le"])] += int(value)
        return quantile(sorted(sums.items()), share)


def quantile(buckets: Sequence[tuple[float, int]], share: float) -> float:
    """`buckets` are upper bounds with cumulated counts, in order, the last one infinite."""
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
    """What several workers said, added up."""
    samples: Counter[tuple[str, Labels]] = Counter()
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[(sample.name, frozenset(sample.labels.items()))] += sample.value  # type: ignore[assignment]
    return Sight(at_s, samples)


class Scraper:
    """Asks workers on loopback ports. Mutable: `_last` is what each said last, for when one does not
    answer."""

    def __init__(self, ports: Mapping[str, int], monotonic_s: Callable[[], float]) -> None:
        """`ports` by what their worker is called."""
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
        """Why the workers are not ready; empty when they are."""
        reasons = []
        for port in self._ports:
            status, text = _get(port, "/readyz")
            if status != 200:
                reasons += _reasons(text) or [f"{self._names[port]}: no answer yet"]
        return reasons


def _reasons(text: str) -> list[str]:
    """What `/readyz` says when it does not say yes; nothing where nobody answers."""
    try:
        found = orjson.loads(text)["reasons"]
        return [str(reason) for reason in found]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []


def _get(port: int, path: str) -> tuple[int, str]:
    """Status and text; 0 without an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_ANSWER_S_MAX) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except OSError:
        return 0, ""
