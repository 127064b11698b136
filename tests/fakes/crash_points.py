"""Where a simulation may strike: every call of every fake client passes here, before its effect and after it.

points.crash(at=17)                                  the process dies at the 17th point from now
points.fail("transaction.commit", Fenced("…"))       the next such call is refused, without effect
points.fail("transaction.commit", OutcomeUnknown("…"), done=True)    it took effect, the answer was lost
points.decide = lambda point: …                      a seeded choice at every point
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Crash(BaseException):
    """The process ends here. No `except Exception` of the code under test may see it as an error of a
    call."""


class Point(NamedTuple):
    """`done` False: nothing has happened yet. True: the effect is there, and the answer under way."""

    client_id: str
    call: str
    done: bool


class _Failure(NamedTuple):
    call: str
    client_id: str | None
    done: bool
    error: BaseException


class CrashPoints:
    """Mutable: `reached` counts the points passed so far; planned failures are used up in the order they were
    planned."""

    def __init__(self) -> None:
        self.reached = 0
        self.decide: Callable[[Point], BaseException | None] | None = None
        self._crash_at: int | None = None
        self._failures: list[_Failure] = []

    def crash(self, at: int) -> None:
        assert at > 0, "the first point from now is 1"
        self._crash_at = self.reached + at

    def fail(
        self, call: str, error: BaseException, *, done: bool = False, client_id: str | None = None, times: int = 1
    ) -> None:
        self._failures += [_Failure(call, client_id, done, error)] * times

    def spare(self) -> None:
        """No more strikes: what is still planned is forgotten, so that a run can come to its end."""
        self._crash_at = None
        self._failures.clear()
        self.decide = None

    def struck(self, client_id: str, call: str, done: bool) -> BaseException | None:
        """What befalls a call at this point; None as a rule. The fake raises it, after it has set its own
        state to match."""
        self.reached += 1
        if self.decide is None and self._crash_at is None and not self._failures:
            return None
        point = Point(client_id, call, done)
        if self._crash_at is not None and self.reached >= self._crash_at:
            self._crash_at = None
            return Crash(f"at {point}")
        for number, failure in enumerate(self._failures):
            same_client = failure.client_id is None or failure.client_id == point.client_id
            if failure.call == point.call and failure.done is point.done and same_client:
                return self._failures.pop(number).error
        return None if self.decide is None else self.decide(point)
