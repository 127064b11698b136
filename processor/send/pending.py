"""pending: an entry that is being sent, and the ways in which it can end.

A `Pending` belongs to the event loop from hand-over to its ending, then to the Kafka thread again; the Kafka
thread reads a few fields of it in between, for `/status` alone.
"""

from __future__ import annotations

from typing import Generic

import msgspec

from processor.api.verdicts import Delivered, Rejected
from processor.letters.holds import Hold
from processor.records import IgnoredReason, Record
from processor.send.destination import EntryT


class Pending(msgspec.Struct, Generic[EntryT], gc=False):
    """An entry, and what has happened to it. Mutable: the fields below the line.

    `order_id` names its lane, `epoch` the assignment of its partition; `size` is about its bytes in memory. `attempts`
    counts the requests that were answered or given up, `last` describes the last failure; a pause or a refused key
    is not counted. With `replay_id`, the ID of a replay, it may pass its order's hold. `replayed` is true if a
    replay brought it, directly or through transform.
    """

    order_id: str
    entry_id: str
    entry: EntryT
    record: Record
    epoch: int
    size: int
    occurred_at_ms: int
    taken_ms: int
    replay_id: str | None
    replayed: bool = False

    attempts: int = 0
    in_progress: int = 0
    first_failed_ms: int | None = None
    last: str = ""


class Held(msgspec.Struct, frozen=True, gc=False):
    """It waits behind a refused entry of its order; `entry_id` is that entry."""

    entry_id: str


class Superseded(msgspec.Struct, frozen=True, gc=False):
    """A newer entry of its order has replaced it."""


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """It needs no request."""

    reason: IgnoredReason


SUPERSEDED = Superseded()
STALE = Ignored(IgnoredReason.STALE)
"""Not newer than what was sent of its order."""

Ending = Delivered | Rejected | Held | Superseded | Ignored


class Ended(msgspec.Struct, Generic[EntryT], frozen=True, gc=False):
    """The event loop's report of an entry to the Kafka thread. `at_ms` is the wall clock (epoch ms); `hold` is the hold
    that this ending puts on the entry's order, or None."""

    pending: Pending[EntryT]
    ending: Ending
    at_ms: int
    hold: Hold | None = None
