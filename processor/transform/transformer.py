"""The transform role: orders.* → state → outbox, one transaction a batch.

    turn:  poll ─► merge ─► settle/restore ─► decide ─► guard ─► write ─► observe
                                                │                  │
                                   StateCorrupt: wipe, restore     ├─ TransactionAborted: roll back, put back, again
                                   RegistryOutage: put back, wait  └─ Fenced, OutcomeUnknown: open again, resync

Owned by the role's one thread. `turn` is the loop on one screen; `run` repeats it. What is in the same transaction as
the consumed offsets: outbox records, dead letters and one changelog record per order (`_write`).

Invariants:
- no transaction is open while the consumer is polled, so a rebalance never meets one;
- every transaction carries an offset, also one that only sweeps: that is how the broker knows a worker that the group
  has gone on without, and refuses it;
- nothing is written before the whole batch is decided and the flood guard has agreed;
- each transaction holds the book (`book.py`) of every partition number that it takes from; where a number is read from
  is decided by that and by the group's offsets, once its state is restored (`_begin`);
- a batch of which the outcome is unknown is never taken for either: everything in memory is dropped, the group is asked
  what it has committed, and the state is restored from the changelog (`_resync`).

Not chosen: overlapping a commit with the next batch (the commit is 3 % of a batch of 5,000; the state would need two
stages and the recovery two cases).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import structlog

from processor.errors import (
    BrokerOutage,
    Fenced,
    OutcomeUnknown,
    RegistryOutage,
    StateCorrupt,
    TransactionAborted,
)
from processor.interfaces import Clock, Committed, Consumer, Predecessors, Reader, SourceTopics, Stores, Transaction
from processor.letters.flood import FloodGuard
from processor.records import Position, TopicPartition
from processor.sources.merge import Input, Merge
from processor.sources.standing import SourceLag, SourceStatus, TransactionOutcome, Written, position, source_lag
from processor.transform import book as books
from processor.transform.batch import Batch, Decider, Plan
from processor.transform.book import Book, Correction, Here, Mark, Start, start_of
from processor.transform.meter import StateSize, TransformMeter
from processor.transform.partitions import Partitions
from processor.transform.whereabouts import Whereabouts
from processor.watch import Work

log = structlog.get_logger(__name__)

_POLL_S: Final = 0.05
"""The longest wait for records: with the commit it is what an event costs in latency at a quiet time."""
_OBSERVE_S: Final = 1.0
_SHOWN_MAX: Final = 10
"""Places in one line of the log."""
_SWEEP_ORDERS_MAX: Final = 500
"""Orders looked at for retention in one second, and parked ones let go: a sweep never delays records by much."""
_RETRY_S: Final = 1.0
"""The wait after an aborted transaction or an outage, in which the group is polled on."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes read and to be written after which a batch is full: whole snapshots of a large order, or records of some MB
each, would otherwise make a transaction of gigabytes, which takes longer than the broker lets one take."""
BATCH_RECORDS_MIN: Final = 1
"""A batch shrinks to this while its transactions come to nothing: what is too slow for the broker is tried smaller."""
_QUICK_S: Final = 1.0
"""A transaction that took longer than this is not followed by a larger one: the broker ends those of 4 s."""
_ABORTED_S: Final = 5.0
"""How long transactions must have come to nothing before the role is unready: one of them is a hiccup."""
_NOTICES_MAX: Final = 50
_SAY_AGAIN_S: Final = 10.0
_THROTTLED_S_MAX: Final = 30.0
"""The longest wait for a quota after a transaction that it brought to nothing: the brokers' window is 11 s."""


class Standstill(StrEnum):
    """Why nothing is taken at the moment, where there is a reason (`/readyz`)."""

    ASSIGNMENT = "no assignment yet"
    GATHERING = "partitions are here without all of their topics"
    RESTORE = "the changelog does not answer"
    TRANSACTION = "the transactional producer is not open"
    REGISTRY = "the schema registry does not answer"
    ABORTED = "the last transaction was aborted"
    FLOOD = "stopped by the flood guard"


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """What the loop is told. Topic names are whole, in the order in which equal timestamps are taken; each topic has
    `partitions`."""

    topics: tuple[str, ...]
    partitions: int
    changelog: str
    here: Here
    changelog_tombstones_ms: int
    worker: str
    batch_records_max: int
    merge_wait_s: float
    retention_ms: int
    dead_letter_share_max: float
    decide: Plan


