"""taking: which records the next transaction takes, and which parked events and old orders go with them.

    merge ─► fair shares of each number, then what is left over ─► decide (batch.py) ─► the batch
    state ─► events parked for too long, orders past their retention ──────────────────────┘

Owned by the transform thread. Nothing is written here. A record that cannot be decided now stays in the merge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from processor.errors import RegistryOutage, StateCorrupt
from processor.records import TopicPartition
from processor.sources.loop import Transactions
from processor.sources.merge import Merge
from processor.sources.standstill import Standstill, Standstills
from processor.transform.batch import Batch, Decider, Elsewhere
from processor.transform.partitions import Partitions
from processor.transform.plan import TransformEdges, TransformPlan

log = structlog.get_logger(__name__)

_SWEEP_S: Final = 1.0
_SWEEP_ORDERS_MAX: Final = 500
"""The most orders that one sweep looks at, for retention and for parking: it never delays records by much."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes read and to be written after which a batch is full. Whole snapshots of a large order, or records of some MB
each, would otherwise make a transaction of gigabytes, which takes longer than the broker allows."""
BATCH_RECORDS_MIN: Final = 1
"""The least that a batch shrinks to while its transactions come to nothing: the broker may be too slow for it."""


@dataclass(eq=False)
class Taking:
    """Fills batches.

    Mutable: `could_have_more` is true if the last batch could have had more, `_unreadable` are the numbers that wait
    for a schema, `_sweep_at_s` is when the next sweep is, `_sweep_from` where it goes on; `_decider` has the sizes that
    topics take by now (`_limits`).
    """

    _plan: TransformPlan
    _edges: TransformEdges
    _partitions: Partitions
    _merge: Merge
    _standstills: Standstills
    _transactions: Transactions
    _elsewhere: Elsewhere
    _limits: tuple[int, int, int] | None = None
    could_have_more: bool = False
    _unreadable: set[int] = field(default_factory=set)
    _sweep_at_s: float = 0.0
    _sweep_from: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._decider = Decider(self._plan.decide, self._elsewhere)

    def fill(self, batch: Batch, may_sweep: Callable[[int], bool]) -> None:
        """Fills the batch with what the next transaction writes; leaves it empty if there is nothing to do. Raises
        `StateCorrupt` with the partition; the batch then has what was decided before."""
        now_s = self._edges.clock.monotonic_s()
        running = self._partitions.running
        try:
            self._take_fairly(running, batch, now_s)
        except RegistryOutage as outage:
            self._standstills.wait(Standstill.REGISTRY, str(outage))
        else:
            self._standstills.go_on(Standstill.REGISTRY)
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + _SWEEP_S
            for number in running:
                if may_sweep(number):
                    self._sweep(number, batch)

    def fit(self) -> None:
        """Follows the sizes that topics take by now."""
        limits = self._edges.topology.limits
        decide = self._plan.decide
        outbox, state, letter = (
            min(limits[topic], self._edges.transaction.record_bytes_max)
            for topic in (decide.outbox, self._plan.changelog, decide.dead_letters)
        )
        if self._limits == (outbox, state, letter):
            return
        if self._limits is not None:
            log.warning("topics take other sizes by now", outbox=outbox, changelog=state, dead_letters=letter)
        self._limits = (outbox, state, letter)
        self._edges.transaction.fit(min(outbox, state, letter))
        self._decider = Decider(
            replace(decide, entry_bytes_max=outbox, state_bytes_max=state, letter_bytes_max=letter), self._elsewhere
        )

    def _take_fairly(self, running: Sequence[int], batch: Batch, now_s: float) -> None:
        """Takes fair shares first, so that a partition with a backlog does not starve the others; then the rest."""
        records_max = self._transactions.records_max
        share = max(1, records_max // max(1, len(running)))
        # A number that waits for a schema comes last: asking in vain takes seconds, and the others need not wait.
        numbers = sorted(running, key=lambda number: number in self._unreadable)
        for limit in (share, records_max):
            for number in numbers:
                try:
                    self._take(number, min(limit, records_max - len(batch.records)), batch, now_s)
                except RegistryOutage:
                    self._unreadable.add(number)
                    raise
        self._unreadable.clear()
        self.could_have_more = len(batch.records) >= records_max or batch.bytes >= BATCH_BYTES_MAX

    def _take(self, number: int, room: int, batch: Batch, now_s: float) -> None:
        """Decides up to `room` records of one number. After an error the rest stays in the merge."""
        if room <= 0 or batch.bytes >= BATCH_BYTES_MAX:
            return
        state = self._partitions.held[number].state
        records = self._merge.take(number, room, now_s)
        taken = 0
        try:
            for record in records:
                self._decider.take(record, state, batch)
                taken += 1
                if batch.bytes >= BATCH_BYTES_MAX:
                    break
        except StateCorrupt as corrupt:
            raise StateCorrupt(str(corrupt), TopicPartition(self._plan.changelog, number)) from corrupt
        finally:
            self._merge.put_back(records[taken:])

    def _sweep(self, number: int, batch: Batch) -> None:
        """Refuses events that have been parked for too long, and removes orders whose retention is over."""
        state = self._partitions.held[number].state
        parked_before_ms = batch.now_ms - self._plan.decide.rules.park_for_ms
        overdue = [order_id for order_id, parked in state.parked.items() if parked.since_ms < parked_before_ms]
        try:
            for order_id in overdue[:_SWEEP_ORDERS_MAX]:
                self._decider.expire(order_id, state, batch)
            stale, self._sweep_from[number] = state.stale(
                batch.now_ms - self._plan.retention_ms, self._sweep_from.get(number, b""), _SWEEP_ORDERS_MAX
            )
        except StateCorrupt as corrupt:
            raise StateCorrupt(str(corrupt), TopicPartition(self._plan.changelog, number)) from corrupt
        for order_id in stale:
            self._decider.forget(order_id, state, batch)
