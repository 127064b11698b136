"""seldom: logs a frequent event once a minute, with its count since then and one example.

Owned by the thread that logs. Not chosen: a line for each event (a flood of lines), no line (nobody would know).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

SAID_EVERY_S: Final = 60.0


class Log(Protocol):
    """The part of structlog's logger that this needs."""

    def warning(self, event: str, **facts: Any) -> Any: ...


class Seldom:
    """One log line. Mutable: `_count` the events since the last line, `_next_s` when the next line may come."""

    def __init__(self, log: Log, event: str) -> None:
        self._log = log
        self._event = event
        self._count = 0
        self._next_s = 0.0

    def happened(self, count: int, now_s: float) -> bool:
        """Counts events. Returns true if `say` is to log them now."""
        self._count += count
        return self._count > 0 and now_s >= self._next_s

    def say(self, now_s: float, facts: Mapping[str, Any]) -> None:
        """Logs the count, with the `facts` of one event."""
        self._log.warning(self._event, count=self._count, **facts)
        self._count = 0
        self._next_s = now_s + SAID_EVERY_S
