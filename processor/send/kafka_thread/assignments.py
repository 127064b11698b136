"""assignments: the partitions of this worker, and how much of each is taken and unfinished.

An assignment is one partition from assign to revoke, with its own epoch. A late answer or acknowledgement of an earlier
assignment finds no assignment under its epoch, and is dropped.

Owned by the Kafka thread; mutable, as announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Generic

from processor.interfaces import Committed
from processor.records import Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.kafka_thread.beginnings import Beginning, Book, Gap, Log, Newest
from processor.send.kafka_thread.offsets import SILENT, OffsetMap
from processor.send.pending import Pending


class Phase(Enum):
    """Where an assignment is; `takeover.py` has the picture."""

    ASSIGNED = "assigned"
    RESTORING = "restoring"
    OPEN = "open"


class Booked:
    """The book of a partition on its way to its topic, and what may be committed with it. Mutable: `durable` once it is
    there."""

    __slots__ = ("committed", "durable", "value")

    def __init__(self, committed: Committed, value: bytes) -> None:
        self.committed = committed
        self.value = value
        self.durable = False


class Assignment(Generic[EntryT]):
    """One assignment of one partition.

    `log` is its source as it was when it was assigned, once that is known; `committed` is the last commit as the
    broker has it, `note` what that said, `newest` its book where the topic of books was read; `began` is what came of
    them, `gap` the newest that was ever found in its log. `past` is the place of the topic that remembers, `knew` of
    that which it was known from: what is committed says `past` once `unwritten` records of it are there, and `knew`
    until then. `stood` has the places of the topics that it rests on, by name, `books` has that of the topic of books.
    `claim` is how many of its slots of the quota count as in use, until that is settled (`commits.py`), and `shared_s`
    from when on nobody else uses them; `dirty` says that something has changed since the last commit; `booked` is the
    book under way; `entries` and `bytes` are taken and unfinished, `done` counts the finished.
    """

    __slots__ = (
        "assigned_s",
        "began",
        "booked",
        "books",
        "bytes",
        "claim",
        "committed",
        "dirty",
        "done",
        "entries",
        "epoch",
        "gap",
        "knew",
        "log",
        "newest",
        "note",
        "offsets",
        "past",
        "phase",
        "remembered",
        "shared_s",
        "stood",
        "unwritten",
        "where",
    )

    def __init__(self, where: TopicPartition, epoch: int, assigned_s: float) -> None:
        self.where = where
        self.epoch = epoch
        self.assigned_s = self.shared_s = assigned_s
        self.phase = Phase.ASSIGNED
        self.log: Log | None = None
        self.committed = Committed(None, "")
        self.note = SILENT
        self.newest = Newest()
        self.began = Beginning(0, [])
        self.gap: Gap | None = None
        self.past: str | None = None
        self.knew: str | None = None
        self.stood: dict[str, str] = {}
        self.books: str | None = None
        self.remembered = False
        self.unwritten = 0
        self.offsets: OffsetMap[Pending[EntryT] | Record] = OffsetMap(None, ())
        self.claim: int | None = None
        self.dirty = False
        self.booked: Booked | None = None
        self.entries = 0
        self.bytes = 0
        self.done = 0

    def took(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        self.dirty = True

    @property
    def book(self) -> Book | None:
        return self.newest.book

    @property
    def place(self) -> str:
        """The name of its log, which no other log has; empty while it is not known."""
        return "" if self.log is None else self.log.place

    def finish(self, offset: int, size: int) -> None:
        """The effect of this record is durable."""
        self.offsets.finish(offset)
        self.entries -= 1
        self.bytes -= size
        self.done += 1
        self.dirty = True


class Assignments(Generic[EntryT]):
    """The assignments of this worker now, by partition and by epoch."""

    def __init__(self) -> None:
        self._by_partition: dict[TopicPartition, Assignment[EntryT]] = {}
        self._by_epoch: dict[int, Assignment[EntryT]] = {}
        self._epochs = 0

    def begin(self, where: TopicPartition, now_s: float) -> Assignment[EntryT]:
        assert where not in self._by_partition, f"{where} assigned twice"
        self._epochs += 1
        assignment: Assignment[EntryT] = Assignment(where, self._epochs, now_s)
        self._by_partition[where] = self._by_epoch[assignment.epoch] = assignment
        return assignment

    def end(self, assignment: Assignment[EntryT]) -> None:
        del self._by_partition[assignment.where]
        del self._by_epoch[assignment.epoch]

    def at(self, where: TopicPartition) -> Assignment[EntryT] | None:
        return self._by_partition.get(where)

    def of(self, epoch: int) -> Assignment[EntryT] | None:
        return self._by_epoch.get(epoch)

    def __iter__(self) -> Iterator[Assignment[EntryT]]:
        return iter(self._by_partition.values())

    def __len__(self) -> int:
        return len(self._by_partition)

    @property
    def entries(self) -> int:
        return sum(assignment.entries for assignment in self._by_partition.values())

    @property
    def bytes(self) -> int:
        return sum(assignment.bytes for assignment in self._by_partition.values())
