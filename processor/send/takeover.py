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
from typing import Final, Generic

import structlog

from processor.dead_letters.holds import Hold, decode_hold
from processor.interfaces import Committed, Consumer, Reader
from processor.records import OrderId, Position, Record, TopicPartition
from processor.send.assignments import Assignment, Phase
from processor.send.destination import EntryT
from processor.send.handover import Handover, HoldsRead
from processor.send.note import Note, read_note
from processor.send.offsets import OffsetMap, decode_ranges

log = structlog.get_logger(__name__)

READ_MAX: Final = 2_000
"""Records of one step: the group's poll must not wait for a million holds."""


class Takeover(Generic[EntryT]):
    """All assignments on their way to OPEN, and the holds of those that are.

    Mutable. `_ends` are the ends that a restore reads to, by partition of another topic; `_following` the
    assignments by their partition of the holds.
    """

    def __init__(
        self, consumer: Consumer, reader: Reader, holds: str | None, offsets: str, handover: Handover[EntryT]
    ) -> None:
        self._consumer = consumer
        self._reader = reader
        self._holds = holds
        self._offsets = offsets
        self._handover = handover
        self._underway: dict[int, Assignment] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._following: dict[TopicPartition, Assignment] = {}

    def begin(self, assignment: Assignment) -> None:
        assert assignment.phase is Phase.ASSIGNED
        self._underway[assignment.epoch] = assignment

    def forget(self, assignment: Assignment) -> None:
        self._underway.pop(assignment.epoch, None)
        read = [where for where in self._topics(assignment.where.partition) if where in self._ends]
        followed = [where for where, other in self._following.items() if other is assignment]
        for where in read:
            del self._ends[where]
        for where in followed:
            del self._following[where]
        if read or followed:
            self._reader.unassign({*read, *followed})

    def step(self) -> list[Assignment]:
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

    def remaining(self, assignment: Assignment) -> int:
        """Records still to be read before it is open, about."""
        return sum(
            max(self._ends[where] - self._reader.position(where), 0)
            for where in self._topics(assignment.where.partition)
            if where in self._ends
        )

    def _ask(self, asked: list[Assignment]) -> None:
        """What the group knows of them, and from where to where the rest has to be read."""
        committed = self._consumer.committed([assignment.where for assignment in asked])
        notes = {assignment.epoch: self._note(assignment, committed) for assignment in asked}
        wanted = []
        for assignment in asked:
            partition = assignment.where.partition
            if self._holds is not None:
                wanted.append(TopicPartition(self._holds, partition))
            if notes[assignment.epoch].finished is None:
                wanted.append(TopicPartition(self._offsets, partition))
        beginnings = self._reader.beginnings(wanted)
        ends = self._reader.ends(wanted)
        self._reader.assign(Position(*where, beginnings[where]) for where in wanted)
        self._ends.update(ends)
        for assignment in asked:
            note = notes[assignment.epoch]
            assignment.committed = committed[assignment.where]
            assignment.finished_before = note.finished or []
            assignment.claim = 0 if assignment.committed.next_offset is None else note.used
            assignment.phase = Phase.RESTORING
            if self._holds is not None:
                self._following[TopicPartition(self._holds, assignment.where.partition)] = assignment

    def _note(self, assignment: Assignment, committed: Mapping[TopicPartition, Committed]) -> Note:
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
        """What has been written to the holds since the last step, and to the maps."""
        holds: dict[int, list[tuple[OrderId, Hold | None]]] = {}
        for record in self._reader.poll(READ_MAX, 0.0).records:
            where = TopicPartition(record.topic, record.partition)
            if record.topic == self._offsets:
                self._read_map(record)
            elif where in self._following:
                read = _hold(record)
                if read is not None:
                    holds.setdefault(self._following[where].epoch, []).append(read)
        for epoch, changes in holds.items():
            self._handover.give(HoldsRead(epoch, changes))

    def _read_map(self, record: Record) -> None:
        """The newest one counts."""
        for assignment in self._underway.values():
            if assignment.where.partition == record.partition and assignment.phase is Phase.RESTORING:
                finished = None if record.value is None else decode_ranges(record.value)
                if finished is None:
                    log.warning("a map of finished offsets is none of ours", topic=record.topic, offset=record.offset)
                    finished = []
                assignment.finished_before = finished

    def _open(self, assignment: Assignment) -> None:
        del self._underway[assignment.epoch]
        for where in self._topics(assignment.where.partition):
            if self._ends.pop(where, None) is not None and where not in self._following:
                self._reader.unassign([where])
        assignment.offsets = OffsetMap(assignment.committed.next_offset, assignment.finished_before)
        assignment.phase = Phase.OPEN

    def _topics(self, partition: int) -> list[TopicPartition]:
        found = [TopicPartition(self._offsets, partition)]
        if self._holds is not None:
            found.append(TopicPartition(self._holds, partition))
        return found


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
