"""rebuild-changelog: the changelog, written again from the stores of a volume.

    store (an order each) ─► is its key in the changelog? ──no──► written
                                      └──yes──► it came later than the store: left

The states in the changelog are newer: a worker that had the store wrote them after the changelog was made again or cut.
So after a kill, the command is run again. In the end the partition's book says that the whole state is behind the log's
beginning, and its sources are read on from where the store was: later events are decided again, and the state knows the
IDs of those that it has.

Owned by one command in one thread. Memory: the keys of one partition.
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
    """A store of one partition, with its facts."""

    store: Store
    meta: Meta
    book: Book | None

    @property
    def progress(self) -> tuple[int, int]:
        """How far it had come, for comparison."""
        marks = () if self.book is None else self.book.marks.values()
        return sum(mark.next_offset for mark in marks), self.meta.as_of_ms


def furthest(stores: Iterable[tuple[int, Store]]) -> dict[int, Found]:
    """Returns the store of each partition that had come furthest; closes the others and the empty ones. Raises
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
    """Returns true if the changelog's partition `identity`, from `beginning` to `end`, has less than the store."""
    decided = 0 if found.book is None else found.book.decided_ms
    if found.meta.identity != identity:
        return known is None or known.decided_ms <= decided
    return found.meta.next_offset > end or beginning > (0 if known is None else known.whole_from)


def rebuild(reader: Reader, writing: Writing, clock: Clock, where: TopicPartition, found: Found) -> int:
    """Writes the orders that the changelog's partition lacks. Returns how many. Raises `Fatal` if not all of them are
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
    """Returns where the sources of a partition are read on from: never after what the store has seen."""
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
    """Returns the keys of a partition, those with a tombstone too."""
    beginning, end = reader.beginnings([where])[where], reader.ends([where])[where]
    batches = read(reader, clock, where, beginning, end)
    return {record.key for records in batches for record in records if record.key is not None}
