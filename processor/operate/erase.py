"""Where records of an order are and for how long, and the null value for which transform deletes it.

    orders.placed ◄── null value under the order's key ──► transform: state and changelog entry go
    topics that are deleted by age         its records stay until their retention ends; the command says until when
    topics of dead letters, kept for ever  its letters stay until they are discarded and purged

Owned by the `erase` command. With `rekey` on, the null goes the way of every other record of `orders.placed`: the order
ID is its key, and it goes to the partition where the order lives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from processor.config import Settings
from processor.edges.kafka.admin import TopicState
from processor.edges.kafka.client import Log
from processor.edges.kafka.producer import KafkaProducer
from processor.errors import BrokerOutage
from processor.operate.order.gather import Found
from processor.records import NewRecord, Position, Record
from processor.sources.placements import by_murmur2
from processor.topics import DEAD_LETTER_TOPICS, ORDER_TOPICS, Topic

WRITE_S_MAX: Final = 30.0
_CLIENT_ID: Final = "hakuna-processor-erase"


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """An order's records in one topic. `kept_until` is when the youngest is deleted by age, epoch ms; None: it is kept
    until a command deletes it."""

    topic: str
    records: int
    oldest: int
    youngest: int
    kept_until: int | None


def left(settings: Settings, found: Found, described: Mapping[str, TopicState | None]) -> list[Left]:
    """Returns the records by topic, without compacted topics: the null itself deletes them there."""
    places = []
    for topic, records in sorted(found.records.items()):
        name = settings.topic(topic)
        state = described[name]
        with_data = [record for record in records if record.value is not None]
        if state is None or not with_data:
            continue
        policy = state.config.get("cleanup.policy", "delete")
        if "compact" in policy:
            continue
        times = [record.timestamp_ms for record in with_data]
        retention_ms = int(state.config.get("retention.ms", "-1"))
        until = None if retention_ms < 0 else max(times) + retention_ms
        count, oldest, youngest = len(with_data), min(times), max(times)
        places.append(Left(topic=name, records=count, oldest=oldest, youngest=youngest, kept_until=until))
    return places


def letters(found: Found) -> list[Record]:
    """Returns the order's dead letters, resolved or not."""
    return [record for topic in DEAD_LETTER_TOPICS for record in found.records.get(topic, ())]


def stands(found: Found) -> bool:
    """Returns true if there is something to erase: a state, or records that transform has not taken yet."""
    has_state = found.changelog is not None and found.changelog.value is not None
    return has_state or any(
        record.value is not None for topic in ORDER_TOPICS for record in found.records.get(topic, ())
    )


def home(found: Found, partitions: int) -> int:
    """Returns the partition of `orders.placed` that the null goes to: that of the order."""
    placed: Sequence[Record] = found.records.get(Topic.PLACED, ())
    if placed:
        return placed[-1].partition
    return found.partition if found.anything and found.partition < partitions else by_murmur2(found.key, partitions)


def write_null(settings: Settings, key: bytes, partition: int, log: Log) -> Position:
    """Writes the null and returns its place. Raises `BrokerOutage`, `Fatal`."""
    topic = settings.topic(Topic.PLACED)
    answers: list[tuple[str | None, int]] = []
    producer = KafkaProducer(settings.librdkafka, client_id=_CLIENT_ID, log=log)
    try:
        null = NewRecord(topic, partition, key, None, [])
        producer.produce(null, lambda error, offset: answers.append((error, offset)))
        producer.flush(WRITE_S_MAX)
    finally:
        producer.close()
    error, offset = answers[0] if answers else (producer.trouble() or "no answer", -1)
    if error is not None:
        raise BrokerOutage(f"nothing was erased: {topic}/{partition} did not take the null: {error}")
    return Position(topic, partition, offset)
