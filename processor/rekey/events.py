"""events: the events that rekey has written already, so that a repeat in another place is dropped.

    worker ──one record a transaction: (digest, place) of each event──► hakuna.rekeyed-events ──► every worker's memory
                                       (mark, next offset) of each source partition

A producer that changes its client writes its retries to other partitions, which may belong to another worker. So each
worker lists the events that it writes for all others, in the same transaction. A worker that gains partitions first
reads to the end that the topic has then: so it knows all events that the last owner has written.

The memory has a digest of an event's topic and bytes, never the bytes: no order ID, no e-mail. The same bytes from the
same place are not a repeat (the group was set back). Transform refuses other bytes under the same event ID by the
order's state, because it knows whether the first of them was taken or refused.

Marks say how far each source partition was taken. A group whose offsets are gone begins anew; the marks then show that
it had begun before, and what retention took since.

Bounded: the memory has the newest REMEMBERED_MAX to twice as many events; the topic is limited by its size. Transform
refuses older repeats, for it remembers an order's event IDs, and an event that two workers write at the same moment.

Not chosen: a local store (it does not know other workers' events, and has to move with partitions); the tails of the
rekeyed topics (they are deleted once taken, because they hold personal data).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from processor.errors import StateCorrupt
from processor.interfaces import Clock, Reader
from processor.records import Position, Record, TopicPartition

log = structlog.get_logger(__name__)

REMEMBERED_MAX: Final = 100_000
"""Events of one generation: two generations take some 35 MB."""
CATCH_UP_S_MAX: Final = 15.0
"""The longest that records wait for this topic, as a dead worker's transaction may hide a part of it."""
READ_RECORDS_MAX: Final = 10_000
_PARTITION_BITS: Final = 17
_OFFSET_BITS: Final = 44
_ITEM_BYTES: Final = 16
_MARK: Final = (2**64 - 1) >> (3 + _PARTITION_BITS) << (3 + _PARTITION_BITS)
"""A digest that begins like this is a mark: its last bits name the source partition of its place. If a real digest is a
mark by chance (1 in 2⁶⁴, for its place has to agree), its event is forgotten, and transform refuses its repeat."""


def mark(rank: int, partition: int, next_offset: int) -> tuple[int, int]:
    """Returns how far a source partition was taken, in the form of an event."""
    at = place(rank, partition, next_offset)
    return _MARK | at >> _OFFSET_BITS, at


def place(rank: int, partition: int, offset: int) -> int:
    """Returns an event's place in 64 bits: 8 topics, 131,072 partitions, 17 million million records in each."""
    assert rank < 8
    assert partition < 1 << _PARTITION_BITS
    assert offset < 1 << _OFFSET_BITS
    return (rank << _PARTITION_BITS | partition) << _OFFSET_BITS | offset


class KnownEvents:
    """The memory. Mutable: `_young` fills up and replaces `_old`; `_taken` has the furthest mark of each source."""

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._taken: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_repeat(self, digest: int, at: int) -> bool:
        """True if this event was written from another place."""
        known = self._young.get(digest, self._old.get(digest))
        return known is not None and known != at

    def taken_to(self, rank: int, partition: int) -> int | None:
        """Returns the furthest next offset that any worker has taken of a source partition; None if no mark has it."""
        at = self._taken.get(rank << _PARTITION_BITS | partition)
        return None if at is None else at & (1 << _OFFSET_BITS) - 1

    def add(self, events: Mapping[int, int]) -> None:
        """Adds events and marks. An event keeps its first place."""
        young, old = self._young, self._old
        for digest, at in events.items():
            stood = at >> _OFFSET_BITS
            if digest == _MARK | stood:
                self._taken[stood] = max(at, self._taken.get(stood, 0))
            elif digest not in young:
                young[digest] = old.get(digest, at)
        if len(young) >= REMEMBERED_MAX:
            self._young, self._old = {}, young


def packed(events: Mapping[int, int]) -> bytes:
    """Returns events as a record has them: 8 bytes of digest, 8 of place, little endian, one after the other."""
    numbers = array("Q", [number for pair in events.items() for number in pair])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def unpacked(value: bytes | None) -> dict[int, int]:
    """Returns the events of a record. Raises `ValueError` if it is foreign."""
    if value is None or len(value) % _ITEM_BYTES:
        raise ValueError("no list of events")
    numbers = array("Q", value)
    if sys.byteorder == "big":
        numbers.byteswap()
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


class EventsTopic:
    """Reads into `known` what all workers write. Mutable: `_ends` has the ends to be reached before records are taken
    (empty if they are reached), `_began` is true once the topic is read, `_until_s` is the end of the wait."""

    def __init__(self, topic: str, partitions: int, reader: Reader, clock: Clock, known: KnownEvents) -> None:
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._reader = reader
        self._clock = clock
        self._known = known
        self._began = False
        self._ends: dict[TopicPartition, int] = {}
        self._until_s = 0.0

    def catch_up(self) -> None:
        """Makes `read` return False until everything is read that the topic has now. Raises `BrokerOutage`."""
        ends = dict(self._reader.ends(self._partitions))
        if not self._began:
            self._from_the_beginning(self._partitions)
            self._began = True
        self._ends = ends
        self._until_s = self._clock.monotonic_s() + CATCH_UP_S_MAX

    def read(self) -> bool:
        """Reads one slice. Returns true if records may be taken. Raises `BrokerOutage`."""
        if not self._began:
            return False
        try:
            polled = self._reader.poll(READ_RECORDS_MAX, 0.02 if self._ends else 0.0)
        except StateCorrupt as gone:
            # Records were deleted by size before they were read: the topic is read from its new beginning.
            self._from_the_beginning([gone.partition] if gone.partition is not None else self._partitions)
            return not self._ends
        self._learn(polled.records)
        self._ends = {where: end for where, end in self._ends.items() if self._reader.position(where) < end}
        if self._ends and self._clock.monotonic_s() >= self._until_s:
            log.warning("going on without all earlier events; transform refuses repeats", records=self.remaining)
            self._ends = {}
        return not self._ends

    @property
    def remaining(self) -> int:
        """The number of records to be read before records are taken."""
        return sum(end - self._reader.position(where) for where, end in self._ends.items())

    def _from_the_beginning(self, partitions: Sequence[TopicPartition]) -> None:
        beginnings = self._reader.beginnings(partitions)
        self._reader.assign(Position(*where, beginnings[where]) for where in partitions)

    def _learn(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._known.add(unpacked(record.value))
            except ValueError:
                log.warning("a record that is no list of events was left out", position=str(record.position))
