"""Parked levels: Hako has refused them because it does not know the item or warehouse that they name.

    park ──► (1 s, 2 s, 4 s … 5 min) ──► due: tried again
      └────► one of the named objects was accepted: all levels that name it leave at once

Owned by the event loop; pure but for its state.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from processor.hako.changes import Change
from processor.send.pending import Pending

TRIAL_FIRST_S: Final = 1.0
TRIAL_S_MAX: Final = 300.0
"""Parked levels are tried again at least this often, for another worker may send the objects that they name."""


class ParkedLevels:
    """Mutable. `_parked` by key, with when each is due; `_due` a heap of that; `_waiters` keys by named object."""

    def __init__(self) -> None:
        self._parked: dict[str, tuple[float, Pending[Change]]] = {}
        self._due: list[tuple[float, str]] = []
        self._waiters: dict[str, set[str]] = {}

    def park(self, pending: Pending[Change], now_s: float) -> None:
        key, change = pending.order_id, pending.entry
        assert key not in self._parked, "parked twice"
        due_s = now_s + min(TRIAL_FIRST_S * 2 ** min(change.trials - 1, 16), TRIAL_S_MAX)
        self._parked[key] = due_s, pending
        heappush(self._due, (due_s, key))
        for parent in change.parents:
            self._waiters.setdefault(parent, set()).add(key)

    def __getitem__(self, key: str) -> Pending[Change]:
        return self._parked[key][1]

    def __len__(self) -> int:
        return len(self._parked)

    def leave(self, key: str) -> Pending[Change]:
        _, pending = self._parked.pop(key)
        for parent in pending.entry.parents:
            waiters = self._waiters[parent]
            waiters.discard(key)
            if not waiters:
                del self._waiters[parent]
        return pending

    def next_s(self) -> float | None:
        """Returns when the first of them is due, or a little earlier."""
        return self._due[0][0] if self._due else None

    def due(self, now_s: float) -> list[Pending[Change]]:
        """Removes the levels that are due, and returns them."""
        leaving = []
        while self._due:
            due_s, key = self._due[0]
            current = self._parked.get(key)
            if current is not None and current[0] == due_s:
                if due_s > now_s:
                    break
                leaving.append(self.leave(key))
            heappop(self._due)
        return leaving

    def naming(self, parent: str) -> list[Pending[Change]]:
        """Removes the levels that wait for this object, and returns them."""
        return [self.leave(key) for key in list(self._waiters.get(parent, ()))]
