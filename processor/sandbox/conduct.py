"""What befalls one request before anybody reads it: an outage, the quota, a fault by chance, or nothing.

Owned by one stand-in; called once a request, in order of arrival, with the time. For one script, seed and
sequence of times it always decides the same.
"""

from __future__ import annotations

import random
from collections import deque
from typing import NamedTuple

from processor.sandbox.script import Fault, Script


class Fate(NamedTuple):
    """`fault` (None: the request is served) after `delay_s`. A wait that the answer shall name stands in
    `retry_after_s`."""

    fault: Fault | None
    delay_s: float
    retry_after_s: float | None = None


class Conduct:
    """Mutable: `_admitted` are the arrival times that count against the quota, oldest first, at most as many
    as the quota allows; `_chance` is the seeded source of all randomness."""

    def __init__(self, script: Script, started_s: float) -> None:
        self._script = script
        self._started_s = started_s
        self._admitted: deque[float] = deque()
        self._chance = random.Random(script.seed)

    def follow(self, script: Script) -> None:
        """From now on by another script. What was used of the quota stays used."""
        if script.seed != self._script.seed:
            self._chance = random.Random(script.seed)
        self._script = script

    def decide(self, now_s: float) -> Fate:
        """`now_s` must not go back."""
        script = self._script
        # Both draws always, so that what one request meets does not depend on which settings the one before
        # used.
        delay_s = script.latency.seconds(self._chance.gauss(0, 1))
        draw = self._chance.random()
        for outage in script.outages:
            if outage.from_s <= now_s - self._started_s < outage.until_s:
                return self._faulty(outage.fault, delay_s)
        for fault, share in script.shares.items():
            draw -= share
            if draw < 0:
                return self._faulty(fault, delay_s)
        wait_s = self._quota_wait_s(now_s)
        if wait_s is not None:
            return Fate(Fault.TOO_MANY, delay_s, wait_s)
        return Fate(None, delay_s)

    def _faulty(self, fault: Fault, delay_s: float) -> Fate:
        return Fate(fault, delay_s, self._script.retry_after_s.get(fault))

    def _quota_wait_s(self, now_s: float) -> float | None:
        """None, and a slot is used, where the quota has one; else how long until it has."""
        quota = self._script.quota
        if quota is None:
            return None
        while self._admitted and self._admitted[0] <= now_s - quota.window_s:
            self._admitted.popleft()
        if len(self._admitted) < quota.requests:
            self._admitted.append(now_s)
            return None
        freed = self._admitted[len(self._admitted) - quota.requests]
        return min(quota.window_s, freed + quota.window_s - now_s)
