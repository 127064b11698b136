"""The send role's Kafka thread: the outbox in, receipts, dead letters, holds and commits out.

    turn:  poll ─► take ─► (hand over) …… (collect) ─► settle ─► produce ─► acknowledged ─► finish ─► commit

`turn` is the loop on one screen; the role's thread repeats it. HTTP happens elsewhere (`sender.py`), so the
group is polled whatever the API does.

Invariants
- an offset is finished when what its ending writes is acknowledged, and not before: the receipt; the letter
and the hold;
  a held entry's letter, and the hold that it waits behind. (An ending that was not written is written again:
  the entry stays unfinished for as long as that takes.)
- what is handed over and unfinished is at most `entries_max` entries and `bytes_max` bytes, and one poll
more; - a commit says what is finished beyond it, so that whoever comes next sends only what is not
(`offsets.py`, `note.py`); - the slots of the quota in use are written at a clean revoke alone, and a note
that says so is overwritten before the first
  request of the new owner: a crash never leaves one that is no longer true;
- a report about an assignment that has ended is dropped: its epoch says so.

    revoked   nothing more is taken ─► what is in flight ends, or is given up at the deadline ─► what it
    writes is
              acknowledged ─► commit, with the slots in use ─► gone
    lost      gone; whatever was in flight is somebody else's to send again
    stop      all partitions as if revoked, within the drain; then the group is left

Not chosen: committing on a timer of librdkafka's (it knows of positions, not of effects); one producer call
awaited for each receipt (a round trip an entry).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Final, Protocol, assert_never

import structlog

from processor.dead_letters.flood import FloodGuard
from processor.errors import BrokerOutage, Fenced, Unusable
from processor.interfaces import Clock, Committed, Consumer, Producer, Reader
from processor.records import OutboxEntry, Outcome, Reason, Record, Stage, TopicPartition
from processor.send import written
from processor.send.handover import Assigned, Halt, Handover, Lost, Paced, Released, Stop, Withdrawn
from processor.send.meter import Endings, PartitionLag, RecordMeter
from processor.send.note import Note, write_note
from processor.send.offsets import encode_ranges
from processor.send.outgoing import read_entry
from processor.send.pending import Ended, Held, Pending, Superseded
from processor.send.settings import SendSettings
from processor.send.takeover import Assignment, Mapped, Phase, Takeover
from processor.send.written import Write
from processor.verdicts import Delivered, Rejected
from processor.watch import Work

log = structlog.get_logger(__name__)

OBSERVE_S: Final = 1.0
RETRY_S: Final = 1.0
"""The wait after something that Kafka refused or did not answer; the group is polled on."""
COLLECT_MAX: Final = 5_000
"""Reports settled in one turn: the next poll must not wait for a million held entries."""
WAIT_S: Final = 0.05
FLUSH_S_MAX: Final = 1.0
"""What a revoke may take beyond its deadline for acknowledgements."""
ENTRY_OVERHEAD_BYTES: Final = 1_000
"""What an entry takes in memory beside its value: headers, lane, record."""
PARTITION_SHARE: Final = 4
"""One partition may fill a quarter of what is taken: a long lane behind a slow order must not stop the
others."""


class Loop(Protocol):
    """What is asked of the event loop's side without waiting (`Sender`)."""

    def why(self, pending: Pending[OutboxEntry]) -> str: ...

    def standstills(self) -> list[str]: ...

    def excused(self) -> bool: ...

    def held_orders(self, epoch: int) -> int: ...


