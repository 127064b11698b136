"""Decides what becomes of one request: an outage, the quota, a fault by chance, or it is served.

Owned by one stand-in; called once a request, in order of arrival, with the time. The same script, seed and sequence of
times give the same decisions.

`Ledger` gives the same answer to the same idempotency key, as the IETF's draft describes it.

    unknown ──claim──► BUSY ──settle──► the answer, given again to every repeat
                         └───withdraw──► unknown (it was refused or not done: the request may come again)

Only successes are kept. A refusal that was kept would be permanent: a request that is repeated after the API was mended
would get the old refusal again.

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
    """`fault` (None: the request is served) after `delay_s`. The answer names `retry_after_s` as the time to wait."""

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
        """Replaces the script. Used slots of the quota stay used."""
        if script.seed != self._script.seed:
            self._chance = random.Random(script.seed)
        self._script = script

    def decide(self, now_s: float) -> Fate:
        """`now_s` must not go back."""
        script = self._script
        # Both draws always, so that the fate of a request does not depend on the settings of the one before.
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
        """Uses a slot and returns None if the quota has one. Else returns the seconds until it has one."""
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
    """The state of a key that has no answer yet."""

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
        """Returns the answer that the key has, or its state. After NEW the caller must `settle` or `withdraw` it."""
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = _Line(fingerprint, None)
            return Claim.NEW
        if line.fingerprint != fingerprint:
            return Claim.REUSED
        return Claim.BUSY if line.answer is None else line.answer

    def settle(self, key: str, fingerprint: bytes, answer: A) -> None:
        line = self._lines.get(key)
        assert line is None or line.answer is None, "settled twice"
        self._lines[key] = _Line(fingerprint, answer)

    def withdraw(self, key: str) -> None:
        self._lines.pop(key, None)
