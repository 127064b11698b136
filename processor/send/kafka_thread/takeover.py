"""takeover: from assigned to open, one assignment of one partition.

    ASSIGNED ──the committed note is known──► RESTORING ──holds (and the map) read to their ends──► OPEN
        │                                         │                                                  │
        └─────────────────────────── revoked or lost: forgotten ─────────────────────────────────────┘

The partition is paused until it is OPEN, and the group is polled meanwhile, because reading a million holds takes
seconds. A restore ends when the reader's position reaches the end that the topic had at its beginning: never by a
count. From then on the holds are followed, so that a release works at once.

`beginnings.py` decides the offset; a difference to the group's offset is logged here. If the topic of holds is another
one than before, or entries are gone that nobody reads again, the holds that are missing are made from the open letters
(`witness.py`). A partition that our other topics do not have, or that is new since the start of this worker, waits and
is reported; the others go on.

Owned by the Kafka thread; mutable, as announced in `Takeover`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol

import structlog

from processor.errors import BrokerOutage
from processor.interfaces import Committed, Consumer, Reader, Seen, Topics
from processor.letters.holds import Hold, decode_hold
from processor.records import OrderId, Position, Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.handover import Handover, PastRead
from processor.send.kafka_thread.assignments import Assignment, Phase
from processor.send.kafka_thread.beginnings import BOOKS_READ, ENTRIES_GONE, Beginning, Cause, Log, beginning
from processor.send.kafka_thread.offsets import Note, OffsetMap, read_note
from processor.send.kafka_thread.witness import Witness
from processor.send.settings import SendSettings

log = structlog.get_logger(__name__)

READ_MAX: Final = 2_000
"""Records of one step: the group's poll must not wait for a million holds."""

LOOKS_S: Final = 10.0
"""Within this time every worker has noticed that the topics have grown, and has ended: it looks every five seconds and
reads the answer by the next look."""


class Past(Protocol):
    """The compacted topic that remembers the outcomes of a destination's entries, and how it is read."""

    @property
    def topic(self) -> str: ...

    @property
    def followed(self) -> bool:
        """True if other programs write to it while a partition is ours."""

    def read(self, record: Record, log: Log) -> tuple[str, Any] | None:
        """Returns the order and its value that a record holds; None if the record is foreign."""

    def concerns(self, source: str, order_id: str) -> bool:
        """Returns true if that order's entries come from that topic."""


