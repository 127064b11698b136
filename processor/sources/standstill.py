"""Why a role takes nothing at the moment: the reason is logged once, shown at `/readyz`, and waited for.

Shared by transform and rekey, each with reasons of its own. Owned by the role's thread; `shown` may be read by others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, Generic, TypeVar

import structlog

from processor.interfaces import Clock

log = structlog.get_logger(__name__)

_RETRY_S: Final = 1.0
"""The wait after an aborted transaction or an outage, in which the group is polled on."""

LOST: Final = "the group has gone on without this worker, which joins it again"

Reason = TypeVar("Reason", bound=StrEnum)


class Standstills(Generic[Reason]):
    """The reasons that hold right now, each with its text and the epoch ms since when.

    Mutable: `shown` is replaced whole, never changed; `_not_before_s` is when what came to nothing may be tried again.
    """

    def __init__(self, clock: Clock, usual: Collection[Reason]) -> None:
        """`usual` are those that every start meets: they are no warning."""
        self._clock = clock
        self._usual = usual
        self._not_before_s = 0.0
        self.shown: Mapping[Reason, tuple[str, int]] = {}

    def __contains__(self, reason: Reason) -> bool:
        return reason in self.shown

    def stand(self, reason: Reason, why: str) -> None:
        """From now on `reason` holds; `why` takes the place of what was said before."""
        known = self.shown.get(reason)
        if known is None:
            level = log.info if reason in self._usual else log.warning
            level("standing still", what=reason.value, why=why)
        since_ms = self._clock.now_ms() if known is None else known[1]
        self.shown = {**self.shown, reason: (f"{reason.value}: {why}", since_ms)}

    def wait(self, reason: Reason, why: str, longer_s: float = 0.0) -> None:
        """The same of what came to nothing: it is tried again in a second, or so much later."""
        self.stand(reason, why)
        self._not_before_s = self._clock.monotonic_s() + _RETRY_S + longer_s

    def go_on(self, reason: Reason) -> None:
        """`reason` does not hold any more, if it did."""
        if reason in self.shown:
            log.info("going on", after=reason.value)
            self.shown = {known: told for known, told in self.shown.items() if known is not reason}

    @property
    def is_time(self) -> bool:
        """True if what came to nothing may be tried again."""
        return self._clock.monotonic_s() >= self._not_before_s

    @property
    def first(self) -> tuple[str | None, int | None]:
        """The text of one that holds, and since when; None twice where none does."""
        return next(iter(self.shown.values()), (None, None))
