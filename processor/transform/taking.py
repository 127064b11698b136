"""taking: which records the next transaction takes, and what is let go of beside them.

    merge ─► fair shares of each number, then what is left over ─► decide (batch.py) ─► the batch
    state ─► events parked for too long, orders past their retention ──────────────────────┘

Owned by the transform thread. Nothing is written here, and what is not decided stays in the merge: a registry that does
not answer, or a state that cannot be read, leaves every record where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from processor.errors import RegistryOutage, StateCorrupt
from processor.records import TopicPartition
from processor.sources.merge import Merge
from processor.sources.standstill import Standstills
from processor.transform.batch import Batch, Decider, Elsewhere
from processor.transform.partitions import Partitions
from processor.transform.plan import Standstill, TransformEdges, TransformPlan

log = structlog.get_logger(__name__)

_SWEEP_S: Final = 1.0
_SWEEP_ORDERS_MAX: Final = 500
"""Orders looked at for retention in one second, and parked ones let go: a sweep never delays records by much."""
BATCH_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes read and to be written after which a batch is full: whole snapshots of a large order, or records of some MB
each, would otherwise make a transaction of gigabytes, which takes longer than the broker lets one take."""
BATCH_RECORDS_MIN: Final = 1
"""A batch shrinks to this while its transactions come to nothing: what is too slow for the broker is tried smaller."""


class Taking:
    """Fills batches.

    Mutable: `_records_max` how many records the next batch may have, `_could_have_more` whether the last one could have
    had more, `_unreadable` numbers that wait for a schema, `_sweep_at_s` when the next sweep is and `_sweep_from` where
    it goes on, `_decider` with what topics take by now (`_limits`).
    """

    def __init__(
        self,
        plan: TransformPlan,
        edges: TransformEdges,
        partitions: Partitions,
        merge: Merge,
        standstills: Standstills[Standstill],
        elsewhere: Elsewhere,
    ) -> None:
        self._plan = plan
        self._edges = edges
        self._partitions = partitions
        self._merge = merge
        self._standstills = standstills
        self._elsewhere = elsewhere
        self._decider = Decider(plan.decide, elsewhere)
        self._limits: tuple[int, int, int] | None = None
        self._records_max = plan.batch_records_max
        self._could_have_more = False
        self._unreadable: set[int] = set()
        self._sweep_at_s = 0.0
        self._sweep_from: dict[int, bytes] = {}

    def fill(self, batch: Batch, may_sweep: Callable[[int], bool]) -> None:
        """Fills the batch with what the next transaction writes. Leaves it empty where there is nothing to do. Raises
        `StateCorrupt` with the partition, the batch then holding what was decided before it."""
        now_s = self._edges.clock.monotonic_s()
        now_ms = self._edges.clock.now_ms()
        running = self._partitions.running
        try:
            self._take_fairly(running, batch, now_s, now_ms)
        except RegistryOutage as outage:
            self._standstills.wait(Standstill.REGISTRY, str(outage))
        else:
            self._standstills.go_on(Standstill.REGISTRY)
        if now_s >= self._sweep_at_s:
            self._sweep_at_s = now_s + _SWEEP_S
            for number in running:
                if may_sweep(number):
                    self._sweep(number, batch, now_ms)

    def asks_for_more(self) -> bool:
        """Whether the last batch could have had more records; true once."""
        asked, self._could_have_more = self._could_have_more, False
        return asked

    def shrink(self) -> None:
        """A transaction that takes longer than the broker lets it would be tried again, as large, for ever."""
        self._records_max = max(min(BATCH_RECORDS_MIN, self._plan.batch_records_max), self._records_max // 2)

    def grow(self) -> None:
        self._records_max = min(self._plan.batch_records_max, self._records_max * 2)

    def fit(self) -> None:
        """What is written is as large as topics take it by now."""
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
        self._could_have_more = len(batch.records) >= self._records_max or batch.bytes >= BATCH_BYTES_MAX

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
