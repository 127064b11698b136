"""Gatherer: holds the waiting entries for the sender. `Lanes` is one; Hako's gathering is another.

`Memory` is what a destination must remember of its entries beyond a restart, read from a compacted topic when a
partition is taken over: Hakuna's holds, or what Hako has accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from processor.letters.holds import Hold
from processor.records import OrderId
from processor.send.destination import EntryT
from processor.send.event_loop.lanes import LaneState, Parcel
from processor.send.meter import WaitsFor
from processor.send.pending import Pending


class Gatherer(Protocol[EntryT]):
    """See `Lanes`, whose methods these are."""

    def open(self, epoch: int) -> None: ...

    def push(self, pending: Pending[EntryT], now_s: float) -> Pending[EntryT] | None:
        """Takes a new entry. Returns the entry that it replaces, or itself if it is older than what is known."""

    def take(self, now_s: float, fresh_first: bool = False) -> Parcel[EntryT] | None: ...
    def next_s(self) -> float | None: ...
    def finish(self, parcel: Parcel[EntryT], now_s: float, delivered: bool) -> None: ...
    def retry(self, parcel: Parcel[EntryT], due_s: float) -> list[Pending[EntryT]]: ...
    def split(self, parcel: Parcel[EntryT], now_s: float) -> list[Pending[EntryT]]: ...
    def drop(self, epochs: Collection[int]) -> None: ...

    def caught_up(self, epochs: Collection[int]) -> None:
        """Called when these partitions have been read to the ends that they had when they were assigned."""

    def state(self, order_id: str) -> LaneState | None: ...

    def has_enough(self, at_once: int) -> bool:
        """Returns true if that many requests at once need no more entries now."""

    def oldest_s(self) -> float | None: ...
    def waits(self) -> Mapping[WaitsFor, int]: ...


class Memory(Protocol):
    """See `Holds`, whose methods these are."""

    total: int

    def open(self, epoch: int) -> None: ...
    def close(self, epoch: int) -> None: ...

    def read(self, epoch: int, order_id: OrderId, past: Any) -> None:
        """Takes `past` from the destination's `Past`; None for a tombstone."""

    def sweep(self) -> None: ...
    def count(self, epoch: int) -> int: ...
    def of(self, epoch: int, order_id: OrderId) -> Hold | None: ...
    def refused(self, epoch: int, hold: Hold) -> None: ...
