"""METRICS: every metric of the processor, declared once, and the meters through which the stages feed them.

Owned by the composition root. Labels come from enums and topic names. No label holds an order ID, a URL, a key or free
text. Gauges of lag and state are replaced as a whole once a second (`_Shown`), so a partition that went to another
worker leaves no last value behind.

`BulkHistogram` is a Prometheus histogram that takes many observations in one call. `Histogram.observe` of
`prometheus_client` costs 2.5 µs, and two of them a request were an eighth of the cost of an entry. Here the
observations of one second are sorted and counted between the bounds: 0.15 µs each.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter as Counts
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from processor.config import Role
from processor.records import TopicPartition
from processor.send.meter import BreakerState, Endings, Gauges, PartitionLag, Requests
from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start
from processor.transform.plan import StateSize


class _Counted:
    """Mutable. `counts` by bucket, not cumulated, the last one above every bound; `total` is the sum of the values."""

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class BulkHistogram(Collector):
    """See the module. Registered when it is made. Its owner's thread calls `observe`, any thread collects. `bounds` are
    upper bounds, inclusive, in order, without +Inf."""

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
        """Counts all values under these labels, which are shown from now on, even without a value."""
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


# A `_created` series beside every counter doubles the scrape, and no query of ours reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client types most but not this

_PLACE: Final = ("role", "topic", "partition")
_TRANSACTION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

LAG_RECORDS: Final = Gauge(
    "processor_consumer_lag_records", "Unfinished records; 0 when all is done; transaction markers do not count", _PLACE
)
LAG_SECONDS: Final = Gauge(
    "processor_consumer_lag_seconds", "Age of the oldest unfinished record, 0 when there is none", _PLACE
)
RECORDS: Final = Counter(
    "processor_records_total",
    "Records by how they ended, each once; parked ones when they leave",
    ["role", "topic", "outcome"],
)
REPLAYED: Final = Counter(
    "processor_replayed_records_total", "Of those, what a replay of dead letters brought", ["role", "topic", "outcome"]
)
IGNORED: Final = Counter("processor_ignored_total", "Records that needed nothing to be done", ["topic", "reason"])
DEAD_LETTERS: Final = Counter(
    "processor_dead_letters_total", "Dead letters, counted when the broker has them", ["topic", "stage", "reason"]
)
THROTTLED: Final = Counter(
    "processor_broker_throttle_seconds_total", "Delays that brokers announced because their quota is spent", ["role"]
)
MISSED: Final = Counter(
    "processor_records_missed_total",
    "Records that retention deleted before they were taken, transaction markers among them",
    _PLACE,
)
BEGINNINGS: Final = Counter(
    "processor_offsets_lost_total",
    "Partitions that were not read from the offset that their group had committed, by cause",
    ["role", "topic", "partition", "cause"],
)
TRANSACTION_SECONDS: Final = Histogram(
    "processor_transaction_duration_seconds",
    "From the begin of a transaction to its end",
    ["outcome"],
    buckets=_TRANSACTION_S,
)
TRANSACTIONS: Final = Counter("processor_transactions_total", "Transactions by how they ended", ["outcome"])
STATE_ORDERS: Final = Gauge("processor_state_orders", "Orders in the keyed state", ["partition"])
PARKED_EVENTS: Final = Gauge("processor_parked_events", "Events that wait for their order to be placed", ["partition"])
PARKED_OLDEST: Final = Gauge(
    "processor_parked_oldest_seconds", "Age of the oldest parked event, 0 when there is none", ["partition"]
)
MISPLACED: Final = Counter(
    "processor_misplaced_records_total",
    "Sampled source records in another partition than the one in which their order lives",
    ["topic"],
)
MISPLACED_ERASURES: Final = Counter(
    "processor_misplaced_erasures_total",
    "Erasures that found no order, where the order lives in another partition: its data is still there",
    ["topic"],
)
LEFT_OUT: Final = Counter(
    "processor_empty_items_total",
    "Lines and items of quantity 0 that were left out of an event that was taken",
    ["topic"],
)
RESTORE_REMAINING: Final = Gauge(
    "processor_restore_remaining_records", "Records to be restored; hako: to be read before it sends", ["partition"]
)
USEFUL_REPLICAS: Final = Gauge(
    "processor_useful_replicas", "How many workers the quota and the partitions can use", ["role"]
)
SCHEMA_UNREADABLE: Final = Gauge(
    "processor_schema_unreadable",
    "1 where a topic's latest schema could not be read when the worker started: its records become dead letters",
    ["topic"],
)
BUILD_INFO: Final = Gauge("processor_build_info", "Always 1; the labels say what runs", ["version", "revision"])

REQUESTS: Final = Counter("processor_requests_total", "Requests by what came back", ["destination", "status"])
REQUEST_SECONDS: Final = BulkHistogram(
    "processor_request_duration_seconds",
    "From the first byte sent to the answer",
    ["destination", "status"],
    bounds=_REQUEST_S,
)
ERROR_CODES: Final = Counter(
    "processor_error_codes_total",
    "Error codes of the API, those outside its reference as `other`",
    ["destination", "error_code"],
)
RETRIES: Final = Counter("processor_retries_total", "Requests that will be made again", ["destination", "reason"])
DELIVERY_SECONDS: Final = BulkHistogram(
    "processor_delivery_latency_seconds",
    "From the source record's timestamp to the 2xx",
    ["destination"],
    bounds=_DELIVERY_S,
)
IN_FLIGHT: Final = Gauge("processor_in_flight_requests", "Requests without an answer yet", ["destination"])
LIMIT: Final = Gauge("processor_concurrency_limit", "Requests that may be in flight at once now", ["destination"])
QUOTA_SHARE: Final = Gauge("processor_quota_share", "Requests a window that are this worker's", ["destination"])
QUOTA_WAIT: Final = Counter(
    "processor_quota_wait_seconds_total", "How long something was ready and only the quota held it", ["destination"]
)
CIRCUIT: Final = Gauge(
    "processor_circuit_state", "The circuit breaker: 0 closed, 1 half open (probing), 2 open", ["destination"]
)
KEY_REFUSED: Final = Gauge(
    "processor_key_refused", "1 while the API refuses our key and everything is held", ["destination"]
)
LOOP_LAG: Final = Histogram(
    "processor_event_loop_lag_seconds",
    "How late the sender's event loop was for a timer",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
HELD_ORDERS: Final = Gauge(
    "processor_held_orders", "Orders that wait behind a refusal of one of their entries", ["partition"]
)

OLDEST_UNSENT: Final = Gauge(
    "processor_oldest_unsent_seconds",
    "The longest time that an object's newest value has been ready to be sent; 0 if none is left",
    ["destination"],
)

UNSENT_OBJECTS: Final = Gauge(
    "processor_unsent_objects",
    "Objects whose newest value has not been sent, by what they wait for",
    ["destination", "waits_for"],
)

RETENTION_LEFT: Final = Gauge(
    "processor_retention_left_seconds",
    "How long the oldest unfinished record will be there yet, at least; only where one waits and its topic deletes",
    _PLACE,
)

FLOOD_STOPPED: Final = Gauge(
    "processor_flood_stopped", "1 since the flood guard stopped the role, until a restart", ["role"]
)

_CIRCUIT: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class _Shown:
    """Gauges whose labels come and go. Mutable: `_labels` are the labels that they show now."""

    def __init__(self, *gauges: Gauge) -> None:
        self._gauges = gauges
        self._labels: set[tuple[str, ...]] = set()

    def show(self, values: Mapping[tuple[str, ...], Sequence[float]]) -> None:
        """Replaces all values: by labels, one a gauge."""
        for labels in self._labels - values.keys():
            for gauge in self._gauges:
                gauge.remove(*labels)
        self._labels = set(values)
        for labels, of_gauges in values.items():
            for gauge, value in zip(self._gauges, of_gauges, strict=True):
                gauge.labels(*labels).set(value)


class _Lags:
    """The lag gauges of one role. A partition whose end is not known yet has no value: a 0 would say that all is
    done."""

    def __init__(self, role: Role) -> None:
        self._role = role.value
        self._lags = _Shown(LAG_RECORDS, LAG_SECONDS)
        self._left = _Shown(RETENTION_LEFT)

    def show(self, lags: Sequence[SourceLag | PartitionLag]) -> None:
        by_labels = {(self._role, lag.topic, str(lag.partition)): lag for lag in lags}
        self._lags.show({labels: (lag.records, lag.seconds) for labels, lag in by_labels.items() if lag.known})
        left = {labels: lag.retention_left_s for labels, lag in by_labels.items()}
        self._left.show({labels: (seconds,) for labels, seconds in left.items() if seconds is not None})
        for labels in by_labels:
            MISSED.labels(*labels)  # 0 from the first second on


class Restores:
    """`processor_restore_remaining_records`, to which several roles of a process contribute.

    Mutable: `_remaining` by role and partition; the gauge shows their sum. Written under a lock, because each role has
    its thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remaining: dict[Role, Mapping[int, int]] = {}
        self._shown = _Shown(RESTORE_REMAINING)

    def show(self, role: Role, remaining: Mapping[int, int]) -> None:
        with self._lock:
            self._remaining[role] = dict(remaining)
            total: Counts[int] = Counts()
            for of_role in self._remaining.values():
                total.update(of_role)
            self._shown.show({(str(partition),): (records,) for partition, records in total.items()})


