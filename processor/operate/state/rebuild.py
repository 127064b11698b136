"""rebuild-changelog: the changelog, written again from the stores of a volume.

    store (an order each) ─► is its key in the changelog? ──no──► written
                                      └──yes──► it came later than the store: left

What stands in the changelog by now was written after it was made again or cut, by a worker that had the store: it is
newer. So a kill costs nothing but the command again. In the end the partition's book says that all of the state stands
behind the log's beginning, and its sources are read on from where the store was: what came after that is decided again,
and known by its event IDs where the state has it.

Owned by one command, one thread. Memory: the keys of one partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from processor.errors import Fatal
from processor.interfaces import Clock, Reader, Store
from processor.operate.replay.reading import read
from processor.operate.state.writing import Writing
from processor.records import NewRecord, TopicPartition
from processor.transform.book import Book
from processor.transform.keyed_state import Meta, book_of, orders_of, read_meta


class Found(NamedTuple):
    """A store of one partition, with what it says of itself."""

    store: Store
    meta: Meta
    book: Book | None

    @property
    def progress(self) -> tuple[int, int]:
        """How far it had come, to be compared."""
        marks = () if self.book is None else self.book.marks.values()
        return sum(mark.next_offset for mark in marks), self.meta.as_of_ms


def furthest(stores: Iterable[tuple[int, Store]]) -> dict[int, Found]:
    """Of each partition the store that had come furthest; the others, and empty ones, are closed. Raises
    `StateCorrupt`."""
    found: dict[int, Found] = {}
    for number, store in stores:
        meta = read_meta(store)
        if meta is None or not meta.next_offset:
            store.close()
            continue
        one = Found(store, meta, book_of(store))
        other = found.get(number)
        if other is not None and other.progress >= one.progress:
            store.close()
            continue
        if other is not None:
            other.store.close()
        found[number] = one
    return found


def lacks(found: Found, identity: str, known: Book | None, beginning: int, end: int) -> bool:
    """Whether the changelog's partition, `identity` and its offsets, has less than the store."""
    decided = 0 if found.book is None else found.book.decided_ms
    if found.meta.identity != identity:
        return known is None or known.decided_ms <= decided
    return found.meta.next_offset > end or beginning > (0 if known is None else known.whole_from)


def rebuild(reader: Reader, writing: Writing, clock: Clock, where: TopicPartition, found: Found) -> int:
    """Writes what the changelog's partition has not; returns how many orders. Raises `Fatal` where not all of them are
    there afterwards."""
    there = _keys(reader, clock, where)
    written = 0
    for key, state in orders_of(found.store):
        if key not in there:
            writing.add([NewRecord(where.topic, where.partition, key, state, [])])
            written += 1
    writing.commit()
    there = _keys(reader, clock, where)
    missing = sum(key not in there for key, _ in orders_of(found.store))
    if missing:
        raise Fatal(f"{missing} orders are not in {where.topic}/{where.partition} after all; give the command again")
    return written


def positions(
    found: Found, committed: Mapping[TopicPartition, int | None], identities: Mapping[str, str], number: int
) -> dict[TopicPartition, int]:
    """Where the sources of a partition are read on from: never behind what the store has seen."""
    marks = {} if found.book is None else found.book.marks
    wanted: dict[TopicPartition, int] = {}
    for topic, identity in identities.items():
        where = TopicPartition(topic, number)
        mark, at = marks.get(topic), committed.get(where)
        if mark is not None and mark.topic_id == identity:
            wanted[where] = mark.next_offset if at is None else min(at, mark.next_offset)
        else:
            wanted[where] = at or 0
    return wanted


def _keys(reader: Reader, clock: Clock, where: TopicPartition) -> set[bytes]:
    """The keys that stand in a partition, ended ones too."""
    beginning, end = reader.beginnings([where])[where], reader.ends([where])[where]
    return {
        record.key
        for records in read(reader, clock, where, beginning, end, lambda _records: None)
        for record in records
        if record.key is not None
    }
