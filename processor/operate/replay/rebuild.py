"""rebuild: an entry's payload made anew, from today's state and by today's code. Pure.

    order            the snapshot of the order as it stands
    order_placed     what the state holds as placed
    order_cancelled  the time of the cancellation in the state
    movements        what this event moved by the state: the event's own items, then the protection that went with them

The event itself, read again from its source record, shows which of the state's movements an entry is about: its items
are in the state in a row, and what pairing made of them is beside them, under the event's ID. A state before version 2
has only the kind of the event; then the protection of its items that moved at the same time went with it.

Nothing is guessed. A letter is not rebuilt, and says why, if its source record or the state is gone, or if the state
does not hold its items, or holds them twice without knowing which had the protection.
"""

from __future__ import annotations

from typing import Final

from processor.hakuna import events, feed
from processor.letters.patch import Unsendable
from processor.records import (
    Cancelled,
    Change,
    EntryType,
    Fulfilled,
    LineItem,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    LinesCancelled,
    Movement,
    Order,
    OrderEvent,
    Placed,
    Refunded,
    event_key,
)
from processor.transform.placed import refunded_in_time

_MOVEMENTS: Final = frozenset(
    {EntryType.ORDER_FULFILLMENT_ADDED, EntryType.ORDER_REFUND_ADDED, EntryType.ORDER_LINE_ITEMS_CANCELLED}
)


def needs_source(entry_type: EntryType) -> bool:
    """Returns true if the event itself must be read again."""
    return entry_type in _MOVEMENTS


def rebuilt(
    entry_type: EntryType, order: Order | None, event: OrderEvent | None, *, fulfil_protection: bool
) -> bytes | Unsendable:
    """Returns the payload as it would be made today, or why it cannot be made. `order` is the order of the state,
    `event` that of the source record if `needs_source`; `fulfil_protection` is the installation's setting."""
    if order is None:
        return Unsendable("the state holds no such order any more")
    if entry_type is EntryType.ORDER:
        return feed.snapshot(order)
    change = _change(entry_type, order, event, fulfil_protection)
    return change if isinstance(change, Unsendable) else events.entry(change, order)[1]


def _change(
    entry_type: EntryType, order: Order, event: OrderEvent | None, fulfil_protection: bool
) -> Change | Unsendable:
    match entry_type, event:
        case EntryType.ORDER_PLACED, _:
            return Placed(order.placed)
        case EntryType.ORDER_CANCELLED, _:
            if order.cancelled_at_ms is None:
                return Unsendable("the state does not say that the order was cancelled")
            return Cancelled(order.cancelled_at_ms)
        case EntryType.ORDER_FULFILLMENT_ADDED, LineItemsFulfilled(items=items):
            moved = _moved(event, items, order.fulfilments, order, pairing=fulfil_protection)
            return moved if isinstance(moved, Unsendable) else Fulfilled(moved)
        case EntryType.ORDER_REFUND_ADDED, LineItemsRefunded(items=items):
            in_time = refunded_in_time(items, order.cancelled_at_ms)
            moved = _moved(event, items, order.refunds, order, pairing=True)
            if isinstance(moved, Unsendable) and in_time != items:  # it came after the order was cancelled
                moved = _moved(event, in_time, order.refunds, order, pairing=True)
            return moved if isinstance(moved, Unsendable) else Refunded(moved)
        case EntryType.ORDER_LINE_ITEMS_CANCELLED, LineItemsCancelled(items=items):
            moved = _moved(event, items, order.cancellations, order, pairing=True)
            return moved if isinstance(moved, Unsendable) else LinesCancelled(moved)
        case _:
            return Unsendable("its source record holds another kind of event")


def _moved(
    event: OrderEvent, items: tuple[Movement, ...], movements: tuple[Movement, ...], order: Order, *, pairing: bool
) -> tuple[Movement, ...] | Unsendable:
    """Returns what Hakuna was told of this event, whose items are among the order's `movements`."""
    said = tuple(item for item in items if item.quantity)
    if not said:
        return Unsendable("its source record names no line item")
    times = sum(movements[start : start + len(said)] == said for start in range(len(movements) - len(said) + 1))
    if not times:
        return Unsendable("the state does not hold what it moved")
    key = event_key(event)
    own = next((one for one in order.pairings if one.event == key), None)
    if own is not None:
        told = _without(said, own.absorbed) + (own.added if pairing else ())
        return told or Unsendable("nothing of it is told: pairing has told all that it says")
    unnamed = next((one for one in order.pairings if one.event == key[:1]), None)
    if unnamed is None or not pairing:
        return said
    added = _added_to(said, unnamed.added, order.placed.line_items)
    if added and times > 1:
        return Unsendable("the state holds what it moved twice, with different protection")
    return said + added


def _without(said: tuple[Movement, ...], absorbed: tuple[Movement, ...]) -> tuple[Movement, ...]:
    """Returns the items without what was told before, which is taken off the first item that it belongs to."""
    off: dict[tuple[str, int], int] = {}
    for one in absorbed:
        off[one.line_item_id, one.at_ms] = off.get((one.line_item_id, one.at_ms), 0) + one.quantity
    left: list[Movement] = []
    for item in said:
        units = min(item.quantity, off.get((item.line_item_id, item.at_ms), 0))
        if units:
            off[item.line_item_id, item.at_ms] -= units
        if item.quantity > units:
            left.append(Movement(item.line_item_id, item.quantity - units, item.at_ms))
    return tuple(left)


def _added_to(
    said: tuple[Movement, ...], added: tuple[Movement, ...], lines: tuple[LineItem, ...]
) -> tuple[Movement, ...]:
    """Returns the movements that pairing added to any event and that belong to these items."""
    protections: dict[str, list[str]] = {}
    for line in lines:
        if line.protection is not None:
            protections.setdefault(line.protection.protects_line_item_id, []).append(line.id)
    named = {item.line_item_id for item in said}
    pool = list(added)
    told = list(said)
    for item in told:  # grows meanwhile: an added item may be protected too
        for line_id in protections.get(item.line_item_id, ()):
            if line_id in named:
                continue
            for one in pool:
                if one.line_item_id == line_id and one.at_ms == item.at_ms and one.quantity <= item.quantity:
                    told.append(one)
                    pool.remove(one)
                    break
    return tuple(told[len(said) :])
