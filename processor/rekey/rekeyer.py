"""The rekey role: orders.* of any shape → hakuna.rekeyed.*, one transaction a batch.

    turn:  poll ─► merge, all together ─► take over ─► decide ─► guard ─► write ─► observe
                                              │            │                  │
                    what others have written is read       │                  ├─ TransactionAborted: put back, again
                                    RegistryOutage: put back, wait            └─ Fenced, OutcomeUnknown: resync

Owned by the role's one thread. `turn` is the loop on one screen; `run` repeats it. What is in the same transaction as
the consumed offsets: the records under their new keys, dead letters, and which events these were (`_write`).

The five topics may have any partition counts and any partitioner, so nothing is co-partitioned: a worker has whatever
partitions the group gives it, and merges all of them into one sequence in time. Several workers do that each by itself:
what one of them has caught up with another may still be behind in, and transform parks what comes too early. An
erasure, which cannot be parked, waits for the others (`erasures.py`).

Invariants:
- no transaction is open while the consumer is polled, so a rebalance never meets one;
- nothing is written before the whole batch is decided and the flood guard has agreed;
- a batch of which the outcome is unknown is never taken for either: everything in memory is dropped, and the group is
  asked what it has committed (`_resync`).

It keeps nothing on disk: its transactional ID is new with each life, and what a dead worker left open is ended by
the worker that gets its partitions (`edges/kafka/predecessors.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, RegistryOutage, TransactionAborted
from processor.interfaces import Clock, Consumer, Predecessors, Reader, Topology, Transaction
from processor.letters.flood import FloodGuard, flood
from processor.moments import meant_ms
from processor.records import NewRecord, Position, Record, TopicPartition
from processor.rekey.beginnings import Beginnings, Note
from processor.rekey.decide import Batch, Decider, Plan
from processor.rekey.erasures import Erasures, Others
from processor.rekey.events import EventsTopic, KnownEvents, packed
from processor.rekey.meter import RekeyMeter
from processor.sources.merge import Merge
from processor.sources.notices import Notice, Notices
from processor.sources.offsets import GroupOffsets
from processor.sources.standing import SourceLag, SourceStatus, TransactionOutcome, source_lag, source_status
from processor.sources.standstill import LOST, Standstills
from processor.watch import Work

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
"""The longest wait for records: with the commit it is what an event costs in latency at a quiet time."""
_OBSERVE_S: Final = 1.0
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes read after which a batch is full: a transaction of gigabytes takes longer than the broker lets one take."""
BATCH_RECORDS_MIN: Final = 50
"""A batch shrinks to this while its transactions come to nothing: what is too slow for the broker is tried smaller."""
_ALL: Final = 0
"""The one number of a merge of everything, and the one part of the work that is watched."""


class Standstill(StrEnum):
    """Why nothing is taken at the moment, where there is a reason (`/readyz`)."""

    ASSIGNMENT = "no assignment yet"
    EVENTS = "what was written before is not known yet"
    TRANSACTION = "the transactional producer is not open"
    REGISTRY = "the schema registry does not answer"
    ABORTED = "the last transaction was aborted"
    OTHERS = "an erasure waits for other workers"
    FLOOD = "stopped by the flood guard"


_USUAL: Final = (Standstill.ASSIGNMENT, Standstill.EVENTS, Standstill.OTHERS)


@dataclass(frozen=True, slots=True)
class RekeyPlan:
    """The settings of the loop. Topic names are whole, `topics` in the order in which equal timestamps are taken."""

    topics: tuple[str, ...]
    events: str
    events_partitions: int
    worker: str
    batch_records_max: int
    merge_wait_s: float
    dead_letter_share_max: float
    decide: Plan
    here: Mapping[str, Note]
    """The log that each of `topics` is now."""


@dataclass(frozen=True, slots=True)
class RekeyEdges:
    """The outside, as the loop uses it; all of it belongs to the role's thread."""

    consumer: Consumer
    reader: Reader
    transaction: Transaction
    predecessors: Predecessors
    others: Others
    topology: Topology
    clock: Clock
    meter: RekeyMeter


