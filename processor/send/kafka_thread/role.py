"""The Kafka thread of a sending role: it reads the outbox, and writes receipts, dead letters, holds and commits.

    turn:  poll ─► take ─► (hand over) …… (collect) ─► settle ─► produce ─► acknowledged ─► finish ─► commit
                                 `sender.py`            └────────── `effects.py` ──────────┘
                                 `commits.py`

`turn` is one round of the loop; the role's thread repeats it. It does no HTTP, so it polls the group whatever the API
does. Under load the two threads take turns (`handover.py`).

    assigned  paused until its past is known (`takeover.py`), then open; Hako's are read to their ends (`catch_up.py`)
              before anything is sent
    revoked   nothing more is taken ─► requests in flight end, or are given up at the deadline ─► their records are
              acknowledged ─► commit, with the slots of the quota that are in use ─► gone
    lost      gone; the next owner sends again what was in flight
    stop      all partitions as if revoked, within the drain; then the group is left

Invariants
- an offset is finished when its effect is durable, and not before;
- at most `entries_max` entries and `bytes_max` bytes, and one more poll, are taken and unfinished; if the requests have
  enough entries, one record a turn is taken;
- a report about an assignment that is over is dropped.

Not chosen: librdkafka's commit timer (it knows positions, not effects); one awaited producer call for each receipt (a
round trip an entry).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Generic

import structlog

from processor.errors import BadRecord, BrokerOutage, Fatal, RegistryOutage, StateCorrupt, Unusable
from processor.interfaces import Clock, Consumer, Producer, Reader, Seen, Topics
from processor.records import Position, Record, TopicPartition
from processor.send.destination import EntryT
from processor.send.handover import Assigned, CaughtUp, Halt, Handover, Lost, Released, Stop, Turns, Withdrawn
from processor.send.kafka_thread.assignments import Assignment, Assignments, Phase
from processor.send.kafka_thread.beginnings import Gap
from processor.send.kafka_thread.brake import Brake
from processor.send.kafka_thread.catch_up import CatchUp
from processor.send.kafka_thread.commits import Commits
from processor.send.kafka_thread.effects import Effects
from processor.send.kafka_thread.intake import ENTRY_OVERHEAD_BYTES, Intake
from processor.send.kafka_thread.standing import Loop, Standing
from processor.send.kafka_thread.takeover import Past, Takeover
from processor.send.meter import RecordMeter
from processor.send.pending import Ended, Pending
from processor.send.settings import SendSettings
from processor.watch import Work

log = structlog.get_logger(__name__)

OBSERVE_S: Final = 1.0
RETRY_S: Final = 1.0
"""The wait after a question without an answer; polling goes on."""
COLLECT_MAX: Final = 5_000
"""Reports that one turn settles: the next poll must not wait for a million held entries."""
UNDELIVERED_MAX: Final = 5_000
"""The most entries on their way to the loop. More would fill memory with values that newer ones replace."""
WAIT_S: Final = 0.05
FLUSH_S_MAX: Final = 1.0
"""Seconds that a revoke may wait for acknowledgements after its deadline."""
NO_WORK: Final = Work(0, 0)


@dataclass(frozen=True, slots=True)
class SendEdges:
    """The edges of the Kafka thread; all belong to that thread."""

    consumer: Consumer
    producer: Producer
    reader: Reader
    topics: Topics
    clock: Clock
    meter: RecordMeter


class SendRole(Generic[EntryT]):
    """The Kafka thread. One thread calls `turn` and the methods of a rebalance; others may ask `standing`.

    Mutable. `_released` is the loop's report of withdrawn epochs; `_halted` is true once nothing more is taken; `_busy`
    is true if the last turn had work; `_starts` are the offsets at which opened partitions begin.
    """

    def __init__(
        self,
        settings: SendSettings,
        edges: SendEdges,
        handover: Handover[EntryT],
        loop: Loop[EntryT],
        intake: Intake[EntryT],
        past: Past | None,
    ) -> None:
        self.turns = Turns()
        """With the event loop, once its own thread has attached it."""
        self._intake = intake
        self._settings = settings
        self._consumer = edges.consumer
        self._producer = edges.producer
        self._reader = edges.reader
        self._topics = topics = edges.topics
        self._clock = edges.clock
        self._meter = edges.meter
        self._handover = handover
        self._loop = loop
        self._assignments = held = Assignments[EntryT]()
        self._takeover = takeover = Takeover(edges.consumer, edges.reader, edges.topics, past, settings, handover)
        self._catch_up = catch_up = CatchUp[EntryT](settings.catch_up_s_max)
        self._effects = effects = Effects(settings, edges.producer, edges.clock, held, intake, edges.topics)
        self._commits = Commits(edges.consumer, self._effects, handover, settings)
        self._brake = Brake(settings, held, edges.consumer)
        self.standing = Standing(
            edges.consumer, edges.reader, edges.clock, edges.meter, held, takeover, catch_up, effects, loop, topics
        )
        self._halted = False
        self._busy = False
        self._released: dict[int, int | None] = {}
        self._take_over_at_s = 0.0
        self._starts: dict[TopicPartition, int] = {}
        self._seen: Mapping[str, Seen] = {}
        self._commit_at_s = 0.0
        self._claim_at_s = 0.0
        self._observe_at_s = 0.0

    def start(self) -> None:
        self._consumer.subscribe(list(self._settings.topics.sources), self)

    def turn(self) -> None:
        """Makes one round. Raises `Fatal` and `Unusable`, and handles every other error."""
        if self._busy:
            self.turns.take()
        timeout_s = 0.0 if self._busy or self._effects.waiting else self._settings.poll_s_max
        # One at least: the poll serves the group. Records that are not needed yet would only be cold later.
        records_max = 1 if self._loop.has_enough() else self._settings.poll_records_max
        polled = self._consumer.poll(records_max, timeout_s)
        now_s = self._clock.monotonic_s()
        self._handover.renew(self._consumer.answered_s() + self._consumer.session_s, self._clock)
        self._lose_way(polled.astray)
        at_end = polled.at_end if self._take(polled.records) else {}
        self._reached(at_end)
        self._busy = self._settle() or bool(polled.records)
        self.turns.give_back()
        self._open(now_s)
        self._brake.look(halted=self._halted)
        self._read_on(now_s, at_end)
        if self._handover.undelivered >= UNDELIVERED_MAX:
            self._handover.wait(WAIT_S)
        self._commit(now_s, self._assignments)
        if now_s >= self._observe_at_s:
            self._observe_at_s = now_s + OBSERVE_S
            self._look_at_topics()
            self.standing.observe()

    def _commit(self, now_s: float, assignments: Iterable[Assignment[EntryT]]) -> None:
        """Commits these partitions when it is time."""
        if (
            self._effects.booked
            or now_s >= self._commit_at_s
            or (now_s >= self._claim_at_s and self._commits.claims(assignments))
        ):
            self._effects.booked = False
            self.standing.trouble = self._commits.commit(assignments)
            if now_s >= self._commit_at_s:
                self._commit_at_s = now_s + self._settings.commit_s
            self._claim_at_s = now_s + (0.0 if self.standing.trouble is None else RETRY_S)

    def stop(self) -> None:
        """Drains: finishes what is in flight, commits, leaves the group. Bounded by the drain's deadline."""
        self._end(self._settings.drain_s_max)

    def fail(self) -> None:
        """Ends after an error, perhaps of the event loop: writes and commits the reported endings, and does not wait
        for requests in flight."""
        self.turns.give_back()
        self._end(0.0)

    def _end(self, patience_s: float) -> None:
        """Leaves the group first, so that others take over meanwhile, and closes the rest whatever that raises."""
        with ExitStack() as closing:
            closing.callback(self._handover.give, Stop())
            closing.callback(self._reader.close)
            closing.callback(self._producer.close)
            closing.callback(self._consumer.close)
            self._withdraw(list(self._assignments), patience_s)
            self._meter.endings(self._effects.tell())

    def _take(self, records: Sequence[Record]) -> bool:
        """Takes polled records. Returns true if all could be read; otherwise the polled ends are not reached yet."""
        entries: list[Pending[EntryT]] = []
        taken_ms = self._clock.now_ms()
        assignment: Assignment[EntryT] | None = None
        where: tuple[str, int] | None = None
        for number, record in enumerate(records):
            if where is None or record.partition != where[1] or record.topic != where[0]:
                where = record.topic, record.partition
                assignment = self._assignments.at(TopicPartition(*where))
            if assignment is None or assignment.phase is not Phase.OPEN:
                continue  # revoked or lost since it was fetched
            try:
                pending = self._taken(record, assignment, taken_ms)
            except RegistryOutage as outage:
                self._again(records[number:], str(outage))
                break
            if pending is not None:
                entries.append(pending)
        else:
            if records and self.standing.registry is not None:
                log.info("the schema registry answers again")
                self.standing.registry = None
        if entries:
            self._handover.give(entries)
        return self.standing.registry is None

    def _taken(self, record: Record, assignment: Assignment[EntryT], taken_ms: int) -> Pending[EntryT] | None:
        """Returns the entry of a record, if it is one and is unfinished."""
        pending = self._intake.pending(record, assignment.epoch, taken_ms)
        if isinstance(pending, BadRecord):
            if assignment.offsets.take(record.offset, record):
                size = ENTRY_OVERHEAD_BYTES + (0 if record.value is None else len(record.value))
                assignment.took(size)
                self._effects.unreadable(record, pending, assignment.epoch, size)
            return None
        if not assignment.offsets.take(record.offset, pending):
            return None
        foreign = self._intake.foreign(pending.entry)
        if foreign is not None:
            self._handover.give(Halt())
            raise Unusable([f"{record.position}: {foreign}"])
        assignment.took(pending.size)
        return pending

    def _again(self, records: Sequence[Record], why: str) -> None:
        """Seeks back to records that cannot be read now, and waits."""
        if self.standing.registry is None:
            log.warning("waiting for the schema registry", why=why)
        self.standing.registry = why
        starts: dict[TopicPartition, int] = {}
        for record in records:
            if self._assignments.at(where := TopicPartition(record.topic, record.partition)) is not None:
                starts.setdefault(where, record.offset)
        self._consumer.seek(Position(*where, offset) for where, offset in starts.items())
        self.turns.give_back()
        self._handover.wait(RETRY_S)

    def _reached(self, at_end: Mapping[TopicPartition, int]) -> None:
        for where, end in at_end.items():
            assignment = self._assignments.at(where)
            if assignment is not None and assignment.phase is Phase.OPEN and assignment.offsets.position != end:
                assignment.offsets.reached(end)
                assignment.dirty = True

    def _settle(self) -> bool:
        """Settles the reports of the loop, and the acknowledgements of Kafka. Returns true if there was a report."""
        endings: list[Ended[EntryT]] = []
        for report in self._handover.collect(COLLECT_MAX):
            if isinstance(report, Released):
                self._released.update({epoch: report.used.get(epoch) for epoch in report.epochs})
            else:
                endings.append(report)
        self._effects.settle(endings)
        self._effects.produce()
        if self._effects.flooded and not self._halted:
            self._halted = True
            self._handover.give(Halt())
            self._consumer.pause([assignment.where for assignment in self._assignments])
            self._meter.flooded()
        return bool(endings)

    def _open(self, now_s: float) -> None:
        """Opens the partitions whose past is known by now."""
        if now_s < self._take_over_at_s:
            return
        try:
            for assignment in self._takeover.step():
                self._opened(assignment)
            if self._starts:
                self._consumer.seek(Position(*where, offset) for where, offset in self._starts.items())
        except BrokerOutage as outage:
            self.standing.waiting = str(outage)
            self._take_over_at_s = now_s + RETRY_S
            return
        except StateCorrupt as lost:
            log.warning("a topic of ours is not what it was: all partitions are taken over anew", why=str(lost))
            self._take_over_anew(list(self._assignments))
            return
        self.standing.waiting = self._takeover.unequal
        if self.standing.waiting is not None:
            self._take_over_at_s = now_s + RETRY_S
        if self._starts and not self._halted:
            self._consumer.resume(list(self._starts))
        self._starts = {}

    def _opened(self, assignment: Assignment[EntryT]) -> None:
        self._seen = {}  # a topic may have been made again while this was taken over: it is looked at once more
        began = assignment.began
        self._starts[assignment.where] = began.offset
        self._commits.opened(assignment)
        if began.causes:  # told at once: after the next commit nobody finds it again
            causes = {(assignment.where, cause.value): 1 for cause in began.causes}
            self._meter.began(causes, {assignment.where: began.missed})
            self.standing.began[assignment.where] = began
        if began.missed:
            assignment.gap = Gap(self._clock.now_ms(), began.missed, began.offset)
        holds = self._takeover.holds_made_anew(assignment)
        if holds:
            self._effects.hold_anew(assignment, holds)

    def _read_on(self, now_s: float, at_end: Mapping[TopicPartition, int]) -> None:
        """Reports the partitions that have been read to the ends that they had when they were assigned."""
        if len(self._catch_up):
            ended = self._catch_up.step(now_s, at_end, self._brake.braked)
            if ended:
                self._handover.give(CaughtUp(ended))

    def _lose_way(self, astray: Collection[TopicPartition]) -> None:
        """Takes partitions over anew whose position is not in their log: made again, or overtaken by retention."""
        lost = [
            assignment
            for where in astray
            if (assignment := self._assignments.at(where)) is not None and assignment.phase is Phase.OPEN
        ]
        if lost:
            self._take_over_anew(lost)

    def _look_at_topics(self) -> None:
        """Takes partitions over anew whose topics were made again. Raises `Fatal` if all topics have grown."""
        seen = self._topics.latest()
        if seen is self._seen:
            return
        self._seen = seen
        first = self._settings.topics.sources[0]
        self.standing.grown = None
        if first in seen and seen[first].partitions != self._settings.partitions:
            now, then = seen[first].partitions, self._settings.partitions
            grown = f"{first} has {now} partitions and had {then} when this worker started"
            counts = {topic: one.partitions for topic, one in seen.items()}
            if len(set(counts.values())) == 1:
                self.turns.give_back()
                self._withdraw(list(self._assignments), self._settings.revoke_s_max)  # nothing is wrong with them
                raise Fatal(f"{grown}: it is to be started again")
            self.standing.grown = (
                f"{grown}, and the others do not have as many: {counts}; `topics plan` says how each must be. This "
                "worker starts again when they are equal"
            )
        changed = [one for one in self._assignments if self._takeover.is_outdated(one, seen)]
        if changed:
            log.warning(
                "a topic was deleted and made again: its partitions are taken over anew",
                partitions=[str(assignment.where) for assignment in changed],
            )
            self._take_over_anew(changed)
        self._commits.book_anew(self._assignments, seen)
        self._effects.look(seen)

    def _take_over_anew(self, assignments: list[Assignment[EntryT]]) -> None:
        """Does as if they were revoked and assigned: requests in flight end, and nothing of the old log is kept."""
        self.turns.give_back()
        wheres = [assignment.where for assignment in assignments]
        self._consumer.pause(wheres)
        self._withdraw(assignments, self._settings.revoke_s_max)
        self.assigned(wheres)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.turns.give_back()
        self.standing.greeted = True
        self._consumer.pause(partitions)
        now_s = self._clock.monotonic_s()
        for where in partitions:
            assignment = self._assignments.begin(where, now_s)
            self._handover.give(Assigned(assignment.epoch, where.partition))
            self._takeover.begin(assignment)
            self._catch_up.begin(assignment)
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.turns.give_back()
        self._withdraw(self._ours(partitions), self._settings.revoke_s_max)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.turns.give_back()
        gone = self._ours(partitions)
        if gone:
            log.warning(
                "partitions lost: what was in flight may go again", partitions=[p.where.partition for p in gone]
            )
            self._handover.give(Lost(frozenset(assignment.epoch for assignment in gone)))
            self._forget(gone)

    def _ours(self, partitions: Sequence[TopicPartition]) -> list[Assignment[EntryT]]:
        return [assignment for where in partitions if (assignment := self._assignments.at(where)) is not None]

    def _withdraw(self, leaving: list[Assignment[EntryT]], patience_s: float) -> None:
        """Gives partitions to another worker. Finishes inside the call, under one deadline."""
        if not leaving:
            return
        epochs = frozenset(assignment.epoch for assignment in leaving)
        deadline_s = self._clock.monotonic_s() + patience_s
        self._handover.give(Withdrawn(epochs, deadline_s))
        deadline_s += FLUSH_S_MAX
        staying = [assignment for assignment in self._assignments if assignment.epoch not in epochs]
        settled = False
        while not settled and (left_s := deadline_s - self._clock.monotonic_s()) > 0:
            if not epochs <= self._released.keys():
                self._handover.wait(min(WAIT_S, left_s))
                self._settle()
                if staying and self.standing.trouble is None:  # a commit that is not answered takes its time
                    self._commit(self._clock.monotonic_s(), staying)
            elif self._effects.flush(min(WAIT_S, left_s)):
                settled = True
            else:
                self._handover.wait(min(WAIT_S, left_s))  # Kafka refuses something, or is slow
        self._commits.leave(leaving, {epoch: self._released.pop(epoch, None) for epoch in epochs})
        self._forget(leaving)

    def _forget(self, gone: list[Assignment[EntryT]]) -> None:
        for assignment in gone:
            self._takeover.forget(assignment)
            self._catch_up.forget(assignment)
            self._brake.braked.discard(assignment.where)
            self._assignments.end(assignment)
