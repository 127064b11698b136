"""Limit: how many requests at once, where no quota says so, found from latency and refusals alone.

    SLOW_START ──────────────┐ doubles each round until latency rises
                             ▼
          ┌──────────► GROWING ──latency rose, or time to look──► LOOKING (with fewer at once)
          │               ▲  grows a little each round                │
          │               └── latency fell with it: it was our doing, stay there ──┤
          └── latency did not fall: it is the server's own; back to where it was ──┘

A round is as many answers as the limit allows at once; the first one after a change is not judged, for its requests were
sent before it. A server that does n requests at once answers at its best latency up to n, and in proportion later
beyond it: so the limit that fits is `limit × best / latency`, and that is where a rise takes it (gradient). What the best
latency is cannot be known for ever: each look down either confirms it or corrects it. Growth is the same for everyone
and a cut in proportion, so that two workers come to share a server evenly (AIMD).

Refusals count where they are many: a round in which a tenth was refused or timed out cuts the limit; a lone 5xx does not.

Owned by the sender's event loop; pure but for the state announced in `Limit`.

Not chosen: a moving average as the best latency (drifts upwards with the queue that we make ourselves); a fixed limit.
"""

from __future__ import annotations

from enum import Enum
from math import ceil, inf, sqrt
from random import Random
from typing import Final

ROUND_MIN: Final = 10
"""Answers: the mean of fewer says nothing."""
RISE: Final = 1.2
"""A mean latency that is this much over the best is a queue."""
CUT_MIN: Final = 0.5
CUT_MAX: Final = 0.9
LOOK_CUT: Final = 0.75
LOOK_EVERY_S: Final = 5.0
REFUSED_SHARE: Final = 0.1
REFUSED_CUT: Final = 0.7
OUTLIER: Final = 4.0
"""A latency counts as at most this many times the best: one hanging request is no queue."""


class LimitState(Enum):
    """The picture is in the module's docstring."""

    SLOW_START = "slow_start"
    GROWING = "growing"
    LOOKING = "looking"


class Limit:
    """Mutable. `value` is the limit; `_best_s` the mean latency of a server without a queue, as far as known; the
    fields of the round are reset by `_begin`; `_before` is (limit, latency) from before a look down."""

    def __init__(self, maximum: int, random: Random, initial: int = 16) -> None:
        assert maximum >= 1
        self.value = min(initial, maximum)
        self._maximum = maximum
        self._random = random
        self._state = LimitState.SLOW_START
        self._best_s = 0.0
        self._look_at_s = 0.0
        self._before = (self.value, 0.0)
        self._since_s = -inf
        self._answers = 0
        self._refusals = 0
        self._total_s = 0.0
        self._full = False

    def answered(self, duration_s: float, in_flight: int, now_s: float) -> None:
        """An answer came; `in_flight` counts it."""
        if now_s - duration_s < self._since_s:
            return
        if self._best_s > 0.0:
            duration_s = min(duration_s, OUTLIER * self._best_s)
        self._total_s += duration_s
        self._answers += 1
        if in_flight >= self.value:
            self._full = True
        if self._answers + self._refusals >= max(self.value, ROUND_MIN):
            self._judge(now_s)

    def refused(self, duration_s: float, now_s: float) -> None:
        """The server was too busy for a request, or did not answer it in time."""
        if now_s - duration_s < self._since_s:
            return
        self._refusals += 1
        if self._answers + self._refusals >= max(self.value, ROUND_MIN):
            self._judge(now_s)

    def _judge(self, now_s: float) -> None:
        """The end of a round."""
        answers, refusals, full = self._answers, self._refusals, self._full
        latency_s = self._total_s / answers if answers else 0.0
        self._begin()
        if refusals >= REFUSED_SHARE * (answers + refusals):
            self._state = LimitState.GROWING
            self._change(self.value * REFUSED_CUT, now_s)
        elif self._state is LimitState.LOOKING:
            self._state = LimitState.GROWING
            self._looked(latency_s, now_s)
        elif not full:
            pass  # fewer were sent than are allowed: that says nothing about the limit
        elif self._best_s == 0.0 or latency_s <= self._best_s * RISE:
            self._best_s = latency_s if self._best_s == 0.0 else min(self._best_s, latency_s)
            self._fits(latency_s, now_s)
        else:
            self._look(latency_s, min(max(self._best_s / latency_s, CUT_MIN), CUT_MAX), now_s)

    def _fits(self, latency_s: float, now_s: float) -> None:
        """No queue."""
        if self._state is LimitState.SLOW_START:
            self._change(self.value * 2, now_s)
        elif now_s >= self._look_at_s:
            self._look(latency_s, LOOK_CUT, now_s)
        else:
            self._grow()

    def _look(self, latency_s: float, cut: float, now_s: float) -> None:
        self._look_at_s = now_s + LOOK_EVERY_S * self._random.uniform(0.75, 1.25)
        self._before = (self.value, latency_s)
        self._state = LimitState.LOOKING
        self._change(self.value * cut, now_s)

    def _looked(self, latency_s: float, now_s: float) -> None:
        """A round with fewer at once has ended: was it our doing that latency was what it was before?"""
        limit, before_s = self._before
        if latency_s <= before_s * (1 + self.value / limit) / 2:
            self._best_s = min(self._best_s, latency_s)
        else:
            self._best_s = latency_s
            self._change(limit, now_s)

    def _grow(self) -> None:
        self.value = min(ceil(self.value + max(1.0, sqrt(self.value) / 2)), self._maximum)

    def _change(self, value: float, now_s: float) -> None:
        """A step so large that answers to what was sent before it say nothing about what is sent after it."""
        self.value = min(max(ceil(value), 1), self._maximum)
        self._since_s = now_s
        self._begin()

    def _begin(self) -> None:
        self._answers = self._refusals = 0
        self._total_s = 0.0
        self._full = False
