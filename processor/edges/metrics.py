"""METRICS: every metric of the processor, declared once, and the meters through which the stages feed them.

Owned by the composition root. Labels come from enums and topic names. No label holds an order ID, a URL, a key or free
text. Gauges of lag and state are replaced as a whole once a second: a partition that went to another worker leaves no
last value behind.

`BulkHistogram` is a Prometheus histogram that takes many observations in one call. `Histogram.observe` of
`prometheus_client` costs 2.5 µs, and two of them a request were an eighth of what an entry costs to send. Here the
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
from processor.transform.meter import StateSize


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


# A `_created` series beside every counter doubles what is scraped, and no query of ours reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client types most but not this

_TRANSACTION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

LAG_RECORDS: Final = Gauge(
    "processor_consumer_lag_records",
    "Unfinished records; 0 when all is done; transaction markers do not count",
    ["role", "topic", "partition"],
)
LAG_SECONDS: Final = Gauge(
    "processor_consumer_lag_seconds",
    "Age of the oldest unfinished record, 0 when there is none",
    ["role", "topic", "partition"],
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
    ["role", "topic", "partition"],
)
BEGINNINGS: Final = Counter(
    "processor_offsets_lost_total",
    "Partitions that were not read on from the offset that their group had committed, by why",
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
    "How long the newest value of some object could have been sent and was not, 0 when none is left",
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
    ["role", "topic", "partition"],
)

FLOOD_STOPPED: Final = Gauge(
    "processor_flood_stopped", "1 since the flood guard stopped the role, until a restart", ["role"]
)

_CIRCUIT: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class _Lags:
    """The lag gauges of one role. Mutable: `_shown` are the partitions that they show now, so that one that went
    elsewhere leaves no last value behind, `_left` those of which it is shown how long their oldest record will be
    there. One whose end is not known yet has none: a 0 would say that all is done."""

    def __init__(self, role: Role) -> None:
        self._role = role.value
        self._shown: set[tuple[str, int]] = set()
        self._left: set[tuple[str, int]] = set()

    def show(self, lags: Sequence[SourceLag | PartitionLag]) -> None:
        known = [lag for lag in lags if lag.known]
        now = {(lag.topic, lag.partition) for lag in known}
        for topic, partition in self._shown - now:
            LAG_RECORDS.remove(self._role, topic, str(partition))
            LAG_SECONDS.remove(self._role, topic, str(partition))
        self._shown = now
        for lag in known:
            LAG_RECORDS.labels(self._role, lag.topic, lag.partition).set(lag.records)
            LAG_SECONDS.labels(self._role, lag.topic, lag.partition).set(lag.seconds)
        left = {(lag.topic, lag.partition): lag.retention_left_s for lag in lags if lag.retention_left_s is not None}
        for topic, partition in self._left - left.keys():
            RETENTION_LEFT.remove(self._role, topic, str(partition))
        self._left = set(left)
        for (topic, partition), seconds in left.items():
            RETENTION_LEFT.labels(self._role, topic, partition).set(seconds)


class Restores:
    """`processor_restore_remaining_records`, which several roles of a process may have something to say about.

    Mutable: `_remaining` by role and partition; the gauge shows their sum. Written under a lock, for each role has its
    thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remaining: dict[Role, dict[int, int]] = {}
        self._shown: set[int] = set()

    def show(self, role: Role, remaining: Mapping[int, int]) -> None:
        with self._lock:
            self._remaining[role] = dict(remaining)
            total: Counts[int] = Counts()
            for of_role in self._remaining.values():
                total.update(of_role)
            for gone in self._shown - total.keys():
                RESTORE_REMAINING.remove(str(gone))
            self._shown = set(total)
            for partition, records in total.items():
                RESTORE_REMAINING.labels(partition).set(records)


def _count(role: str, counts: Written | Endings) -> None:
    """What every role counts of the records that it has finished."""
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
        self._lags = _Lags(role)
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

    def lag(self, lags: list[SourceLag]) -> None:
        self._lags.show(lags)
        for lag in lags:
            MISSED.labels(self._role, lag.topic, lag.partition)  # 0 from the first second on

    def started(self, topic: str, partition: int, start: Start) -> None:
        MISSED.labels(self._role, topic, partition).inc(start.missed)
        for correction in start.corrections:
            BEGINNINGS.labels(self._role, topic, partition, correction).inc()

    def flooded(self) -> None:
        FLOOD_STOPPED.labels(self._role).set(1)


class PrometheusTransformMeter:
    """The transform role's meter. Mutable: `_numbers` are the partitions that the state gauges show now."""

    def __init__(self, restores: Restores) -> None:
        self._restores = restores
        self._numbers: set[int] = set()
        records = OrdersMeter(Role.TRANSFORM)
        self.transaction, self.written, self.lag = records.transaction, records.written, records.lag
        self.flooded, self.started = records.flooded, records.started

    def misplaced(self, records: Mapping[str, int]) -> None:
        for topic, count in records.items():
            MISPLACED.labels(topic).inc(count)
            MISPLACED_ERASURES.labels(topic)  # known from the start, so that the first one is an increase

    def throttled(self, seconds: float) -> None:
        THROTTLED.labels(Role.TRANSFORM).inc(seconds)

    def state(self, sizes: list[StateSize]) -> None:
        now = {size.partition for size in sizes}
        for gone in self._numbers - now:
            STATE_ORDERS.remove(str(gone))
            PARKED_EVENTS.remove(str(gone))
            PARKED_OLDEST.remove(str(gone))
        self._numbers = now
        for size in sizes:
            STATE_ORDERS.labels(size.partition).set(size.orders)
            PARKED_EVENTS.labels(size.partition).set(size.parked_events)
            PARKED_OLDEST.labels(size.partition).set(size.parked_oldest_s)
        self._restores.show(Role.TRANSFORM, {size.partition: size.restore_remaining for size in sizes})


class PrometheusSendMeter:
    """The meter of a role that sends: `requests`, `gauges` and `loop_lag` are called by its event loop, `endings` and
    `lag` by its Kafka thread. Mutable: `_held` are the partitions that the holds gauge shows now."""

    def __init__(self, role: Role, restores: Restores) -> None:
        self._role = role
        self._restores = restores
        self._lags = _Lags(role)
        self._held: set[int] = set()
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
        for lag in lags:
            MISSED.labels(self._role, lag.topic, lag.partition)
        # Only orders are held; and partition N of several sources is restored once.
        now = {lag.partition for lag in lags} if self._role is Role.SEND else set()
        for gone in self._held - now:
            HELD_ORDERS.remove(str(gone))
        self._held = now
        remaining: dict[int, int] = {}
        for lag in lags:
            if self._role is Role.SEND:
                HELD_ORDERS.labels(lag.partition).set(lag.held_orders)
            remaining[lag.partition] = max(remaining.get(lag.partition, 0), lag.restore_remaining)
        self._restores.show(self._role, remaining)

    def began(self, causes: Mapping[tuple[TopicPartition, str], int], missed: Mapping[TopicPartition, int]) -> None:
        for (where, cause), count in causes.items():
            BEGINNINGS.labels(self._role, *where, cause).inc(count)
        for where, count in missed.items():
            MISSED.labels(self._role, *where).inc(count)

    def flooded(self) -> None:
        FLOOD_STOPPED.labels(self._role).set(1)
