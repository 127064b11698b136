"""Limit: how many requests at once, if no quota says so, found from latency and refusals alone.

    SLOW_START ──latency rose──► LOOKING ──latency no longer falls──► GROWING ──latency rose, or in time──► LOOKING
     doubles                      cuts, and cuts again                  a little each round

A server that handles n requests at once answers at its best latency up to n, and later in proportion beyond it. So the
limit grows until latency has risen, and is then cut until latency no longer falls: what remains is the best latency,
and `limit × best / latency` of the step before is the right limit. If the server itself has become slow, a look sees
latency not fall at all, and ends where it began: our share in it is measured, not assumed. There is a look from time to
time without a rise, too, because a best latency that was measured beside another worker's queue is wrong.

Growth is equal for all workers and a cut is in proportion, so they come to share a server evenly (AIMD). Growth speeds
up with each round without a queue, so that one slow answer at the start, or a pause of ours, does not cost a distant
server its requests for half a minute. A round is as many answers as the limit allows at once; requests from before a
cut are not judged after it. Refusals count if they are many: a round of which a tenth was refused or timed out is cut;
a lone 5xx is not. A round in which our own loop was late, or took half of the latency itself, is cut a little: the loop
is full then.

Owned by the sender's event loop; pure, except the announced state.

Not chosen: the best latency as a moving average (drifts up with our own queue) or as a minimum (drifts down with the
noise of small rounds); a fixed limit.
"""

from __future__ import annotations

from enum import Enum
from math import ceil, inf, sqrt
from random import Random
from typing import Final

ROUND_MIN: Final = 20
"""Answers: the mean of fewer says too little."""
RISE: Final = 1.15
"""A mean latency this much over the best one means a queue."""
NOISE: Final = 3.0
"""Standard errors that a difference must exceed to be one."""
CUT: Final = 0.75
FELL_SHARE: Final = 0.3
"""Share of the fall that there would be if all of the queue were ours; beside two equal workers it is a third."""
LOOK_EVERY_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.5
"""After a look without an effect: the server may have changed meanwhile."""
REFUSED_SHARE: Final = 0.1
REFUSED_CUT: Final = 0.7
OWN_S: Final = 0.01
"""A latency below this says nothing about the server: with a thousand answers in our own loop, each looks this slow.
Without it, our own queue would be cut down to one request at once beside a server next door."""
LATE_S: Final = 0.025
"""An event loop that is this late for its timers has too many answers to read: more requests at once would wait in it,
not at the server. A turn of the Kafka thread takes about half of this (`handover.py`)."""
OWN_SHARE: Final = 0.5
"""Share of a latency in which we handle a round of answers; to read them and write the next requests takes as long
again. Beyond this, more requests at once only wait for one another in our loop."""
LATE_CUT: Final = 0.9
CALM_ROUNDS: Final = 8
"""Rounds of growth after which the next ones are twice as large, after as many more three times."""
GROWTH_SHARE: Final = 0.1
"""The largest growth in one round, as a share of the limit."""
OUTLIER: Final = 4.0
"""A latency counts as at most this many times the best: one hanging request is not a queue."""


class LimitState(Enum):
    """The state of the limit; drawn above."""

    SLOW_START = "slow_start"
    GROWING = "growing"
    LOOKING = "looking"


