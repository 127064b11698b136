"""assignments: the partitions of this worker, and how much of each is taken and unfinished.

An assignment is one partition from assign to revoke, with its own epoch. A late answer or acknowledgement of an earlier
assignment finds no assignment under its epoch, and is dropped.

Owned by the Kafka thread; mutable, as announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic

from processor.interfaces import Committed
from processor.records import Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.kafka_thread.beginnings import Beginning, Book, Gap, Log, Newest
from processor.send.kafka_thread.offsets import SILENT, Note, OffsetMap
from processor.send.pending import Pending

NOTHING: Final = Committed(None, "")


class Phase(Enum):
    """Where an assignment is; `takeover.py` has the picture."""

    ASSIGNED = "assigned"
    RESTORING = "restoring"
    OPEN = "open"


@dataclass(slots=True, eq=False)
class Booked:
    """The book of a partition on its way to its topic, and what may be committed with it. Mutable: `durable` once the
    broker has acknowledged it."""

    committed: Committed
    value: bytes
    durable: bool = False


@dataclass(slots=True, eq=False)
class Assignment(Generic[EntryT]):
    """One assignment of one partition.

    `log` is its source at the time of the assignment, once known; `committed` is the last commit, as the broker has it,
    `note` its metadata, `newest` its book, if the topic of books was read; `began` follows from them; `gap` is the
    newest gap that was ever found in its log. `past` is the place of the topic that remembers, `knew` the place that it
    was known from: a commit names `knew` while `unwritten` records of `past` are not acknowledged, then `past`. `stood`
    are the places of the topics that it rests on, by name, `books` is that of the topic of books. `claim` is how many
    of its slots of the quota count as in use, until that is settled (`commits.py`), and from `shared_s` on no other
    worker uses them; `dirty` is true if something has changed since the last commit; `booked` is the book under way;
    `entries` and `bytes` are taken and unfinished, `done` counts the finished.
    """

    where: TopicPartition
    epoch: int
    assigned_s: float
    phase: Phase = Phase.ASSIGNED
    log: Log | None = None
    committed: Committed = NOTHING
    note: Note = SILENT
    newest: Newest = field(default_factory=Newest)
    began: Beginning = field(default_factory=lambda: Beginning(0, []))
    gap: Gap | None = None
    past: str | None = None
    knew: str | None = None
    stood: dict[str, str] = field(default_factory=dict)
    books: str | None = None
    remembered: bool = False
    unwritten: int = 0
    offsets: OffsetMap[Pending[EntryT] | Record] = field(default_factory=lambda: OffsetMap(None, ()))
    claim: int | None = None
    shared_s: float = field(init=False)
    dirty: bool = False
    booked: Booked | None = None
    entries: int = 0
    bytes: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self.shared_s = self.assigned_s

    def took(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        self.dirty = True

    @property
    def book(self) -> Book | None:
        return self.newest.book

    @property
    def place(self) -> str:
        """The name of its log, which no other log has; empty if not known yet."""
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
