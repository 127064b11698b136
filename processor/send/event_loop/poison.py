"""Poison: recognises an entry that alone is refused, as opposed to a destination that is down.

A 5xx counts against an entry only if others have been accepted since its last one, so an outage convicts no entry. The
entry is poison if at least ten count, over at least `poison_after`, and that many in a row cannot be bad luck: with the
share of fresh requests of others that failed meanwhile as the odds, it must be less likely than one in a million. So a
server that fails every second request allows twenty, one that fails nine in ten 130. The same holds for a 403 that no
other entry gets, from three on.

A doubted answer (of a gateway, a login page) is the entry's own as soon as no other entry gets one: at its second time
if others were accepted in between, or if it alone has been sent for a while.

A request is fresh at its entry's first or second attempt. An entry that failed more often does not testify: it may be
poison itself, and two poisonous orders must not acquit each other.

Pure, except the announced counts.
"""

from __future__ import annotations

from math import log
from typing import Final

from processor.api.verdicts import RetryReason

TIMES_MIN: Final = 10
CHANCE_MAX: Final = 1e-6
FRESH_TIMES: Final = 2
DENIED_TIMES_MIN: Final = 3
"""A 403 is an answer, where a 5xx may be anything."""
OWN_TIMES: Final = 2
OWN_S: Final = 2.0
"""A gateway that is being replaced answers nonsense for a moment, while other requests pass."""
ALONE_TIMES: Final = 3
ALONE_S: Final = 10.0
"""If no other entry is sent that could be compared."""


class Witness:
    """The destination's answers to fresh requests since the start. Mutable; both counts only grow."""

    __slots__ = ("accepted", "failed")

    def __init__(self) -> None:
        self.accepted = 0
        self.failed = 0


class Suspicion:
    """The refusals of one parcel for one reason. Mutable: `seen` counts all, `times` those that count; the others are
    the witness's counts at the first one and at the last."""

    __slots__ = ("_accepted_first", "_accepted_last", "_failed_first", "_first_s", "reason", "seen", "times")

    def __init__(self, reason: RetryReason, witness: Witness, now_s: float) -> None:
        self.reason = reason
        self.times = self.seen = 1
        self._first_s = now_s
        self._accepted_first = self._accepted_last = witness.accepted
        self._failed_first = witness.failed

    def again(self, witness: Witness) -> None:
        self.seen += 1
        if witness.accepted > self._accepted_last:
            self.times += 1
        self._accepted_last = witness.accepted

    def is_proven(self, witness: Witness, now_s: float, after_s: float, times_min: int) -> bool:
        if self.times < times_min or now_s - self._first_s < after_s:
            return False
        return self.times >= self._beyond_chance(witness)

    def is_own(self, witness: Witness, now_s: float) -> bool:
        """True if an answer that may be a gateway's is given to this entry alone."""
        alone = witness.failed - self._failed_first <= FRESH_TIMES - 1  # its own second time
        lasts_s = now_s - self._first_s
        if self.times >= OWN_TIMES and lasts_s >= OWN_S:
            return alone or self.times >= self._beyond_chance(witness)
        return alone and self.seen >= ALONE_TIMES and lasts_s >= ALONE_S

    def _beyond_chance(self, witness: Witness) -> float:
        return times_beyond_chance(witness.accepted - self._accepted_first, witness.failed - self._failed_first)


def times_beyond_chance(accepted: int, failed: int) -> float:
    """Returns how many failures in a row are not bad luck, given how often others were accepted and failed."""
    odds = (failed + 1) / (accepted + failed + 2)
    return log(CHANCE_MAX) / log(odds)
