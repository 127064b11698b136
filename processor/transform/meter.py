"""What transform measures: facts in bulk, once per transaction or second, never per record.

`processor/edges/metrics.py` turns them into Prometheus metrics; a test may keep them in a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start


class StateSize(NamedTuple):
    """One partition's state: orders, parked events, changelog records still to be restored, the age of the
    oldest parked event (0 when there is none)."""

    partition: int
    orders: int
    parked_events: int
    restore_remaining: int
    parked_oldest_s: float


class TransformMeter(Protocol):
    """Called by the transform thread."""

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None: ...

    def written(self, written: Written) -> None: ...

    def lag(self, lags: list[SourceLag]) -> None:
        """All source partitions of this worker; others are no longer its own."""

    def state(self, sizes: list[StateSize]) -> None:
        """All partitions of this worker; others are no longer its own."""

    def misplaced(self, records: Mapping[str, int]) -> None:
        """Sampled records in another partition than their order's, by topic; 0 makes a topic known."""

    def flooded(self) -> None:
        """The flood guard has stopped the role, for good."""

    def started(self, topic: str, partition: int, start: Start) -> None:
        """A source partition is read from here on; what is `missed` was deleted before it was read."""

    def throttled(self, seconds: float) -> None:
        """The broker has made our producer wait for so long, by a quota."""
