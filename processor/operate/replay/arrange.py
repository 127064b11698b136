"""What a replay does with each open letter of one order, so that the order's sequence is kept. Pure.

    refused   was judged and refused; later ones wait behind it   ─┐ a held letter goes with the one that it waits for,
    held      waits behind a refused one                          ─┘ and neither goes before a letter that stays
    answered  was refused and holds no other (`cancel_decline`)
    lone      of a topic where no letter waits (a source's, another tool's)

The sequence is that of the first refusals: a letter that came back is behind younger ones in its topic, and before them
in its order. Not chosen: the sequence of the dead-letter topic (after a replay that was refused in part, it is wrong).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple


class Kind(IntEnum):
    """The relation of a letter to the others of its order."""

    REFUSED = 0
    HELD = 1
    ANSWERED = 2
    LONE = 3


class Status(IntEnum):
    """Where a letter is in a replay.

    OPEN     not selected
    STAYS    selected, and cannot go: it says why
    STALE ──► DROPPED                      another letter has the same or newer content
    GO ──► SENT ──┬─► ACCEPTED             a receipt or an entry shows that it was accepted
      │           ├─► ABSORBED             it is finished, and left no trace: superseded, ignored or parked
      └─► STAYS   └─► RETURNED             it is a dead letter again
    """

    OPEN = 0
    STAYS = 1
    STALE = 2
    DROPPED = 3
    GO = 4
    SENT = 5
    ACCEPTED = 6
    ABSORBED = 7
    RETURNED = 8


NOT_RESOLVED: Final = (Status.OPEN, Status.STAYS, Status.STALE, Status.GO)


class Planned(NamedTuple):
    """One open letter. `same_as` is equal for letters of one entry: a crash between a letter and its commit writes it
    twice. `snapshot` is true for a whole order, which the next one replaces. `obstacle` is why it can never be sent;
    empty if it can."""

    offset: int
    kind: Kind
    selected: bool
    replays: int
    same_as: str
    snapshot: bool
    obstacle: str = ""


class Fate(NamedTuple):
    """What is done about a letter, and why if that is not obvious."""

    status: Status
    why: str = ""


TWICE = "the same entry is a letter already"
NEWER = "a newer snapshot of its order is a letter too"
TOO_OFTEN = "it was replayed as often as --max-replays allows"
BEHIND = "an earlier letter of its order stays"
NOWHERE = "it does not say where it came from, or that topic is gone"


def arrange(letters: Sequence[Planned], *, replays_max: int, begun: bool = False, sends: bool = True) -> list[Fate]:
    """Returns one fate a letter. `letters` are those of one order in its sequence. `begun` is true if letters of it
    were sent already in this replay, `sends` false for a discard, in which no letter waits for another."""
    if not begun and not any(letter.selected for letter in letters):
        return [Fate(Status.OPEN)] * len(letters)
    if not sends:
        return [Fate(Status.GO if letter.selected else Status.OPEN) for letter in letters]
    fates: list[Fate] = []
    seen: set[str] = set()
    newest = max((place for place, letter in enumerate(letters) if letter.snapshot), default=-1)
    asked = any(letter.selected for letter in letters if letter.snapshot)
    blocked = False
    started = begun
    for place, letter in enumerate(letters):
        if letter.same_as and letter.same_as in seen:
            fates.append(Fate(Status.STALE, TWICE))
            continue
        seen.add(letter.same_as)
        if letter.snapshot and asked and place < newest:
            fates.append(Fate(Status.STALE, NEWER))
            continue
        fate = _fate(letter, blocked, started, letter.selected or (letter.snapshot and asked), replays_max)
        fates.append(fate)
        started |= fate.status is Status.GO
        blocked |= fate.status is not Status.GO and letter.kind in (Kind.REFUSED, Kind.HELD)
    return fates


def _fate(letter: Planned, blocked: bool, started: bool, selected: bool, replays_max: int) -> Fate:
    wanted = selected or (letter.kind is Kind.HELD and started)
    if not wanted:
        return Fate(Status.OPEN)
    if letter.obstacle:
        return Fate(Status.STAYS, letter.obstacle)
    if blocked and letter.kind in (Kind.REFUSED, Kind.HELD):
        return Fate(Status.STAYS, BEHIND)
    if letter.replays >= replays_max:
        return Fate(Status.STAYS, TOO_OFTEN)
    return Fate(Status.GO)
