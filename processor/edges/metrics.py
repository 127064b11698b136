"""METRICS: every metric of the processor, declared once, and the meters through which the stages feed them.

Owned by the composition root. Labels come from enums and topic names; none ever holds an order ID, a URL, a key or
free text. Lag and state are gauges that are replaced as a whole once a second: a partition that went elsewhere leaves
no last value behind.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from processor.transform.meter import SourceLag, StateSize, TransactionOutcome, Written

# A `_created` series beside every counter doubles what is scraped, and no query of ours reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client types most but not this

_TRANSACTION_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)

LAG_RECORDS: Final = Gauge(
    "processor_consumer_lag_records",
    "Unfinished records; 0 when all is done, transaction markers are none",
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
IGNORED: Final = Counter("processor_ignored_total", "Records that needed nothing to be done", ["topic", "reason"])
DEAD_LETTERS: Final = Counter(
    "processor_dead_letters_total", "Dead letters, counted when the broker has them", ["topic", "stage", "reason"]
)
TRANSACTION_SECONDS: Final = Histogram(
    "processor_transaction_duration_seconds",
    "From the begin of a transaction to its end",
    ["outcome"],
    buckets=_TRANSACTION_S,
)
TRANSACTIONS: Final = Counter("processor_transactions_total", "Transactions by how they ended", ["outcome"])
STATE_ORDERS: Final = Gauge("processor_state_orders", "Orders in the keyed state, about", ["partition"])
PARKED_EVENTS: Final = Gauge("processor_parked_events", "Events that wait for their order to be placed", ["partition"])
RESTORE_REMAINING: Final = Gauge(
    "processor_restore_remaining_records", "Changelog records still to be restored", ["partition"]
)
USEFUL_REPLICAS: Final = Gauge(
    "processor_useful_replicas", "How many workers the quota and the partitions can use", ["role"]
)
BUILD_INFO: Final = Gauge("processor_build_info", "Always 1; the labels say what runs", ["version", "revision"])

_TRANSFORM: Final = "transform"


class PrometheusTransformMeter:
    """The transform role's meter.

    Mutable: `_partitions` and `_numbers` are those that the gauges show now, so that others can be removed.
    """

    def __init__(self) -> None:
        self._partitions: set[tuple[str, int]] = set()
        self._numbers: set[int] = set()

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        TRANSACTION_SECONDS.labels(outcome).observe(duration_s)
        TRANSACTIONS.labels(outcome).inc()

    def written(self, written: Written) -> None:
        for (topic, outcome), count in written.records.items():
            RECORDS.labels(_TRANSFORM, topic, outcome).inc(count)
        for (topic, ignored), count in written.ignored.items():
            IGNORED.labels(topic, ignored).inc(count)
        for (topic, stage, reason), count in written.dead_letters.items():
            DEAD_LETTERS.labels(topic, stage, reason).inc(count)

    def lag(self, lags: list[SourceLag]) -> None:
        now = {(lag.topic, lag.partition) for lag in lags}
        for topic, partition in self._partitions - now:
            LAG_RECORDS.remove(_TRANSFORM, topic, str(partition))
            LAG_SECONDS.remove(_TRANSFORM, topic, str(partition))
        self._partitions = now
        for lag in lags:
            LAG_RECORDS.labels(_TRANSFORM, lag.topic, lag.partition).set(lag.records)
            LAG_SECONDS.labels(_TRANSFORM, lag.topic, lag.partition).set(lag.seconds)

    def state(self, sizes: list[StateSize]) -> None:
        now = {size.partition for size in sizes}
        for gone in self._numbers - now:
            for gauge in (STATE_ORDERS, PARKED_EVENTS, RESTORE_REMAINING):
                gauge.remove(str(gone))
        self._numbers = now
        for size in sizes:
            STATE_ORDERS.labels(size.partition).set(size.orders)
            PARKED_EVENTS.labels(size.partition).set(size.parked_events)
            RESTORE_REMAINING.labels(size.partition).set(size.restore_remaining)
