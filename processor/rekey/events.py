"""events: which events rekey has written already, so that the same one in another place is refused.

    worker ──one record a transaction: (digest, place) of each event──► hakuna.rekeyed-events ──► every worker's memory
                                       (mark, next offset) of each source partition

A producer that changes its client writes its retries to other partitions, and those may be another worker's: so what
is written is told to all, in the same transaction. A worker that gains partitions takes nothing of them before it has
read to the end that the topic had then: whatever the last owner has written, it knows.

What is remembered of an event is a digest of its topic and its bytes, never the bytes: no order ID, no e-mail. The
same bytes from the same place are no repeat (the group was set back). Other bytes under the same event ID are not
refused here: transform does that, by the order's state, and knows whether the first of them was taken or refused.

The marks say how far each source partition was taken. A group whose offsets are gone begins anew, and by them it is
known that it had begun before, and what retention took since.

Bounded: the newest REMEMBERED_MAX to twice as many events; the topic by its size. An older repeat is transform's, which
remembers the event IDs of each order for as long as the order. Two workers that write the same event within the
same fraction of a second do not see each other: transform's as well.

Not chosen: a local store (it says nothing of other workers, and has to move with partitions); the tails of the rekeyed
topics (they are deleted once taken, because they hold personal data).
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
"""Events of one generation: two of them take some 35 MB."""
CATCH_UP_S_MAX: Final = 15.0
"""The longest that records wait for this topic: as long as a dead worker's transaction may hide a part of it. A repeat
that slips through is refused by transform."""
READ_RECORDS_MAX: Final = 10_000
_PARTITION_BITS: Final = 17
_OFFSET_BITS: Final = 44
_ITEM_BYTES: Final = 16


_MARK: Final = (2**64 - 1) >> (3 + _PARTITION_BITS) << (3 + _PARTITION_BITS)
"""A digest that begins like this is a mark: its last bits name the source partition that its place is in. A real digest
that is one by chance (1 in 2⁶⁴, for its place has to agree) is known as no event, and transform refuses its repeat."""


def mark(rank: int, partition: int, next_offset: int) -> tuple[int, int]:
    """How far a source partition was taken, as `packed` takes it beside events."""
    at = place(rank, partition, next_offset)
    return _MARK | at >> _OFFSET_BITS, at


def place(rank: int, partition: int, offset: int) -> int:
    """Where an event stood, in 64 bits: eight topics, 131,072 partitions, 17 million million records in each."""
    assert rank < 8
    assert partition < 1 << _PARTITION_BITS
    assert offset < 1 << _OFFSET_BITS
    return (rank << _PARTITION_BITS | partition) << _OFFSET_BITS | offset


class KnownEvents:
    """The memory. Mutable: `_young` fills up, then it becomes `_old`, and what was old is forgotten; `_taken` has the
    furthest mark of each source partition."""

    def __init__(self) -> None:
        self._young: dict[int, int] = {}
        self._old: dict[int, int] = {}
        self._taken: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def is_repeat(self, digest: int, at: int) -> bool:
        """True where this event was written from another place."""
        known = self._young.get(digest)
        if known is None:
            known = self._old.get(digest)
        return known is not None and known != at

    def taken_to(self, rank: int, partition: int) -> int | None:
        """The next offset of a source partition, as far as anybody has ever taken it; None where nobody says so."""
        at = self._taken.get(rank << _PARTITION_BITS | partition)
        return None if at is None else at & (1 << _OFFSET_BITS) - 1

    def add(self, events: Mapping[int, int]) -> None:
        """And marks. The first place of an event stays its own, whatever is told later."""
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
    """As a record of the topic has them: 8 bytes of digest, 8 of place, little endian, one after the other."""
    numbers = array("Q", [number for pair in events.items() for number in pair])
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def unpacked(value: bytes | None) -> dict[int, int]:
    """Raises `ValueError` if it is foreign."""
    if value is None or len(value) % _ITEM_BYTES:
        raise ValueError("no list of events")
    numbers = array("Q", value)
    if sys.byteorder == "big":
        numbers.byteswap()
    return dict(zip(numbers[::2], numbers[1::2], strict=True))


class EventsTopic:
    """What all workers have written, read on and on into `known`. Mutable: `_ends` what is to be reached before
    anything is taken, empty when it is; `_began` whether anything is read yet, `_until_s` how long it is waited for."""

    def __init__(self, topic: str, partitions: int, reader: Reader, clock: Clock, known: KnownEvents) -> None:
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._reader = reader
        self._clock = clock
        self._known = known
        self._began = False
        self._ends: dict[TopicPartition, int] = {}
        self._until_s = 0.0

    def catch_up(self) -> None:
        """From now on `read` is False until all is read that is there now. Raises `BrokerOutage`."""
        ends = self._reader.ends(self._partitions)
        if not self._began:
            self._from_the_beginning(self._partitions)
            self._began = True
        self._ends = dict(ends)
        self._until_s = self._clock.monotonic_s() + CATCH_UP_S_MAX

    def read(self) -> bool:
        """A slice. True where nothing has to be waited for. Raises `BrokerOutage`."""
        if not self._began:
            return False
        try:
            polled = self._reader.poll(READ_RECORDS_MAX, 0.02 if self._ends else 0.0)
        except StateCorrupt as gone:
            # Deleted by size before it was read: the rest is read from where it begins now.
            self._from_the_beginning([gone.partition] if gone.partition is not None else self._partitions)
            return not self._ends
        self._learn(polled.records)
        self._ends = {where: end for where, end in self._ends.items() if self._reader.position(where) < end}
        if self._ends and self._clock.monotonic_s() >= self._until_s:
            log.warning(
                "going on without all that was written before; transform refuses repeats", records=self.remaining
            )
            self._ends = {}
        return not self._ends

    @property
    def remaining(self) -> int:
        """Records that are waited for."""
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
