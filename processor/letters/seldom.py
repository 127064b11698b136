"""Seldom: what happens often is said once a minute, with how often it did since and one example.

Owned by the thread that logs. Not chosen: a line each (a flood of letters would be a flood of lines), none (who
looks at a log alone would not know).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

SAID_EVERY_S: Final = 60.0


class Log(Protocol):
    """The part of structlog's logger that this needs."""

    def warning(self, event: str, **facts: Any) -> Any: ...


class Seldom:
    """One saying. Mutable: `_count` since it was said last, `_next_s` from when on it may be said again."""

    def __init__(self, log: Log, event: str) -> None:
        self._log = log
        self._event = event
        self._count = 0
        self._next_s = 0.0

    def happened(self, count: int, now_s: float) -> bool:
        """Counts; whether it is to be said now, by `say`."""
        self._count += count
        return self._count > 0 and now_s >= self._next_s

    def say(self, now_s: float, facts: Mapping[str, Any]) -> None:
        """`facts` are of one of them."""
        self._log.warning(self._event, count=self._count, **facts)
        self._count = 0
        self._next_s = now_s + SAID_EVERY_S
