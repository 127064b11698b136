"""Doubt: whether what answers is the API at all.

    CLOSED ──three different orders in a row, or anything before the first acceptance──► OPEN ⇄ HALF_OPEN (`breaker.py`)
       ▲                                                                                        │
       └───────────────────────────── an answer of the API's own ───────────────────────────────┘

An answer that may be a gateway's, a proxy's or a login page's counts here; the API's own ends the row. While it is
open, one probe goes at a time and no entry ends by a doubted answer.

Owned by the sender's event loop; pure but for the state announced in `Doubt`, and the random numbers it is given.
"""

from __future__ import annotations

from random import Random
from typing import Final

from processor.send.event_loop.breaker import Admission, Breaker
from processor.send.meter import BreakerState

ORDERS: Final = 3
ROW_MAX: Final = 10
"""Doubted answers in a row, where there are but two orders."""
PROBE_FIRST_S: Final = 0.5


class Doubt:
    """Mutable. `_orders` are the different ones of the row, `_row` its length; `_known`: something was accepted."""

    def __init__(self, s_max: float, random: Random) -> None:
        self._breaker = Breaker(1, PROBE_FIRST_S, s_max, random)
        self._orders: set[str] = set()
        self._row = 0
        self._known = False

    @property
    def holds(self) -> bool:
        return self._breaker.state is not BreakerState.CLOSED

    @property
    def breaker(self) -> Breaker:
        return self._breaker

    def admits(self, now_s: float) -> Admission:
        return self._breaker.admits(now_s)

    def doubted(self, order_id: str, now_s: float, was_probe: bool) -> bool:
        """A doubted answer to a request about this order. True where that opened it."""
        if not self.holds:
            self._row += 1
            self._orders.add(order_id)
            many = len(self._orders) >= ORDERS or (self._row >= ROW_MAX and len(self._orders) > 1)
            if self._known and not many:
                return False
        return self._breaker.refused(order_id, now_s, was_probe)

    def passed(self, accepted: bool) -> bool:
        """An answer of the API's own. True where that closed it."""
        self._known = self._known or accepted
        if self._row:
            self._row = 0
            self._orders.clear()
        return self._breaker.passed()