def _count(role: str, counts: Written | Endings) -> None:
    """Counts the finished records of any role."""
    for (topic, outcome), count in counts.records.items():
        RECORDS.labels(role, topic, outcome).inc(count)
    for (topic, outcome), count in counts.replayed.items():
        REPLAYED.labels(role, topic, outcome).inc(count)
    for (topic, ignored), count in counts.ignored.items():
        IGNORED.labels(topic, ignored).inc(count)
    for (topic, stage, reason), count in counts.dead_letters.items():
        DEAD_LETTERS.labels(topic, stage, reason).inc(count)


class OrdersMeter:
    """The meter of a role that reads the orders and writes in transactions: rekey's, and a part of transform's."""

    def __init__(self, role: Role) -> None:
        self._role = role.value
        self.lag = _Lags(role).show
        FLOOD_STOPPED.labels(role).set(0)

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        TRANSACTION_SECONDS.labels(outcome).observe(duration_s)
        TRANSACTIONS.labels(outcome).inc()

    def written(self, written: Written) -> None:
        _count(self._role, written)
        for topic, count in written.astray.items():
            MISPLACED_ERASURES.labels(topic).inc(count)
        for topic, count in written.left_out.items():
            LEFT_OUT.labels(topic).inc(count)

    def started(self, topic: str, partition: int, start: Start) -> None:
        MISSED.labels(self._role, topic, partition).inc(start.missed)
        for correction in start.corrections:
            BEGINNINGS.labels(self._role, topic, partition, correction).inc()

    def flooded(self) -> None:
        FLOOD_STOPPED.labels(self._role).set(1)


