"""The transform role: orders.* → state → outbox, one transaction a batch.

    turn:  poll ─► merge ─► take over/restore ─► decide ─► guard ─► write ─► observe
                                                   │                  │
                                      StateCorrupt: wipe, restore     ├─ TransactionAborted: roll back, put back, again
                                      RegistryOutage: put back, wait  └─ Fenced, OutcomeUnknown: open again, resync

Owned by the role's one thread. `turn` is one round of the loop; `run` repeats it. One transaction (`_write`) has the
consumed offsets, the outbox records, the dead letters and one changelog record per order.

Invariants:
- no transaction is open while the consumer is polled, so a rebalance never meets one;
- every transaction carries an offset, also one that only sweeps: by the offset the broker recognises a worker that is
no
  longer in the group, and refuses it;
- nothing is written before the whole batch is decided and the flood guard has agreed;
- each transaction has the book (`book.py`) of every partition number that it takes from; the book and the group's
  offsets decide where a number begins, once its state is restored (`beginnings.py`);
- a batch with an unknown outcome counts neither as committed nor as aborted: the loop drops all memory, asks for the
  group's offsets, and restores the state from the changelog (`_resync`).

Not chosen: overlapping a commit with the next batch (the commit is 3 % of a batch of 5,000; the state would need two
stages and the recovery two cases).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import structlog

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, StateCorrupt, TransactionAborted
from processor.interfaces import Committed
from processor.letters.flood import FloodGuard, flood
from processor.records import TopicPartition
from processor.sources.merge import Merge
from processor.sources.notices import Notice
from processor.sources.offsets import GroupOffsets
from processor.sources.standing import SourceStatus, TransactionOutcome
from processor.sources.standstill import LOST, Standstills
from processor.transform.batch import Batch
from processor.transform.beginnings import Beginnings
from processor.transform.observing import Observer
from processor.transform.partitions import Partitions
from processor.transform.plan import USUAL, Standstill, TransformEdges, TransformPlan
from processor.transform.taking import Taking
from processor.transform.whereabouts import Whereabouts
from processor.watch import Work

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
"""The longest wait for records: with the commit it is what an event costs in latency at a quiet time."""
_QUICK_S: Final = 1.0
"""A transaction that took longer than this is not followed by a larger one: the broker ends those of 4 s."""
_ABORTED_S: Final = 5.0
"""How long transactions must have come to nothing before the role is unready: one of them is a hiccup."""
_THROTTLED_S_MAX: Final = 30.0
"""The longest wait for a quota after a transaction that it brought to nothing: the brokers' window is 11 s."""


