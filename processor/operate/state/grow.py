"""topics grow: more partitions, and every record with a key goes to the new partition of its key.

    roles stopped, nothing unread ─► partitions made ─► states ─► holds ─► open letters ─► books ─► roles may start
                                                           │
          each key: the copy at its new place and the end of the old one, in one transaction

Until the books have the new count, transform refuses to start. So after a kill the command is run again, and finds what
is still at its old place. Topics that were grown already are corrected the same way; the records that their producers
wrote since are unread then, and are written once more, at their keys' places.

Events that a worker took before it saw that the topics had grown are parked, because their order is in another
partition: they go back into their topics.

Owned by one command in one thread. Memory: the newest states of one partition, the keys of all, the unread records of
one partition. Not chosen: to delete the old records (they show what was).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from processor.errors import Fatal, Unusable
from processor.interfaces import Clock, Reader
from processor.letters.families import letter_facts
from processor.letters.resolutions import (
    How,
    Resolution,
    decode_resolution,
    encode_resolution,
    letter_of,
    may_be_of,
    resolution_key,
)
from processor.operate.replay.reading import read
from processor.operate.state.writing import Writing
from processor.records import NewRecord, Record, TopicPartition
from processor.sources.placements import FAMILIES, JAVA, NAMED_SHARE, Family, explain, keys_needed
from processor.transform import order_state
from processor.transform.book import BOOK_KEY

SAMPLE_MAX: Final = 20_000
"""Keys that are looked at to find their producers' partitioner."""
UNREAD_MAX: Final = 500_000
"""Unread records of one partition that are written again at once: some hundred MB."""


class Growth(NamedTuple):
    """From how many partitions to how many, and the producers' partitioner."""

    was: int
    to: int
    family: Family

    def home(self, key: bytes, partition: int) -> int:
        """Returns where a key in `partition` belongs from now on. A key that is not where the partitioner puts it
        stays: it is not known where its next event goes."""
        to = self.family.of(key, self.to)
        return to if self.family.of(key, self.was) == partition or partition == to else partition


class Moved(NamedTuple):
    """What was done: orders, holds and letters at new places, parked events that went back to their topics, unread
    records that were written at their keys' places, orders that stayed where they are."""

    orders: int = 0
    holds: int = 0
    letters: int = 0
    given_back: int = 0
    rewritten: int = 0
    left: int = 0


def family_of(sample: Sequence[tuple[bytes, int]], was: int, now: int) -> Family:
    """Returns the partitioner that placed the keys, in `was` partitions, or in `now` if the topics were grown since.
    Raises `Unusable` if it is unknown, because the new places are unknown then."""
    pairs = set(sample)

    def explained(family: Family) -> int:
        return sum(at in (family.of(key, was), family.of(key, now)) for key, at in pairs)

    best = max(FAMILIES, key=explained)  # of equals the first
    if len({key for key, _ in pairs}) < keys_needed(was):
        return JAVA
    if explained(best) >= NAMED_SHARE * len(pairs):
        return best
    what = (
        f"orders are not where one partitioner puts them ({explain(pairs, was)}), so their new partitions are not known"
    )
    raise Unusable([f"{what}: set PROCESSOR_REKEY=on, which places them itself, and grow the topics then"])


