"""What transform tells whoever measures it: facts in bulk, once per transaction or second, never per record.

`processor/edges/metrics.py` turns them into Prometheus metrics; a test may keep them in a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from processor.records import IgnoredReason, Outcome, Stage
from processor.sources import SourceLag, TransactionOutcome


class Written(NamedTuple):
    """What one committed transaction did, by source topic: each record once, by how it ended."""

    records: Mapping[tuple[str, Outcome], int]
    ignored: Mapping[tuple[str, IgnoredReason], int]
    dead_letters: Mapping[tuple[str, Stage, str], int]
    replayed: Mapping[tuple[str, Outcome], int]
    """Of a replay's those that are dead letters again; the others are the send role's to count."""
    astray: Mapping[str, int] = {}
    """Erasures that found no order, by topic, where the order lives in another partition."""


class StateSize(NamedTuple):
    """One partition's state: orders (about), parked events, changelog records still to be restored, the age of the
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