class Limit:
    """Mutable. `value` is the limit; `_best_s` is the latency of the server without a queue (0: not known yet);
    `_before` is (limit, latency) of the last step of a look, `_fell` is true if latency fell with that step; `_calm`
    counts the rounds of growth since the limit was last too high; `_begin` resets the fields of a round. `late_s` is
    the delay of the loop's last timer, `round_s` the time for its last answers."""

    def __init__(self, maximum: int, random: Random, initial: int = 16) -> None:
        assert maximum >= 1
        self.value = min(initial, maximum)
        self._maximum = maximum
        self._random = random
        self._state = LimitState.SLOW_START
        self._best_s = 0.0
        self._look_at_s = inf
        self._before = (self.value, 0.0)
        self._fell = False
        self._calm = 0
        self._since_s = -inf
        self.late_s = 0.0
        self.round_s = 0.0
        self._begin()

    def answered(self, duration_s: float, in_flight: int, now_s: float) -> None:
        """An answer came; `in_flight` counts it."""
        if now_s - duration_s < self._since_s:
            return
        if self._best_s > 0.0 and duration_s > OUTLIER * self._best_s:
            duration_s = OUTLIER * self._best_s
        self._total_s += duration_s
        self._squares += duration_s * duration_s
        self._answers += 1
        if in_flight >= self.value:
            self._full = True
        if self._answers + self._refusals >= self._round:
            self._judge(now_s)

    def refused(self, duration_s: float, now_s: float) -> None:
        """The server was too busy for a request, or did not answer it in time."""
        if now_s - duration_s < self._since_s:
            return
        self._refusals += 1
        if self._answers + self._refusals >= self._round:
            self._judge(now_s)

    def _judge(self, now_s: float) -> None:
        """Ends a round."""
        answers, refusals, full = self._answers, self._refusals, self._full
        latency_s = self._total_s / answers if answers else 0.0
        variance = max(self._squares / answers - latency_s * latency_s, 0.0) if answers else 0.0
        noise_s = NOISE * sqrt(variance / answers) if answers else 0.0
        self._begin()
        if refusals >= REFUSED_SHARE * (answers + refusals):
            self._calm = 0
            self._state = LimitState.GROWING
            self._change(self.value * REFUSED_CUT, now_s)
        elif self.late_s > LATE_S or self.round_s > OWN_SHARE * latency_s:
            self._calm = 0
            if self.value > ROUND_MIN:
                self._state = LimitState.GROWING
                self._change(max(self.value * LATE_CUT, ROUND_MIN), now_s)
        elif self._state is LimitState.LOOKING:
            self._looked(latency_s, noise_s, now_s)
        elif not full:
            pass  # fewer requests than allowed: that says nothing about the limit
        elif self._best_s == 0.0:
            self._best_s = latency_s
            self._change(self.value * 2, now_s)
        elif latency_s > max(self._best_s * RISE + noise_s, OWN_S):
            self._calm = 0
            self._look(latency_s, max(self._best_s / latency_s, 0.5), now_s)
        elif self._state is LimitState.SLOW_START and self.value < self._maximum:
            self._change(self.value * 2, now_s)
        elif now_s >= self._look_at_s:
            self._look(latency_s, CUT, now_s)
        else:
            self._grow()

    def _look(self, latency_s: float, cut: float, now_s: float) -> None:
        self._state = LimitState.LOOKING
        self._before = (self.value, latency_s)
        self._fell = False
        self._change(min(self.value * cut, self.value - 1), now_s)

    def _looked(self, latency_s: float, noise_s: float, now_s: float) -> None:
        """Ends a round with fewer requests at once: compares its latency."""
        limit, before_s = self._before
        fall_s = FELL_SHARE * before_s * (1 - self.value / limit)
        if before_s - latency_s > max(fall_s, noise_s) and self.value > 1:
            self._look(latency_s, CUT, now_s)
            self._fell = True
            self._calm = 0
            return
        surprised = not self._fell and latency_s > self._best_s * RISE
        self._look_at_s = now_s + (LOOK_AGAIN_S if surprised else LOOK_EVERY_S) * self._random.uniform(0.75, 1.25)
        self._best_s = latency_s
        self._state = LimitState.GROWING
        self._change(limit * min(latency_s / before_s, 1.0) if self._fell else limit, now_s)

    def _grow(self) -> None:
        self._calm += 1
        step = max(sqrt(self.value) / 2, 1.0)
        pace = max(min(step * (1 + self._calm // CALM_ROUNDS), self.value * GROWTH_SHARE), step)
        self.value = min(ceil(self.value + pace), self._maximum)
        self._round = max(self.value, ROUND_MIN)

    def _change(self, value: float, now_s: float) -> None:
        """Makes a large step, after which answers to earlier requests do not count."""
        self.value = min(max(ceil(value), 1), self._maximum)
        self._since_s = now_s
        self._begin()

    def _begin(self) -> None:
        self._round = max(self.value, ROUND_MIN)
        self._answers = self._refusals = 0
        self._total_s = self._squares = 0.0
        self._full = False
