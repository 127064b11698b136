"""turns: the Kafka thread and the event loop run one after the other, not against each other.

    Kafka thread   take ─ ask ┄┄┄┄┄┄┄┄┄┄► [ poll, settle, produce ] ─ give_back
    event loop     … callbacks … ─► stands still ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄► … callbacks …

Python lets one thread run at a time. A loop that has a thousand answers to read lets go of the interpreter for some
microseconds after each of them, and librdkafka's binding does for each record that was acknowledged. Two such threads
wake each other ten thousand times a second, mostly for nothing: the other has gone on before the woken one is there.
So the one with the larger steps asks, and the loop stands still while it works: 1.4 voluntary context switches an entry
become 0.15, and 200 µs CPU 160, side by side in one hour.

Only a convenience: nothing rests on who runs. An ask that the loop does not come to in time is worked without; a loop
that has stood still for long enough goes on.

Not chosen: a longer switch interval (the loop lets go of the interpreter long before it is over); acknowledgements
taken in the loop's thread (half of the waking remains, and a producer has two owners); one thread for both (a
rebalance waits inside `poll` for what is in flight).

Mutable: `_taken_s` is when the last turn was taken; `_over` ends the standstill of the turn that is taken, None between
turns; `_loop` until it has closed. All but `_stand_still` is the Kafka thread's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final

APART_S: Final = 0.02
"""From one turn to the next. Shorter ones find fewer records each and the caches cold (at 10 ms 170 µs an entry, at 30
147); an entry may wait for so long before it is sent, and a receipt before it is written."""
ASK_S_MAX: Final = 0.5
"""A loop with a thousand answers to read comes round after so long."""
STILL_S_MAX: Final = 0.05
"""What stands still for longer answers its peers too late."""


class Turns:
    """See the module."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken_s = 0.0
        self._over: threading.Lock | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on there is somebody to take turns with, in another thread."""
        self._loop = loop

    def take(self) -> None:
        """Returns when the loop stands still, or does not come to it. `APART_S` after the last turn at the earliest."""
        assert self._over is None, "one turn at a time"
        loop = self._loop
        if loop is None:
            return
        early_s = self._taken_s + APART_S - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
        self._taken_s = time.monotonic()
        still, over = threading.Lock(), threading.Lock()
        still.acquire()
        over.acquire()
        try:
            loop.call_soon_threadsafe(_stand_still, still, over)
        except RuntimeError:  # it has closed
            self._loop = None
            return
        self._over = over
        still.acquire(timeout=ASK_S_MAX)

    def give_back(self) -> None:
        """The loop goes on. Any number of times."""
        if self._over is not None:
            self._over.release()
            self._over = None


def _stand_still(still: threading.Lock, over: threading.Lock) -> None:
    """The event loop's part."""
    still.release()
    over.acquire(timeout=STILL_S_MAX)
