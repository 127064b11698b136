"""Breaker: stops sending while it is useless, and finds out by itself when it is useful again.

    CLOSED ──refused `trip_after` times in a row──► OPEN ──its time is over──► HALF_OPEN ──probe passed──► CLOSED
                                                      ▲                            │
                                                      └──── probe refused: longer ─┘

The sender has three: one for a destination that is down (it trips after some refusals in a row, of different orders,
because one order that crashes the server is not an outage), one for a key that is refused (it trips at once), and one
for answers that may not be the API's (`Doubt`). In HALF_OPEN one probe is under way at a time. Nothing here uses up an
attempt or makes a dead letter.

`Doubt` trips at three different orders in a row, or at any answer before the first acceptance. Answers of a gateway, a
proxy or a login page count; an answer of the API's own ends the row and closes it. While it is open, no entry ends by a
doubted answer.

Owned by the sender's event loop; pure, except the announced state and the given random numbers.
"""

from __future__ import annotations

from enum import Enum
from random import Random
from typing import Final

from processor.send.meter import BreakerState

ROW: Final = 5
"""Refusals in a row that mean an outage: with one fault in 20, five by chance take three million requests."""


class Admission(Enum):
    """How many requests may go now."""

    ALL = "all"
    PROBE = "probe"
    NONE = "none"


_CLOSED: Final = BreakerState.CLOSED  # each mention of a member costs 0.1 µs, and there are two breakers


class Breaker:
    """Mutable. `_row` counts refusals since the last pass, while CLOSED; `_trips` counts openings since the last pass;
    `until_s` is the end of OPEN; `_probing` is true while HALF_OPEN's one request is under way."""

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
        """The destination accepted a request. Returns true if that closed the breaker."""
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
        """A request was refused. Returns true if that opened the breaker."""
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
        """The probe ended without a proof: the next one comes as soon as this one did."""
        if self.state is BreakerState.HALF_OPEN and self._probing:
            self._trips = max(self._trips - 1, 0)
            self._open(now_s)

    def hurry(self) -> None:
        """Something has changed: the next probe may go now."""
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


ORDERS: Final = 3
ROW_MAX: Final = 10
"""Doubted answers in a row, if there are only two orders."""
PROBE_FIRST_S: Final = 0.5


class Doubt:
    """Mutable. `_orders` are the different orders of the row, `_row` is its length; `_known` is true once something was
    accepted."""

    def __init__(self, s_max: float, random: Random) -> None:
        self.breaker = Breaker(1, PROBE_FIRST_S, s_max, random)
        self._orders: set[str] = set()
        self._row = 0
        self._known = False

    @property
    def holds(self) -> bool:
        return self.breaker.state is not BreakerState.CLOSED

    def doubted(self, order_id: str, now_s: float, was_probe: bool) -> bool:
        """An answer to a request about this order is doubted. Returns true if that opened the breaker."""
        if not self.holds:
            self._row += 1
            self._orders.add(order_id)
            many = len(self._orders) >= ORDERS or (self._row >= ROW_MAX and len(self._orders) > 1)
            if self._known and not many:
                return False
        return self.breaker.refused(order_id, now_s, was_probe)

    def passed(self, accepted: bool) -> bool:
        """The API itself answered. Returns true if that closed the breaker."""
        self._known = self._known or accepted
        if self._row:
            self._row = 0
            self._orders.clear()
        return self.breaker.passed()
