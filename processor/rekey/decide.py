"""decide: what one source record becomes, before anything is written.

    value ─ order ID in it ─┬─ new ────► under the order ID, in the partition where Java's clients put it
                            ├─ known ──► nothing: a repeat (`events.py`)
                            └─ none ───► as it is, under its old key: transform makes a dead letter of it
    null  ─ order ID in its key ─┬─► under the order ID: an erasure
                                 └─► a dead letter: nobody can tell whose data is to be erased

Value, headers and timestamp go on unchanged. Pure.

Invariant: a record that cannot be decoded is judged by transform alone, which keeps its bytes and names the reason;
here nothing is known of it but that it has no order ID.
"""

from __future__ import annotations

from collections import Counter
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
"""The order ID in a record's value, and the event's own bytes without what frames them. Raises `BadRecord`, or
`RegistryOutage`: then nothing was decided, and the record is taken again later."""


class Source(NamedTuple):
    """One source topic: its number among them, where its records go (whole name), and how they are read."""

    rank: int
    target: str
    read: Read


@dataclass(frozen=True, slots=True)
class Plan:
    """What deciding depends on and never changes while a worker runs. Topic names are whole, with their prefix."""

    group: str
    sources: Mapping[str, Source]
    partitions: int
    """As many as the rekeyed topics have, and with them the changelog."""
    dead_letters: str
    record_bytes_max: int
    """The largest record that the rekeyed topics and the producer take; a larger one is a dead letter `too_large`."""
    letter_bytes_max: int
    """The same for a dead letter, which cannot be refused in turn."""


@dataclass(slots=True)
class Batch:
    """One transaction in the making. Mutable until it is written: it only grows.

    `records` are the source records in the order in which they were taken, `consumed` the next offset by topic and
    partition, `events` what is new in `events.py`, `dead` whether each record became a dead letter (for the flood
    guard), `bytes` what was read, roughly.
    """

    records: list[Record] = field(default_factory=list)
    outgoing: list[NewRecord] = field(default_factory=list)
    consumed: dict[tuple[str, int], int] = field(default_factory=dict)
    events: dict[int, int] = field(default_factory=dict)
    dead: list[bool] = field(default_factory=list)
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    ignored: Counter[tuple[str, IgnoredReason]] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, Stage, str]] = field(default_factory=Counter)
    replayed: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    bytes: int = 0

    @property
    def next_offsets(self) -> dict[TopicPartition, int]:
        """What is consumed with these records."""
        return {TopicPartition(*source): next_offset for source, next_offset in self.consumed.items()}

    def told(self, ranks: Mapping[str, int]) -> dict[int, int]:
        """What other workers are to know of it: its events, and how far each source partition is taken with them."""
        marks = (mark(ranks[topic], partition, at) for (topic, partition), at in self.consumed.items())
        return self.events | dict(marks)

    def written(self) -> Written:
        return Written(self.outcomes, self.ignored, self.dead_letters, self.replayed)


class Decider:
    """Decides what each record becomes, into the batch that it is given. `known` is read, never changed."""

    def __init__(self, plan: Plan, known: KnownEvents) -> None:
        self._plan = plan
        self._known = known
        self._persons = {topic: bytes([source.rank]) for topic, source in plan.sources.items()}

    def take(self, record: Record, batch: Batch, now_ms: int) -> None:
        """One source record, whole. Raises `RegistryOutage`, before anything is decided."""
        source = self._plan.sources[record.topic]
        if record.value is None:
            key = read_key(record.key, record.headers)
            if key.is_trusted and key.order_id is not None:
                self._hand_on(record, source, key.order_id.encode(), batch, now_ms)
            else:
                self._refuse(record, Reason.KEY_MISMATCH, unreadable(key), batch, now_ms)
        else:
            self._event(record, source, batch, now_ms)
        batch.bytes += len(record.value or b"") + sum(len(name) + len(said or b"") for name, said in record.headers)
        batch.records.append(record)
        batch.consumed[record.topic, record.partition] = record.offset + 1

    def _event(self, record: Record, source: Source, batch: Batch, now_ms: int) -> None:
        try:
            order_id, body = source.read(record)
        except BadRecord:
            order_id, body = "", b""
        if not order_id:
            self._hand_on(record, source, None, batch, now_ms)
            return
        digest = int.from_bytes(blake2b(body, digest_size=8, person=self._persons[record.topic]).digest(), "little")
        at = place(source.rank, record.partition, record.offset)
        if not _is_replayed(record):
            before = batch.events.get(digest)
            if before is not None or self._known.is_repeat(digest, at):
                batch.outcomes[record.topic, Outcome.DUPLICATE] += 1
                batch.ignored[record.topic, IgnoredReason.DUPLICATE] += 1
                batch.dead.append(False)
                return
        batch.events[digest] = at
        self._hand_on(record, source, order_id.encode(), batch, now_ms)

    def _hand_on(self, record: Record, source: Source, order_id: bytes | None, batch: Batch, now_ms: int) -> None:
        """Under its order ID; where there is none, as it is, always in the same partition."""
        plan = self._plan
        key = record.key if order_id is None else order_id
        partition = by_murmur2(key, plan.partitions) if key else record.partition % plan.partitions
        size = record_bytes(key, record.value, record.headers)
        if size > plan.record_bytes_max:
            message = f"it measures {size} bytes, and {source.target} takes {plan.record_bytes_max}"
            self._refuse(record, Reason.TOO_LARGE, message, batch, now_ms)
            return
        batch.outgoing.append(
            NewRecord(source.target, partition, key, record.value, record.headers, max(0, record.timestamp_ms))
        )
        batch.outcomes[record.topic, Outcome.TRANSFORMED] += 1
        batch.dead.append(False)

    def _refuse(self, record: Record, reason: Reason, message: str, batch: Batch, now_ms: int) -> None:
        plan = self._plan
        refusal = Refusal(stage=Stage.TRANSFORM, reason=reason, message=message, group=plan.group, failed_ms=now_ms)
        partition = record.partition % plan.partitions
        letter, _ = fitting_letter(record, refusal, plan.dead_letters, partition, plan.letter_bytes_max)
        batch.outgoing.append(letter)
        if letter.value is None and record.value is not None:
            reason = Reason.TOO_LARGE
        batch.outcomes[record.topic, Outcome.DEAD_LETTERED] += 1
        batch.dead_letters[record.topic, Stage.TRANSFORM, reason] += 1
        if _is_replayed(record):
            batch.replayed[record.topic, Outcome.DEAD_LETTERED] += 1
        else:
            batch.dead.append(True)


def _is_replayed(record: Record) -> bool:
    return record.header(HeaderName.REPLAY_ID) is not None