class PrometheusTransformMeter:
    """The meter of the role transform."""

    def __init__(self, restores: Restores) -> None:
        self._restores = restores
        self._state = _Shown(STATE_ORDERS, PARKED_EVENTS, PARKED_OLDEST)
        records = OrdersMeter(Role.TRANSFORM)
        self.transaction, self.written, self.lag = records.transaction, records.written, records.lag
        self.flooded, self.started = records.flooded, records.started

    def misplaced(self, records: Mapping[str, int]) -> None:
        for topic, count in records.items():
            MISPLACED.labels(topic).inc(count)
            MISPLACED_ERASURES.labels(topic)  # 0 from the start, so that the first one is an increase

    def throttled(self, seconds: float) -> None:
        THROTTLED.labels(Role.TRANSFORM).inc(seconds)

    def state(self, sizes: list[StateSize]) -> None:
        self._state.show(
            {(str(size.partition),): (size.orders, size.parked_events, size.parked_oldest_s) for size in sizes}
        )
        self._restores.show(Role.TRANSFORM, {size.partition: size.restore_remaining for size in sizes})


class PrometheusSendMeter:
    """The meter of a role that sends. Its event loop calls `requests`, `gauges` and `loop_lag`, its Kafka thread the
    others."""

    def __init__(self, role: Role, restores: Restores) -> None:
        self._role = role
        self._restores = restores
        self._lags = _Lags(role)
        self._held = _Shown(HELD_ORDERS)
        FLOOD_STOPPED.labels(role).set(0)

    def requests(self, destination: str, requests: Requests) -> None:
        for status, durations_s in requests.durations_s.items():
            REQUESTS.labels(destination, status).inc(len(durations_s))
            REQUEST_SECONDS.observe(durations_s, destination, status)
        for code, count in requests.error_codes.items():
            ERROR_CODES.labels(destination, code).inc(count)
        for reason, count in requests.retries.items():
            RETRIES.labels(destination, reason).inc(count)
        DELIVERY_SECONDS.observe(requests.latencies_s, destination)
        QUOTA_WAIT.labels(destination).inc(requests.quota_wait_s)

    def gauges(self, destination: str, gauges: Gauges) -> None:
        IN_FLIGHT.labels(destination).set(gauges.in_flight)
        LIMIT.labels(destination).set(gauges.limit)
        if gauges.quota_share is not None:
            QUOTA_SHARE.labels(destination).set(gauges.quota_share)
        CIRCUIT.labels(destination).set(_CIRCUIT[gauges.circuit])
        KEY_REFUSED.labels(destination).set(gauges.key_refused)
        if self._role is Role.HAKO:
            OLDEST_UNSENT.labels(destination).set(gauges.oldest_unsent_s or 0.0)
        for waits_for, count in gauges.waits.items():
            UNSENT_OBJECTS.labels(destination, waits_for).set(count)

    def loop_lag(self, seconds: float) -> None:
        LOOP_LAG.observe(seconds)

    def endings(self, endings: Endings) -> None:
        _count(self._role, endings)

    def lag(self, lags: Sequence[PartitionLag]) -> None:
        self._lags.show(lags)
        if self._role is Role.SEND:  # only orders are held
            self._held.show({(str(lag.partition),): (lag.held_orders,) for lag in lags})
        remaining: dict[int, int] = {}
        for lag in lags:  # partition N of several sources is restored once
            remaining[lag.partition] = max(remaining.get(lag.partition, 0), lag.restore_remaining)
        self._restores.show(self._role, remaining)

    def began(self, causes: Mapping[tuple[TopicPartition, str], int], missed: Mapping[TopicPartition, int]) -> None:
        for (where, cause), count in causes.items():
            BEGINNINGS.labels(self._role, *where, cause).inc(count)
        for where, count in missed.items():
            MISSED.labels(self._role, *where).inc(count)

    def flooded(self) -> None:
        FLOOD_STOPPED.labels(self._role).set(1)
