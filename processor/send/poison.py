"""Poison: one entry that crashes the server, told from a server that is down.

An entry is poison when it was answered 5xx at least ten times, over at least `poison_after`, and each of
those times the server was well for the others. Well means: since this entry's last 5xx, others were accepted,
and at least `WELL` times as many as were refused 5xx (or not answered) for their first time or two. Those
that have been refused more often than that do not testify: they may be poison themselves.

So an outage convicts nobody (nobody is accepted), nor does a brown-out (too many fresh refusals), and two
poisonous orders do not acquit each other. Pure but for the counts announced below.
"""

from __future__ import annotations

from typing import Final

TIMES: Final = 10
WELL: Final = 3
FRESH_TIMES: Final = 2


class Witness:
    """What others were answered since the start. Mutable, both only grow."""

    __slots__ = ("accepted", "refused")

    def __init__(self) -> None:
        self.accepted = 0
        self.refused = 0

    def seen(self) -> tuple[int, int]:
        return self.accepted, self.refused

    def was_well_since(self, seen: tuple[int, int]) -> bool:
        """Whether the server was well for others since then."""
        accepted = self.accepted - seen[0]
        return accepted > 0 and accepted >= WELL * (self.refused - seen[1])


def is_poison(times: int, over_s: float, poison_after_s: float) -> bool:
    """`times` 5xx while the server was well, the first of them `over_s` ago."""
    return times >= TIMES and over_s >= poison_after_s
