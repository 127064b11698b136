"""Version 1 of the state as it was stored: its structs in their old shape, never to be changed. Pure.

Owned by `order_state.py`, which makes today's state of them. Version 1 did not tell what a shop had said of a
protection from what pairing had added to it (`apart`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from processor.records import Movement, OrderEvent, OrderPlaced, Record


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order as it stood; a protection's movements among the others."""

    placed: OrderPlaced
    fulfilments: tuple[Movement, ...] = ()
    refunds: tuple[Movement, ...] = ()
    cancellations: tuple[Movement, ...] = ()
    cancelled_at_ms: int | None = None


class LineTotals(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Units told of a line item."""

    fulfilled: int = 0
    refunded: int = 0
    cancelled: int = 0


class ParkedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that came before its order."""

    event: OrderEvent
    origin: Record
    parked_at_ms: int


class OrderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The body of a state."""

    standing: str
    touched_at_ms: int
    order: Order | None
    totals: tuple[LineTotals, ...]
    event_ids: tuple[str, ...]
    parked: tuple[ParkedEvent, ...]


decoder: Final = msgspec.msgpack.Decoder(OrderState)


class Apart(NamedTuple):
    """The movements of one road: what the shop said, and what pairing added."""

    said: tuple[Movement, ...]
    added: tuple[Movement, ...]

    def added_to(self, line_item_id: str) -> int:
        return sum(movement.quantity for movement in self.added if movement.line_item_id == line_item_id)


def apart(placed: OrderPlaced, movements: Sequence[Movement]) -> Apart:
    """A movement of a protection beside one of its product, on the same road and at the same time, is pairing's: that
    is how pairing added it, and most shops leave it to that."""
    protects = {
        line.id: line.protection.protects_line_item_id for line in placed.line_items if line.protection is not None
    }
    times = {(movement.line_item_id, movement.at_ms) for movement in movements}
    said: list[Movement] = []
    added: list[Movement] = []
    for movement in movements:
        product = protects.get(movement.line_item_id)
        is_added = product is not None and (product, movement.at_ms) in times
        (added if is_added else said).append(movement)
    return Apart(tuple(said), tuple(added))
