"""The rekey role: orders.* of any shape → hakuna.rekeyed.*, one transaction a batch.

    turn:  poll ─► merge, all together ─► take over ─► decide ─► guard ─► write ─► observe
                                              │            │                  │
                    what others have written is read       │                  ├─ TransactionAborted: put back, again
                                    RegistryOutage: put back, wait            └─ Fenced, OutcomeUnknown: resync

Owned by the role's one thread. `turn` is one round of the loop; `run` repeats it. One transaction (`_write`) has the
consumed offsets, the records under their new keys, the dead letters, and the list of the events that were written.

The five topics may have any partition counts and any partitioner. A worker merges the partitions that the group gives
it into one sequence in time. Each worker does that by itself, so one may be behind another: transform parks the events
that come too early, and an erasure, which cannot be parked, waits for the other workers (`erasures.py`).

Invariants:
- no transaction is open while the consumer is polled, so a rebalance never meets one;
- nothing is written before the whole batch is decided and the flood guard has agreed;
- a batch with an unknown outcome counts neither as committed nor as aborted: the loop drops all memory and asks for the
  group's offsets (`_resync`).

It keeps nothing on disk. Its transactional ID is new in each life; its heir ends a transaction that it left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from processor.errors import BrokerOutage, RegistryOutage
from processor.interfaces import Clock, Consumer, Predecessors, Reader, Topology, Transaction
from processor.letters.flood import FloodGuard
from processor.moments import meant_ms
from processor.records import NewRecord, Record, TopicPartition
from processor.rekey.beginnings import Beginnings, Note
from processor.rekey.decide import Batch, Decider, Plan
from processor.rekey.erasures import Erasures, Others
from processor.rekey.events import EventsTopic, KnownEvents, packed
from processor.sources.loop import Group, Transactions, named
from processor.sources.merge import Merge
from processor.sources.standing import Notice, Notices, SourceMeter, SourceStatus, Standing
from processor.sources.standstill import Standstill, Standstills
from processor.watch import Work

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
"""The longest wait for records: with the commit it is what an event costs in latency at a quiet time."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes read after which a batch is full: a transaction of gigabytes takes longer than the broker lets one take."""
BATCH_RECORDS_MIN: Final = 50
"""The least that a batch shrinks to while its transactions come to nothing: the broker may be too slow for it."""
_ALL: Final = 0
"""The one number of a merge of everything, and the one part of the work that is watched."""


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
    """The log of each of `topics`, as it is now."""


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
    meter: SourceMeter


