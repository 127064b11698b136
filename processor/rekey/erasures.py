"""erasures: an erasure is written only when no worker is behind it. Otherwise it would find no order, and leave data.

    worker A: … OrderPlaced 10:00 │ (a backlog)
    worker B: … erasure 10:05     │ waits until no partition of another worker has a record from before 10:05

A worker does not see the partitions of others. Transform parks an event that comes before its order; it cannot park an
erasure, which does not name the event that it waits for.

No two workers wait for each other: the earliest erasure of all waits for nobody. One answer holds for all erasures up
to the oldest record that others have left, so a worker that is alone asks once, and a flood asks twice a second at
most.

Owned by the rekey thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from processor.interfaces import Clock
from processor.moments import iso
from processor.records import TopicPartition

_ASK_S: Final = 0.5
_FOREVER_MS: Final = 2**63 - 1
_NAMED_MAX: Final = 3


class Others(Protocol):
    """The source partitions of other workers."""

    def left(self, mine: Collection[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        """Returns the time (epoch ms) of each one's first untaken record; None. Raises `BrokerOutage`, `Fatal`."""


class Erasures:
    """Mutable: `_passed_ms` is the time up to which others have taken everything, as found for the partitions `_mine`;
    `_ask_at_s` is when to ask again; `waits_for` is the last answer in words (None: an erasure may pass)."""

    def __init__(self, others: Others, clock: Clock) -> None:
        self._others = others
        self._clock = clock
        self._mine: frozenset[TopicPartition] = frozenset()
        self._passed_ms = -1
        self._ask_at_s = 0.0
        self.waits_for: str | None = None

    def may_pass(self, at_ms: int, mine: Collection[TopicPartition]) -> bool:
        """Returns true if an erasure of this time may be written. Raises `BrokerOutage`: not yet."""
        if self._mine != mine:
            self._mine = frozenset(mine)
            self._passed_ms = -1
        if at_ms <= self._passed_ms:
            self.waits_for = None
            return True
        now_s = self._clock.monotonic_s()
        if now_s < self._ask_at_s:
            return False
        self._ask_at_s = now_s + _ASK_S
        left = self._others.left(mine)
        if left is None:
            self._passed_ms = _FOREVER_MS
        elif left:
            self._passed_ms = min(left.values())
        else:
            # A record that is written from now on is live, and as early or late as for a single worker.
            self._passed_ms = max(at_ms, self._clock.now_ms())
        behind = sorted(where for where, first_ms in (left or {}).items() if first_ms < at_ms)
        self.waits_for = None
        if behind:
            names = ", ".join(f"{where.topic}/{where.partition}" for where in behind[:_NAMED_MAX])
            more = f" and {len(behind) - _NAMED_MAX} more" if len(behind) > _NAMED_MAX else ""
            self.waits_for = f"{names}{more} of other workers are behind an erasure of {iso(at_ms)}"
        return not behind