@dataclass(frozen=True, slots=True)
class SendEdges:
    """The outside, as the Kafka thread uses it; all of it belongs to that thread."""

    consumer: Consumer
    producer: Producer
    reader: Reader
    clock: Clock
    meter: RecordMeter


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One outbox partition, as `/status` shows it. `blocked_by` names the entry that holds its commit, and
    why; times are epoch ms."""

    topic: str
    partition: int
    position: int | None
    committed: int | None
    lag: int
    blocked_by: str | None
    blocked_since: int | None


class Finishing:
    """An offset on its way to being finished. Mutable: `awaited` counts the acknowledgements that are still
    out."""

    __slots__ = ("awaited", "epoch", "offset", "outcome", "reason", "size", "topic")

    def __init__(self, record: Record, epoch: int, size: int, outcome: Outcome, reason: str | None) -> None:
        self.topic = record.topic
        self.offset = record.offset
        self.epoch = epoch
        self.size = size
        self.outcome = outcome
        self.reason = reason
        self.awaited = 0


class SendRole:
    """The Kafka thread. `turn` and the rebalance's calls are made by one thread; `status`, `unready` and
    `progress` may be asked from others (what they read is replaced whole).

    Mutable. `_assignments` by partition and `_by_epoch` are those that are ours; `_writes` is what is to be
    produced, in order, each with what waits for it; `_unheld` by order ID what waits for that order's hold to
    be acknowledged; `_released` what the loop said of withdrawn epochs; `_braked` are paused for being full;
    `_flooded` is for good.
    """

    def __init__(self, settings: SendSettings, edges: SendEdges, handover: Handover[OutboxEntry], loop: Loop) -> None:
        self._settings = settings
        self._consumer = edges.consumer
        self._producer = edges.producer
        self._reader = edges.reader
        self._clock = edges.clock
        self._meter = edges.meter
        self._handover = handover
        self._loop = loop
        topics = settings.topics
        self._takeover = Takeover(edges.consumer, edges.reader, topics.holds, topics.offsets, handover)
        self._guard = FloodGuard(settings.dead_letter_share_max)

        self._assignments: dict[TopicPartition, Assignment] = {}
        self._by_epoch: dict[int, Assignment] = {}
        self._epochs = 0
        self._greeted = False
        self._braked: set[TopicPartition] = set()
        self._entries = 0
        self._bytes = 0
        self._writes: deque[tuple[Write, Finishing | None]] = deque()
        self._unheld: dict[str, list[Finishing]] = {}
        self._released: dict[int, int | None] = {}
        self._flooded = False
        self._not_before_s = 0.0
        self._take_over_at_s = 0.0
        self._commit_at_s = 0.0
        self._observe_at_s = 0.0
        self._trouble: str | None = None
        self._records: Counter[tuple[str, Outcome]] = Counter()
        self._dead_letters: Counter[tuple[str, Stage, str]] = Counter()
        self._unready: tuple[str, ...] = ()
        self.status: tuple[PartitionStatus, ...] = ()
        self.finished = 0
        """Records finished since the start; a watch sees progress by it."""

    # ---- the loop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._handover.turned(self._clock.monotonic_s())
        self._consumer.subscribe([self._settings.topics.outbox], self)

    def turn(self) -> None:
        """One round. Raises `Fatal` and `Unusable`; everything else is dealt with here."""
        polled = self._consumer.poll(
            self._settings.poll_records_max, 0.0 if self._writes else self._settings.poll_s_max
        )
        now_s = self._clock.monotonic_s()
        self._handover.turned(now_s)
        self._take(polled.records)
        self._reached(polled.at_end)
        self._settle()
        self._take_over(now_s)
        self._brake()
        if now_s >= self._commit_at_s:
            self._commit_at_s = now_s + self._settings.commit_s
            self._commit(list(self._by_epoch.values()))
        if now_s >= self._observe_at_s:
            self._observe_at_s = now_s + OBSERVE_S
            self._observe()

    def stop(self) -> None:
        """Drains: finishes what is in flight, commits, leaves the group. Bounded by the drain's deadline."""
        try:
            self._withdraw(list(self._by_epoch.values()), self._settings.drain_s_max)
            self._tell()
            self._consumer.close()
            self._producer.close()
            self._reader.close()
        finally:
            self._handover.give(Stop())

    # ---- take: from records to entries --------------------------------------------------------------------

    def _take(self, records: Sequence[Record]) -> None:
        entries: list[Pending[OutboxEntry]] = []
        taken_ms = self._clock.now_ms()
        assignment: Assignment | None = None
        partition = -1
        for record in records:
            if record.partition != partition:
                partition = record.partition
                assignment = self._assignments.get(TopicPartition(record.topic, partition))
            if assignment is None or assignment.phase is not Phase.OPEN:
                continue  # revoked or lost since it was fetched
            pending = self._taken(record, assignment, taken_ms)
            if pending is not None:
                entries.append(pending)
        if entries:
            self._handover.give(entries)

    def _taken(self, record: Record, assignment: Assignment, taken_ms: int) -> Pending[OutboxEntry] | None:
        """The entry of a record, if it is one and is unfinished."""
        read = read_entry(record)
        size = ENTRY_OVERHEAD_BYTES + (0 if record.value is None else len(record.value))
        if isinstance(read, str):
            if assignment.offsets.take(record.offset, record):
                self._count(assignment, 1, size)
                self._refuse_undecodable(record, read, assignment.epoch, size)
            return None
        entry, replay_id = read
        pending = Pending(
            entry.order_id,
            entry.entry_id,
            entry,
            record,
            assignment.epoch,
            size,
            entry.occurred_at_ms,
            taken_ms,
            replay_id,
        )
        if not assignment.offsets.take(record.offset, pending):
            return None
        if entry.entry_type not in self._settings.entry_types:
            self._refuse_kind(record, entry)
        self._count(assignment, 1, size)
        return pending

    def _refuse_kind(self, record: Record, entry: OutboxEntry) -> None:
        self._handover.give(Halt())
        wanted = ", ".join(sorted(self._settings.entry_types))
        raise Unusable(
            [
                f"{record.position}: the outbox holds an entry of type {entry.entry_type.value}, and this worker sends "
                f"{wanted}: HAKUNA_API was changed before the outbox was empty; drain it with workers of the old kind "
                "(the old HAKUNA_API) first"
            ]
        )

    def _count(self, assignment: Assignment, entries: int, size: int) -> None:
        assignment.entries += entries
        assignment.bytes += size
        assignment.dirty = True
        self._entries += entries
        self._bytes += size

    def _reached(self, at_end: Mapping[TopicPartition, int]) -> None:
        for where, end in at_end.items():
            assignment = self._assignments.get(where)
            if assignment is not None and assignment.phase is Phase.OPEN and assignment.offsets.position != end:
                assignment.offsets.reached(end)
                assignment.dirty = True

    # ---- settle: from reports to finished offsets ---------------------------------------------------------

    def _settle(self) -> None:
        delivered = 0
        for report in self._handover.collect(COLLECT_MAX):
            if isinstance(report, Released):
                self._released.update({epoch: report.used.get(epoch) for epoch in report.epochs})
            elif report.pending.epoch in self._by_epoch:
                if isinstance(report.ending, Delivered):
                    delivered += 1
                self._ended(report)
        if delivered:
            self._guard.written(repeat(False, delivered))
        self._produce()
        self._producer.poll()

    def _ended(self, ended: Ended[OutboxEntry]) -> None:
        topics = self._settings.topics
        group = self._settings.group
        pending = ended.pending
        match ended.ending:
            case Delivered() as delivered:
                finishing = self._finishing(pending, Outcome.DELIVERED, None)
                self._write(written.receipt(ended, delivered, topics.deliveries), finishing)
            case Superseded():
                self._finish(self._finishing(pending, Outcome.SUPERSEDED, None))
            case Held():
                finishing = self._finishing(pending, Outcome.HELD, Reason.HELD)
                if pending.order_id in self._unheld:
                    finishing.awaited += 1
                    self._unheld[pending.order_id].append(finishing)
                self._write(written.held_letter(ended, topics.dead_letters, group), finishing)
            case Rejected() as rejected:
                if pending.replay_id is None and self._floods():
                    return
                finishing = self._finishing(pending, Outcome.DEAD_LETTERED, rejected.reason)
                self._write(written.refused_letter(ended, rejected, topics.dead_letters, group), finishing)
                if topics.holds is not None and ended.hold is not None:
                    self._unheld.setdefault(pending.order_id, [])
                    self._write(written.hold(pending.record, ended.hold, topics.holds), finishing)
            case _:
                assert_never(ended.ending)

    def _refuse_undecodable(self, record: Record, fault: str, epoch: int, size: int) -> None:
        """It belongs to no lane, and holds no order: which one would be a guess."""
        if self._floods():
            return
        finishing = Finishing(record, epoch, size, Outcome.DEAD_LETTERED, Reason.UNDECODABLE)
        topics = self._settings.topics
        letter = written.undecodable_letter(
            record, fault, self._clock.now_ms(), topics.dead_letters, self._settings.group
        )
        self._write(letter, finishing)

    def _floods(self) -> bool:
        """Whether another dead letter would be one too many. Then nothing is sent any more, until a
        restart."""
        if not self._flooded:
            share = self._guard.flooded_by([True])
            if share is None:
                self._guard.written([True])
                return False
            self._flooded = True
            self._meter.flooded()
            log.error(
                "stopped by the flood guard: most of the last records would be dead letters, so a fault of ours or "
                "of a producer; nothing is taken until a restart",
                share=round(share, 3),
            )
            self._handover.give(Halt())
            self._consumer.pause(list(self._assignments))
        return True

    def _finishing(self, pending: Pending[OutboxEntry], outcome: Outcome, reason: str | None) -> Finishing:
        return Finishing(pending.record, pending.epoch, pending.size, outcome, reason)

    # ---- produce and acknowledge --------------------------------------------------------------------------

    def _write(self, write: Write, finishing: Finishing | None) -> None:
        if finishing is not None:
            finishing.awaited += 1
        self._writes.append((write, finishing))

    def _produce(self) -> None:
        """In order, as many as the client's queue has room for."""
        writes = self._writes
        if not writes or self._clock.monotonic_s() < self._not_before_s:
            return
        produce = self._producer.produce
        for _ in range(len(writes)):
            write, finishing = writes[0]
            if not produce(*write, partial(self._acknowledged, write, finishing)):
                return
            writes.popleft()

    def _acknowledged(self, write: Write, finishing: Finishing | None, error: str | None, _offset: int) -> None:
        if finishing is None:
            self._map_answered(write, error)
        elif error is not None:
            self._unwritten(write, finishing, error)
        else:
            finishing.awaited -= 1
            if finishing.awaited == 0:
                self._finish(finishing)
            if write.topic == self._settings.topics.holds and write.key is not None:
                for waiting in self._unheld.pop(write.key.decode(), ()):
                    waiting.awaited -= 1
                    if waiting.awaited == 0:
                        self._finish(waiting)

    def _unwritten(self, write: Write, finishing: Finishing, error: str) -> None:
        """It is written again, by and by: its offset stays unfinished until it is."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._not_before_s:
            log.error(
                "a record was not written, and is tried again",
                topic=write.topic,
                partition=write.partition,
                error=error,
            )
        self._not_before_s = now_s + RETRY_S
        self._trouble = f"{write.topic} cannot be written: {error}"
        self._writes.append((write, finishing))

    def _finish(self, finishing: Finishing) -> None:
        """Its effect is durable."""
        assignment = self._by_epoch.get(finishing.epoch)
        if assignment is None:
            return
        assignment.offsets.finish(finishing.offset)
        self._count(assignment, -1, -finishing.size)
        self._records[finishing.topic, finishing.outcome] += 1
        if finishing.reason is not None:
            self._dead_letters[finishing.topic, Stage.SEND, finishing.reason] += 1
        self.finished += 1
        self._trouble = None

    # ---- flow ---------------------------------------------------------------------------------------------

    def _brake(self) -> None:
        """Pauses what is full and resumes what is half empty again. Pausing is dear, so nothing is done in
        between."""
        settings = self._settings
        share = max(min(PARTITION_SHARE, len(self._assignments)), 1)
        full = self._entries >= settings.entries_max or self._bytes >= settings.bytes_max
        pausing = [
            where
            for where, assignment in self._assignments.items()
            if assignment.phase is Phase.OPEN
            and where not in self._braked
            and (
                full
                or assignment.entries >= settings.entries_max // share
                or assignment.bytes >= settings.bytes_max // share
            )
        ]
        if pausing:
            self._braked.update(pausing)
            self._consumer.pause(pausing)
        if not self._braked or self._flooded:
            return
        if self._entries > settings.entries_max // 2 or self._bytes > settings.bytes_max // 2:
            return
        resuming = [
            where
            for where in self._braked
            if self._assignments[where].entries <= settings.entries_max // share // 2
            and self._assignments[where].bytes <= settings.bytes_max // share // 2
        ]
        if resuming:
            self._braked.difference_update(resuming)
            self._consumer.resume(resuming)

    # ---- moves --------------------------------------------------------------------------------------------

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._greeted = True
        self._consumer.pause(partitions)
        now_s = self._clock.monotonic_s()
        for where in partitions:
            assert where not in self._assignments, f"{where} assigned twice"
            self._epochs += 1
            assignment = Assignment(where, self._epochs, now_s)
            self._assignments[where] = self._by_epoch[assignment.epoch] = assignment
            self._handover.give(Assigned(assignment.epoch, where.partition))
            self._takeover.begin(assignment)
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        leaving = [self._assignments[where] for where in partitions if where in self._assignments]
        self._withdraw(leaving, self._settings.revoke_s_max)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        gone = [self._assignments[where] for where in partitions if where in self._assignments]
        if gone:
            log.warning(
                "partitions lost: what was in flight may be sent again", partitions=[a.where.partition for a in gone]
            )
            self._handover.give(Lost(frozenset(assignment.epoch for assignment in gone)))
            self._forget(gone)

    def _withdraw(self, leaving: list[Assignment], patience_s: float) -> None:
        """To another worker. Finishes inside the call, under one deadline."""
        if not leaving:
            return
        deadline_s = self._clock.monotonic_s() + patience_s
        epochs = frozenset(assignment.epoch for assignment in leaving)
        self._handover.give(Withdrawn(epochs, deadline_s))
        deadline_s += FLUSH_S_MAX
        while not self._settled(epochs) and (left_s := deadline_s - self._clock.monotonic_s()) > 0:
            if not epochs <= self._released.keys():
                self._handover.wait(min(WAIT_S, left_s))
            elif self._producer.flush(min(WAIT_S, left_s)) == 0 and self._writes:
                self._handover.wait(min(WAIT_S, left_s))  # Kafka refuses them: not before RETRY_S
            self._handover.turned(self._clock.monotonic_s())
            self._settle()
        used = {epoch: self._released.pop(epoch, None) for epoch in epochs}
        self._commit([assignment for assignment in leaving if assignment.phase is Phase.OPEN], used)
        self._forget(leaving)

    def _settled(self, epochs: frozenset[int]) -> bool:
        """Whether all that was in flight has ended, and what it wrote was acknowledged."""
        return epochs <= self._released.keys() and not self._writes and self._producer.flush(0.0) == 0

    def _forget(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            self._takeover.forget(assignment)
            self._entries -= assignment.entries
            self._bytes -= assignment.bytes
            self._braked.discard(assignment.where)
            del self._assignments[assignment.where]
            del self._by_epoch[assignment.epoch]
        assert self._by_epoch or (self._entries == 0 and self._bytes == 0), "entries of no partition"

    def _take_over(self, now_s: float) -> None:
        if now_s < self._take_over_at_s:
            return
        try:
            opened = self._takeover.step()
        except BrokerOutage as outage:
            self._trouble = str(outage)
            self._take_over_at_s = now_s + RETRY_S
            return
        for assignment in opened:
            if assignment.claim is None:
                self._pace(assignment, None)
            else:
                self._commit_at_s = now_s  # before the first request
        if opened and not self._flooded:
            self._consumer.resume([assignment.where for assignment in opened])

    def _pace(self, assignment: Assignment, used: int | None) -> None:
        self._handover.give(Paced(assignment.epoch, assignment.where.partition, used, assignment.assigned_s))

    # ---- commit -------------------------------------------------------------------------------------------

    def _commit(self, assignments: list[Assignment], used: Mapping[int, int | None] | None = None) -> None:
        """`used`: they leave, cleanly, with so many slots in use."""
        offsets: dict[TopicPartition, Committed] = {}
        for assignment in assignments:
            if used is None and not assignment.dirty and assignment.claim is None:
                continue
            committed = self._committable(assignment, used)
            if committed is not None and committed != assignment.committed:
                offsets[assignment.where] = committed
        if not offsets:
            return
        try:
            self._consumer.commit(offsets)
        except (BrokerOutage, Fenced) as refused:
            # Fenced: the group has given them to another worker, and `lost` will say so.
            self._trouble = str(refused)
            log.warning("a commit was refused", error=str(refused))
            return
        for where, committed in offsets.items():
            assignment = self._assignments[where]
            assignment.committed = committed
            if assignment.claim is not None and used is None:
                self._pace(assignment, assignment.claim)
                assignment.claim = None

    def _committable(self, assignment: Assignment, used: Mapping[int, int | None] | None) -> Committed | None:
        """What the group is to know of it; None where there is nothing to say yet."""
        next_offset = assignment.offsets.next_offset
        if next_offset is None:
            return None
        left = None
        if used is not None:
            left = used.get(assignment.epoch)
            left = assignment.claim if left is None else left  # never opened: as its last owner left it
        finished = assignment.offsets.finished()
        note = write_note(Note(left, finished))
        if note is not None:
            assignment.dirty = False
            assignment.mapped = None
            return Committed(next_offset, note)
        if used is not None:
            assignment.mapped = None
        if assignment.mapped is None:
            assignment.mapped = Mapped(next_offset, encode_ranges(finished))
            topic, partition = self._settings.topics.offsets, assignment.where.partition
            self._write(Write(topic, partition, b"%d" % partition, assignment.mapped.value, [], 0), None)
            if used is not None:
                self._produce()
                self._producer.flush(FLUSH_S_MAX)
        if not assignment.mapped.durable:
            return None
        mapped, assignment.mapped = assignment.mapped, None
        note = write_note(Note(left, None))
        assert note is not None
        return Committed(mapped.next_offset, note)

    def _map_answered(self, write: Write, error: str | None) -> None:
        assignment = self._assignments.get(TopicPartition(self._settings.topics.outbox, write.partition))
        if assignment is None or assignment.mapped is None or assignment.mapped.value is not write.value:
            return  # of an assignment that has ended
        if error is None:
            assignment.mapped.durable = True
            self._commit_at_s = 0.0
        else:
            assignment.mapped = None
            self._trouble = f"{write.topic} cannot be written: {error}"

    # ---- what others see ----------------------------------------------------------------------------------

    def _observe(self) -> None:
        now_ms = self._clock.now_ms()
        assignments = list(self._assignments.values())
        ends = self._consumer.ends([assignment.where for assignment in assignments])
        lags, statuses = [], []
        for assignment in assignments:
            where = assignment.where
            position = assignment.offsets.position
            if position is None:
                position = assignment.committed.next_offset
            records = len(assignment.offsets) + max(ends.get(where, 0) - (position or 0), 0)
            oldest = assignment.offsets.oldest()
            record = oldest.record if isinstance(oldest, Pending) else oldest
            seconds = 0.0 if record is None else max(now_ms - record.timestamp_ms, 0) / 1000
            held = self._loop.held_orders(assignment.epoch)
            lags.append(PartitionLag(*where, records, seconds, held, self._takeover.remaining(assignment)))
            statuses.append(
                PartitionStatus(*where, position, assignment.committed.next_offset, records, *self._blocked(oldest))
            )
        self.status = tuple(statuses)
        self._unready = tuple(self._reasons(assignments))
        self._meter.lag(lags)
        self._tell()

    def _tell(self) -> None:
        self._meter.endings(Endings(self._records, self._dead_letters))
        self._records = Counter()
        self._dead_letters = Counter()

    def _blocked(self, oldest: Pending[OutboxEntry] | Record | None) -> tuple[str | None, int | None]:
        if oldest is None:
            return None, None
        if isinstance(oldest, Record):
            return f"{oldest.position} is undecodable: its dead letter is not acknowledged", None
        since_ms = oldest.taken_ms if oldest.first_failed_ms is None else oldest.first_failed_ms
        return f"{oldest.entry_id}: {self._loop.why(oldest)}", since_ms

    def _reasons(self, assignments: list[Assignment]) -> list[str]:
        reasons = []
        if not self._greeted:
            reasons.append("no assignment yet")
        if self._flooded:
            reasons.append("stopped by the flood guard: most of the last records would be dead letters")
        restoring = [assignment for assignment in assignments if assignment.phase is not Phase.OPEN]
        if restoring:
            remaining = sum(self._takeover.remaining(assignment) for assignment in restoring)
            reasons.append(f"taking over {len(restoring)} partitions: {remaining} records still to be read")
        troubles = (self._consumer.trouble(), self._reader.trouble(), self._trouble)
        reasons += [trouble for trouble in troubles if trouble is not None]
        return reasons

    def unready(self) -> list[str]:
        return [*self._unready, *self._loop.standstills()]

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """All of its work as one part, and whether a standstill has a known reason."""
        lag = sum(partition.lag for partition in self.status)
        return {0: Work(lag, self.finished)}, bool(self._unready) or self._loop.excused()