class Rekeyer:
    """The loop. `turn` is called by one thread; what others may read is replaced whole, never changed.

    Mutable: `_assigned` has the source partitions that the group gave us, `_gained` those that are not taken over yet,
    `_hungry` is true if the last batch could have had more records, `_gone_without` if the log says already that
    partitions are given up, `work` has the records to do and the records done (a watch sees progress by it).
    """

    def __init__(self, plan: RekeyPlan, edges: RekeyEdges) -> None:
        self._plan = plan
        self._edges = edges
        self._assigned: set[TopicPartition] = set()
        self._gained: set[TopicPartition] = set()
        self._hungry = False
        self._gone_without = False
        self._merge = Merge(plan.topics, plan.merge_wait_s, together=True)
        self._known = KnownEvents()
        self._events = EventsTopic(plan.events, plan.events_partitions, edges.reader, edges.clock, self._known)
        self._decider = Decider(plan.decide, self._known)
        self._standstills = standstills = Standstills(edges.clock)
        self._group = Group(edges.consumer, edges.reader, self._merge, standstills, self._assign, self._gone)
        self._transactions = Transactions(
            edges.transaction,
            edges.clock,
            edges.meter,
            standstills,
            FloodGuard(plan.dead_letter_share_max),
            BATCH_RECORDS_MIN,
            plan.batch_records_max,
        )
        self._standing = Standing(
            self._merge, edges.consumer, self._group.known, edges.topology, standstills, edges.clock
        )
        self._ranks = {topic: source.rank for topic, source in plan.decide.sources.items()}
        self._notices = Notices(edges.clock, edges.meter.started)
        self._erasures = Erasures(edges.others, edges.clock)
        self._beginnings = Beginnings(plan.here, self._ranks, edges.reader, self._group, self._known, self._notices)
        self.work: dict[int, Work] = {}

    @property
    def status(self) -> tuple[SourceStatus, ...]:
        return self._standing.status

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Sources that are not simply read on from where their group left off. May be read by any thread."""
        return self._notices.shown

    def start(self) -> None:
        self._group.join(self._plan.topics)

    def turn(self) -> float:
        """One round. Returns for how long the next one may wait. Raises `Fatal` and `Unusable`; everything else is
        dealt with here."""
        at_once = self._hungry or (Standstill.EVENTS in self._standstills and self._standstills.is_time)
        self._hungry = False
        polled = self._edges.consumer.poll(self._plan.batch_records_max, 0.0 if at_once else _POLL_S)
        self._merge.offer(polled.records, polled.at_end)
        self._beginnings.heard(polled.resets)
        if self._transactions.are_open(self._resync) and self._take_over() and self._standstills.may_take:
            batch = Batch(self._edges.clock.now_ms())
            self._decide(batch)
            self._finish(batch)
        self._group.backpressure()
        if self._standing.is_due():
            self._edges.topology.check()
            self._observe()
        return 0.0 if self._hungry else self._transactions.rest_s()

    def stop(self) -> None:
        """Ends between two turns, when no transaction is open."""
        self._group.leave(self._edges.transaction.close, self._edges.reader.close)

    def _assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned.update(partitions)
        self._gained.update(partitions)
        self._merge.assign(partitions)

    def _gone(self, partitions: Sequence[TopicPartition]) -> None:
        self._assigned.difference_update(partitions)
        self._gained.difference_update(partitions)
        self._merge.leave_out(partitions)
        self._group.forget(partitions)
        self._beginnings.let_go(partitions)

    def _resync(self) -> None:
        """Drops all memory and begins anew from the group's offsets. Raises `BrokerOutage`, and may be called again."""
        sources = sorted(self._assigned)
        self._group.rewind(sources)
        self._beginnings.wait_for(sources)
        # Whether the batch in doubt has written its events is not known either.
        self._events.catch_up()
        log.warning("everything in memory was dropped and is read anew", partitions=named(sources))

    def _take_over(self) -> bool:
        """Brings up new partitions and reads what others write. Returns false while something must be known first."""
        if Standstill.EVENTS in self._standstills and not self._standstills.is_time:
            return False
        try:
            if self._gained:
                gained = sorted(self._gained)
                self._edges.predecessors.end_transactions(gained)
                self._group.ask(gained)
                self._beginnings.wait_for(gained)
                self._events.catch_up()
                self._gained.clear()
            known = not self._assigned or self._events.read()
            if known:
                self._beginnings.begin()
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.EVENTS, str(outage))
            return False
        self._group.taken_over()
        if not known:
            self._standstills.stand(Standstill.EVENTS, f"{self._plan.events} is being read")
            return False
        self._standstills.go_on(Standstill.EVENTS)
        return True

    def _decide(self, batch: Batch) -> None:
        """Fills the batch with what the next transaction writes; leaves it empty if there is nothing to do."""
        if not self._assigned:  # the records that waited went with their partitions
            self._standstills.go_on(Standstill.OTHERS)
            self._standstills.go_on(Standstill.REGISTRY)
            return
        is_waiting = False
        records_max = self._transactions.records_max
        records = self._merge.take(_ALL, records_max, self._edges.clock.monotonic_s())
        try:
            for record in records:
                is_waiting = record.value is None and not self._may_erase(record)
                if is_waiting:
                    break
                self._decider.take(record, batch)
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
        self._hungry = len(batch.records) >= records_max or batch.bytes >= BATCH_BYTES_MAX

    def _may_erase(self, record: Record) -> bool:
        """Returns true if no other worker is behind this erasure: its order would come after it."""
        try:
            may_pass = self._erasures.may_pass(meant_ms(record.timestamp_ms), self._assigned)
        except BrokerOutage as outage:
            self._standstills.stand(Standstill.OTHERS, str(outage))
            return False
        if not may_pass and self._erasures.waits_for is not None:
            self._standstills.stand(Standstill.OTHERS, self._erasures.waits_for)
        return may_pass

    def _finish(self, batch: Batch) -> None:
        """Writes what was decided if the flood guard agrees. If it refuses, nothing is written and the role stops."""
        if not batch.records and not self._beginnings.unnoted:
            # What came to nothing has gone to another worker, or there is no more of it.
            self._standstills.go_on(Standstill.ABORTED)
        elif self._transactions.is_flooded(batch.dead, batch.written.dead_letters):
            self._merge.put_back(batch.records)
        else:
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        """One transaction: records under their new keys, dead letters, the events and consumed offsets, or none."""
        plan = self._plan
        offsets = self._beginnings.unnoted | batch.next_offsets
        told = batch.told(self._ranks)
        with self._transactions.one(partial(self._merge.put_back, batch.records)) as transaction:
            transaction.begin()
            for record in batch.outgoing:
                transaction.produce(record)
            if told:
                partition = int(plan.worker, 16) % plan.events_partitions  # any will do: all workers read all of them
                transaction.produce(NewRecord(plan.events, partition, None, packed(told), []))
            transaction.commit(self._beginnings.commits(plan.worker, offsets))
            self._known.add(told)
            self._beginnings.written(offsets)
            self._transactions.written(batch.dead)
            self._edges.meter.written(batch.written)

    def unready(self) -> list[str]:
        """Returns why this role is not ready; empty if it is. May be called from any thread."""
        reasons = [text for text, _ in self._standstills.shown.values()]
        troubles = (self._edges.consumer.trouble(), self._edges.reader.trouble())
        return reasons + [trouble for trouble in troubles if trouble]

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """For the watch: all of the work is one part, because all of it is one sequence."""
        return self.work, bool(self._standstills.shown)

    def _observe(self) -> None:
        """Measures and shows lag and status, as of now."""
        if self._merge.given_up and not self._gone_without:
            topics = named(self._merge.lagging(_ALL)[0])
            log.warning("going on without partitions that have more at the broker", partitions=topics)
        self._gone_without = bool(self._merge.given_up)
        lags = self._standing.look()
        self._edges.meter.lag(lags)
        self.work = {_ALL: Work(sum(lag.records for lag in lags), sum(self._group.known.values()))}
