"""Throttle: what the brokers' quotas cost a role's clients.

A broker that is sent more than a client may (`producer_byte_rate`, `request_percentage`) answers late and mutes the
connection. librdkafka says so by one callback and nowhere else: neither an error nor a complaint comes of it, only
receipts that wait for their acknowledgement, or transactions that run out of time.

Told by all clients of one role, each in its own thread's polls; read by any. Mutable: `seconds`, all of the delays that
brokers announced, and `last_s`, when the last came (monotonic).
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from processor.edges.kafka.client import Log
from processor.edges.metrics import THROTTLED

SAID_EVERY_S: Final = 60.0
RECENT_S: Final = 30.0
"""For how long after the last delay it still explains why something waits."""


class ThrottleEvent(Protocol):
    """confluent-kafka's, as far as we look at it."""

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
        """librdkafka's `throttle_cb`. It is called with 0 too, when a delay is over."""
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
