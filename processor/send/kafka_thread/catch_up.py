"""catch-up: after an assignment, the present records of the sources are read before any of them is sent.

    assigned ─► opened ─► READING ──past the end at the assignment, or at the end now──► through
                             │
                             ├── as many entries wait as may, so no more are read              ─┐ given up, with a
                             ├── nothing could be read for `STILL_S_MAX`                        ├─ warning: sent while
                             └── `s_max` since the assignment                                  ─┘ it is read on

For a destination whose newer entries replace older ones: each key of a topic with a million changes is then sent once.
A partition without new records is through as soon as it is opened, so a restart waits only for a fetch of the rest.

The `Gatherer` sends nothing while any partition is being read, because a level in one partition may name an item in
another. A reading ends by position, not by count; if an open transaction hides the end, the readable end counts.

Owned by the Kafka thread; mutable, as announced.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Generic

import structlog

from processor.records import TopicPartition
from processor.send.destination import EntryT
from processor.send.kafka_thread.assignments import Assignment, Phase

log = structlog.get_logger(__name__)

STILL_S_MAX: Final = 30.0
"""One partition without a leader, or one schema that is not available, must not hold up all others for longer."""


class CatchUp(Generic[EntryT]):
    """Mutable. `_reading` are the partitions that are not through, by epoch; `_moved` is the position of each when it
    last moved, and the time (monotonic)."""

    def __init__(self, s_max: float | None) -> None:
        """`s_max` None: never waits."""
        self._s_max = s_max
        self._reading: dict[int, Assignment[EntryT]] = {}
        self._moved: dict[int, tuple[int, float]] = {}

    def begin(self, assignment: Assignment[EntryT]) -> None:
        if self._s_max is not None:
            self._reading[assignment.epoch] = assignment

    def forget(self, assignment: Assignment[EntryT]) -> None:
        self._reading.pop(assignment.epoch, None)
        self._moved.pop(assignment.epoch, None)

    def step(
        self, now_s: float, at_end: Collection[TopicPartition], braked: Collection[TopicPartition]
    ) -> frozenset[int]:
        """Returns the epochs that are through, or given up, since the last step. `at_end` are partitions at their ends,
        `braked` are paused."""
        ended = []
        for assignment in self._reading.values():
            if self._is_through(assignment, at_end):
                ended.append(assignment)
                continue
            why = self._gives_up(assignment, braked, now_s)
            if why is not None:
                ended.append(assignment)
                log.warning(
                    "sent before all of it is read: some keys may be sent more than once",
                    why=why,
                    topic=assignment.where.topic,
                    partition=assignment.where.partition,
                    remaining=self.remaining(assignment),
                )
        for assignment in ended:
            self.forget(assignment)
        return frozenset(assignment.epoch for assignment in ended)

    def remaining(self, assignment: Assignment[EntryT]) -> int:
        """Returns about how many records are still to be read before it is through."""
        if assignment.epoch not in self._reading or assignment.log is None:
            return 0
        return max(assignment.log.end - (assignment.offsets.position or 0), 0)

    def __len__(self) -> int:
        """The number of partitions that are not through."""
        return len(self._reading)

    def _is_through(self, assignment: Assignment[EntryT], at_end: Collection[TopicPartition]) -> bool:
        if assignment.phase is not Phase.OPEN:
            return False
        assert assignment.log is not None, "opened without having asked for its end"
        return (assignment.offsets.position or 0) >= assignment.log.end or assignment.where in at_end

    def _gives_up(self, assignment: Assignment[EntryT], braked: Collection[TopicPartition], now_s: float) -> str | None:
        assert self._s_max is not None, "reading without a limit"
        if now_s - assignment.assigned_s >= self._s_max:
            return f"not read to its end within {self._s_max:.0f} s"
        if assignment.phase is not Phase.OPEN:
            return None  # the takeover reports what it waits for
        if assignment.where in braked:
            return "as many entries wait as may"
        position = assignment.offsets.position or 0
        before = self._moved.get(assignment.epoch)
        if before is None or before[0] != position:
            self._moved[assignment.epoch] = (position, now_s)
        elif now_s - before[1] >= STILL_S_MAX:
            return f"nothing of it could be read for {STILL_S_MAX:.0f} s"
        return None