@dataclass(frozen=True, slots=True)
class TransformEdges:
    """The outside, as the loop uses it; all of it belongs to the role's thread."""

    consumer: Consumer
    reader: Reader
    transaction: Transaction
    predecessors: Predecessors
    topology: SourceTopics
    stores: Stores
    clock: Clock
    meter: TransformMeter
    newest_book: Callable[[int], Book | None]
    """Of a changelog partition, read from its end; raises `BrokerOutage`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something out of the ordinary at a source partition, as `/status` shows it: from where it is read since `at`
    (epoch ms), how many offsets are missed, and why (`Correction`)."""

    at: int
    topic: str
    partition: int
    offset: int
    missed: int
    why: str


class Transformer:
    """The loop. `turn` is called by one thread; `standstills` and `status` may be read from others (they are replaced
    whole, never changed).

    Mutable: `_standstills` why nothing is taken and since when, `_opened` whether the transactional ID is ours,
    `_in_doubt` whether everything in memory has to be dropped before the next batch, `_late` the numbers whose topics
    did not come in one assignment, `_joined` whether the group has given us an assignment, `_committed` the next
    offsets that the group has of ours, `_records_max` how many records the next batch may have, `_hungry` whether it
    could have had more, `_not_before_s` when it may be tried, `_sweep_from` where the retention sweep goes on,
    `_unreadable` numbers that wait for a schema, `_gone_without` those of which it was said that a topic is given up,
    `_to_begin` numbers of which is to be decided where their sources are read from, `_starts` what was decided, with
    the topics' identities then (`_identities`), `_unbooked` numbers whose book does not say so yet, `_resets` sources
    whose next offset was not there any more, `_limits` what the topics that are written to take, `_kept_s`
    how long the sources keep a record.
    """

    def __init__(self, plan: TransformPlan, edges: TransformEdges) -> None:
        self._plan = plan
        self._edges = edges
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
        self._to_begin: set[int] = set()
        self._starts: dict[TopicPartition, int] = {}
        self._identities: dict[TopicPartition, str] = {}
        self._unbooked: set[int] = set()
        self._resets: dict[TopicPartition, int] = {}
        self._limits: tuple[int, int, int] | None = None
        self._kept_s: Mapping[str, float | None] = {}
        self._notices: deque[Notice] = deque(maxlen=_NOTICES_MAX)
        self.notices: tuple[Notice, ...] = ()
        self.throttled_s = 0.0
        """For how long brokers have made us wait, by a quota of theirs."""
        self._throttle_said_s = -_SAY_AGAIN_S
        self.whereabouts = Whereabouts(plan.topics, plan.partitions)
        self._decider = Decider(plan.decide, self.whereabouts.elsewhere)
        self._guard = FloodGuard(plan.dead_letter_share_max)
        self._opened = False
        self._hungry = False
        self._records_max = plan.batch_records_max
        self._unreadable: set[int] = set()
        self._gone_without: set[int] = set()
        self._in_doubt = False
        self._joined = False
        self._late: set[int] = set()
        self._not_before_s = 0.0
        self._sweep_at_s = 0.0
        self._observe_at_s = 0.0
        self._sweep_from: dict[int, bytes] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._standstills: dict[Standstill, tuple[str, int]] = {}
        self.standstills: dict[Standstill, tuple[str, int]] = {}
        self.status: tuple[SourceStatus, ...] = ()
        self.restoring: dict[int, int] = {}
        self.work: dict[int, Work] = {}
        """By partition number, what is to be done and what was: a watch sees progress by it."""

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._stand(Standstill.ASSIGNMENT, "waiting for the group to assign partitions")
        self._edges.meter.misplaced(dict.fromkeys(self._plan.topics, 0))
        self._edges.consumer.subscribe(self._plan.topics, self)

    def turn(self) -> None:
        """One round. Raises `Fatal` and `Unusable`; everything else is dealt with here."""
        at_once = self._hungry or (self._opened and bool(self._partitions.restoring))
        self._hungry = False
        polled = self._edges.consumer.poll(self._plan.batch_records_max, 0.0 if at_once else _POLL_S)
        self._merge.offer(polled.records, polled.at_end)
        self._resets.update(polled.resets)
        if self._merge.went_back:
            self._to_begin.update(source.partition for source in self._merge.went_back)
        if self._open() and self._settle() and self._may_take():
            batch = Batch()
            try:
                self._decide(batch)
            except StateCorrupt as corrupt:
                self._put_back(batch)
                self._wipe(corrupt)
            else:
                self._finish(batch)
        self._backpressure()
        self._observe()

    def stop(self) -> None:
        """Ends between two turns: nothing is in flight, so there is nothing to wait for. The group is left first, so
        that others take over while the rest is closed, and the rest is closed whatever that raises."""
        with ExitStack() as closing:
            closing.callback(self._partitions.close)
            closing.callback(self._edges.reader.close)
            closing.callback(self._edges.transaction.close)
            self._edges.consumer.close()

    # ---- the assignment: facts inside a poll ---------------------------------------------------------------------

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        log.info("assigned", partitions=_named(partitions))
        self._partitions.assigned(partitions)
        self._joined = True
        if partitions:
            # Until `_settle` has seen to them: a probe may ask in between, and they are not restored yet.
            self._stand(Standstill.ASSIGNMENT, "partitions are being taken over")
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
        self._stand(Standstill.ASSIGNMENT, "the group has gone on without this worker, which joins it again")

    def _give_up(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions.unassigned(partitions)
        self._merge.revoke({partition.partition for partition in partitions})
        for partition in partitions:
            for known in (self._committed, self._starts, self._identities, self._resets):
                known.pop(partition, None)
            self._to_begin.discard(partition.partition)
            self._unbooked.discard(partition.partition)
        for left in self._partitions.incomplete:
            self._edges.consumer.pause([left])
            self._late.add(left.partition)

    # ---- between polls: open, settle, restore --------------------------------------------------------------------

    def _open(self) -> bool:
        """Whether the transactional ID is ours and nothing is in doubt; sees to both where it is not so."""
        if self._opened and not self._in_doubt:
            return True
        if self._edges.clock.monotonic_s() < self._not_before_s:
            return False
        if not self._opened:
            try:
                self._edges.transaction.open()
            except (BrokerOutage, Fenced) as outage:
                self._wait(Standstill.TRANSACTION, str(outage))
                return False
            self._opened = True
        if self._in_doubt and not self._resync():
            return False
        self._go_on(Standstill.TRANSACTION)
        return True

    def _resync(self) -> bool:
        """Drops all that is in memory and begins anew from what the group has committed.

        The way out of every doubt: whether the last transaction counts is answered by the committed offsets, what it
        did to the state by the changelog.
        """
        numbers = sorted(self._merge.numbers)
        try:
            self._rewind(numbers)
            self._partitions.begin_restore(sorted(self._partitions.held))
        except BrokerOutage as outage:
            self._wait(Standstill.TRANSACTION, str(outage))
            return False
        self._in_doubt = False
        log.warning("everything in memory was dropped and is read anew", partitions=numbers)
        return True

    def _rewind(self, numbers: Sequence[int]) -> None:
        """The next records of these numbers are those after the group's committed offsets. Raises `BrokerOutage`, and
        may be called again then."""
        sources = [source for number in numbers for source in self._partitions.sources(number)]
        if not sources:
            return
        self._ask_committed(sources)
        beginnings = self._edges.reader.beginnings(sources)
        starts = [Position(*source, self._committed.get(source, beginnings[source])) for source in sources]
        self._edges.consumer.seek(starts)
        # Whatever was paused: the merge begins anew and knows of no pause, so nobody else would end it.
        self._edges.consumer.resume(sources)
        self._merge.assign(sources)

    def _ask_committed(self, sources: Sequence[TopicPartition]) -> None:
        """What the group has committed, once no transaction is open on top of it. Raises `BrokerOutage`."""
        for source, committed in self._edges.consumer.committed(sources).items():
            if committed.next_offset is None:
                self._committed.pop(source, None)
            else:
                self._committed[source] = committed.next_offset

    def _settle(self) -> bool:
        """Brings new partition numbers up. False while the broker does not answer; others are not taken either then."""
        if Standstill.RESTORE in self._standstills and self._edges.clock.monotonic_s() < self._not_before_s:
            return False
        try:
            late = sorted(self._late & self._partitions.whole)
            if late:
                self._rewind(late)
                self._late.difference_update(late)
            gained = self._partitions.gained
            if gained:
                sources = [source for number in gained for source in self._partitions.sources(number)]
                self._edges.predecessors.end_transactions(sources)
                self._ask_committed(sources)
            self._partitions.settle(gained)
            self._partitions.restore()
            running = self._partitions.running
            # By what is known of them, not by what `restore` returned: one corrupt store raises past the others' names.
            self._to_begin.update(number for number in running if not self._has_begun(number))
            self._begin(sorted(self._to_begin.intersection(running)))
            self._count_overtaken()
            self.restoring = {n: self._partitions.held[n].restore_remaining for n in self._partitions.restoring}
        except StateCorrupt as corrupt:
            self._wipe(corrupt)
            return False
        except BrokerOutage as outage:
            self._wait(Standstill.RESTORE, str(outage))
            return False
        self._go_on(Standstill.RESTORE)
        if self._joined:
            self._go_on(Standstill.ASSIGNMENT)
        return True

    # ---- where sources are read from ---------------------------------------------------------------------------------

    def _begin(self, numbers: Sequence[int]) -> None:
        """Decides where these numbers are read from, by their books and the group's offsets, and reads from there where
        the group would not. Raises `BrokerOutage`: then nothing has happened, and it is to be called again."""
        if not numbers:
            return
        sources = [source for number in numbers for source in self._partitions.sources(number)]
        self._edges.topology.refresh()
        identities = self._edges.topology.identities
        beginnings, ends = self._edges.reader.beginnings(sources), self._edges.reader.ends(sources)
        for number in numbers:
            book = self._partitions.held[number].state.book
            starts: dict[TopicPartition, Start] = {}
            for source in self._partitions.sources(number):
                starts[source] = start_of(
                    None if book is None else book.marks.get(source.topic),
                    self._committed.get(source),
                    identities[source.topic],
                    beginnings[source],
                    ends[source],
                    same_cluster=book is None or book.cluster == self._plan.here.cluster,
                )
            again = not self._merge.went_back.isdisjoint(starts) or any(
                start.offset != self._committed.get(source, beginnings[source]) for source, start in starts.items()
            )
            if again:
                self._edges.consumer.seek([Position(*source, start.offset) for source, start in starts.items()])
                self._edges.consumer.resume(starts)
                self._merge.assign(starts)
            for source, start in starts.items():
                self._take_note(source, self._with_what_was_here(source, start))
                self._starts[source] = start.offset
                self._identities[source] = identities[source.topic]
                self._resets.pop(source, None)
            self._to_begin.discard(number)
            offsets = {source: start.offset for source, start in starts.items()}
            stands = all(self._committed.get(source) == offset for source, offset in offsets.items())
            if not stands or self._book(number, offsets) != book:
                self._unbooked.add(number)

    def _has_begun(self, number: int) -> bool:
        return all(source in self._identities for source in self._partitions.sources(number))

    def _with_what_was_here(self, source: TopicPartition, start: Start) -> Start:
        """A topic that was made again while this worker ran takes with it what was known to be unfinished."""
        if Correction.MADE_AGAIN not in start.corrections or source not in self._identities:
            return start
        left = next((one.lag for one in self.status if (one.topic, one.partition) == source), 0)
        return start._replace(missed=start.missed + left)

    def _count_overtaken(self) -> None:
        """What the broker had deleted before a source that is being read got there. Raises `BrokerOutage`."""
        known = {source: at for source, at in self._resets.items() if source in self._starts}
        if known:
            for source, beginning in self._edges.reader.beginnings(list(known)).items():
                missed = beginning - max(known[source], self._starts[source])
                if missed > 0:
                    self._take_note(source, Start(beginning, missed, (Correction.OVERTAKEN,)))
                    self._starts[source] = beginning
        self._resets.clear()

    def _take_note(self, source: TopicPartition, start: Start) -> None:
        """Says, counts and shows what is out of the ordinary."""
        if not start.corrections:
            return
        self._edges.meter.started(*source, start)
        why = ", ".join(start.corrections)
        facts = {"topic": source.topic, "partition": source.partition, "offset": start.offset, "why": why}
        if start.missed:
            log.error("records are gone that were never taken", missed=start.missed, **facts)
        else:
            log.warning("a source is not read on from the group's offset", **facts)
        self._notices.append(Notice(self._edges.clock.now_ms(), *source, start.offset, start.missed, why))
        self.notices = tuple(self._notices)

    def _book(self, number: int, offsets: Mapping[TopicPartition, int]) -> Book:
        """The book of a number once these offsets are committed."""
        known = self._partitions.held[number].state.book
        here = self._plan.here
        marks = {
            source.topic: Mark(
                self._identities[source],
                offsets.get(source, self._committed.get(source, self._starts[source])),
            )
            for source in self._partitions.sources(number)
        }
        begun = books.new_book(here) if known is None else known
        return Book(
            begun.format, here.cluster, here.changelog, here.partitions, begun.whole_from, begun.decided_ms, marks
        )

    # ---- decide ------------------------------------------------------------------------------------------------------

    def _may_take(self) -> bool:
        return self._edges.clock.monotonic_s() >= self._not_before_s and Standstill.FLOOD not in self._standstills

    def _decide(self, batch: Batch) -> None:
        """Fills the batch with what the next transaction writes. Leaves it empty where there is nothing to do. Raises
        `StateCorrupt` with the partition, the batch then holding what was decided before it."""
        now_s = self._edges.clock.monotonic_s()
        now_ms = self._edges.clock.now_ms()
        running = self._partitions.running
        try:
            self._take_fairly(running, batch, now_s, now_ms)
        except RegistryOutage as outage:
            self._wait(Standstill.REGISTRY, str(outage))
        else:
            self._go_on(Standstill.REGISTRY)
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + _OBSERVE_S
            for number in running:
                if self._an_offset_of(number) is not None:
                    self._sweep(number, batch, now_ms)
        for number in self._unbooked.intersection(running):
            batch.touched[number] = self._partitions.held[number].state

    def _take_fairly(self, running: Sequence[int], batch: Batch, now_s: float, now_ms: int) -> None:
        """Fair shares first, so that a partition with a backlog does not starve the others; then what is left over."""
        share = max(1, self._records_max // max(1, len(running)))
        # One that waits for a schema comes last: asking in vain takes seconds, and the others need not wait for it.
        numbers = sorted(running, key=lambda number: number in self._unreadable)
        for limit in (share, self._records_max):
            for number in numbers:
                try:
                    self._take(number, min(limit, self._records_max - len(batch.records)), batch, now_s, now_ms)
                except RegistryOutage:
                    self._unreadable.add(number)
                    raise
        self._unreadable.clear()
        self._hungry = len(batch.records) >= self._records_max or batch.bytes >= BATCH_BYTES_MAX

    def _take(self, number: int, room: int, batch: Batch, now_s: float, now_ms: int) -> None:
        """Decides up to `room` records of one number. What it raises leaves the rest where it was."""
        if room <= 0 or batch.bytes >= BATCH_BYTES_MAX:
            return
        state = self._partitions.held[number].state
        records = self._merge.take(number, room, now_s)
        taken = 0
        try:
            for record in records:
                self._decider.take(record, state, batch, now_ms)
                taken += 1
                if batch.bytes >= BATCH_BYTES_MAX:
                    break
        except StateCorrupt as corrupt:
            raise StateCorrupt(str(corrupt), TopicPartition(self._plan.changelog, number)) from corrupt
        finally:
            self._merge.put_back(records[taken:])

    def _sweep(self, number: int, batch: Batch, now_ms: int) -> None:
        """Lets go of events that have been parked for too long, and of orders whose retention is over."""
        state = self._partitions.held[number].state
        parked_before_ms = now_ms - self._plan.decide.rules.park_for_ms
        overdue = [order_id for order_id, parked in state.parked.items() if parked.since_ms < parked_before_ms]
        try:
            for order_id in overdue[:_SWEEP_ORDERS_MAX]:
                self._decider.expire(order_id, state, batch, now_ms)
            stale, self._sweep_from[number] = state.stale(
                now_ms - self._plan.retention_ms, self._sweep_from.get(number, b""), _SWEEP_ORDERS_MAX
            )
        except StateCorrupt as corrupt:
            raise StateCorrupt(str(corrupt), TopicPartition(self._plan.changelog, number)) from corrupt
        for order_id in stale:
            self._decider.forget(order_id, state, batch)

    def _wipe(self, corrupt: StateCorrupt) -> None:
        assert corrupt.partition is not None, "a corrupt store of no partition"
        try:
            self._partitions.wipe(corrupt.partition.partition, corrupt)
        except BrokerOutage as outage:
            self._wait(Standstill.RESTORE, str(outage))

    def _finish(self, batch: Batch) -> None:
        """Writes what was decided, if the flood guard agrees; where it refuses, nothing is, and the role stops."""
        if not batch:
            # Whatever came to nothing has gone to another worker, or there is no more of it.
            self._go_on(Standstill.ABORTED)
            return
        share = self._guard.flooded_by(batch.dead) if any(batch.dead) else None
        if share is None:
            self._write(batch)
            return
        self._put_back(batch)
        self._stand(
            Standstill.FLOOD,
            f"{share:.0%} of the last 1,000 records would be dead letters, mostly "
            f"{', '.join(f'{key[2]} of {key[0]} ({n})' for key, n in batch.dead_letters.most_common(3))}; "
            "find out what changed, then restart",
        )
        self._edges.meter.flooded()
        log.error("flood guard stopped the role, nothing was written", share=share)

    # ---- write -------------------------------------------------------------------------------------------------------

    def _write(self, batch: Batch) -> None:
        """One transaction: outbox records, dead letters, changelog and consumed offsets, or none of them."""
        transaction = self._edges.transaction
        started_s = self._edges.clock.monotonic_s()
        for _, number in batch.consumed:
            batch.touched[number] = self._partitions.held[number].state
        offsets = self._offsets(batch)
        try:
            transaction.begin()
            for record in batch.outgoing:
                transaction.produce(record)
            for number, state in batch.touched.items():
                transaction.produce_keyed(self._plan.changelog, number, state.changes(self._book(number, offsets)))
            last = transaction.commit({where: Committed(at, self._plan.worker) for where, at in offsets.items()})
        except TransactionAborted as aborted:
            self._observed(TransactionOutcome.ABORTED, started_s)
            self._edges.topology.ask_soon()  # a limit may have been lowered
            self._shrink()
            self._put_back(batch)
            held_s = self._look_at_the_quota()
            why = f"{aborted}; the brokers throttle this client by a quota of theirs" if held_s else str(aborted)
            self._wait(Standstill.ABORTED, why)
            self._not_before_s += min(held_s, _THROTTLED_S_MAX)
        except BrokerOutage as outage:  # out of `begin`: there is no transaction
            self._put_back(batch)
            self._wait(Standstill.ABORTED, str(outage))
        except Fenced as fenced:
            unknown = isinstance(fenced, OutcomeUnknown)
            self._observed(TransactionOutcome.UNKNOWN if unknown else TransactionOutcome.FENCED, started_s)
            self._shrink()
            self._drop(batch)
            self._opened, self._in_doubt = False, True
            self._wait(Standstill.TRANSACTION, str(fenced))
        else:
            self._committed_batch(batch, last, offsets, self._edges.clock.monotonic_s() - started_s)
            self._observed(TransactionOutcome.COMMITTED, started_s)

    def _offsets(self, batch: Batch) -> dict[TopicPartition, int]:
        """What is consumed with this batch, of numbers that are only swept an offset that they have already, and of
        those whose book is new where they begin. It goes with the worker's name: a successor knows whose transaction a
        dead worker may have left open."""
        offsets = dict(batch.next_offsets)
        for number in self._unbooked.intersection(batch.touched):
            for source in self._partitions.sources(number):
                offsets.setdefault(source, self._starts[source])
        for number in batch.touched.keys() - {source.partition for source in offsets}:
            known = self._an_offset_of(number)
            assert known is not None, f"partition {number} was swept, and the group has no offset of it"
            offsets[known] = self._committed[known]
        return offsets

    def _an_offset_of(self, number: int) -> TopicPartition | None:
        """A source of this number of which the group has an offset. A group new to its changelog has none yet."""
        return next((source for source in self._partitions.sources(number) if source in self._committed), None)

    def _shrink(self) -> None:
        """A transaction that takes longer than the broker lets it would be tried again, as large, for ever."""
        self._records_max = max(min(BATCH_RECORDS_MIN, self._plan.batch_records_max), self._records_max // 2)

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
        self._committed.update(offsets)
        self._unbooked.difference_update(batch.touched)
        if not self._look_at_the_quota() and took_s < _QUICK_S:
            self._records_max = min(self._plan.batch_records_max, self._records_max * 2)
        self._guard.written(batch.dead)
        self._edges.meter.written(batch.written())
        self.whereabouts.sample(batch.records, self._edges.clock.monotonic_s())
        self.whereabouts.unfound(batch.unfound)
        self._say_astray(batch.astray)
        self._go_on(Standstill.ABORTED)

    def _look_at_the_quota(self) -> float:
        """For how long brokers have just made us wait, by a quota of theirs; said at most every ten seconds."""
        held_s = self._edges.transaction.throttled()
        if held_s:
            self._edges.meter.throttled(held_s)
            self.throttled_s += held_s
            now_s = self._edges.clock.monotonic_s()
            if now_s >= self._throttle_said_s + _SAY_AGAIN_S:
                self._throttle_said_s = now_s
                log.warning("the brokers throttle our producer, by a quota of theirs", seconds=round(held_s, 1))
        return held_s

    def _put_back(self, batch: Batch) -> None:
        self._drop(batch)
        self._merge.put_back(batch.records)

    def _drop(self, batch: Batch) -> None:
        for state in batch.touched.values():
            state.rollback()

    # ---- what others see -------------------------------------------------------------------------------------------

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
        return self.work, bool(self.standstills.keys() - {Standstill.GATHERING})

    def _stand(self, standstill: Standstill, why: str) -> None:
        known = self._standstills.get(standstill)
        if known is None:
            level = log.info if standstill is Standstill.ASSIGNMENT else log.warning
            level("standing still", what=standstill.value, why=why)
        since = self._edges.clock.now_ms() if known is None else known[1]
        self._standstills[standstill] = (f"{standstill.value}: {why}", since)
        self.standstills = dict(self._standstills)

    def _wait(self, standstill: Standstill, why: str) -> None:
        self._stand(standstill, why)
        self._not_before_s = self._edges.clock.monotonic_s() + _RETRY_S

    def _go_on(self, standstill: Standstill) -> None:
        if standstill in self._standstills:
            log.info("going on", after=standstill.value)
            del self._standstills[standstill]
            self.standstills = dict(self._standstills)

    def _backpressure(self) -> None:
        if full := self._merge.to_pause():
            self._edges.consumer.pause(full)
        if roomy := self._merge.to_resume():
            self._edges.consumer.resume(roomy)

    def _observed(self, outcome: TransactionOutcome, started_s: float) -> None:
        self._edges.meter.transaction(outcome, self._edges.clock.monotonic_s() - started_s)

    def _observe(self) -> None:
        """Once a second: lag, state and status, as of now."""
        now_s = self._edges.clock.monotonic_s()
        if now_s < self._observe_at_s:
            return
        self._observe_at_s = now_s + _OBSERVE_S
        self._edges.topology.check()
        self._look_at_the_topics()
        self._say_what_is_missing()
        now_ms = self._edges.clock.now_ms()
        inputs = [one for number in self._merge.numbers for one in self._merge.inputs(number)]
        behind = [one.partition for one in inputs if not one.at_end]
        ends = self._edges.consumer.ends(behind) if behind else {}
        lags = [source_lag(one, self._committed, ends, now_ms, self._kept_s.get(one.partition.topic)) for one in inputs]
        self._edges.meter.lag(lags)
        held = self._partitions.held
        self._edges.meter.state(
            [
                StateSize(number, one.state.orders, events, one.restore_remaining, parked_s)
                for number, one in held.items()
                for events, parked_s in [one.state.parked_summary(now_ms)]
            ]
        )
        self._edges.meter.misplaced(self.whereabouts.judge(now_s))
        if astray := self.whereabouts.astray():
            self._edges.meter.written(Written({}, {}, {}, {}, Counter(one.topic for one in astray)))
            self._say_astray(astray)
        self.work = {number: self._work(number, lags) for number in self._merge.numbers}
        self.status = tuple(
            SourceStatus(
                lag.topic,
                lag.partition,
                position(one, self._committed),
                self._committed.get(one.partition),
                lag.records,
                *self._blocked(one, lag, now_s, now_ms),
            )
            for one, lag in zip(inputs, lags, strict=True)
        )

    def _say_astray(self, erasures: Sequence[Position]) -> None:
        if erasures:
            places = [str(one) for one in erasures[:_SHOWN_MAX]]
            log.error("erasures found no order where their keys put it", erasures=len(erasures), records=places)

    def _look_at_the_topics(self) -> None:
        """A source that is another one by now is begun anew; what is written is as large as topics take it."""
        identities = self._edges.topology.identities
        for source, known in self._identities.items():
            if identities[source.topic] != known:
                self._to_begin.add(source.partition)
        limits = self._edges.topology.limits
        self._kept_s = {topic: limits[topic].retention_s for topic in self._plan.topics}
        decide = self._plan.decide
        takes = tuple(
            min(limits[topic].message_bytes_max, self._edges.transaction.record_bytes_max)
            for topic in (decide.outbox, self._plan.changelog, decide.dead_letters)
        )
        if self._limits is not None and takes == self._limits:
            return
        outbox, state, letter = takes
        if self._limits is not None:
            log.warning("topics take other sizes by now", outbox=outbox, changelog=state, dead_letters=letter)
        self._limits = (outbox, state, letter)
        self._edges.transaction.fit(min(takes))
        self._decider = Decider(
            replace(decide, entry_bytes_max=outbox, state_bytes_max=state, letter_bytes_max=letter),
            self.whereabouts.elsewhere,
        )

    def _say_what_is_missing(self) -> None:
        """Numbers that are not whole, and numbers that go on without a topic: neither shows by itself."""
        gathering = self._partitions.gathering
        if gathering:
            self._stand(Standstill.GATHERING, f"partitions {gathering}")
        else:
            self._go_on(Standstill.GATHERING)
        for number in self._merge.given_up - self._gone_without:
            topics = [partition.topic for partition in self._merge.lagging(number)[0]]
            log.warning("going on without a topic that has more at the broker", partition=number, topics=topics)
        self._gone_without = set(self._merge.given_up)

    def _work(self, number: int, lags: Sequence[SourceLag]) -> Work:
        held = self._partitions.held.get(number)
        done = sum(self._committed.get(source, 0) for source in self._partitions.sources(number))
        return Work(
            lag=sum(lag.records for lag in lags if lag.partition == number),
            done=done + (held.restore_position if held is not None else 0),
        )

    def _blocked(self, one: Input, lag: SourceLag, now_s: float, now_ms: int) -> tuple[str | None, int | None]:
        """What this partition waits for, and since when (epoch ms)."""
        if not lag.records:
            return None, None
        for text, since_ms in self._standstills.values():
            return text, since_ms
        number = one.partition.partition
        if number in self.restoring:
            return f"restore: {self.restoring[number]} changelog records to go", None
        lagging, since_s = self._merge.lagging(number)
        if lagging:
            topics = ", ".join(partition.topic for partition in lagging)
            return f"merge: {topics} has more at the broker", now_ms - round((now_s - since_s) * 1000)
        return None, None


def _named(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{partition.topic}/{partition.partition}" for partition in sorted(partitions)]
