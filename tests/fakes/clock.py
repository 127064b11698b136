"""A clock that a test moves. Waiting is what lets time pass: a fake that would sleep calls `advance`
instead."""

from __future__ import annotations


class FakeClock:
    """Wall and monotonic time, apart: `jump` moves the wall alone, as an administrator or a leap would. `at_s` is the
    monotonic one."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = float(now_ms)
        self.at_s = 1_000.0

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        return self.at_s

    def advance(self, seconds: float) -> None:
        assert seconds >= 0, "time does not go back; `jump` moves the wall clock"
        self.at_s += seconds
        self._now_ms += seconds * 1000

    def jump(self, seconds: float) -> None:
        self._now_ms += seconds * 1000
