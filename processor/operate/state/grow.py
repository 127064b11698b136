"""topics grow: more partitions, and everything with a key goes to where its key is then.

    roles stopped, nothing unread ─► partitions made ─► states ─► holds ─► open letters ─► books ─► roles may start
                                                           │
          each key: the copy at its new place and the end of the old one, in one transaction

Until the books say the new count, transform refuses to start; so a kill at any point costs nothing but the command
again, which finds what is still at its old place. Topics that somebody has grown already are mended the same way; what
their producers wrote since is then unread, and is written once more, at its key's place, in the order of its time.

What a worker took by mistake before it saw that the topics had grown waits as parked events of an order that is
elsewhere: these go back into their topics.

Owned by one command, one thread. Memory: the newest states of one partition at a time, the keys of all; what is
unread of one partition. Not chosen: the deletion of the old topics (they are the record of what was).
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
    """From how many partitions to how many, and who places the keys."""

    was: int
    to: int
    family: Family

    def home(self, key: bytes, partition: int) -> int:
        """Where a key that stands in `partition` belongs from now on. One that was not where its producer puts keys
        stays: nobody knows what its next event does."""
        to = self.family.of(key, self.to)
        return to if self.family.of(key, self.was) == partition or partition == to else partition


class Moved(NamedTuple):
    """What was done: orders, holds and letters at new places, events given back to their topics, unread records written
    at their keys' place, orders that were left where they are."""

    orders: int = 0
    holds: int = 0
    letters: int = 0
    given_back: int = 0
    rewritten: int = 0
    left: int = 0


def family_of(sample: Sequence[tuple[bytes, int]], was: int, now: int) -> Family:
    """Who places the keys, in `was` partitions, and in `now` where somebody has grown the topics since. Raises
    `Unusable` where that cannot be told, and so not where they will be."""
    pairs = set(sample)

    def explained(family: Family) -> int:
        return sum(at in (family.of(key, was), family.of(key, now)) for key, at in pairs)

    best = max(FAMILIES, key=explained)  # of equals the first
    if len({key for key, _ in pairs}) < keys_needed(was):
        return JAVA
    if explained(best) >= NAMED_SHARE * len(pairs):
        return best
    raise Unusable(
        [
            f"orders are not where one partitioner puts them ({explain(pairs, was)}), so their new partitions "
            "are not known: set PROCESSOR_REKEY=on, which places them itself, and grow the topics then"
        ]
    )


class Grower:
    """Moves what one installation holds. `whole` yields a topic's records, partition by partition."""

    def __init__(self, reader: Reader, writing: Writing, clock: Clock, by: str) -> None:
        self._reader = reader
        self._writing = writing
        self._clock = clock
        self._by = by

    def newest(self, where: TopicPartition) -> dict[bytes, Record]:
        """The newest record of each key of a partition, ends of keys left out."""
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
        """Orders to where their keys are. Returns when all of them are."""
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
        """Orders with a state in two partitions: a worker took their events after the topics had grown."""
        seen: set[bytes] = set()
        twice: set[bytes] = set()
        for number in range(partitions):
            for key in self.newest(TopicPartition(changelog, number)):
                (twice if key in seen else seen).add(key)
        return twice - {BOOK_KEY}

    def keyed(self, topic: str, growth: Growth) -> int:
        """The records of a compacted topic, by key; returns how many."""
        moved = 0
        for number in range(growth.to):
            for key, record in self.newest(TopicPartition(topic, number)).items():
                to = growth.home(key, number)
                if to != number:
                    self._writing.add(
                        [
                            NewRecord(topic, to, key, record.value, record.headers),
                            NewRecord(topic, number, key, None, []),
                        ]
                    )
                    moved += 1
        self._writing.commit()
        return moved

    def letters(self, topic: str, resolutions: str, growth: Growth) -> int:
        """Open letters, to where their orders' holds and states are; the old ones are resolved. Returns how many."""
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
                    end = Resolution(
                        how=How.SUPERSEDED,
                        at_ms=self._clock.now_ms(),
                        by=self._by,
                        reason=f"topics grow has moved it to partition {to}",
                    )
                    self._writing.add(
                        [
                            _moved(record, to),
                            NewRecord(resolutions, number, resolution_key(record.position), encode_resolution(end), []),
                        ]
                    )
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
        """What is unread of a partition number and partly at its keys' old place is written again, all of it, at its
        keys' place, each topic in its own order. Returns how many; 0 where all of it is at its place."""
        found: list[Record] = []
        for topic in sources:
            where = TopicPartition(topic, number)
            for records in read(self._reader, self._clock, where, starts[where], ends[where], _nothing):
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
        """Keys of compacted topics that are not where they belong, as topic/partition: none once all is done."""
        return sorted(
            {
                f"{topic}/{number}"
                for topic in topics
                for number in range(growth.to)
                for key in self.newest(TopicPartition(topic, number))
                if key != BOOK_KEY and growth.home(key, number) != number
            }
        )

    def sample(self, changelog: str, partitions: int) -> list[tuple[bytes, int]]:
        """Keys of orders, and where they stand."""
        found: list[tuple[bytes, int]] = []
        for number in range(partitions):
            keys = self.newest(TopicPartition(changelog, number))
            keys.pop(BOOK_KEY, None)
            found += [(key, number) for key in list(keys)[: SAMPLE_MAX // partitions]]
        return found

    def _all(self, where: TopicPartition) -> Iterator[Sequence[Record]]:
        beginning, end = self._reader.beginnings([where])[where], self._reader.ends([where])[where]
        return read(self._reader, self._clock, where, beginning, end, _nothing)


def _nothing(_records: int) -> None:
    """Nobody counts."""


def _moved(record: Record, to: int) -> NewRecord:
    """The same record in another partition of its topic."""
    return NewRecord(record.topic, to, record.key, record.value, record.headers, max(0, record.timestamp_ms))


def _merged(changelog: str, record: Record, other: Record | None, number: int, to: int) -> tuple[list[NewRecord], int]:
    """The writes that bring one order from `number` to `to`, where `other` may stand, and how many parked events they
    give back: of two states the one that waits for its order knows nothing but these."""
    assert record.value is not None
    gone = NewRecord(changelog, number, record.key, None, [])
    stays = NewRecord(changelog, to, record.key, record.value, [])
    if other is None or other.value is None:
        return [stays, gone], 0
    theirs, ours = order_state.decode(other.value), order_state.decode(record.value)
    if theirs.standing is order_state.Standing.WAITING or not ours.parked:
        back = theirs.parked
        writes = [stays, gone]
    else:
        back = ours.parked
        writes = [gone]
    given = [_moved(one.origin, to) for one in back]
    return [*writes, *given], len(given)
