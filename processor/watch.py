"""The watch: recognises a loop that is alive but makes no progress.

The commonest fault of stream processors is a silent stall: after a rebalance or in a restore the process lives, polls,
answers its probes and processes nothing. So a role that has lag, makes no progress and knows no reason becomes unready,
and then ends. The stacks of all threads go to the log: the restart mends the fault, and the stacks explain it.

Each part of a role's work is watched by itself, so that eleven partitions do not hide the twelfth. In transform a part
is a partition number with all of its topics, because one topic may wait for the others while they have a backlog.

Pure, except for its memory, which is announced below. Owned by the role's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

UNREADY_AFTER_S: Final = 60.0
"""Longer than a rebalance, a takeover and a slow transaction together."""
FATAL_AFTER_S: Final = 300.0


class Progress(StrEnum):
    """The watch's judgement of a role."""

    FINE = "fine"
    STALLED = "stalled"
    DEAD = "dead"


class Work(NamedTuple):
    """One part of the work: `lag` unfinished records, and `done`, a number that moves whenever something is done."""

    lag: int
    done: int


class Watch:
    """Mutable: `_still` has, for each part that did not move although it should, its `done` and since when."""

    def __init__(self) -> None:
        self._still: dict[int, tuple[int, float]] = {}

    def observe(self, work: Mapping[int, Work], excused: bool, now_s: float) -> Progress:
        """`excused` is true if a standstill has a known reason, which is shown elsewhere."""
        still: dict[int, tuple[int, float]] = {}
        if not excused:
            for part, (lag, done) in work.items():
                if lag > 0:
                    before = self._still.get(part)
                    still[part] = before if before is not None and before[0] == done else (done, now_s)
        self._still = still
        stalled_s = max((now_s - since_s for _, since_s in still.values()), default=0.0)
        if stalled_s >= FATAL_AFTER_S:
            return Progress.DEAD
        return Progress.STALLED if stalled_s >= UNREADY_AFTER_S else Progress.FINE

    def longest(self) -> int | None:
        """Returns the part that has stood still for the longest time; None if all of them move."""
        return min(self._still, key=lambda part: self._still[part][1], default=None)
