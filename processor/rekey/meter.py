"""What rekey measures: facts in bulk, once per transaction or second, never per record.

`processor/edges/metrics.py` turns them into Prometheus metrics; a test may keep them in a list.
"""

from __future__ import annotations

from typing import Protocol

from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start


class RekeyMeter(Protocol):
    """Called by the rekey thread."""

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None: ...

    def written(self, written: Written) -> None: ...

    def lag(self, lags: list[SourceLag]) -> None:
        """All source partitions of this worker; others are no longer its own."""

    def started(self, topic: str, partition: int, start: Start) -> None:
        """A source partition is read from here on; what is `missed` was deleted before it was read."""

    def flooded(self) -> None:
        """The flood guard has stopped the role, for good."""