class Transformer:
    """The loop. `turn` is called by one thread; what others may read is replaced whole, never changed.

    Mutable: `_opened` whether the transactional ID is ours, `_in_doubt` whether everything in memory has to be dropped
    before the next batch, `_late` the numbers whose topics did not come in one assignment, `_joined` whether the group
    has given us an assignment, `restoring` the changelog records to go by partition number.
    """

    def __init__(self, plan: TransformPlan, edges: TransformEdges) -> None:
        self._plan = plan
        self._edges = edges
        self._opened = False
        self._in_doubt = False
        self._joined = False
        self._late: set[int] = set()
        self.restoring: dict[int, int] = {}
        self.whereabouts = Whereabouts(plan.topics, plan.partitions)
        self._merge = Merge(plan.topics, plan.merge_wait_s)
        self._partitions = Partitions(
            plan.topics,
            plan.changelog,
            plan.here,
            plan.changelog_tombstones_ms,
            edges.stores,
            edges.reader,
            edges.clock,
            edges.newest_book,
        )
        self._offsets = GroupOffsets(edges.consumer, edges.reader, self._merge)
        committed = self._offsets.known
        self._standstills: Standstills[Standstill] = Standstills(edges.clock, USUAL)
        self._observer = Observer(
            plan, edges, self._partitions, self._merge, self._standstills, committed, self.whereabouts
        )
        self._beginnings = Beginnings(plan.here, edges, self._partitions, self._merge, committed, self._observer.unread)
        self._taking = Taking(plan, edges, self._partitions, self._merge, self._standstills, self.whereabouts.elsewhere)
        self._guard = FloodGuard(plan.dead_letter_share_max)

    def start(self) -> None:
        self._standstills.stand(Standstill.ASSIGNMENT, "waiting for the group to assign partitions")
        self._edges.meter.misplaced(dict.fromkeys(self._plan.topics, 0))
        self._edges.consumer.subscribe(self._plan.topics, self)

    def turn(self) -> None:
        """One round. Raises `Fatal` and `Unusable`; everything else is dealt with here."""
        at_once = self._taking.asks_for_more() or (self._standstills.is_time and bool(self._partitions.restoring))
        polled = self._edges.consumer.poll(self._plan.batch_records_max, 0.0 if at_once else _POLL_S)
        self._merge.offer(polled.records, polled.at_end)
        self._beginnings.heard(polled.resets)
        if self._open() and self._take_over() and self._may_take():
            batch = Batch()
            try:
                self._taking.fill(batch, lambda number: self._an_offset_of(number) is not None)
            except StateCorrupt as corrupt:
                self._put_back(batch)
                self._wipe(corrupt)
            else:
                self._finish(batch)
        self._backpressure()
        if self._observer.is_due():
            self._edges.topology.check()
            self._beginnings.look_at_the_topics()
            self._taking.fit()
            self._observer.observe()

    def stop(self) -> None:
        """Ends between two turns, when no transaction is open. Leaves the group first, so that other workers take over
        while the rest is closed; closes the rest whatever that raises."""
        with ExitStack() as closing:
            closing.callback(self._partitions.close)
            closing.callback(self._edges.reader.close)
            closing.callback(self._edges.transaction.close)
            self._edges.consumer.close()

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        log.info("assigned", partitions=_named(partitions))
        self._partitions.assigned(partitions)
        self._joined = True
        if partitions:
            # Until `_take_over` has seen to them: a probe may ask in between, and they are not restored yet.
            self._standstills.stand(Standstill.ASSIGNMENT, "partitions are being taken over")
        at_once = set(partitions)
        for number in {partition.partition for partition in partitions}:
            sources = self._partitions.sources(number)
            if at_once.issuperset(sources):
                self._merge.assign(sources)
                self._late.discard(number)
            else:
                # A cooperative rebalance brings a number's topics one after the other: none is read before all are.
                self._edges.consumer.pause([source for source in sources if source in at_once])
                self._late.add(number)
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
        self._partitions.unassigned(partitions)
        self._merge.revoke({partition.partition for partition in partitions})
        for partition in partitions:
            self._offsets.known.pop(partition, None)
        self._beginnings.let_go(partitions)
        for left in self._partitions.incomplete:
            self._edges.consumer.pause([left])
            self._late.add(left.partition)

    def _open(self) -> bool:
        """Opens the transactional ID and resolves a doubt, if needed. Returns true if both are done."""
        if self._opened and not self._in_doubt:
            return True
        if not self._standstills.is_time:
            return False
        if not self._opened:
            try:
                self._edges.transaction.open()
            except (BrokerOutage, Fenced) as outage:
                self._standstills.wait(Standstill.TRANSACTION, str(outage))
                return False
            self._opened = True
        if self._in_doubt and not self._resync():
            return False
        self._standstills.go_on(Standstill.TRANSACTION)
        return True

    def _resync(self) -> bool:
        """Drops all that is in memory and begins anew from what the group has committed.

        The way out of every doubt: whether the last transaction counts is answered by the committed offsets, what it
        did to the state by the changelog.
        """
        numbers = sorted(self._merge.numbers)
        try:
            self._offsets.rewind(self._sources(numbers))
            self._partitions.begin_restore(sorted(self._partitions.held))
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.TRANSACTION, str(outage))
            return False
        self._beginnings.read_anew(numbers)
        self._in_doubt = False
        log.warning("everything in memory was dropped and is read anew", partitions=numbers)
        return True

    def _take_over(self) -> bool:
        """Brings new partition numbers up. False while the broker does not answer; others are not taken either then."""
        if Standstill.RESTORE in self._standstills and not self._standstills.is_time:
            return False
        try:
            late = sorted(self._late & self._partitions.whole)
            if late:
                self._offsets.rewind(self._sources(late))
                self._late.difference_update(late)
            gained = self._partitions.gained
            if gained:
                sources = self._sources(gained)
                self._edges.predecessors.end_transactions(sources)
                self._offsets.ask(sources)
            self._partitions.take_over(gained)
            self._partitions.restore()
            self._partitions.purge()
            self._beginnings.begin(self._partitions.running)
            self.restoring = {n: self._partitions.held[n].restore_remaining for n in self._partitions.restoring}
        except StateCorrupt as corrupt:
            self._wipe(corrupt)
            return False
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.RESTORE, str(outage))
            return False
        self._standstills.go_on(Standstill.RESTORE)
        if self._joined:
            self._standstills.go_on(Standstill.ASSIGNMENT)
        return True

    def _sources(self, numbers: Sequence[int]) -> list[TopicPartition]:
        return [source for number in numbers for source in self._partitions.sources(number)]

    def _may_take(self) -> bool:
        return self._standstills.is_time and Standstill.FLOOD not in self._standstills

    def _wipe(self, corrupt: StateCorrupt) -> None:
        assert corrupt.partition is not None, "a corrupt store of no partition"
        try:
            self._partitions.wipe(corrupt.partition.partition, corrupt)
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.RESTORE, str(outage))

    def _finish(self, batch: Batch) -> None:
        """Writes what was decided, if the flood guard agrees; where it refuses, nothing is, and the role stops."""
        held = self._partitions.held
        for number in self._beginnings.unbooked.intersection(self._partitions.running):
            batch.touched[number] = held[number].state
        if not batch:
            # Whatever came to nothing has gone to another worker, or there is no more of it.
            self._standstills.go_on(Standstill.ABORTED)
            return
        share = self._guard.flooded_by(batch.dead) if any(batch.dead) else None
        if share is None:
            self._write(batch)
            return
        self._put_back(batch)
        self._standstills.stand(Standstill.FLOOD, flood(share, batch.dead_letters))
        self._edges.meter.flooded()
        log.error("flood guard stopped the role, nothing was written", share=share)

    def _write(self, batch: Batch) -> None:
        """One transaction: outbox records, dead letters, changelog and consumed offsets, or none of them."""
        transaction = self._edges.transaction
        started_s = self._edges.clock.monotonic_s()
        for _, number in batch.consumed:
            batch.touched[number] = self._partitions.held[number].state
        offsets = self._consumed(batch)
        try:
            transaction.begin()
            for record in batch.outgoing:
                transaction.produce(record)
            for number, state in batch.touched.items():
                transaction.produce_keyed(
                    self._plan.changelog, number, state.changes(self._beginnings.book(number, offsets))
                )
            last = transaction.commit({where: Committed(at, self._plan.worker) for where, at in offsets.items()})
        except TransactionAborted as aborted:
            self._observed(TransactionOutcome.ABORTED, started_s)
            self._edges.topology.ask_soon()  # a limit may have been lowered
            self._taking.shrink()
            self._put_back(batch)
            held_s = self._observer.throttled()
            why = f"{aborted}; the brokers throttle this client by their quota" if held_s else str(aborted)
            self._standstills.wait(Standstill.ABORTED, why, min(held_s, _THROTTLED_S_MAX))
        except BrokerOutage as outage:  # out of `begin`: there is no transaction
            self._put_back(batch)
            self._standstills.wait(Standstill.ABORTED, str(outage))
        except Fenced as fenced:
            unknown = isinstance(fenced, OutcomeUnknown)
            self._observed(TransactionOutcome.UNKNOWN if unknown else TransactionOutcome.FENCED, started_s)
            self._taking.shrink()
            self._drop(batch)
            self._opened, self._in_doubt = False, True
            self._standstills.wait(Standstill.TRANSACTION, str(fenced))
        else:
            self._committed_batch(batch, last, offsets, self._edges.clock.monotonic_s() - started_s)
            self._observed(TransactionOutcome.COMMITTED, started_s)

    def _consumed(self, batch: Batch) -> dict[TopicPartition, int]:
        """Returns the offsets to commit with this batch. A number that is only swept gets an offset that it has
        already; one whose book is new gets its beginning. The commit names this worker, so that a successor knows whose
        transaction a dead worker may have left open."""
        offsets = self._beginnings.not_booked(batch.touched) | batch.next_offsets
        for number in batch.touched.keys() - {source.partition for source in offsets}:
            known = self._an_offset_of(number)
            assert known is not None, f"partition {number} was swept, and the group has no offset of it"
            offsets[known] = self._offsets.known[known]
        return offsets

    def _an_offset_of(self, number: int) -> TopicPartition | None:
        """A source of this number of which the group has an offset. A group new to its changelog has none yet."""
        return next((source for source in self._partitions.sources(number) if source in self._offsets.known), None)

    def _committed_batch(
        self, batch: Batch, last: Mapping[TopicPartition, int], offsets: Mapping[TopicPartition, int], took_s: float
    ) -> None:
        now_ms = self._edges.clock.now_ms()
        for number, state in batch.touched.items():
            changelog = TopicPartition(self._plan.changelog, number)
            try:
                state.commit(last.get(changelog), now_ms)
            except StateCorrupt as corrupt:
                self._wipe(StateCorrupt(str(corrupt), changelog))
            else:
                self._partitions.proven(number)
        self._offsets.known.update(offsets)
        self._beginnings.unbooked.difference_update(batch.touched)
        if not self._observer.throttled() and took_s < _QUICK_S:
            self._taking.grow()
        self._guard.written(batch.dead)
        self._edges.meter.written(batch.written())
        self.whereabouts.sample(batch.records, self._edges.clock.monotonic_s())
        self.whereabouts.unfound(batch.unfound)
        self._observer.say_astray(batch.astray)
        self._observer.say_letters(batch)
        self._standstills.go_on(Standstill.ABORTED)

    def _put_back(self, batch: Batch) -> None:
        self._drop(batch)
        self._merge.put_back(batch.records)

    def _drop(self, batch: Batch) -> None:
        for state in batch.touched.values():
            state.rollback()

    def _backpressure(self) -> None:
        if full := self._merge.to_pause():
            self._edges.consumer.pause(full)
        if roomy := self._merge.to_resume():
            self._edges.consumer.resume(roomy)

    def _observed(self, outcome: TransactionOutcome, started_s: float) -> None:
        self._edges.meter.transaction(outcome, self._edges.clock.monotonic_s() - started_s)

    def unready(self) -> list[str]:
        """Why this role is not ready; empty when it is. May be called from any thread."""
        since_ms = self._edges.clock.now_ms() - round(_ABORTED_S * 1000)
        reasons = [
            text
            for standstill, (text, at_ms) in self.standstills.items()
            if standstill is not Standstill.ABORTED or at_ms <= since_ms
        ]
        reasons += self._edges.topology.complaints
        if self.restoring:
            remaining = sum(self.restoring.values())
            reasons.append(f"restoring {len(self.restoring)} partitions, {remaining} changelog records to go")
        troubles = (self._edges.consumer.trouble(), self._edges.reader.trouble() if self.restoring else None)
        return reasons + [trouble for trouble in troubles if trouble]

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """For the watch. Partitions that wait for the rest of their topics excuse none of the others."""
        return self._observer.work, bool(self.standstills.keys() - {Standstill.GATHERING})

    @property
    def standstills(self) -> Mapping[Standstill, tuple[str, int]]:
        """Why nothing is taken, and since when (epoch ms)."""
        return self._standstills.shown

    @property
    def status(self) -> tuple[SourceStatus, ...]:
        return self._observer.status

    @property
    def notices(self) -> tuple[Notice, ...]:
        return self._beginnings.notices

    @property
    def throttled_s(self) -> float:
        """For how long brokers have made us wait, by their quota."""
        return self._observer.throttled_s


def _named(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{partition.topic}/{partition.partition}" for partition in sorted(partitions)]
