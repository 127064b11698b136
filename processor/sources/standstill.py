"""standstill: why a role takes nothing at the moment. Each reason is logged once, shown at `/readyz`, and waited for.

Shared by transform and rekey. Owned by the role's thread; `shown` may be read by others.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import structlog

from processor.interfaces import Clock

log = structlog.get_logger(__name__)

_RETRY_S: Final = 1.0
"""The wait after an aborted transaction or an outage, in which the group is polled on."""


class Standstill(StrEnum):
    """Why nothing is taken (`/readyz`). GATHERING and RESTORE are transform's, EVENTS and OTHERS rekey's."""

    ASSIGNMENT = "no assignment yet"
    GATHERING = "partitions are here without all of their topics"
    RESTORE = "the changelog does not answer"
    EVENTS = "what was written before is not known yet"
    TRANSACTION = "the transactional producer is not open"
    REGISTRY = "the schema registry does not answer"
    ABORTED = "the last transaction was aborted"
    OTHERS = "an erasure waits for other workers"
    FLOOD = "stopped by the flood guard"


_USUAL: Final = (Standstill.ASSIGNMENT, Standstill.EVENTS, Standstill.OTHERS)
"""Reasons that a role at work meets as well: they are no warning."""


class Standstills:
    """The reasons that hold right now, each with its text and the epoch ms since when.

    Mutable: `shown` is replaced whole, never changed; `_not_before_s` is when a failed attempt may be repeated.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._not_before_s = 0.0
        self.shown: Mapping[Standstill, tuple[str, int]] = {}

    def __contains__(self, reason: Standstill) -> bool:
        return reason in self.shown

    def stand(self, reason: Standstill, why: str) -> None:
        """`reason` holds from now on; `why` replaces its earlier text."""
        known = self.shown.get(reason)
        if known is None:
            level = log.info if reason in _USUAL else log.warning
            level("standing still", what=reason.value, why=why)
        since_ms = self._clock.now_ms() if known is None else known[1]
        self.shown = {**self.shown, reason: (f"{reason.value}: {why}", since_ms)}

    def wait(self, reason: Standstill, why: str, longer_s: float = 0.0) -> None:
        """The same for a failed attempt, which may be repeated in a second, or `longer_s` later."""
        self.stand(reason, why)
        self._not_before_s = self._clock.monotonic_s() + _RETRY_S + longer_s

    def go_on(self, reason: Standstill) -> None:
        """`reason` does not hold any more, if it did."""
        if reason in self.shown:
            log.info("going on", after=reason.value)
            self.shown = {known: told for known, told in self.shown.items() if known is not reason}

    @property
    def is_time(self) -> bool:
        """True if a failed attempt may be repeated."""
        return self._clock.monotonic_s() >= self._not_before_s

    @property
    def may_take(self) -> bool:
        """True if records may be taken: the flood guard has not stopped the role, and no attempt has just failed."""
        return Standstill.FLOOD not in self.shown and self.is_time

    @property
    def first(self) -> tuple[str | None, int | None]:
        """The text of the first reason that holds, and since when; None twice if no reason holds."""
        return next(iter(self.shown.values()), (None, None))
