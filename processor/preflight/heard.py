"""What a Kafka client says while it is asked: kept for the one who asks instead of being logged.

Owned by a command that shows results on a screen, where a log line between two rows would be noise, and the only place
that says why nothing came would be above them.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

LINES_MAX: Final = 50
"""A client that cannot connect says so every second."""


class Heard:
    """A logger (`edges.kafka_client.Log`) that keeps the last lines. Mutable: `_lines` grows up to LINES_MAX; any
    thread may write."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_MAX)

    def debug(self, event: str, **facts: Any) -> None:
        self._note(event, facts)

    def info(self, event: str, **facts: Any) -> None:
        self._note(event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._note(event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._note(event, facts)

    def about(self, *words: str) -> str | None:
        """The last line with one of these words in it."""
        return next((line for line in reversed(self._lines) if any(word in line.lower() for word in words)), None)

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        self._lines.append(str(facts.get("detail", event)))
