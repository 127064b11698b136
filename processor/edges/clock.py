"""The real clock: the operating system's, for the composition root to hand out.

Stages never read time themselves; they are given a `Clock`, so that a test can let a day pass in no time.
"""

from __future__ import annotations

import time


class SystemClock:
    """`now_ms` follows the machine's wall clock and may jump; `monotonic_s` never goes back."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)  # as it is: a function around it would cost twice as much