class Rekeyer:
    """The loop. `turn` is called by one thread; `status` and `work` may be read from others (they are replaced whole,
    never changed).

    Mutable: `_assigned` the source partitions that the group gave us, `_gained` those that are not taken over yet,
    `_joined` whether it has given us any, `_opened` whether the transactional ID is ours, `_in_doubt` whether
    everything in memory has to be dropped before the next batch, `_records_max` how many records the next batch may
    have, `_hungry` whether it could have had more, `_gone_without` whether it was said that partitions are given up.
    """

    def __init__(self, plan: RekeyPlan, edges: RekeyEdges) -> None:
        self._plan = plan
        self._edges = edges
        self._merge = Merge(plan.topics, plan.merge_wait_s, together=True)
        self._known = KnownEvents()
        self._events = EventsTopic(plan.events, plan.events_partitions, edges.reader, edges.clock, self._known)
        self._decider = Decider(plan.decide, self._known)
        self._guard = FloodGuard(plan.dead_letter_share_max)
        self._assigned: set[TopicPartition] = set()
        self._gained: set[TopicPartition] = set()
        self._joined = False
        self._offsets = GroupOffsets(edges.consumer, edges.reader, self._merge)
        self._ranks = {topic: source.rank for topic, source in plan.decide.sources.items()}
        self._notices = Notices(edges.clock, edges.meter.started)
        self._erasures = Erasures(edges.others, edges.clock)
        self._beginnings = Beginnings(plan.here, self._ranks, edges.reader, self._offsets, self._known, self._notices)
        self._opened = False
        self._in_doubt = False
        self._records_max = plan.batch_records_max
        self._hungry = False
        self._gone_without = False
        self._observe_at_s = 0.0
        self._standstills: Standstills[Standstill] = Standstills(edges.clock, _USUAL)
        self.status: tuple[SourceStatus, ...] = ()
        self.work: dict[int, Work] = {}
        """What is to be done and what was: a watch sees progress by it."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Sources that were not simply read on from where their group left off. May be read by any thread."""
        return self._notices.shown

    def start(self) -> None:
        self._standstills.stand(Standstill.ASSIGNMENT, "waiting for the group to assign partitions")
        self._edges.consumer.subscribe(self._plan.topics, self)

    def turn(self) -> None:
        """One round. Raises `Fatal` and `Unusable`; everything else is dealt with here."""
        at_once = self._hungry or (Standstill.EVENTS in self._standstills and self._standstills.is_time)
        self._hungry = False
        polled = self._edges.consumer.poll(self._plan.batch_records_max, 0.0 if at_once else _POLL_S)
        self._merge.offer(polled.records, polled.at_end)
        self._beginnings.heard(polled.resets)
        if self._open() and self._take_over() and self._may_take():
            batch = Batch()
            self._decide(batch)
            self._finish(batch)
        self._backpressure()
        self._observe()

    def stop(self) -> None:
        """Ends between two turns, when no transaction is open. Leaves the group first, so that other workers take over
        while the rest is closed; closes the rest whatever that raises."""
        with ExitStack() as closing:
            closing.callback(self._edges.reader.close)
            closing.callback(self._edges.transaction.close)
            self._edges.consumer.close()

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        log.info("assigned", partitions=_named(partitions))
        self._joined = True
        if partitions:
            # Until `_take_over` has seen to them: a probe may ask in between, and nothing of them is known yet.
            self._standstills.stand(Standstill.ASSIGNMENT, "partitions are being taken over")
        self._assigned.update(partitions)
        self._gained.update(partitions)
        self._merge.assign(partitions)
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        log.info("revoked", partitions=_named(partitions))
        self._give_up(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        log.warning("lost", partitions=_named(partitions))
        self._give_up(partitions)
        self._joined = False
        self._standstills.stand(Standstill.ASSIGNMENT, LOST)

    def _give_up(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned.difference_update(partitions)
        self._gained.difference_update(partitions)
        self._merge.leave_out(partitions)
        self._offsets.forget(partitions)
        self._beginnings.let_go(partitions)

    def _open(self) -> bool:
        """Opens the transactional ID and resolves a doubt, if needed. Returns true if both are done."""
        if self._opened and not self._in_doubt:
            return True
        if not self._standstills.is_time:
            return False
        try:
            if not self._opened:
                self._edges.transaction.open()
            self._opened = True
            if self._in_doubt:
                self._resync()
        except (BrokerOutage, Fenced) as outage:
            self._standstills.wait(Standstill.TRANSACTION, str(outage))
            return False
        self._standstills.go_on(Standstill.TRANSACTION)
        return True

    def _resync(self) -> None:
        """Drops all that is in memory and begins anew from what the group has committed: the way out of every doubt.
        Raises `BrokerOutage`, and may be called again then."""
        sources = sorted(self._assigned)
        self._offsets.rewind(sources)
        self._beginnings.wait_for(sources)
        # What the batch in doubt has written, if it has, is not known either.
        self._events.catch_up()
        self._in_doubt = False
        log.warning("everything in memory was dropped and is read anew", partitions=_named(sources))

    def _take_over(self) -> bool:
        """Sees to what is new, and reads what others write. False while something has to be known first."""
        if Standstill.EVENTS in self._standstills and not self._standstills.is_time:
            return False
        try:
            if self._gained:
                gained = sorted(self._gained)
                self._edges.predecessors.end_transactions(gained)
                self._offsets.ask(gained)
                self._beginnings.wait_for(gained)
                self._events.catch_up()
                self._gained.clear()
            known = not self._assigned or self._events.read()
            if known:
                self._read_from(self._beginnings.begin())
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.EVENTS, str(outage))
            return False
        if self._joined:
            self._standstills.go_on(Standstill.ASSIGNMENT)
        if not known:
            self._standstills.stand(Standstill.EVENTS, f"{self._plan.events} is being read")
            return False
        self._standstills.go_on(Standstill.EVENTS)
        return True

    def _read_from(self, positions: Sequence[Position]) -> None:
        if positions:
            self._edges.consumer.seek(positions)
            moved = [TopicPartition(one.topic, one.partition) for one in positions]
            self._edges.consumer.resume(moved)
            self._merge.assign(moved, {TopicPartition(one.topic, one.partition): one.offset for one in positions})

    def _may_take(self) -> bool:
        return self._standstills.is_time and Standstill.FLOOD not in self._standstills

    def _decide(self, batch: Batch) -> None:
        """Fills the batch with what the next transaction writes. Leaves it empty where there is nothing to do."""
        if not self._assigned:  # what was waited for went with its partition
            self._standstills.go_on(Standstill.OTHERS)
            self._standstills.go_on(Standstill.REGISTRY)
            return
        is_waiting = False
        now_ms = self._edges.clock.now_ms()
        records = self._merge.take(_ALL, self._records_max, self._edges.clock.monotonic_s())
        try:
            for record in records:
                is_waiting = record.value is None and not self._may_erase(record)
                if is_waiting:
                    break
                self._decider.take(record, batch, now_ms)
                if batch.bytes >= BATCH_BYTES_MAX:
                    break
        except RegistryOutage as outage:
            self._standstills.wait(Standstill.REGISTRY, str(outage))
        else:
            self._standstills.go_on(Standstill.REGISTRY)
        finally:
            self._merge.put_back(records[len(batch.records) :])
        if not is_waiting:
            self._standstills.go_on(Standstill.OTHERS)
        self._hungry = len(batch.records) >= self._records_max or batch.bytes >= BATCH_BYTES_MAX

    def _may_erase(self, record: Record) -> bool:
        """Whether no other worker is behind this erasure: it would find no order, and the order come after it."""
        try:
            may_pass = self._erasures.may_pass(meant_ms(record.timestamp_ms), self._assigned)
        except BrokerOutage as outage:
            self._standstills.stand(Standstill.OTHERS, str(outage))
            return False
        if not may_pass and self._erasures.waits_for is not None:
            self._standstills.stand(Standstill.OTHERS, self._erasures.waits_for)
        return may_pass

    def _finish(self, batch: Batch) -> None:
        """Writes what was decided, if the flood guard agrees; where it refuses, nothing is, and the role stops."""
        if not batch.records and not self._beginnings.unnoted:
            # Whatever came to nothing has gone to another worker, or there is no more of it.
            self._standstills.go_on(Standstill.ABORTED)
            return
        share = self._guard.flooded_by(batch.dead) if any(batch.dead) else None
        if share is None:
            self._write(batch)
            return
        self._merge.put_back(batch.records)
        self._standstills.stand(Standstill.FLOOD, flood(share, batch.dead_letters))
        self._edges.meter.flooded()
        log.error("flood guard stopped the role, nothing was written", share=share)

    def _write(self, batch: Batch) -> None:
        """One transaction: records under their new keys, dead letters, which events these were, and consumed offsets,
        or none of them."""
        transaction, offsets = self._edges.transaction, self._beginnings.unnoted | batch.next_offsets
        told = batch.told(self._ranks)
        started_s = self._edges.clock.monotonic_s()
        try:
            transaction.begin()
            for record in batch.outgoing:
                transaction.produce(record)
            if told:
                transaction.produce(NewRecord(self._plan.events, self._own_partition(), None, packed(told), []))
            transaction.commit(self._beginnings.commits(self._plan.worker, offsets))
        except TransactionAborted as aborted:
            self._observed(TransactionOutcome.ABORTED, started_s)
            self._shrink()
            self._merge.put_back(batch.records)
            self._standstills.wait(Standstill.ABORTED, str(aborted))
        except BrokerOutage as outage:  # out of `begin`: there is no transaction
            self._merge.put_back(batch.records)
            self._standstills.wait(Standstill.ABORTED, str(outage))
        except Fenced as fenced:
            unknown = isinstance(fenced, OutcomeUnknown)
            self._observed(TransactionOutcome.UNKNOWN if unknown else TransactionOutcome.FENCED, started_s)
            self._shrink()
            self._opened, self._in_doubt = False, True
            self._standstills.wait(Standstill.TRANSACTION, str(fenced))
        else:
            self._known.add(told)
            self._committed_batch(batch, offsets)
            self._observed(TransactionOutcome.COMMITTED, started_s)

    def _own_partition(self) -> int:
        """Of the topic of events: any will do, for all of them are read by all."""
        return int(self._plan.worker, 16) % self._plan.events_partitions

    def _shrink(self) -> None:
        """A transaction that takes longer than the broker lets it would be tried again, as large, for ever."""
        self._records_max = max(min(BATCH_RECORDS_MIN, self._plan.batch_records_max), self._records_max // 2)

    def _committed_batch(self, batch: Batch, offsets: Mapping[TopicPartition, int]) -> None:
        self._beginnings.written(offsets)
        self._records_max = min(self._plan.batch_records_max, self._records_max * 2)
        self._guard.written(batch.dead)
        self._edges.meter.written(batch.written())
        self._standstills.go_on(Standstill.ABORTED)

    def unready(self) -> list[str]:
        """Why this role is not ready; empty when it is. May be called from any thread."""
        reasons = [text for text, _ in self._standstills.shown.values()]
        troubles = (self._edges.consumer.trouble(), self._edges.reader.trouble())
        return reasons + [trouble for trouble in troubles if trouble]

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """For the watch: all of it is one part, since all of it is one sequence."""
        return self.work, bool(self._standstills.shown)

    def _backpressure(self) -> None:
        if full := self._merge.to_pause():
            self._edges.consumer.pause(full)
        if roomy := self._merge.to_resume():
            self._edges.consumer.resume(roomy)

    def _observed(self, outcome: TransactionOutcome, started_s: float) -> None:
        self._edges.meter.transaction(outcome, self._edges.clock.monotonic_s() - started_s)

    def _observe(self) -> None:
        """Once a second: lag and status, as of now."""
        now_s = self._edges.clock.monotonic_s()
        if now_s < self._observe_at_s:
            return
        self._observe_at_s = now_s + _OBSERVE_S
        self._edges.topology.check()
        if self._merge.given_up and not self._gone_without:
            topics = _named(self._merge.lagging(_ALL)[0])
            log.warning("going on without partitions that have more at the broker", partitions=topics)
        self._gone_without = bool(self._merge.given_up)
        now_ms = self._edges.clock.now_ms()
        inputs = self._merge.inputs(_ALL) if self._merge.numbers else []
        behind = [one.partition for one in inputs if not one.at_end]
        ends = self._edges.consumer.ends(behind) if behind else {}
        kept_s = self._edges.topology.kept_s
        lags = [source_lag(one, self._offsets.known, ends, now_ms, kept_s(one.partition.topic)) for one in inputs]
        self._edges.meter.lag(lags)
        self.work = {_ALL: Work(sum(lag.records for lag in lags), sum(self._offsets.known.values()))}
        self.status = tuple(
            source_status(one, lag, self._offsets.known, self._blocked(lag, now_s, now_ms))
            for one, lag in zip(inputs, lags, strict=True)
        )

    def _blocked(self, lag: SourceLag, now_s: float, now_ms: int) -> tuple[str | None, int | None]:
        """What this partition waits for, and since when (epoch ms)."""
        if not lag.records:
            return None, None
        if self._standstills.shown:
            return self._standstills.first
        lagging, since_s = self._merge.lagging(_ALL)
        if lagging:
            topics = ", ".join(sorted({partition.topic for partition in lagging}))
            return f"merge: {topics} has more at the broker", now_ms - round((now_s - since_s) * 1000)
        return None, None


def _named(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{partition.topic}/{partition.partition}" for partition in sorted(partitions)]
