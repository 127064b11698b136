"""What befalls one request before anybody reads it: an outage, the quota, a fault by chance, or nothing.

Owned by one stand-in; called once a request, in order of arrival, with the time. For one script, seed and
sequence of times it always decides the same.

The same key, the same answer: a ledger of idempotency keys, as the IETF's draft describes it.

    unknown ──claim──► BUSY ──settle──► the answer, given again to every repeat
                         └───withdraw──► unknown (it was refused or never done: the same request may come
                         again)

Only successes are kept. A refusal that were kept could never be cured: a request that is repeated after the
API was mended would get the old refusal again.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from processor.sandbox.apis.record import Recent
from processor.sandbox.apis.script import Fault, Script


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


A = TypeVar("A")


class Claim(Enum):
    """What a key that has no answer yet can be."""

    NEW = "new"
    BUSY = "busy"
    REUSED = "reused"


@dataclass(frozen=True, slots=True)
class _Line(Generic[A]):
    fingerprint: bytes
    answer: A | None


class Ledger(Generic[A]):
    """Answers by key. Mutable: a line without an answer belongs to the request that claimed it."""

    def __init__(self) -> None:
        self._lines: Recent[_Line[A]] = Recent()

    def claim(self, key: str, fingerprint: bytes) -> Claim | A:
        """NEW: the caller has it now and must `settle` or `withdraw` it. Else nothing changed."""
        line = self._lines.get(key)
        if line is None:
            self._lines.put(key, _Line(fingerprint, None))
            return Claim.NEW
        if line.fingerprint != fingerprint:
            return Claim.REUSED
        return Claim.BUSY if line.answer is None else line.answer

    def settle(self, key: str, fingerprint: bytes, answer: A) -> None:
        line = self._lines.get(key)
        assert line is None or line.answer is None, "settled twice"
        self._lines.put(key, _Line(fingerprint, answer))

    def withdraw(self, key: str) -> None:
        self._lines.remove(key)
