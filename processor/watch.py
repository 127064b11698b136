"""The watch: recognises a loop that is alive but makes no progress.

The commonest report about stream processors is a silent stall: after a rebalance or in a restore the process lives,
polls, answers its probes and processes nothing. So a role that has lag, makes no progress and knows no reason becomes
unready first, and then ends. The stacks of all threads go to the log: a restart mends what we do not understand, and
the stacks let us understand it.

Each part of a role's work is watched by itself, because eleven partitions that make progress must not hide the twelfth.
The role chooses the parts. In transform a part is a partition number with all of its topics, because one topic alone
may wait for the others for as long as they have a backlog.

Pure, except for what it remembers, which is announced below. Owned by the role's thread.
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


class _Still(NamedTuple):
    """A part that did not move: `done` as it stands, and the monotonic second since when."""

    done: int
    since_s: float


class Watch:
    """Mutable: `_still` holds, per part, since when nothing has moved although something should have."""

    def __init__(self) -> None:
        self._still: dict[int, _Still] = {}

    def observe(self, work: Mapping[int, Work], excused: bool, now_s: float) -> Progress:
        """`excused`: a standstill has a reason that is known, and said elsewhere."""
        still: dict[int, _Still] = {}
        if not excused:
            for part, (lag, done) in work.items():
                if lag > 0:
                    before = self._still.get(part)
                    still[part] = before if before is not None and before.done == done else _Still(done, now_s)
        self._still = still
        stalled_s = max((now_s - part.since_s for part in still.values()), default=0.0)
        if stalled_s >= FATAL_AFTER_S:
            return Progress.DEAD
        return Progress.STALLED if stalled_s >= UNREADY_AFTER_S else Progress.FINE

    def longest(self) -> int | None:
        """The part that has stood still for the longest time; None where all of them move."""
        return min(self._still, key=lambda part: self._still[part].since_s, default=None)
