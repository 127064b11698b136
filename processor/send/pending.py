"""pending: an entry on its way, the parcel it travels in, and the ways in which it can end.

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

    `order_id` names its lane; `epoch` the assignment of its partition; `size` its bytes in memory, about. `attempts`
    are requests that were answered or given up, `last` what came of the last that was no success; a pause or a
    refused key is no answer to it and uses up none. `replay_id` is the replay's that it may pass its order's hold
    with; `replayed`: an operator's replay brought it, straight or through transform.
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
    """Behind a refused entry of its order. `entry_id` is that entry."""

    entry_id: str


class Superseded(msgspec.Struct, frozen=True, gc=False):
    """A newer entry of its order has taken its place."""


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """Nothing needs to be done about it."""

    reason: IgnoredReason


SUPERSEDED = Superseded()
STALE = Ignored(IgnoredReason.STALE)
"""Older than what was sent of its order, or the same."""

Ending = Delivered | Rejected | Held | Superseded | Ignored


class Ended(msgspec.Struct, Generic[EntryT], frozen=True, gc=False):
    """What the event loop tells the Kafka thread of an entry. `at_ms` is the wall clock; `hold` is what the
    ending puts on the entry's order."""

    pending: Pending[EntryT]
    ending: Ending
    at_ms: int
    hold: Hold | None = None
