"""rebuild: an entry's payload made anew, from today's state and by today's code. Pure.

    order          the snapshot of the order as it stands
    order_placed   what the state holds as placed
    order_cancelled   when the state says that it was
    movements      what the state says that this event moved: the event's own items, then the protection that went
                   with them

Which of the state's movements an entry tells of is found by the event itself, read again from its source record: its
items stand in the state in a row, and pairing put what it added right behind them. What a pairing would add depends on
what remained then, which nobody knows any more; what it did add is there to be seen: where nothing remained of a
protection, no later movement of it can follow.

Nothing is guessed: a letter of which the source record or the state is gone, or whose items the state does not hold or
holds twice with different pairing, is not rebuilt, and says why.
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
)

_MOVEMENTS: Final = frozenset(
    {
        EntryType.ORDER_FULFILLMENT_ADDED,
        EntryType.ORDER_REFUND_ADDED,
        EntryType.ORDER_LINE_ITEMS_CANCELLED,
    }
)


def needs_source(entry_type: EntryType) -> bool:
    """Whether the event itself has to be read again."""
    return entry_type in _MOVEMENTS


def rebuilt(
    entry_type: EntryType, order: Order | None, event: OrderEvent | None, *, fulfil_protection: bool
) -> bytes | Unsendable:
    """The payload as it would be made today. `order` is the order as the state has it, `event` the source record's
    where `needs_source` asks for it; `fulfil_protection` as the installation is set."""
    if order is None:
        return Unsendable("the state holds no such order any more")
    if entry_type is EntryType.ORDER:
        return feed.snapshot(order)
    change = _change(entry_type, order, event, fulfil_protection)
    return change if isinstance(change, Unsendable) else events.entry(change, order)[1]


def _change(
    entry_type: EntryType, order: Order, event: OrderEvent | None, fulfil_protection: bool
) -> Change | Unsendable:
    lines = order.placed.line_items
    match entry_type, event:
        case EntryType.ORDER_PLACED, _:
            return Placed(order.placed)
        case EntryType.ORDER_CANCELLED, _:
            if order.cancelled_at_ms is None:
                return Unsendable("the state does not say that the order was cancelled")
            return Cancelled(order.cancelled_at_ms)
        case EntryType.ORDER_FULFILLMENT_ADDED, LineItemsFulfilled(items=items):
            moved = moved_by(items, order.fulfilments, lines, pairing=fulfil_protection)
            return moved if isinstance(moved, Unsendable) else Fulfilled(moved)
        case EntryType.ORDER_REFUND_ADDED, LineItemsRefunded(items=items):
            moved = moved_by(items, order.refunds, lines, pairing=True)
            return moved if isinstance(moved, Unsendable) else Refunded(moved)
        case EntryType.ORDER_LINE_ITEMS_CANCELLED, LineItemsCancelled(items=items):
            moved = moved_by(items, order.cancellations, lines, pairing=True)
            return moved if isinstance(moved, Unsendable) else LinesCancelled(moved)
        case _:
            return Unsendable("its source record holds another kind of event")


def moved_by(
    items: tuple[Movement, ...], movements: tuple[Movement, ...], lines: tuple[LineItem, ...], *, pairing: bool
) -> tuple[Movement, ...] | Unsendable:
    """What the event with these items moved, as it stands among the order's `movements`."""
    if not items:
        return Unsendable("its source record names no line item")
    runs = {
        items + (_paired(items, movements[start + len(items) :], lines) if pairing else ())
        for start in range(len(movements) - len(items) + 1)
        if movements[start : start + len(items)] == items
    }
    if not runs:
        return Unsendable("the state does not hold what it moved")
    if len(runs) > 1:
        return Unsendable("the state holds what it moved twice, with different protection")
    return runs.pop()


def _paired(
    items: tuple[Movement, ...], behind: tuple[Movement, ...], lines: tuple[LineItem, ...]
) -> tuple[Movement, ...]:
    """Those of the movements behind an event's own items that its pairing added."""
    protections: dict[str, list[str]] = {}
    for line in lines:
        if line.protection is not None:
            protections.setdefault(line.protection.protects_line_item_id, []).append(line.id)
    named = {item.line_item_id for item in items}
    moved = list(items)
    place = 0
    for item in moved:  # grows as it is walked: what was added may be protected too
        for line_id in protections.get(item.line_item_id, ()):
            if line_id in named or place == len(behind):
                continue
            next_one = behind[place]
            if next_one.line_item_id == line_id and next_one.at_ms == item.at_ms and next_one.quantity <= item.quantity:
                moved.append(next_one)
                place += 1
    return tuple(moved[len(items) :])
