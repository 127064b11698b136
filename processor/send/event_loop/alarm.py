"""alarm: what time alone will change. One timer of the event loop's, for the earliest time that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring`. Mutable: the timer that runs, if one does, and when it ends."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._at_s = 0.0

    def set(self, at_s: float | None, now_s: float) -> None:
        """None: no time will change anything."""
        if at_s is None or (self._timer is not None and self._at_s <= at_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._at_s = at_s
        self._timer = asyncio.get_running_loop().call_later(max(at_s - now_s, 0.0), self._rings)

    def _rings(self) -> None:
        self._timer = None
        self._ring()
