"""Poison: one entry that crashes the server, told from a server that is down.

A 5xx counts against an entry only when others have been accepted since its last one: so an outage convicts
nobody. The entry is poison when at least ten count, over at least `poison_after`, and that many in a row
cannot be bad luck: with the share of fresh requests of others that failed in the meantime as the odds, it
must be less likely than one in a million. A server that fails every second request is thus given twenty, one
that fails nine in ten 130.

Fresh are requests for an entry's first time or two. What has failed more often does not testify: it may be
poison itself, and two poisonous orders must not acquit each other.

Pure but for the counts announced below.
"""

from __future__ import annotations

from math import log
from typing import Final

TIMES_MIN: Final = 10
CHANCE_MAX: Final = 1e-6
FRESH_TIMES: Final = 2


class Witness:
    """What the destination answered to fresh requests since the start. Mutable, both only grow."""

    __slots__ = ("accepted", "failed")

    def __init__(self) -> None:
        self.accepted = 0
        self.failed = 0


class Suspicion:
    """The 5xx of one parcel. Mutable: `times` counts those that count; the others are what the witness said
    at the first one and at the last."""

    __slots__ = ("_accepted_first", "_accepted_last", "_failed_first", "_first_s", "times")

    def __init__(self, witness: Witness, now_s: float) -> None:
        self.times = 1
        self._first_s = now_s
        self._accepted_first = self._accepted_last = witness.accepted
        self._failed_first = witness.failed

    def again(self, witness: Witness) -> None:
        """Another 5xx."""
        if witness.accepted > self._accepted_last:
            self.times += 1
        self._accepted_last = witness.accepted

    def is_proven(self, witness: Witness, now_s: float, poison_after_s: float) -> bool:
        if self.times < TIMES_MIN or now_s - self._first_s < poison_after_s:
            return False
        accepted = witness.accepted - self._accepted_first
        failed = witness.failed - self._failed_first
        return self.times >= times_beyond_chance(accepted, failed)


def times_beyond_chance(accepted: int, failed: int) -> float:
    """So many failures in a row are no bad luck, where others were accepted and failed so often."""
    odds = (failed + 1) / (accepted + failed + 2)
    return log(CHANCE_MAX) / log(odds)
