"""The watch: tells a loop that works from one that is alive and does nothing.

The commonest report about stream processors is a silent stall: after a rebalance or in a restore the process lives,
polls, answers its probes and processes nothing. So lag without progress and without a known reason is first unready,
then fatal, and the stacks of all threads go to the log: a restart heals what we do not understand, and the dump lets
us understand it.

Pure but for what it remembers, announced below. Owned by the role's thread.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

UNREADY_AFTER_S: Final = 60.0
"""Longer than a rebalance, a takeover and a slow transaction together."""
FATAL_AFTER_S: Final = 300.0


class Progress(StrEnum):
    """What the watch thinks of a role."""

    FINE = "fine"
    STALLED = "stalled"
    DEAD = "dead"


class Watch:
    """Mutable: `_finished` the count of finished records when it last changed, `_since_s` the monotonic second since
    when nothing has moved although something should have."""

    def __init__(self) -> None:
        self._finished = -1
        self._since_s: float | None = None

    def observe(self, lag: int, finished: int, excused: bool, now_s: float) -> Progress:
        """`lag` unfinished records, `finished` ever, `excused` whether a standstill has a reason that is known."""
        if lag == 0 or excused or finished != self._finished:
            self._finished = finished
            self._since_s = None
            return Progress.FINE
        if self._since_s is None:
            self._since_s = now_s
        stalled_s = now_s - self._since_s
        if stalled_s >= FATAL_AFTER_S:
            return Progress.DEAD
        return Progress.STALLED if stalled_s >= UNREADY_AFTER_S else Progress.FINE
