"""takeover: from assigned to open, one assignment of one partition.

    ASSIGNED ──the committed note is known──► RESTORING ──holds (and the map) read to their ends──► OPEN
        │                                         │                                                  │
        └─────────────────────────── revoked or lost: forgotten ─────────────────────────────────────┘

The partition is paused until it is OPEN, and the group is polled all the while: reading a million holds takes
seconds. A restore ends when the reader's position reaches the end that the topic had when it began: never by
a count. From then on the holds are followed, so that a release works at once.

Owned by the Kafka thread; mutable, as announced in `Takeover`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol

import structlog

from processor.interfaces import Committed, Consumer, Reader
from processor.letters.holds import Hold, decode_hold
from processor.records import OrderId, Position, Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.handover import Handover, PastRead
from processor.send.kafka_thread.assignments import Assignment, Phase
from processor.send.kafka_thread.offsets import Note, OffsetMap, decode_ranges, read_note

log = structlog.get_logger(__name__)

READ_MAX: Final = 2_000
"""Records of one step: the group's poll must not wait for a million holds."""


class Past(Protocol):
    """The compacted topic that remembers what a destination's entries have come to, and how it is read."""

    @property
    def topic(self) -> str: ...

    @property
    def followed(self) -> bool:
        """Whether others write to it while a partition is ours."""

    def read(self, record: Record) -> tuple[str, Any] | None:
        """What it says of which order; None where the record is none of ours."""

    def concerns(self, source: str, order_id: str) -> bool:
        """Whether that order's entries come from that topic."""


class HoldsPast:
    """The holds, as `Past`."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.followed = True

    def read(self, record: Record) -> tuple[str, Hold | None] | None:
        return _hold(record)

    def concerns(self, source: str, order_id: str) -> bool:
        return True


class Takeover(Generic[EntryT]):
    """All assignments on their way to OPEN, and the past of those that are.

    Mutable. `_ends` are the ends that a restore reads to, by partition of another topic; `_following` the
    assignments by their partition of the past (those of several sources have one past together).
    """

    def __init__(
        self,
        consumer: Consumer,
        reader: Reader,
        past: Past | None,
        offsets: str | None,
        handover: Handover[EntryT],
    ) -> None:
        self._consumer = consumer
        self._reader = reader
        self._past = past
        self._offsets = offsets
        self._handover = handover
        self._underway: dict[int, Assignment[EntryT]] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._following: dict[TopicPartition, list[Assignment[EntryT]]] = {}

    def begin(self, assignment: Assignment[EntryT]) -> None:
        assert assignment.phase is Phase.ASSIGNED
        self._underway[assignment.epoch] = assignment

    def forget(self, assignment: Assignment[EntryT]) -> None:
        self._underway.pop(assignment.epoch, None)
        for where in self._topics(assignment.where.partition):
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
        """A bounded step for all of them. Returns those that may be opened now. Raises `BrokerOutage`: again,
        later."""
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
        for assignment in ready:
            self._open(assignment)
        return ready

    def remaining(self, assignment: Assignment[EntryT]) -> int:
        """Records still to be read before it is open, about."""
        return sum(
            max(self._ends[where] - self._reader.position(where), 0)
            for where in self._topics(assignment.where.partition)
            if where in self._ends
        )

    def _ask(self, asked: list[Assignment[EntryT]]) -> None:
        """What the group knows of them, and from where to where the rest has to be read."""
        committed = self._consumer.committed([assignment.where for assignment in asked])
        notes = {assignment.epoch: self._note(assignment, committed) for assignment in asked}
        asking = set()
        for assignment in asked:
            partition = assignment.where.partition
            if self._past is not None:
                asking.add(TopicPartition(self._past.topic, partition))
            if self._offsets is not None and notes[assignment.epoch].finished is None:
                asking.add(TopicPartition(self._offsets, partition))
        wanted = sorted(asking)
        beginnings = self._reader.beginnings(wanted)
        ends = self._reader.ends([*wanted, *(assignment.where for assignment in asked)])
        self._reader.assign(Position(*where, beginnings[where]) for where in wanted)
        self._ends.update({where: ends[where] for where in wanted})
        for assignment in asked:
            note = notes[assignment.epoch]
            assignment.end = ends[assignment.where]
            assignment.committed = committed[assignment.where]
            assignment.finished_before = note.finished or []
            assignment.claim = 0 if assignment.committed.next_offset is None else note.used
            assignment.phase = Phase.RESTORING
            if self._past is not None:
                past = TopicPartition(self._past.topic, assignment.where.partition)
                self._following.setdefault(past, []).append(assignment)

    def _note(self, assignment: Assignment[EntryT], committed: Mapping[TopicPartition, Committed]) -> Note:
        metadata = committed[assignment.where].metadata
        note = read_note(metadata)
        if note is None:
            log.warning(
                "the committed metadata is none of ours: what was finished beyond the offset is sent again",
                topic=assignment.where.topic,
                partition=assignment.where.partition,
            )
            return Note(None, [])
        return note

    def _read(self) -> None:
        """What has been written to the past since the last step, and to the maps."""
        changes: dict[int, list[tuple[OrderId, Any]]] = {}
        for record in self._reader.poll(READ_MAX, 0.0).records:
            where = TopicPartition(record.topic, record.partition)
            if record.topic == self._offsets:
                self._read_map(record)
            elif self._past is not None and where in self._following:
                read = self._past.read(record)
                if read is None:
                    continue
                for assignment in self._following[where]:
                    if self._past.concerns(assignment.where.topic, read[0]):
                        changes.setdefault(assignment.epoch, []).append((OrderId(read[0]), read[1]))
        for epoch, past in changes.items():
            self._handover.give(PastRead(epoch, past))

    def _read_map(self, record: Record) -> None:
        """The newest one counts."""
        for assignment in self._underway.values():
            if assignment.where.partition == record.partition and assignment.phase is Phase.RESTORING:
                finished = None if record.value is None else decode_ranges(record.value)
                if finished is None:
                    log.warning("a map of finished offsets is none of ours", topic=record.topic, offset=record.offset)
                    finished = []
                assignment.finished_before = finished

    def _open(self, assignment: Assignment[EntryT]) -> None:
        del self._underway[assignment.epoch]
        for where in self._topics(assignment.where.partition):
            restored = self._ends.pop(where, None) is not None
            followers = self._following.get(where)
            if followers is not None and self._past is not None and not self._past.followed:
                followers.remove(assignment)
                if not followers:
                    del self._following[where]
                    restored = True
            if restored and where not in self._following:
                self._reader.unassign([where])
        assignment.offsets = OffsetMap(assignment.committed.next_offset, assignment.finished_before)
        assignment.phase = Phase.OPEN

    def _topics(self, partition: int) -> list[TopicPartition]:
        topics = (self._offsets, None if self._past is None else self._past.topic)
        return [TopicPartition(topic, partition) for topic in topics if topic is not None]


def _hold(record: Record) -> tuple[OrderId, Hold | None] | None:
    """None where the record is no hold."""
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
        log.warning("a record among the holds is none", topic=record.topic, offset=record.offset)
        return None
    return order_id, hold
