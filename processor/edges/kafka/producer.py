"""KafkaProducer: idempotent, at least once, acknowledged by every in-sync replica.

Owned by a role's Kafka thread: it writes send's receipts, dead letters and holds. `produce` never waits; the answer to
each record comes through `poll` as a fact. A record that is not acknowledged within `message.timeout.ms` is answered
with an error. The caller decides then; the offset of its source record is not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

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


class Delivery(Protocol):
    """What confluent-kafka hands a delivery callback, as far as we look at it."""

    def topic(self) -> str: ...

    def offset(self) -> int: ...


class KafkaProducer:
    """See the module. It holds nothing but the client: what is unanswered is librdkafka's to know."""

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
        self._producer = new_producer(config, self._complaints.on_error, LibraryLog(log))
        self._produce: Callable[..., None] = self._producer.produce  # its stub does not know all of its ways

    def produce(self, record: NewRecord, acknowledged: Acknowledged) -> bool:
        topic, partition, key, value, headers, timestamp_ms = record
        assert partition >= 0, "which partition a record belongs to is ours to know"

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
        except KafkaException as fatal:  # whatever else goes wrong is an answer to a record, or librdkafka's to retry
            raise Fatal(error_of(fatal).str()) from fatal

    def flush(self, timeout_s: float) -> int:
        try:
            return self._producer.flush(timeout_s)
        except KafkaException as fatal:
            raise Fatal(error_of(fatal).str()) from fatal

    def trouble(self) -> str | None:
        return self._complaints.text()

    def close(self) -> None:
        """Gives unanswered records some seconds; then they are dropped, unacknowledged."""
        with suppress(KafkaException):  # a client with a fatal error says so in each of these
            self._producer.flush(ORDERLY_END_S_MAX)
        self._producer.purge()
        with suppress(KafkaException):
            self._producer.poll(0)  # the purged records' reports
