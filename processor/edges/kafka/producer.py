"""KafkaProducer: idempotent, at least once, acknowledged by every in-sync replica.

Owned by a role's Kafka thread: it writes send's receipts, dead letters and holds. `produce` never waits; `poll` reports
the answer to each record. A record that is not acknowledged within `message.timeout.ms` is answered with an error. The
caller decides then; the offset of its source record is not finished.

`Batches` fits the batches of a client to its topics; transactions use it, too (`transaction.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.client import (
    Complaints,
    KafkaSettings,
    LibraryLog,
    Log,
    Setting,
    error_of,
    merged,
    new_producer,
    said,
)
from processor.edges.kafka.throttle import Throttle
from processor.errors import Fatal
from processor.interfaces import Acknowledged
from processor.records import NewRecord
from processor.topics import RECORD_BYTES_MAX

PRODUCER_DEFAULTS: Final[Mapping[str, Setting]] = {
    # A batch of receipts, not a request each: with 5 ms the broker takes nearly twice the CPU for an entry, and a
    # sender beside it has a tenth less of its rate. Nothing waits for it but an offset; a commit and a flush do not.
    "linger.ms": 25,
    "compression.type": "lz4",
    # Our own copies of records must fit where the originals did.
    "message.max.bytes": RECORD_BYTES_MAX,
    # Memory: librdkafka's gigabyte would be the process's end before it is the queue's.
    "queue.buffering.max.kbytes": 65_536,
    "queue.buffering.max.messages": 100_000,
}

ORDERLY_END_S_MAX: Final = 5.0
FIT_S_MAX: Final = 0.2
"""The longest wait for the answers of a client whose batches are too large; the group's poll waits meanwhile."""
BATCH_BYTES: Final = 1_000_000  # librdkafka's `batch.size`
BATCH_OVERHEAD_BYTES: Final = 512  # of a batch, which librdkafka does not count


class Batches:
    """Fits `batch.size` in a client's settings to the smallest `max.message.bytes` of its topics. A topic's limit holds
    for a whole batch, and librdkafka fills batches up to its own setting. The setting is for the life of a client."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._bytes_max = int(config.get("batch.size", BATCH_BYTES))

    def fit(self, batch_bytes_max: int) -> bool:
        """Returns true if the setting has changed, so that a new client is needed."""
        before = int(self._config.get("batch.size", BATCH_BYTES))
        wanted = max(1, min(self._bytes_max, batch_bytes_max - BATCH_OVERHEAD_BYTES))
        self._config["batch.size"] = wanted
        return before != wanted


class Delivery(Protocol):
    """The message of a delivery callback of confluent-kafka."""

    def topic(self) -> str: ...
    def offset(self) -> int: ...


def _refuse(*_: object) -> None:
    """In place of a client that gets no more records."""
    raise BufferError


class KafkaProducer:
    """See the module. Mutable: `_producer`, the client; `_fit` is the smallest limit of a topic so far, and `_is_unfit`
    says that the client is to be replaced. Unanswered records are in the client."""

    def __init__(
        self, settings: KafkaSettings, *, client_id: str, log: Log | None = None, throttle: Throttle | None = None
    ) -> None:
        log = log or structlog.get_logger()
        self._complaints = Complaints(log)
        config = merged(
            PRODUCER_DEFAULTS,
            settings,
            {"client.id": client_id, "enable.idempotence": True, "acks": "all", "allow.auto.create.topics": False},
        )
        if throttle is not None:
            config["throttle_cb"] = throttle.heard
        self.record_bytes_max = int(config["message.max.bytes"])
        self._config = config
        self._log = log
        self._batches = Batches(config)
        self._fit = self.record_bytes_max
        self._open()

    def _open(self) -> None:
        self._is_unfit = False
        self._producer = new_producer(self._config, self._complaints.on_error, LibraryLog(self._log))
        self._produce: Callable[..., None] = self._producer.produce  # its stub does not know all of its ways

    def fit(self, batch_bytes_max: int) -> None:
        self._fit = min(self._fit, batch_bytes_max)
        if self._batches.fit(self._fit):
            self._is_unfit = True
            self._produce = _refuse

    def produce(self, record: NewRecord, acknowledged: Acknowledged) -> bool:
        topic, partition, key, value, headers, timestamp_ms = record
        assert partition >= 0, "the caller knows the partition of a record"

        def answered(error: KafkaError | None, message: Delivery) -> None:
            if error is None:
                acknowledged(None, message.offset())
            else:
                acknowledged(f"{error.name()}: {said(error)}", -1)

        try:
            # An empty list of headers costs librdkafka's binding 0.6 µs, a third of what the call takes; by position it
            # takes 0.3 less than by name.
            if headers:
                self._produce(topic, value, key, partition, answered, None, timestamp_ms, headers)
            else:
                self._produce(topic, value, key, partition, answered, None, timestamp_ms)
        except BufferError:
            return False
        except KafkaException as refused:
            error = error_of(refused)
            if error.fatal() or self._complaints.fatal is not None:
                raise Fatal(self._complaints.fatal or error.str()) from refused
            acknowledged(f"{error.name()}: {said(error)}", -1)
        return True

    def poll(self) -> None:
        try:
            self._producer.poll(0)
            if self._is_unfit and self._producer.flush(FIT_S_MAX) == 0:
                self._open()
        except KafkaException as fatal:  # any other error is the answer to a record, or librdkafka retries it
            raise Fatal(error_of(fatal).str()) from fatal

    def flush(self, timeout_s: float) -> int:
        try:
            return self._producer.flush(timeout_s)
        except KafkaException as fatal:
            raise Fatal(error_of(fatal).str()) from fatal

    def trouble(self) -> str | None:
        return self._complaints.text()

    def close(self) -> None:
        """Waits some seconds for unanswered records, then drops them."""
        with suppress(KafkaException):  # a client with a fatal error raises it in each of these
            self._producer.flush(ORDERLY_END_S_MAX)
        self._producer.purge()
        with suppress(KafkaException):
            self._producer.poll(0)  # the purged records' reports
