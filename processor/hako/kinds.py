"""The lanes of each kind of array, and whose turn it is.

A kind is a table and a verb, because an array has one path and one method. The kind whose first change has waited
longest goes first; kinds that are likely to be refused go last, but for one request in `TRIAL_EVERY`. An item or a
warehouse is deleted when no deletion of a level waits, or after `BARRIER_S`. Owned by the event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from processor.hako.changes import Change, Table, Verb
from processor.send.event_loop.lanes import Lanes, Parcel

BARRIER_S: Final = 30.0
"""How long the deletion of an item or a warehouse waits for deletions of levels: they may come without end."""
TRIAL_EVERY: Final = 10
"""One request in so many may try parked levels again while others wait: they may be refused for a day."""


class Kind(NamedTuple):
    """The kind of an array. `trial` is true for changes that are likely to be refused and must not spoil the arrays of
    others: levels that were refused for an unknown object, deletions of objects that were never sent."""

    table: Table
    verb: Verb
    trial: bool = False


TRIAL: Final = Kind(Table.INVENTORY, Verb.POST, True)
KINDS: Final = (
    *(Kind(table, verb) for table in Table for verb in Verb),
    *(Kind(table, Verb.DELETE, True) for table in Table),
    TRIAL,
)
_LEVELS_GOING: Final = (Kind(Table.INVENTORY, Verb.DELETE), Kind(Table.INVENTORY, Verb.DELETE, True))


class Kinds:
    """Mutable. `_lanes` by kind; `_counts` the keys in each, in flight or not; `_taken` counts parcels."""

    def __init__(self, parcel_entries_max: int, parcel_bytes_max: int, linger_s: float) -> None:
        self._lanes: dict[Kind, Lanes[Change]] = {
            kind: Lanes(parcel_entries_max, parcel_bytes_max, linger_s, supersedes=True) for kind in KINDS
        }
        self._counts: Counter[Kind] = Counter()
        self._taken = 0

    def __getitem__(self, kind: Kind) -> Lanes[Change]:
        return self._lanes[kind]

    def open(self, epoch: int) -> None:
        for lanes in self._lanes.values():
            lanes.open(epoch)

    def drop(self, epochs: Collection[int]) -> None:
        for lanes in self._lanes.values():
            lanes.drop(epochs)

    def entered(self, kind: Kind) -> None:
        """Counts a key that is in the lanes of this kind from now on."""
        self._counts[kind] += 1

    def left(self, kind: Kind) -> None:
        self._counts[kind] -= 1
        assert self._counts[kind] >= 0, "left more often than entered"

    def any_in(self, kinds: Iterable[Kind]) -> bool:
        return any(self._counts[kind] > 0 for kind in kinds)

    def take(self, now_s: float, fresh_first: bool) -> Parcel[Change] | None:
        """Returns the next array: of the kind whose first change has waited the longest."""
        for kind in self._in_turn():
            next_s = self._next_s(kind)
            if next_s is None or next_s > now_s:
                continue
            parcel = self._lanes[kind].take(now_s, fresh_first)
            if parcel is not None:
                self._taken += 1
                return parcel
        return None

    def next_s(self) -> float | None:
        """Returns when there is something to take, if nothing else happens."""
        return min((next_s for kind in KINDS if (next_s := self._next_s(kind)) is not None), default=None)

    def _in_turn(self) -> list[Kind]:
        waiting = [(next_s, kind) for kind in KINDS if (next_s := self._lanes[kind].next_s()) is not None]
        trial_first = self._taken % TRIAL_EVERY == 0
        waiting.sort(key=lambda one: (one[1].trial is not trial_first, one[0]))
        return [kind for _, kind in waiting]

    def _next_s(self, kind: Kind) -> float | None:
        next_s = self._lanes[kind].next_s()
        return next_s if next_s is None or not self._waits_for_levels(kind) else next_s + BARRIER_S

    def _waits_for_levels(self, kind: Kind) -> bool:
        return kind.verb is Verb.DELETE and kind.table is not Table.INVENTORY and self.any_in(_LEVELS_GOING)
