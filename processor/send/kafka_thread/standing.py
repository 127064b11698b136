"""standing: the state of a sending role's partitions, for `/status`, `/readyz`, the watch, the metrics.

The Kafka thread looks once a second (`observe`) and replaces the values for other threads as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol

from processor.interfaces import Clock, Consumer, Reader, Topics
from processor.moments import meant_ms
from processor.records import Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.kafka_thread.assignments import Assignments, Phase
from processor.send.kafka_thread.beginnings import Beginning
from processor.send.kafka_thread.catch_up import CatchUp
from processor.send.kafka_thread.effects import Effects
from processor.send.kafka_thread.takeover import Takeover
from processor.send.meter import PartitionLag, RecordMeter
from processor.send.pending import Pending
from processor.watch import Work

NO_WORK: Final = Work(0, 0)


class Loop(Protocol[EntryT]):
    """The questions to the event loop's side that are answered without waiting (`Sender`)."""

    def why(self, pending: Pending[EntryT]) -> str: ...
    def waits(self, pending: Pending[EntryT]) -> bool: ...
    def standstills(self) -> list[str]: ...
    def has_enough(self) -> bool: ...
    def held_orders(self, epoch: int) -> int: ...


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One outbox partition, as `/status` shows it. `blocked_by` is the entry that holds its commit, and the reason;
    times are epoch ms."""

    topic: str
    partition: int
    position: int | None
    committed: int | None
    lag: int
    blocked_by: str | None
    blocked_since: int | None
    began: tuple[str, ...] = ()
    """Why it was not read on from its group's offset (`beginnings.py`); empty if it was."""
    missed: int = 0
    """Records that retention took before they were taken."""


@dataclass(eq=False)
class Standing(Generic[EntryT]):
    """See the module. Mutable. `greeted` is true once the group has answered; `trouble` is the last failed commit,
    `waiting` why partitions cannot be taken over now, `registry` the schema registry's failure, `grown` a change of the
    topics since the start, `began` the last beginning of each partition that was not where the group had left it."""

    _consumer: Consumer
    _reader: Reader
    _clock: Clock
    _meter: RecordMeter
    _assignments: Assignments[EntryT]
    _takeover: Takeover[EntryT]
    _catch_up: CatchUp[EntryT]
    _effects: Effects[EntryT]
    _loop: Loop[EntryT]
    _topics: Topics
    greeted: bool = False
    trouble: str | None = None
    waiting: str | None = None
    registry: str | None = None
    grown: str | None = None
    status: tuple[PartitionStatus, ...] = ()
    _unready: tuple[str, ...] = ("no assignment yet",)
    _work: Mapping[int, Work] = field(default_factory=dict)
    began: dict[TopicPartition, Beginning] = field(default_factory=dict)

    def observe(self) -> None:
        """Once a second, by the Kafka thread."""
        now_ms = self._clock.now_ms()
        ends = self._consumer.ends([assignment.where for assignment in self._assignments])
        lags, statuses = [], []
        work: dict[int, Work] = {}
        for assignment in self._assignments:
            where = assignment.where
            position = assignment.offsets.position
            if position is None:
                position = assignment.committed.next_offset
            records = len(assignment.offsets) + max(ends.get(where, 0) - (position or 0), 0)
            oldest = assignment.offsets.oldest()
            record = oldest.record if isinstance(oldest, Pending) else oldest
            seconds = 0.0 if record is None else max(now_ms - meant_ms(record.timestamp_ms), 0) / 1000
            remaining = self._takeover.remaining(assignment) + self._catch_up.remaining(assignment)
            held, known = self._loop.held_orders(assignment.epoch), records > 0 or where in ends
            kept_s = None if record is None else self._topics.kept_s(where.topic)
            left_s = None if kept_s is None else kept_s - seconds
            lags.append(PartitionLag(*where, records, seconds, held, remaining, known, left_s))
            committed = assignment.committed.next_offset
            # Kept when a partition goes and comes back: the second time it begins where it was left.
            began = assignment.began if assignment.began.causes else self.began.get(where, assignment.began)
            blocked = self._blocked(oldest)
            statuses.append(PartitionStatus(*where, position, committed, records, *blocked, began.causes, began.missed))
            excused = isinstance(oldest, Pending) and self._loop.waits(oldest)
            lag, done = work.get(where.partition, NO_WORK)
            if assignment.phase is Phase.OPEN:
                work[where.partition] = Work(
                    lag + (0 if excused else records), done + assignment.done + (position or 0)
                )
            else:
                work[where.partition] = Work(lag + 1, done + remaining)
        self.status = tuple(statuses)
        self._work = work
        self._unready = tuple(self._reasons())
        self._meter.lag(lags)
        self._meter.endings(self._effects.tell())

    def _blocked(self, oldest: Pending[EntryT] | Record | None) -> tuple[str | None, int | None]:
        """Returns the entry that holds a commit with the reason, and since when."""
        if oldest is None:
            return None, None
        if isinstance(oldest, Record):
            return f"{oldest.position} is unreadable: its dead letter is not acknowledged", None
        since_ms = oldest.taken_ms if oldest.first_failed_ms is None else oldest.first_failed_ms
        why = self._loop.why(oldest) if not len(self._catch_up) else "the topics are read to their ends first"
        return f"{oldest.entry_id}: {why}", since_ms

    def _reasons(self) -> list[str]:
        reasons = []
        if not self.greeted:
            reasons.append("no assignment yet")
        if self._effects.flooded:
            reasons.append("stopped by the flood guard: most of the last records would be dead letters")
        if self.grown is not None:
            reasons.append(self.grown)
        restoring = [assignment for assignment in self._assignments if assignment.phase is not Phase.OPEN]
        if restoring:
            remaining = sum(self._takeover.remaining(assignment) for assignment in restoring)
            reasons.append(f"taking over {len(restoring)} partitions: {remaining} records still to be read")
        if len(self._catch_up):
            remaining = sum(self._catch_up.remaining(assignment) for assignment in self._assignments)
            reasons.append(f"reading {len(self._catch_up)} partitions to their ends first: {remaining} records")
        return reasons + self._troubles()

    def _troubles(self) -> list[str]:
        troubles = (
            self._consumer.trouble(),
            self._reader.trouble(),
            self._effects.trouble,
            self.trouble,
            self.waiting,
            self.registry,
        )
        return [trouble for trouble in troubles if trouble is not None]

    @property
    def finished(self) -> int:
        """Records finished since the start."""
        return self._effects.finished

    def unready(self) -> list[str]:
        return [*self._unready, *self._loop.standstills()]

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """Returns, for the watch, the work of each partition without entries that wait for something known, and whether
        all of it waits so."""
        return self._work, self._effects.flooded or bool(self._troubles())
