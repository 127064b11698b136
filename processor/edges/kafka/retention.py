"""Retention: for how long topics keep a record, as their settings were when they were last looked at.

Owned by a role's Kafka thread, which asks once a second and never waits for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

from processor.edges.kafka.admin import KafkaAdmin

_EVERY_S: Final = 30.0
"""An alert that was answered by a longer retention ends within a minute."""


def kept_s(config: Mapping[str, str]) -> float | None:
    """None: not deleted by age."""
    retention_ms = int(config.get("retention.ms", "-1"))
    deleted = "delete" in config.get("cleanup.policy", "delete")
    return retention_ms / 1000 if deleted and retention_ms > 0 else None


class Retention:
    """Mutable: `_kept_s` what is known, `_asked` answers under way, `_ask_at_s` when to ask again."""

    def __init__(self, admin: KafkaAdmin, topics: Sequence[str]) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._kept_s: dict[str, float | None] = {}
        self._asked: Mapping[str, Future[Any]] = {}
        self._ask_at_s = 0.0

    def look(self) -> None:
        """Takes answers that have come, and asks again from time to time."""
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers, self._asked = self._asked, {}
            for topic, answer in answers.items():
                raised = answer.exception()
                if raised is None:
                    settings = answer.result().values()
                    self._kept_s[topic] = kept_s({one.name: one.value for one in settings if one.value is not None})
                else:  # no broker, no right: the clients that use the topic say so themselves
                    self._admin.went_wrong(raised)
        elif not self._asked and time.monotonic() >= self._ask_at_s:
            self._ask_at_s = time.monotonic() + _EVERY_S
            self._asked = self._admin.settings_soon(self._topics)

    def of(self, topic: str) -> float | None:
        """None: not deleted by age, or not known."""
        return self._kept_s.get(topic)