class Grower:
    """Moves what one installation holds. `by` is who is recorded for it."""

    def __init__(self, reader: Reader, writing: Writing, clock: Clock, by: str) -> None:
        self._reader = reader
        self._writing = writing
        self._clock = clock
        self._by = by

    def newest(self, where: TopicPartition) -> dict[bytes, Record]:
        """Returns the newest record of each key of a partition, without tombstones."""
        found: dict[bytes, Record] = {}
        for records in self._all(where):
            for record in records:
                if record.key is None:
                    continue
                if record.value is None:
                    found.pop(record.key, None)
                else:
                    found[record.key] = record
        return found

    def states(self, changelog: str, growth: Growth) -> Moved:
        """Moves the states of orders to where their keys are."""
        moved = given_back = left = 0
        twice = self._twice(changelog, growth.to)
        others: dict[int, dict[bytes, Record]] = {}
        for number in range(growth.to):
            for key, record in self.newest(TopicPartition(changelog, number)).items():
                if key == BOOK_KEY:
                    continue
                to = growth.home(key, number)
                if to == number:
                    left += growth.family.of(key, growth.to) != number
                    continue
                if key in twice and to not in others:
                    there = self.newest(TopicPartition(changelog, to))
                    others[to] = {one: state for one, state in there.items() if one in twice}
                writes, back = _merged(changelog, record, others.get(to, {}).get(key), number, to)
                self._writing.add(writes)
                moved += 1
                given_back += back
        self._writing.commit()
        return Moved(orders=moved, given_back=given_back, left=left)

    def _twice(self, changelog: str, partitions: int) -> set[bytes]:
        """Returns orders with a state in two partitions: a worker took their events after the topics had grown."""
        seen: set[bytes] = set()
        twice: set[bytes] = set()
        for number in range(partitions):
            for key in self.newest(TopicPartition(changelog, number)):
                (twice if key in seen else seen).add(key)
        return twice - {BOOK_KEY}

    def keyed(self, topic: str, growth: Growth) -> int:
        """Moves the records of a compacted topic by their keys. Returns how many."""
        moved = 0
        for number in range(growth.to):
            for key, record in self.newest(TopicPartition(topic, number)).items():
                to = growth.home(key, number)
                if to != number:
                    copy = NewRecord(topic, to, key, record.value, record.headers)
                    self._writing.add([copy, NewRecord(topic, number, key, None, [])])
                    moved += 1
        self._writing.commit()
        return moved

    def letters(self, topic: str, resolutions: str, growth: Growth) -> int:
        """Moves open letters to where their orders' holds and states are, and resolves the old ones. Returns how
        many."""
        moved = 0
        for number in range(growth.was):
            resolved = {
                letter: resolution.at_ms
                for records in self._all(TopicPartition(resolutions, number))
                for record in records
                if (letter := letter_of(record.key)) is not None
                and (resolution := decode_resolution(record.value or b"")) is not None
            }
            for records in self._all(TopicPartition(topic, number)):
                for record in records:
                    to = growth.home(record.key, number) if record.key else number
                    at_ms = resolved.get(record.position)
                    closed = at_ms is not None and may_be_of(at_ms, letter_facts(record).last_failed_ms)
                    if to == number or closed:
                        continue
                    why, now_ms = f"topics grow has moved it to partition {to}", self._clock.now_ms()
                    end = encode_resolution(Resolution(how=How.SUPERSEDED, at_ms=now_ms, by=self._by, reason=why))
                    key = resolution_key(record.position)
                    self._writing.add([_moved(record, to), NewRecord(resolutions, number, key, end, [])])
                    moved += 1
        self._writing.commit()
        return moved

    def unread(
        self,
        sources: Sequence[str],
        number: int,
        growth: Growth,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> int:
        """Writes the unread records of a partition number again at their keys' places, each topic in its own order, if
        some of them are at old places. Returns how many; 0 if all of them are at their places."""
        found: list[Record] = []
        for topic in sources:
            where = TopicPartition(topic, number)
            for records in read(self._reader, self._clock, where, starts[where], ends[where]):
                found += records
                if len(found) > UNREAD_MAX:
                    raise Fatal(f"more than {UNREAD_MAX} records of partition {number} are unread")
        if all(record.key is None or growth.home(record.key, number) == number for record in found):
            return 0
        for record in found:
            to = number if record.key is None else growth.home(record.key, number)
            self._writing.add([_moved(record, to)])
        self._writing.commit()
        return len(found)

    def misplaced(self, topics: Sequence[str], growth: Growth) -> list[str]:
        """Returns topic/partition of compacted topics with keys that belong elsewhere; empty when all is done."""
        wheres = [TopicPartition(topic, number) for topic in topics for number in range(growth.to)]
        wrong = {
            f"{topic}/{number}"
            for topic, number in wheres
            for key in self.newest(TopicPartition(topic, number))
            if key != BOOK_KEY and growth.home(key, number) != number
        }
        return sorted(wrong)

    def sample(self, changelog: str, partitions: int) -> list[tuple[bytes, int]]:
        """Returns keys of orders with their partitions."""
        found: list[tuple[bytes, int]] = []
        for number in range(partitions):
            keys = self.newest(TopicPartition(changelog, number))
            keys.pop(BOOK_KEY, None)
            found += [(key, number) for key in list(keys)[: SAMPLE_MAX // partitions]]
        return found

    def _all(self, where: TopicPartition) -> Iterator[Sequence[Record]]:
        beginning, end = self._reader.beginnings([where])[where], self._reader.ends([where])[where]
        return read(self._reader, self._clock, where, beginning, end)


def _moved(record: Record, to: int) -> NewRecord:
    """The same record in another partition of its topic."""
    return NewRecord(record.topic, to, record.key, record.value, record.headers, max(0, record.timestamp_ms))


def _merged(changelog: str, record: Record, other: Record | None, number: int, to: int) -> tuple[list[NewRecord], int]:
    """Returns the writes that move one order from `number` to `to`, where the state `other` may be, and how many parked
    events they give back: a state that waits for its order has nothing else."""
    assert record.value is not None
    gone = NewRecord(changelog, number, record.key, None, [])
    stays = NewRecord(changelog, to, record.key, record.value, [])
    if other is None or other.value is None:
        return [stays, gone], 0
    theirs, ours = order_state.decode(other.value), order_state.decode(record.value)
    theirs_waits = theirs.standing is order_state.Standing.WAITING or not ours.parked
    given = [_moved(one.origin, to) for one in (theirs if theirs_waits else ours).parked]
    return [*([stays, gone] if theirs_waits else [gone]), *given], len(given)
