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
  no longer in the group, and refuses it;
- nothing is written before the whole batch is decided and the flood guard has agreed;
- each transaction has the book (`book.py`) of every partition number that it takes from; the book and the group's
  offsets decide where a number begins, once its state is restored (`beginnings.py`);
- a batch with an unknown outcome counts neither as committed nor as aborted: the loop drops all memory, asks for the
  group's offsets, and restores the state from the changelog (`_resync`).

Not chosen: overlapping a commit with the next batch (3 % of a batch of 5,000, for two stages of state and two
recoveries).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from processor.errors import BrokerOutage, StateCorrupt
from processor.interfaces import Committed
from processor.letters.flood import FloodGuard
from processor.records import TopicPartition
from processor.sources.loop import Group, Transactions
from processor.sources.merge import Merge
from processor.sources.standing import Notice, SourceStatus
from processor.sources.standstill import Standstill, Standstills
from processor.transform.batch import Batch
from processor.transform.beginnings import Beginnings
from processor.transform.observing import Observer
from processor.transform.partitions import Partitions
from processor.transform.plan import TransformEdges, TransformPlan
from processor.transform.taking import BATCH_RECORDS_MIN, Taking
from processor.transform.whereabouts import Whereabouts
from processor.watch import Work

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
"""The longest wait for records: with the commit it is what an event costs in latency at a quiet time."""
_QUICK_S: Final = 1.0
"""A transaction that took longer than this is not followed by a larger one: the broker ends those of 4 s."""
_ABORTED_S: Final = 5.0
"""How long transactions must have come to nothing before the role is unready: one of them is a hiccup."""


