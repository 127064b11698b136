"""Breaker: stops sending where it is no use, and finds out by itself when it is again.

    CLOSED ──refused `trip_after` times in a row──► OPEN ──its time is over──► HALF_OPEN ──probe passed──► CLOSED
                                                      ▲                            │
                                                      └──── probe refused: longer ─┘

The sender has two: one for a destination that is down (trips after some refusals in a row, of different
orders: one that crashes the server is not an outage), one for a key that is refused (trips at once). In
HALF_OPEN one probe is under way at a time. Nothing here uses up an attempt or makes a dead letter.

Owned by the sender's event loop; pure but for the state announced in `Breaker`, and the random numbers it is
given.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import Final

from processor.send.meter import BreakerState

ROW: Final = 5
"""Refusals in a row that mean an outage: at one fault in 20 it takes three million requests to see five by
chance."""


class Admission(Enum):
    """How many requests may go now."""

    ALL = "all"
    PROBE = "probe"
    NONE = "none"


_CLOSED: Final = BreakerState.CLOSED  # each mention of a member costs 0.1 µs, and there are two breakers


class Breaker:
    """Mutable. `_row` counts refusals since the last pass, while CLOSED; `_trips` the openings since the last
    pass; `until_s` is when OPEN ends; `_probing` says that HALF_OPEN's one request is under way."""

    def __init__(self, trip_after: int, first_s: float, s_max: float, random: Random) -> None:
        self._trip_after = trip_after
        self._first_s = first_s
        self._s_max = s_max
        self._random = random
        self._row = 0
        self._last: str | None = None
        self._trips = 0
        self._probing = False
        self.state = BreakerState.CLOSED
        self.until_s = 0.0

    def admits(self, now_s: float) -> Admission:
        if self.state is BreakerState.CLOSED:
            return Admission.ALL
        if self.state is BreakerState.OPEN and now_s >= self.until_s:
            self.state = BreakerState.HALF_OPEN
            self._probing = False
        if self.state is BreakerState.HALF_OPEN and not self._probing:
            return Admission.PROBE
        return Admission.NONE

    def probe(self) -> None:
        """The probe goes out."""
        if self.state is BreakerState.HALF_OPEN:
            assert not self._probing, "one probe at a time"
            self._probing = True

    def passed(self) -> bool:
        """A request was taken for what it is. True where that closed it."""
        if self._row == 0 and self.state is _CLOSED:
            return False
        self._row = 0
        self._last = None
        self._trips = 0
        self._probing = False
        closed = self.state is not BreakerState.CLOSED
        self.state = BreakerState.CLOSED
        return closed

    def refused(self, order_id: str, now_s: float, was_probe: bool) -> bool:
        """A request was refused. True where that opened it."""
        if self.state is BreakerState.CLOSED:
            if self._last != order_id:
                self._row += 1
                self._last = order_id
            if self._row < self._trip_after:
                return False
        elif not was_probe:
            return False  # sent before it opened
        opened = self.state is BreakerState.CLOSED
        self._open(now_s)
        return opened

    def unclear(self, now_s: float) -> None:
        """The probe ended and proved nothing: another one, as soon as after the last."""
        if self.state is BreakerState.HALF_OPEN and self._probing:
            self._trips = max(self._trips - 1, 0)
            self._open(now_s)

    def hurry(self) -> None:
        """Something has changed: probe now."""
        self._trips = 0
        self.until_s = 0.0

    def _open(self, now_s: float) -> None:
        wait_s = min(self._first_s * 2.0 ** min(self._trips, 30), self._s_max)
        self.until_s = now_s + wait_s * self._random.uniform(0.5, 1.0)
        self._trips += 1
        self._row = 0
        self._last = None
        self._probing = False
        self.state = BreakerState.OPEN
