"""commits: the commits of each partition, and when its slots of the quota may be used.

    regular    the oldest unfinished offset, and the finished offsets beyond it
    leaving    the same, and how many of the slots are in use: the mark
    claim      the first commit of an assignment that finds a mark, or that finds nothing: without a mark

    waiting    a partition that is new beside others (the topic has grown): its slots were theirs, and count as in use

The mark must be true whenever a worker reads it. So the new owner overwrites it before its first request; if it crashes
after that, all slots count as in use. No worker sends before its first commit, so all slots of a partition without a
commit are free.

If there is a topic of books (`beginnings.py`), a commit's content goes there first: written, acknowledged, then
committed. So a worker that finds the group's offsets gone finds the same in the book. A partition that leaves waits for
its book for `BOOK_FLUSH_S` at most, because the commit matters more.

Owned by the Kafka thread; no state of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic

import structlog

from processor.errors import BrokerOutage, Fenced
from processor.interfaces import Committed, Consumer, Seen
from processor.records import TopicPartition
from processor.send.destination import EntryT
from processor.send.handover import Handover, Paced
from processor.send.kafka_thread.assignments import Assignment, Booked, Phase
from processor.send.kafka_thread.beginnings import encode_book
from processor.send.kafka_thread.effects import Effects
from processor.send.kafka_thread.offsets import Note, Range, read_note, write_note
from processor.send.settings import SendSettings

log = structlog.get_logger(__name__)

BOOK_FLUSH_S: Final = 1.0
"""The longest wait of a leaving partition for the acknowledgement of its book."""


class Commits(Generic[EntryT]):
    """See the module."""

    def __init__(
        self, consumer: Consumer, effects: Effects[EntryT], handover: Handover[EntryT], settings: SendSettings
    ) -> None:
        self._consumer = consumer
        self._effects = effects
        self._handover = handover
        self._settings = settings
        self._topics = settings.topics

    def opened(self, assignment: Assignment[EntryT]) -> None:
        """Its last owner's commit is known. Without a mark, all slots count as in use; else a claim comes first."""
        if assignment.claim is None:
            self._pace(assignment, None)

    def claims(self, assignments: Iterable[Assignment[EntryT]]) -> bool:
        """True if a claim can be made: the sooner it is, the sooner entries are sent."""
        return any(
            assignment.claim is not None and assignment.offsets.next_offset is not None for assignment in assignments
        )

    def commit(self, assignments: Iterable[Assignment[EntryT]]) -> str | None:
        """Commits the partitions that have changed. Returns why that was refused, or None."""
        offsets = {}
        for assignment in assignments:
            changed = assignment.dirty or assignment.claim is not None or assignment.booked is not None
            if changed and assignment.phase is Phase.OPEN:
                committed = self._regular(assignment)
                if committed is not None and committed != assignment.committed:
                    offsets[assignment] = committed
        refused = self._commit(offsets)
        if refused is None:
            for assignment in offsets:
                if assignment.claim is not None:
                    self._pace(assignment, assignment.claim)
                    assignment.claim = None
        return refused

    def book_anew(self, assignments: Iterable[Assignment[EntryT]], seen: Mapping[str, Seen]) -> None:
        """Writes the books once more if their topic was made again."""
        books = None if self._topics.offsets is None else seen.get(self._topics.offsets)
        for assignment in assignments:
            if books is not None and assignment.phase is Phase.OPEN and assignment.books != books.place:
                assignment.books = books.place
                assignment.dirty = True

    def leave(self, assignments: Iterable[Assignment[EntryT]], used: Mapping[int, int | None]) -> None:
        """Makes the last commit of partitions that leave. `used` are their slots in use by epoch; None if the partition
        was never paced."""
        offsets: dict[Assignment[EntryT], Committed] = {}
        for assignment in assignments:
            if assignment.phase is Phase.OPEN:  # else the last owner's note stands
                left = used.get(assignment.epoch)
                leaving = self._now(assignment, assignment.claim if left is None else left)
                if leaving is not None:
                    offsets[assignment] = leaving
        if self._topics.offsets is not None:
            for assignment, leaving in offsets.items():
                self._book(assignment, leaving)
            if offsets:
                self._effects.flush(BOOK_FLUSH_S)
            offsets = {one: leaving for one, leaving in offsets.items() if not _rests_on_its_book(one, leaving)}
        self._commit(offsets)

    def _commit(self, offsets: Mapping[Assignment[EntryT], Committed]) -> str | None:
        if not offsets:
            return None
        told: dict[TopicPartition, Committed] = {assignment.where: offset for assignment, offset in offsets.items()}
        try:
            self._consumer.commit(told)
        except (BrokerOutage, Fenced) as refused:
            # Fenced: the group has given them to another worker, and `lost` will come.
            log.warning("a commit was refused", error=str(refused))
            for assignment in offsets:
                assignment.dirty = True
            return str(refused)
        for assignment, committed in offsets.items():
            assignment.committed = committed
        return None

    def _regular(self, assignment: Assignment[EntryT]) -> Committed | None:
        """Returns what may be committed now; with books, only what its book holds already."""
        booked = assignment.booked
        if booked is not None:
            if not booked.durable:
                return None
            assignment.booked = None
            return booked.committed
        now = self._now(assignment, None)
        if now is None:
            return None
        assignment.dirty = False
        if self._topics.offsets is None:
            return now
        self._book(assignment, now)
        return None

    def _now(self, assignment: Assignment[EntryT], left: int | None) -> Committed | None:
        next_offset = assignment.offsets.next_offset
        if next_offset is None:
            return None
        past = _known_past(assignment)
        shared_by = self._settings.partitions if self._topics.offsets is None else None
        note = write_note(Note(left, self._finished(assignment), assignment.place, past, shared_by))
        if note is None:
            note = write_note(Note(left, None, assignment.place, past))
            assert note is not None, "a note without ranges is short"
        return Committed(next_offset, note)

    def _book(self, assignment: Assignment[EntryT], committed: Committed) -> None:
        assert committed.next_offset is not None
        past, finished = _known_past(assignment), self._finished(assignment)
        value = encode_book(
            assignment.place, past, committed.next_offset, finished, assignment.gap, self._settings.partitions
        )
        assignment.booked = Booked(committed, value)
        self._effects.book(assignment, value)

    def _finished(self, assignment: Assignment[EntryT]) -> list[Range]:
        """Returns the finished offsets beyond the committed one. Without books there are none: such a destination knows
        what it has sent of each key."""
        return [] if self._topics.offsets is None else assignment.offsets.finished()

    def _pace(self, assignment: Assignment[EntryT], used: int | None) -> None:
        if assignment.where.topic != self._topics.sources[0]:
            return  # the first source shares the quota out
        self._handover.give(Paced(assignment.epoch, assignment.where.partition, used, assignment.shared_s))


def _known_past(assignment: Assignment[Any]) -> str | None:
    return assignment.knew if assignment.unwritten else assignment.past


def _rests_on_its_book(assignment: Assignment[EntryT], committed: Committed) -> bool:
    """True if this commit refers to a book that is not acknowledged."""
    note = read_note(committed.metadata)
    booked = assignment.booked
    return note is not None and note.finished is None and (booked is None or not booked.durable)
