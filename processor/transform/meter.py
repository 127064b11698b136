"""The metrics of transform beside those that it shares with rekey (`SourceMeter`): facts in bulk, never per record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from processor.sources.standing import SourceMeter


class StateSize(NamedTuple):
    """One partition's state: orders, parked events, changelog records still to be restored, and the age of the oldest
    parked event (0 if there is none)."""

    partition: int
    orders: int
    parked_events: int
    restore_remaining: int
    parked_oldest_s: float


class TransformMeter(SourceMeter, Protocol):
    """Called by the transform thread."""

    def state(self, sizes: list[StateSize]) -> None:
        """Takes all partitions of this worker; others are no longer its own."""

    def misplaced(self, records: Mapping[str, int]) -> None:
        """Takes the sampled records in another partition than their order's, by topic; 0 makes a topic known."""

    def throttled(self, seconds: float) -> None:
        """The broker has made our producer wait for so long, by a quota."""
