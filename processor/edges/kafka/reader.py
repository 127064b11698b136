"""KafkaReader: reads given partitions outside of any group, to restore state from a topic.

Used for transform's changelog and send's holds, in one thread. It reads committed records only, and knows its position
past control records, compacted gaps and aborted records. librdkafka's own position moves on records alone, so it would
never reach the end of a log that ends with a transaction's marker. The broker's report of the end
(`enable.partition.eof`) has that offset.

    assign(position…) ─► poll … ─► position(p) == ends()[p]  ─► restored

An offset that is no longer in the log is an error here, not a reset: half of a compacted topic is not its state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, cast

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import (
    CONNECTION,
    Complaints,
    KafkaSettings,
    Message,
    Setting,
    consumed,
    groupless,
    new_consumer,
    taken,
)
from processor.errors import Fatal, StateCorrupt
from processor.interfaces import Polled
from processor.records import Position, Record, TopicPartition

READER_DEFAULTS: Final[Mapping[str, Setting]] = {
    # A restore reads as fast as it can, for a short time: further ahead than the consumer, but bounded, because a
    # changelog may have several gigabytes.
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 20,
    "fetch.message.max.bytes": 1024 * 1024,
}

_ERROR: Final = cast("Callable[[Message], object]", ck.Message.error)
_PARTITION: Final = cast("Callable[[Message], int]", ck.Message.partition)
_KEY: Final = cast("Callable[[Message], bytes | None]", ck.Message.key)
_VALUE: Final = cast("Callable[[Message], bytes | None]", ck.Message.value)


class KafkaReader:
    """See the module. Mutable: `_positions` is, per assigned partition, the next offset to read; `_at_end` are the
    partitions at their end, with its offset."""

    def __init__(self, settings: KafkaSettings, *, group: str, client_id: str) -> None:
        log = structlog.get_logger()
        self._complaints = Complaints(log)
        owned: dict[str, Setting] = {
            "client.id": client_id,
            "group.id": group,  # librdkafka needs one and looks its coordinator up: one that we have the right to
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        config = groupless(READER_DEFAULTS, settings, owned)
        self._consumer = new_consumer(config, self._complaints.on_error, log)
        self._admin = KafkaAdmin(settings, client_id=client_id, log=log)
        self._positions: dict[TopicPartition, int] = {}
        self._at_end: dict[TopicPartition, int] = {}

    def assign(self, positions: Iterable[Position]) -> None:
        wanted = {TopicPartition(topic, partition): offset for topic, partition, offset in positions}
        assert all(offset >= 0 for offset in wanted.values()), "a reader needs a start"
        self.unassign([partition for partition in wanted if partition in self._positions])
        if wanted:
            self._consumer.incremental_assign(
                [ck.TopicPartition(topic, partition, offset) for (topic, partition), offset in wanted.items()]
            )
        self._positions.update(wanted)

    def unassign(self, partitions: Iterable[TopicPartition]) -> None:
        known = [partition for partition in partitions if partition in self._positions]
        if known:
            self._consumer.incremental_unassign([ck.TopicPartition(*partition) for partition in known])
        for partition in known:
            del self._positions[partition]
            self._at_end.pop(partition, None)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        records = self._taken(consumed(self._consumer, records_max, timeout_s))
        return Polled(records, dict(self._at_end))

    def newest(self, records_max: int, timeout_s: float) -> Mapping[TopicPartition, dict[bytes, bytes | None]]:
        messages = consumed(self._consumer, records_max, timeout_s)
        topics = {partition.topic for partition in self._positions}
        found: dict[TopicPartition, dict[bytes | None, bytes | None]] = {}
        complained = self._complaints.subjects or self._complaints.fatal is not None
        if len(topics) != 1 or complained or any(map(_ERROR, messages)):
            for record in self._taken(messages):
                found.setdefault(TopicPartition(record.topic, record.partition), {})[record.key] = record.value
        else:
            # An object a record, and a step of Python for each of its fields, is a third of the cost of a restore.
            (topic,) = topics
            for number, of_partition in groupby(messages, _PARTITION):
                run = list(of_partition)
                partition = TopicPartition(topic, number)
                self._at_end.pop(partition, None)
                self._positions[partition] = run[-1].offset() + 1
                found.setdefault(partition, {}).update(zip(map(_KEY, run), map(_VALUE, run), strict=True))
        for newest in found.values():
            newest.pop(None, None)
        return cast("dict[TopicPartition, dict[bytes, bytes | None]]", found)

    def _taken(self, messages: list[Message]) -> list[Record]:
        """Returns the records among messages. Notes positions and errors."""
        records, refused = taken(messages, self._at_end)
        for record in records:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        for partition, end in self._at_end.items():
            self._positions[partition] = max(self._positions[partition], end)
        if self._complaints.subjects and len(messages) > len(refused):
            self._heard_from({message.topic() or "" for message in messages if message not in refused})
        for message in refused:
            self._refused(message)
        if self._complaints.fatal is not None:
            raise Fatal(self._complaints.fatal)
        return records

    def _heard_from(self, topics: set[str]) -> None:
        """Clears the complaints of these topics and of the connection. Another topic's refusal is reported only once,
        so it stays."""
        for subject in self._complaints.subjects:
            if subject == CONNECTION or subject in topics:
                self._complaints.clear(subject)

    def _refused(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        if error.fatal():
            self._complaints.fatal = self._complaints.fatal or error.str()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            where = TopicPartition(message.topic(), message.partition())
            at = self._positions.get(where)
            raise StateCorrupt(f"offset {at} of {where} is not in the log: {error.str()}", where)
        else:
            self._complaints.note(message.topic() or CONNECTION, error)

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._admin.beginnings(partitions)

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._admin.ends(partitions)

    def trouble(self) -> str | None:
        return self._complaints.text()

    def close(self) -> None:
        self._consumer.close()
        self._positions.clear()
        self._at_end.clear()
