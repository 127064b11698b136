"""The replay share: what an operator's replays may take of a destination, so that live traffic goes first.

    quota 120/60s, a worker with half of the partitions, share 0.5:    60 slots, replays hold 30 of them at most

Two rules, kept by each worker for itself, so that they hold over any number of them without a coordinator:
- a request of a replay goes only while no live entry could go (`lanes.py` hands those out first);
- replays hold no more than their share of the worker's slots, one window after the answer included. So whatever a
  replay does, the rest of the quota is there for live traffic in every window. Without a quota the same is said of the
  requests at once.

A worker whose share is less than one slot lets one request of a replay go and then waits for as many windows as make
that its share.

Owned by the sender's event loop; pure but for the state announced in `ReplayShare`.

Not chosen: the rate of the `replay` command alone (it knows of no retries, of no other command's letters on their way
through transform, and nothing of what is live at the moment); slots put aside for live traffic (a slot is a
partition's, and a worker may have one).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import floor, inf


class ReplayShare:
    """Mutable. `_under_way` requests without an answer; `_answered` when those that rest were answered, oldest first;
    `has_free` what the last look found, for other threads."""

    def __init__(self, share_max: float, slots: Callable[[], int], rest_s: float) -> None:
        """`slots` are the worker's as they are now, `rest_s` how long one counts as in use after its answer."""
        assert 0 < share_max <= 1, f"no share: {share_max}"
        self._share_max = share_max
        self._slots = slots
        self._rest_s = rest_s
        self._under_way = 0
        self._answered: deque[float] = deque()
        self.has_free = True

    def is_free(self, now_s: float) -> bool:
        """Whether a request of a replay may go now."""
        next_s = self.next_s()
        self.has_free = next_s is not None and next_s <= now_s
        return self.has_free

    def next_s(self) -> float | None:
        """From when on the next may go, if nothing else happens; None: not before an answer, or a slot more."""
        allowed = self._share_max * self._slots()
        left = max(1, floor(allowed)) - self._under_way
        if left < 1 or allowed <= 0:
            return None
        if len(self._answered) < left:
            return -inf
        return self._answered[-left] + self._rests_s(allowed)

    def taken(self) -> None:
        """A request of a replay goes out: `is_free` said that it may."""
        self._under_way += 1

    def answered(self, now_s: float) -> None:
        """It has ended, one way or the other."""
        assert self._under_way > 0, "answered twice"
        self._under_way -= 1
        self._answered.append(now_s)
        rests_s = self._rests_s(self._share_max * self._slots())
        while self._answered[0] + rests_s <= now_s and len(self._answered) > 1:
            self._answered.popleft()

    def _rests_s(self, allowed: float) -> float:
        return self._rest_s if allowed >= 1 or not self._rest_s else self._rest_s / max(allowed, 1e-9)
