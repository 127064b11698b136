"""The operating system's clock. Stages get a `Clock` and never read time themselves, so that a test controls time."""

from __future__ import annotations

import time


class SystemClock:
    """`now_ms` follows the machine's wall clock and may jump; `monotonic_s` never goes back."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic_s = staticmethod(time.monotonic)  # a function around it would cost twice as much
