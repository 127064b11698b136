"""BulkHistogram: a Prometheus histogram that takes many observations in one call.

`prometheus_client.Histogram.observe` is 2.5 µs, and two of them a request were an eighth of what an entry costs to
send. Here a second's observations are sorted and counted between bounds: 0.15 µs each.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class _Counted:
    """Mutable. `counts` by bucket, not cumulated, the last one for what is above every bound; `total`, their sum."""

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class BulkHistogram(Collector):
    """See the module. Registered when it is made. `observe` by its owner's thread, collected by any.

    `bounds` are upper bounds, inclusive, in order, without +Inf.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        bounds: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        assert list(bounds) == sorted(bounds)
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._bounds = tuple(float(bound) for bound in bounds)
        self._lock = threading.Lock()
        self._by_labels: dict[tuple[str, ...], _Counted] = {}
        registry.register(self)

    def observe(self, values: Sequence[float], *labels: str) -> None:
        """Counts all of them under these labels, which are known from now on, even by no value at all."""
        assert len(labels) == len(self._labels)
        ordered = sorted(values)
        with self._lock:
            counted = self._by_labels.get(labels)
            if counted is None:
                counted = self._by_labels[labels] = _Counted(len(self._bounds) + 1)
            below = 0
            for bucket, bound in enumerate(self._bounds):
                upto = bisect_right(ordered, bound, below)
                counted.counts[bucket] += upto - below
                below = upto
            counted.counts[-1] += len(ordered) - below
            counted.total += sum(ordered)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        with self._lock:
            for labels, counted in self._by_labels.items():
                cumulated = 0
                buckets = []
                for name, count in zip(names, counted.counts, strict=True):
                    cumulated += count
                    buckets.append((name, float(cumulated)))
                family.add_metric(labels, buckets, counted.total)
        yield family
