"""decide: what one source record becomes, before anything is written.

    value ─ order ID in it ─┬─ new ────► under the order ID, in the partition where Java's clients put it
                            ├─ known ──► not written: a repeat (`events.py`)
                            └─ none ───► as it is, under its old key: transform makes a dead letter of it
    null  ─ order ID in its key ─┬─► under the order ID: an erasure
                                 └─► a dead letter: nobody can tell whose data is to be erased

Value, headers and timestamp go on unchanged. Pure.

Invariant: transform alone judges a record that cannot be decoded; here it is a record without an order ID.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from processor.errors import BadRecord
from processor.letters.letter import Refusal, fitting_letter
from processor.records import (
    HeaderName,
    IgnoredReason,
    NewRecord,
    Outcome,
    Reason,
    Record,
    Stage,
    TopicPartition,
    record_bytes,
)
from processor.rekey.events import KnownEvents, mark, place
from processor.sources.keys import read_key, unreadable
from processor.sources.placements import by_murmur2
from processor.sources.standing import Written

Read = Callable[[Record], tuple[str, bytes]]
"""Returns the order ID in a record's value, and the event's own bytes without their frame. Raises `BadRecord`, or
`RegistryOutage`: then nothing is decided, and the record is taken again later."""


class Source(NamedTuple):
    """One source topic: its number among them, where its records go (whole name), and how they are read."""

    rank: int
    target: str
    read: Read


@dataclass(frozen=True, slots=True)
class Plan:
    """The settings of deciding, which never change while a worker runs. Topic names are whole, with their prefix."""

    group: str
    sources: Mapping[str, Source]
    partitions: int
    """The partition count of the rekeyed topics, and so of the changelog."""
    dead_letters: str
    record_bytes_max: int
    """The largest record that the rekeyed topics and the producer take; a larger one is a dead letter `too_large`."""
    letter_bytes_max: int
    """The same for a dead letter, which cannot be refused in turn."""


@dataclass(slots=True)
class Batch:
    """One transaction in the making. Mutable until it is written: it only grows.

    `now_ms` is the wall clock when it began, `records` are the source records in the order in which they were taken,
    `consumed` the next offset by topic and partition, `events` the new events for `events.py`, `written` how the
    records ended, `dead` which of them became dead letters (for the flood guard), `bytes` roughly what was read."""

    now_ms: int
    records: list[Record] = field(default_factory=list)
    outgoing: list[NewRecord] = field(default_factory=list)
    consumed: dict[tuple[str, int], int] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    dead: list[bool] = field(default_factory=list)
    written: Written = field(default_factory=Written)
    bytes: int = 0

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """The offsets to commit with these records."""
        return {TopicPartition(*source): next_offset for source, next_offset in self.consumed.items()}

    def told(self, ranks: Mapping[str, int]) -> dict[int, int]:
        """Returns what other workers must know: its events, and how far each source partition is taken."""
        marks = (mark(ranks[topic], partition, at) for (topic, partition), at in self.consumed.items())
        return self.events | dict(marks)


class Decider:
    """Decides what each record becomes, into the batch that it is given. `known` is read, never changed."""

    def __init__(self, plan: Plan, known: KnownEvents) -> None:
        self._plan = plan
        self._known = known
        self._persons = {topic: bytes([source.rank]) for topic, source in plan.sources.items()}

    def take(self, record: Record, batch: Batch) -> None:
        """Decides one source record. Raises `RegistryOutage`, before anything is decided."""
        source = self._plan.sources[record.topic]
        if record.value is None:
            key = read_key(record.key, record.headers)
            if key.is_trusted and key.order_id is not None:
                self._hand_on(record, source, key.order_id.encode(), batch)
            else:
                self._refuse(record, Reason.KEY_MISMATCH, unreadable(key), batch)
        else:
            self._event(record, source, batch)
        batch.bytes += len(record.value or b"") + sum(len(name) + len(said or b"") for name, said in record.headers)
        batch.records.append(record)
        batch.consumed[record.topic, record.partition] = record.offset + 1

    def _event(self, record: Record, source: Source, batch: Batch) -> None:
        try:
            order_id, body = source.read(record)
        except BadRecord:
            order_id, body = "", b""
        if not order_id:
            self._hand_on(record, source, None, batch)
            return
        digest = int.from_bytes(blake2b(body, digest_size=8, person=self._persons[record.topic]).digest(), "little")
        at = place(source.rank, record.partition, record.offset)
        if record.header(HeaderName.REPLAY_ID) is None:
            before = batch.events.get(digest)
            if before is not None or self._known.is_repeat(digest, at):
                batch.written.records[record.topic, Outcome.DUPLICATE] += 1
                batch.written.ignored[record.topic, IgnoredReason.DUPLICATE] += 1
                batch.dead.append(False)
                return
        batch.events[digest] = at
        self._hand_on(record, source, order_id.encode(), batch)

    def _hand_on(self, record: Record, source: Source, order_id: bytes | None, batch: Batch) -> None:
        """Writes a record under its order ID. Without one it is written as it is, always to the same partition."""
        plan = self._plan
        key = record.key if order_id is None else order_id
        partition = by_murmur2(key, plan.partitions) if key else record.partition % plan.partitions
        size = record_bytes(key, record.value, record.headers)
        if size > plan.record_bytes_max:
            message = f"it measures {size} bytes, and {source.target} takes {plan.record_bytes_max}"
            self._refuse(record, Reason.TOO_LARGE, message, batch)
            return
        batch.outgoing.append(
            NewRecord(source.target, partition, key, record.value, record.headers, max(0, record.timestamp_ms))
        )
        batch.written.records[record.topic, Outcome.TRANSFORMED] += 1
        batch.dead.append(False)

    def _refuse(self, record: Record, reason: Reason, message: str, batch: Batch) -> None:
        plan = self._plan
        refusal = Refusal(
            stage=Stage.TRANSFORM, reason=reason, message=message, group=plan.group, failed_ms=batch.now_ms
        )
        partition = record.partition % plan.partitions
        letter, _ = fitting_letter(record, refusal, plan.dead_letters, partition, plan.letter_bytes_max)
        batch.outgoing.append(letter)
        if not batch.written.dead_letter(record, letter.value, Stage.TRANSFORM, reason):
            batch.dead.append(True)