class Transformer:
    """The loop. `turn` is called by one thread; what others may read is replaced whole, never changed.

    Mutable: `_late` the numbers whose topics did not come in one assignment, `restoring` the changelog records to go by
    partition number.
    """

    def __init__(self, plan: TransformPlan, edges: TransformEdges) -> None:
        self._plan = plan
        self._edges = edges
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
        self._standstills = standstills = Standstills(edges.clock)
        self._group = Group(edges.consumer, edges.reader, self._merge, standstills, self._gained, self._gone)
        self._observer = Observer(
            plan, edges, self._partitions, self._merge, standstills, self._group.known, self.whereabouts
        )
        self._transactions = Transactions(
            edges.transaction,
            edges.clock,
            edges.meter,
            standstills,
            FloodGuard(plan.dead_letter_share_max),
            BATCH_RECORDS_MIN,
            plan.batch_records_max,
            self._throttled_s,
        )
        self._beginnings = Beginnings(
            plan.here, edges, self._partitions, self._merge, self._group, self._observer.unread
        )
        self._taking = Taking(
            plan, edges, self._partitions, self._merge, standstills, self._transactions, self.whereabouts.elsewhere
        )

    def start(self) -> None:
        self._edges.meter.misplaced(dict.fromkeys(self._plan.topics, 0))
        self._group.join(self._plan.topics)

    def turn(self) -> float:
        """One round. Returns for how long the next one may wait. Raises `Fatal` and `Unusable`; everything else is
        dealt with here."""
        at_once = self._hurries()
        self._taking.could_have_more = False
        polled = self._edges.consumer.poll(self._plan.batch_records_max, 0.0 if at_once else _POLL_S)
        self._merge.offer(polled.records, polled.at_end)
        self._beginnings.heard(polled.resets)
        if self._transactions.are_open(self._resync) and self._take_over() and self._standstills.may_take:
            batch = Batch(self._edges.clock.now_ms())
            try:
                self._taking.fill(batch, lambda number: self._an_offset_of(number) is not None)
            except StateCorrupt as corrupt:
                self._put_back(batch)
                self._wipe(corrupt)
            else:
                self._finish(batch)
        self._group.backpressure()
        if self._observer.is_due():
            self._edges.topology.check()
            self._beginnings.look_at_the_topics()
            self._taking.fit()
            self._observer.observe()
        return 0.0 if self._hurries() else self._transactions.rest_s()

    def _hurries(self) -> bool:
        """True if there are more records, or states, to take at once."""
        return self._taking.could_have_more or (self._standstills.is_time and bool(self._partitions.restoring))

    def stop(self) -> None:
        """Ends between two turns, when no transaction is open."""
        self._group.leave(self._edges.transaction.close, self._edges.reader.close, self._partitions.close)

    def _gained(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions.assigned(partitions)
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

    def _gone(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions.unassigned(partitions)
        self._merge.revoke({partition.partition for partition in partitions})
        self._group.forget(partitions)
        self._beginnings.let_go(partitions)
        for left in self._partitions.incomplete:
            self._edges.consumer.pause([left])
            self._late.add(left.partition)

    def _resync(self) -> None:
        """Drops all that is in memory and begins anew from what the group has committed. Raises `BrokerOutage`.

        The way out of every doubt: the committed offsets tell whether the last transaction counts, and the changelog
        tells what it did to the state.
        """
        numbers = sorted(self._merge.numbers)
        self._group.rewind(self._sources(numbers))
        self._partitions.begin_restore(sorted(self._partitions.held))
        self._beginnings.read_anew(numbers)
        log.warning("everything in memory was dropped and is read anew", partitions=numbers)

    def _take_over(self) -> bool:
        """Brings up new numbers. Returns false while the broker does not answer; nothing is taken then."""
        if Standstill.RESTORE in self._standstills and not self._standstills.is_time:
            return False
        try:
            late = sorted(self._late & self._partitions.whole)
            if late:
                self._group.rewind(self._sources(late))
                self._late.difference_update(late)
            gained = self._partitions.gained
            if gained:
                sources = self._sources(gained)
                self._edges.predecessors.end_transactions(sources)
                self._group.ask(sources)
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
        self._group.taken_over()
        return True

    def _sources(self, numbers: Sequence[int]) -> list[TopicPartition]:
        return [source for number in numbers for source in self._partitions.sources(number)]

    def _wipe(self, corrupt: StateCorrupt) -> None:
        assert corrupt.partition is not None, "a corrupt store of no partition"
        try:
            self._partitions.wipe(corrupt.partition.partition, corrupt)
        except BrokerOutage as outage:
            self._standstills.wait(Standstill.RESTORE, str(outage))

    def _finish(self, batch: Batch) -> None:
        """Writes what was decided if the flood guard agrees. If it refuses, nothing is written and the role stops."""
        for number in self._beginnings.unbooked.intersection(self._partitions.running):
            batch.touched[number] = self._partitions.held[number].state
        if not batch:
            # What came to nothing has gone to another worker, or there is no more of it.
            self._standstills.go_on(Standstill.ABORTED)
        elif self._transactions.is_flooded(batch.dead, batch.written.dead_letters):
            self._put_back(batch)
        else:
            self._write(batch)

    def _write(self, batch: Batch) -> None:
        """One transaction: outbox records, dead letters, changelog and consumed offsets, or none of them."""
        began_s = self._edges.clock.monotonic_s()
        for _, number in batch.consumed:
            batch.touched[number] = self._partitions.held[number].state
        offsets = self._consumed(batch)
        with self._transactions.one(partial(self._put_back, batch), batch.roll_back) as transaction:
            transaction.begin()
            for record in batch.outgoing:
                transaction.produce(record)
            for number, state in batch.touched.items():
                book = self._beginnings.book(number, offsets)
                transaction.produce_keyed(self._plan.changelog, number, state.changes(book))
            last = transaction.commit({where: Committed(at, self._plan.worker) for where, at in offsets.items()})
            self._committed(batch, last, offsets, self._edges.clock.monotonic_s() - began_s)

    def _consumed(self, batch: Batch) -> dict[TopicPartition, int]:
        """Returns the offsets to commit. A number that is only swept gets an offset that it has, one with a new book
        its beginning. The commit names this worker: a successor ends the transaction that a dead one left open."""
        offsets = self._beginnings.not_booked(batch.touched) | batch.next_offsets
        for number in batch.touched.keys() - {source.partition for source in offsets}:
            known = self._an_offset_of(number)
            assert known is not None, f"partition {number} was swept, and the group has no offset of it"
            offsets[known] = self._group.known[known]
        return offsets

    def _an_offset_of(self, number: int) -> TopicPartition | None:
        """Returns a source of this number of which the group has an offset. A group new to its changelog has none."""
        return next((source for source in self._partitions.sources(number) if source in self._group.known), None)

    def _committed(
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
        self._group.known.update(offsets)
        self._beginnings.unbooked.difference_update(batch.touched)
        self._transactions.written(batch.dead, grow=not self._observer.throttled() and took_s < _QUICK_S)
        self._edges.meter.written(batch.written)
        self.whereabouts.sample(batch.records, self._edges.clock.monotonic_s())
        self.whereabouts.unfound(batch.unfound)
        self._observer.say_astray(batch.astray)
        self._observer.say_letters(batch)

    def _put_back(self, batch: Batch) -> None:
        batch.roll_back()
        self._merge.put_back(batch.records)

    def _throttled_s(self) -> float:
        self._edges.topology.ask_soon()  # a transaction was aborted: a limit may have been lowered
        return self._observer.throttled()

    def unready(self) -> list[str]:
        """Returns why this role is not ready; empty if it is. May be called from any thread."""
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
        """Sources that are not simply read on from where their group left off. May be read by any thread."""
        return self._beginnings.notices

    @property
    def throttled_s(self) -> float:
        """Seconds for which brokers have made us wait, by their quota."""
        return self._observer.throttled_s