class HoldsPast:
    """The holds, as `Past`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.followed = True

    def read(self, record: Record, log: Log) -> tuple[str, Hold | None] | None:
        return _hold(record)

    def concerns(self, source: str, order_id: str) -> bool:
        return True


class Takeover(Generic[EntryT]):
    """All assignments on their way to OPEN, and the past of those that are.

    Mutable. `_ends` are the ends to which a restore reads, by partition of another topic; `_following` are the
    assignments by their partition of the past (several sources share one past).
    """

    def __init__(
        self,
        consumer: Consumer,
        reader: Reader,
        topics: Topics,
        past: Past | None,
        settings: SendSettings,
        handover: Handover[EntryT],
    ) -> None:
        self._consumer = consumer
        self._reader = reader
        self._topics = topics
        self._past = past
        self._offsets = settings.topics.offsets
        self._witnesses = settings.topics.witnesses
        self._partitions = settings.partitions
        self._first_source = settings.topics.sources[0]
        self._handover = handover
        self._underway: dict[int, Assignment[EntryT]] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._following: dict[TopicPartition, list[Assignment[EntryT]]] = {}
        self._witness: dict[int, Witness] = {}
        self.unequal: str | None = None
        """Why some partitions cannot be taken over now, in words."""

    @property
    def past_topic(self) -> str | None:
        return None if self._past is None or not self._past.followed else self._past.topic

    def begin(self, assignment: Assignment[EntryT]) -> None:
        assert assignment.phase is Phase.ASSIGNED
        self._underway[assignment.epoch] = assignment

    def forget(self, assignment: Assignment[EntryT]) -> None:
        self._underway.pop(assignment.epoch, None)
        self._witness.pop(assignment.epoch, None)
        for where in self._beside(assignment.where.partition):
            followers = self._following.get(where)
            if followers is not None and assignment in followers:
                followers.remove(assignment)
                if followers:
                    continue  # of another source, and not over
                del self._following[where]
            elif where not in self._ends:
                continue
            self._ends.pop(where, None)
            self._reader.unassign([where])

    def step(self) -> list[Assignment[EntryT]]:
        """Makes a bounded step for all. Returns the assignments that are open now. Raises `BrokerOutage`: try later."""
        asked = [assignment for assignment in self._underway.values() if assignment.phase is Phase.ASSIGNED]
        if asked:
            self._ask(asked)
        if self._ends or self._following:
            self._read()
        ready = [
            assignment
            for assignment in self._underway.values()
            if assignment.phase is Phase.RESTORING and self.remaining(assignment) == 0
        ]
        ready = [assignment for assignment in ready if not self._testify(assignment)]
        for assignment in ready:
            self._open(assignment)
        return ready

    def is_outdated(self, assignment: Assignment[EntryT], seen: Mapping[str, Seen]) -> bool:
        """True if a topic that it depends on was made again under its name. A restore from the old one would never
        end."""
        return any(name in seen and seen[name].place != place for name, place in assignment.stood.items())

    def remaining(self, assignment: Assignment[EntryT]) -> int:
        """Returns about how many records are still to be read before it is open."""
        return sum(
            max(self._ends[where] - self._reader.position(where), 0)
            for where in self._beside(assignment.where.partition)
            if where in self._ends
        )

    def _ask(self, waiting: list[Assignment[EntryT]]) -> None:
        """Asks for the group's commits, and for the ranges of the topics that must be read."""
        others = [
            name for name in (self._offsets, None if self._past is None else self._past.topic) if name is not None
        ]
        seen = self._topics.seen([*{assignment.where.topic for assignment in waiting}, *others])
        asked = self._equal(waiting, seen, others)
        if not asked:
            return
        committed = self._consumer.committed([assignment.where for assignment in asked])
        beginnings = self._reader.beginnings([assignment.where for assignment in asked])
        ends = self._reader.ends([assignment.where for assignment in asked])
        new = self._new_beside_others(committed, seen)
        wanted: dict[TopicPartition, bool] = {}
        for assignment in asked:
            where = assignment.where
            assignment.log = Log(seen[where.topic].place, beginnings[where], ends[where])
            assignment.committed = committed[where]
            assignment.note = note = self._note(assignment, committed)
            assignment.claim = 0 if assignment.committed.next_offset is None else note.used
            if where in new:
                assignment.claim = None
                assignment.shared_s += LOOKS_S
            assignment.stood = {name: seen[name].place for name in (where.topic, *others)}
            if self._past is not None:
                assignment.past = seen[self._past.topic].place
                wanted[TopicPartition(self._past.topic, where.partition)] = True
            if self._offsets is not None:
                assignment.books = seen[self._offsets].place
                wanted[TopicPartition(self._offsets, where.partition)] = False
        self._read_from(wanted)
        for assignment in asked:
            assignment.phase = Phase.RESTORING
            if self._past is not None:
                past = TopicPartition(self._past.topic, assignment.where.partition)
                self._following.setdefault(past, []).append(assignment)

    def _new_beside_others(
        self, committed: Mapping[TopicPartition, Committed], seen: Mapping[str, Seen]
    ) -> frozenset[TopicPartition]:
        """Returns the partitions without a commit, if others of the topic have one: it has grown. A worker that has not
        noticed that still uses their slots of the quota, or did so a moment ago."""
        first = self._first_source
        new = frozenset(where for where, one in committed.items() if where.topic == first and one.next_offset is None)
        if not new:
            return new
        known = self._consumer.committed([TopicPartition(first, number) for number in range(self._partitions)])
        if any(one.next_offset is not None for one in known.values()):
            return new
        booked = self._booked(seen)  # the group's offsets are gone, if it ever had any
        return frozenset(where for where in new if where.partition not in booked) if booked else frozenset()

    def _booked(self, seen: Mapping[str, Seen]) -> set[int]:
        """Returns the partitions with a record in a topic that outlives the group's offsets."""
        kept = self._offsets or (None if self._past is None else self._past.topic)
        if kept is None:
            return set()
        books = [TopicPartition(kept, number) for number in range(min(self._partitions, seen[kept].partitions))]
        beginnings, ends = self._reader.beginnings(books), self._reader.ends(books)
        return {where.partition for where in books if ends[where] > beginnings[where]}

    def _read_from(self, wanted: Mapping[TopicPartition, bool]) -> None:
        """Reads partitions to their ends: whole, or (False) only the last records, which have one key."""
        beginnings = self._reader.beginnings(list(wanted))
        ends = self._reader.ends(list(wanted))
        starts = {
            where: beginnings[where] if whole else max(beginnings[where], ends[where] - BOOKS_READ)
            for where, whole in wanted.items()
        }
        self._reader.assign(Position(*where, start) for where, start in starts.items())
        self._ends.update(ends)

    def _equal(
        self, waiting: list[Assignment[EntryT]], seen: Mapping[str, Seen], others: list[str]
    ) -> list[Assignment[EntryT]]:
        """Returns the partitions that can be taken over: their topic exists, and each other topic has a partition of
        that number."""
        self.unequal = None
        absent = [name for name in others if name not in seen]
        if absent:
            raise BrokerOutage(f"topics are missing: {', '.join(absent)}; `hakuna-processor topics create`")
        asked = []
        for assignment in waiting:
            topic, partition = assignment.where
            if topic not in seen:
                self.unequal = f"{topic} is not there"
                continue
            if partition >= seen[topic].partitions:  # nothing is known of it; the others go on
                self.unequal = f"{topic} has {seen[topic].partitions} partitions, and partition {partition} is gone"
                continue
            fewer = next((name for name in others if seen[name].partitions <= partition), None)
            if fewer is not None:
                self.unequal = (
                    f"{topic} has {seen[topic].partitions} partitions and {fewer} has {seen[fewer].partitions}: "
                    f"partition {partition} of {topic} waits; make them equal, as `topics plan` says"
                )
                continue
            if partition >= self._partitions:  # the shares of the quota count the partitions of the start
                self.unequal = (
                    f"{topic} has grown to {seen[topic].partitions} partitions since this worker started: partition "
                    f"{partition} waits until all topics have as many, and the worker is started again"
                )
                continue
            asked.append(assignment)
        return asked

    def _note(self, assignment: Assignment[EntryT], committed: Mapping[TopicPartition, Committed]) -> Note:
        metadata = committed[assignment.where].metadata
        note = read_note(metadata)
        if note is None:
            log.warning(
                "the committed metadata is foreign: what was finished beyond the offset is sent again",
                topic=assignment.where.topic,
                partition=assignment.where.partition,
            )
            return Note(None, [])
        return note

    def _read(self) -> None:
        """Reads what was written to the past and to the books since the last step."""
        changes: dict[int, list[tuple[OrderId, Any]]] = {}
        for record in self._reader.poll(READ_MAX, 0.0).records:
            where = TopicPartition(record.topic, record.partition)
            if record.topic == self._offsets:
                self._read_book(record)
            elif self._past is not None and where in self._following:
                for assignment in self._following[where]:
                    assert assignment.log is not None
                    read = self._past.read(record, assignment.log)
                    if read is not None and self._past.concerns(assignment.where.topic, read[0]):
                        assignment.remembered = True
                        if (witness := self._witness.get(assignment.epoch)) is not None:
                            witness.known(read[0])
                        changes.setdefault(assignment.epoch, []).append((OrderId(read[0]), read[1]))
            else:
                for witness in self._witness.values():
                    witness.heard(record)
        for epoch, past in changes.items():
            self._handover.give(PastRead(epoch, past))

    def _read_book(self, record: Record) -> None:
        for assignment in self._underway.values():
            if assignment.where.partition == record.partition and assignment.phase is Phase.RESTORING:
                assignment.newest = assignment.newest.after(record)
                if assignment.book is None:
                    log.warning("a record of the book is foreign", topic=record.topic, offset=record.offset)

    def _testify(self, assignment: Assignment[EntryT]) -> bool:
        """True if the open letters of a partition must be read first: its topic of holds is not the one that its holds
        were known from, or an entry is gone whose letter was written, and whose hold perhaps not."""
        if self._witnesses is None or assignment.epoch in self._witness:
            return False
        assert assignment.log is not None, "restored without having asked for its log"
        known = assignment.note.past or (assignment.book and assignment.book.past)
        if known is None or known == assignment.past:
            if not ENTRIES_GONE.intersection(_began(assignment).causes):
                return False
            known = assignment.log.place  # any but that of the holds: until all are written, the next worker looks too
        assignment.knew = known
        letters, resolutions = self._witnesses
        partition = assignment.where.partition
        witness = Witness(letters, resolutions, partition)
        seen = self._topics.seen(list(self._witnesses))
        assignment.stood |= {name: one.place for name, one in seen.items()}
        self._read_from({one: True for one in witness.partitions if one.topic in seen})
        if self._past is not None:  # from its beginning once more, now that what it says is kept
            self._read_from({TopicPartition(self._past.topic, partition): True})
        self._witness[assignment.epoch] = witness
        return True

    def _open(self, assignment: Assignment[EntryT]) -> None:
        del self._underway[assignment.epoch]
        for where in self._beside(assignment.where.partition):
            restored = self._ends.pop(where, None) is not None
            followers = self._following.get(where)
            if followers is not None and self._past is not None and not self._past.followed:
                followers.remove(assignment)
                if not followers:
                    del self._following[where]
                    restored = True
            if restored and where not in self._following:
                self._reader.unassign([where])
        began = _began(assignment)
        if self._offsets is None and assignment.committed.next_offset is None and assignment.remembered:
            began = began._replace(causes=(Cause.OFFSETS_GONE,))  # what it has sent of each key is its book
        if assignment.committed.next_offset is None and (assignment.book is not None or assignment.remembered):
            assignment.claim = None  # how many slots of the quota were in use is gone with the offsets
        shared_by = assignment.note.shared_by if assignment.book is None else assignment.book.shared_by
        if shared_by not in (None, self._partitions):
            assignment.claim = None  # it was said of other slots
        assignment.began = began
        assignment.gap = None if assignment.book is None else assignment.book.gap
        if began.causes:
            _say(assignment)
        followed = (assignment.where.topic, self.past_topic)
        assignment.stood = {name: place for name, place in assignment.stood.items() if name in followed}
        assignment.offsets = OffsetMap(began.offset, began.finished)
        assignment.dirty = True
        assignment.phase = Phase.OPEN

    def holds_made_anew(self, assignment: Assignment[EntryT]) -> list[Hold]:
        """Returns, once, the holds that its open letters show and its topic lacks. They hold from now on."""
        witness = self._witness.pop(assignment.epoch, None)
        if witness is None:
            return []
        holds = witness.holds()
        if holds:
            log.error(
                "holds were lost, or never written, and are made anew from the open dead letters",
                partition=assignment.where.partition,
                orders=len(holds),
            )
            self._handover.give(PastRead(assignment.epoch, [(hold.order_id, hold) for hold in holds]))
        return holds

    def _beside(self, partition: int) -> list[TopicPartition]:
        topics = (self._offsets, None if self._past is None else self._past.topic, *(self._witnesses or ()))
        return [TopicPartition(topic, partition) for topic in topics if topic is not None]


