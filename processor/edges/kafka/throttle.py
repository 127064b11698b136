"""Throttle: the delays that the brokers' quotas cause for a role's clients.

A broker that gets more than a client may send (`producer_byte_rate`, `request_percentage`) answers late and mutes the
connection. librdkafka reports that by one callback and nowhere else: there is no error and no complaint, only receipts
that wait for their acknowledgement, or transactions that time out.

All clients of one role report here, each in its own thread's polls; any thread reads. Mutable: `seconds`, all delays
that brokers announced, and `last_s`, the time of the last (monotonic).
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from processor.edges.kafka.client import Log
from processor.edges.metrics import THROTTLED

SAID_EVERY_S: Final = 60.0
RECENT_S: Final = 30.0
"""The time after the last delay during which it still explains a wait."""


class ThrottleEvent(Protocol):
    """The part of confluent-kafka's event that we read."""

    @property
    def broker_name(self) -> str: ...

    @property
    def throttle_time(self) -> float:
        """Seconds."""


class Throttle:
    """See the module."""

    def __init__(self, role: str, log: Log) -> None:
        self._counted = THROTTLED.labels(role)
        self._log = log
        self._say_at_s = -SAID_EVERY_S
        self.seconds = 0.0
        self.last_s: float | None = None

    def heard(self, event: ThrottleEvent) -> None:
        """librdkafka's `throttle_cb`. It is called with 0 when a delay is over."""
        if event.throttle_time <= 0:
            return
        self.seconds += event.throttle_time
        self._counted.inc(event.throttle_time)
        self.last_s = now_s = time.monotonic()
        if now_s >= self._say_at_s:
            self._say_at_s = now_s + SAID_EVERY_S
            self._log.warning(
                "the brokers throttle us: their quota is spent; nothing is lost, all of it comes later",
                broker=event.broker_name,
                seconds=round(event.throttle_time, 3),
            )

    def status(self) -> dict[str, Any]:
        """For `/status`."""
        recent = self.last_s is not None and time.monotonic() - self.last_s < RECENT_S
        return {"throttled": recent, "throttled_seconds": round(self.seconds, 3)}
