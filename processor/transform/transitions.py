"""The arguments and results of the rules: settings, an event, and every possible effect. Pure.

Owned by `rules.py`; the code that performs the effects matches on them.
"""

from __future__ import annotations

import msgspec

from processor.hakuna import Api, Orders
from processor.records import Change, IgnoredReason, Order, OrderEvent, Reason, Record
from processor.transform.order_state import OrderState


class Rules(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The settings that the rules depend on."""

    api: Api
    orders: Orders
    fulfil_protection: bool
    """True if the Events API gets the fulfilment of a protection with its product; the feed always does."""
    park_for_ms: int
    parked_max: int = 100
    """A producer that never places its orders would otherwise fill the state with whole records."""
    event_ids_max: int = 1_000
    """An order with endless events would otherwise grow with each, and is rewritten whole every time."""

    def __post_init__(self) -> None:
        assert self.park_for_ms > 0
        assert self.parked_max > 0
        assert self.event_ids_max > 0


class Taken(msgspec.Struct, frozen=True, gc=False):
    """An event, and the record in which it came."""

    event: OrderEvent
    origin: Record


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The order changed: the Events API gets `change`, the feed gets `order_after`."""

    taken: Taken
    change: Change
    order_after: Order


class Retold(msgspec.Struct, frozen=True, gc=False):
    """Hakuna gets a movement from before the order had protection. The event was counted when it came."""

    taken: Taken
    change: Change
    order_after: Order


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """Nothing needs to be done, for a reason that is counted."""

    taken: Taken
    reason: IgnoredReason


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The event cannot be taken: a dead letter of its origin. The message holds no customer data."""

    taken: Taken
    reason: Reason
    message: str


class Parked(msgspec.Struct, frozen=True, gc=False):
    """The event waits in the state for its order; its effect comes later."""

    taken: Taken


Effect = Applied | Retold | Ignored | Refused | Parked


class Transition(msgspec.Struct, frozen=True, gc=False):
    """The state to keep from now on (None: none), and the effects to perform, in this sequence."""

    state: OrderState | None
    effects: tuple[Effect, ...]