def _began(assignment: Assignment[Any]) -> Beginning:
    assert assignment.log is not None, "restored without having asked for its log"
    return beginning(assignment.committed, assignment.note, assignment.book, assignment.log)


def _say(assignment: Assignment[Any]) -> None:
    """Logs that a partition is not read on from its group's offset."""
    began = assignment.began
    assert assignment.log is not None
    facts = {
        "topic": assignment.where.topic,
        "partition": assignment.where.partition,
        "causes": [cause.value for cause in began.causes],
        "committed": assignment.committed.next_offset,
        "from_offset": began.offset,
        "log_begins": assignment.log.first,
        "log_ends": assignment.log.end,
    }
    if began.missed:
        log.error("retention deleted records before they were taken", missed=began.missed, **facts)
    else:
        log.warning("the group's offsets are not those of this log", **facts)


def _hold(record: Record) -> tuple[OrderId, Hold | None] | None:
    """Returns None if the record is not a hold."""
    if record.key is None:
        return None
    try:
        order_id = OrderId(record.key.decode())
    except UnicodeDecodeError:
        return None
    if record.value is None:
        return order_id, None
    hold = decode_hold(record.value)
    if hold is None or hold.order_id != order_id:
        log.warning("a record among the holds is foreign", topic=record.topic, offset=record.offset)
        return None
    return order_id, hold
