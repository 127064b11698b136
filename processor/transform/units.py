"""What may still move of an order's units, and what has to move with them.

Owned by `rules.py`, which asks here whether the content of an event is sound; which events are looked at at
all, and when, is decided there. Pure.

A unit of a line item is ordered, and then moves along two roads that know nothing of each other, out to the
customer and back as money; cancellation closes both:

    remains for fulfilment    ordered − fulfilled − cancelled
    remains for refund        ordered − refunded − cancelled
    remains for cancellation  ordered − max(fulfilled, refunded) − cancelled

so that, always and for every line item, fulfilled + cancelled ≤ ordered and refunded + cancelled ≤ ordered.

An event's items are judged in their sequence, each on what the ones before it left, so several items that
name the same line item add up. The first bad item decides; of its own faults the first of: unknown,
quantity, too late.

Pairing: protection follows its product. For every item that names a protected line item, each protection of
that line item that the event does not name itself moves along, as many units as the item has and the
protection still has, at the item's time. One item is added for each, in the items' sequence, then the
order's. A protection that is itself protected takes its own protection along; this ends, since a line item
protects at most one other and those that are named are never added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from processor.records import LineItem, Movement, OrderPlaced, Reason
from processor.transform.order_state import LineTotals

NOTHING_MOVED: Final = LineTotals()


class Road(msgspec.Struct, frozen=True, gc=False):
    """One way in which units move: how many may still go it, and what the totals are when some went."""

    name: str
    remains: Callable[[int, LineTotals], int]
    """Of so many units ordered, after these totals."""
    plus: Callable[[LineTotals, int], LineTotals]


# Functions in a struct, and not an enum that is matched on: in Python 3.11 each mention of an enum's member
# costs 0.1 µs or more, and an event of two items would mention it a dozen times: 12 µs an event became 5.
FULFILMENT: Final = Road(
    "fulfilment",
    lambda ordered, totals: ordered - totals.fulfilled - totals.cancelled,
    lambda totals, units: LineTotals(totals.fulfilled + units, totals.refunded, totals.cancelled),
)
REFUND: Final = Road(
    "refund",
    lambda ordered, totals: ordered - totals.refunded - totals.cancelled,
    lambda totals, units: LineTotals(totals.fulfilled, totals.refunded + units, totals.cancelled),
)
CANCELLATION: Final = Road(
    "cancellation",
    lambda ordered, totals: ordered - max(totals.fulfilled, totals.refunded) - totals.cancelled,
    lambda totals, units: LineTotals(totals.fulfilled, totals.refunded, totals.cancelled + units),
)


class Moved(msgspec.Struct, frozen=True, gc=False):
    """The items as they take effect, pairing included, and the line items' totals afterwards."""

    items: tuple[Movement, ...]
    totals: tuple[LineTotals, ...]


class Unfit(msgspec.Struct, frozen=True, gc=False):
    """Why an event cannot be taken; nothing of it is."""

    reason: Reason
    message: str


def move(
    road: Road,
    lines: tuple[LineItem, ...],
    totals: tuple[LineTotals, ...],
    items: tuple[Movement, ...],
    *,
    until_ms: int | None,
    pairing: bool,
) -> Moved | Unfit:
    """Takes an event's items whole or not at all. `until_ms` is when the order was cancelled, if it was."""
    if not items:
        return Unfit(Reason.QUANTITY_EXCEEDED, "the event names no line item, so no unit moves")
    remains, plus = road.remains, road.plus
    after = list(totals)
    places: dict[str, int] = {}
    protections: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        places[line.id] = place
        if line.protection is not None:
            protections.setdefault(line.protection.protects_line_item_id, []).append(place)

    for item in items:
        named = places.get(item.line_item_id)
        if named is None:
            return Unfit(Reason.LINE_ITEM_UNKNOWN, f"the order has no line item {shown(item.line_item_id)}")
        moved_so_far = after[named]
        left = remains(lines[named].quantity, moved_so_far)
        assert left >= 0, "more units moved than were ordered"
        if not 1 <= item.quantity <= left:
            return Unfit(
                Reason.QUANTITY_EXCEEDED,
                f"line item {shown(item.line_item_id)}: {road.name} of {item.quantity}, but {left} remain",
            )
        if until_ms is not None and item.at_ms > until_ms:
            return Unfit(
                Reason.ORDER_CANCELLED,
                f"line item {shown(item.line_item_id)}: {road.name} {item.at_ms - until_ms} ms after the"
                " order was cancelled",
            )
        after[named] = plus(moved_so_far, item.quantity)

    if not (pairing and protections):
        return Moved(items, tuple(after))
    by_name = {item.line_item_id for item in items}
    moved = list(items)
    for item in moved:  # grows as it is walked: what was added may be protected too
        for place in protections.get(item.line_item_id, ()):
            line = lines[place]
            if line.id in by_name:
                continue
            units = min(item.quantity, remains(line.quantity, after[place]))
            if units > 0:
                moved.append(Movement(line.id, units, item.at_ms))
                after[place] = plus(after[place], units)
    return Moved(tuple(moved), tuple(after))


def unfit_order(placed: OrderPlaced) -> Unfit | None:
    """What is wrong with an order by itself."""
    ids = {line.id for line in placed.line_items}
    if len(ids) < len(placed.line_items):
        counts = Counter(line.id for line in placed.line_items)
        twice = next(line_id for line_id, count in counts.items() if count > 1)
        return Unfit(Reason.LINE_ITEM_DUPLICATE, f"line item {shown(twice)} stands twice in the order")
    for line in placed.line_items:
        if line.quantity < 1:
            return Unfit(Reason.QUANTITY_EXCEEDED, f"line item {shown(line.id)}: {line.quantity} ordered")
    for line in placed.line_items:
        if line.protection is None:
            continue
        protects = line.protection.protects_line_item_id
        if protects not in ids or protects == line.id:
            return Unfit(
                Reason.PROTECTION_DANGLING,
                f"line item {shown(line.id)} protects {shown(protects)}, no other line item of the order",
            )
    return None


def carried_over(
    before: OrderPlaced, totals: tuple[LineTotals, ...], corrected: OrderPlaced
) -> tuple[LineTotals, ...] | Unfit:
    """The totals of a corrected order: what has moved stays moved.

    A line item that is gone must have no movements. One that is left must have at least as many units as
    moved: a snapshot that says "2 ordered, 3 fulfilled" is wrong whichever of the two the shop got wrong, and
    would make what remains negative for good.
    """
    kept = {line.id: moved for line, moved in zip(before.line_items, totals, strict=True)}
    after = tuple(kept.pop(line.id, NOTHING_MOVED) for line in corrected.line_items)
    for dropped, moved in kept.items():
        if moved != NOTHING_MOVED:
            return Unfit(
                Reason.LINE_ITEM_UNKNOWN,
                f"the correction drops line item {shown(dropped)}, of which units moved",
            )
    for line, moved in zip(corrected.line_items, after, strict=True):
        if CANCELLATION.remains(line.quantity, moved) < 0:
            return Unfit(
                Reason.QUANTITY_EXCEEDED,
                f"line item {shown(line.id)}: the correction leaves {line.quantity}, but more units moved",
            )
    return after


def shown(foreign_id: str) -> str:
    """An ID that someone else made, cut short for a message.

    The message becomes a header of the dead letter, beside the record's own bytes: an ID of a megabyte would
    make a dead letter that no broker takes.
    """
    return foreign_id if len(foreign_id) <= 100 else foreign_id[:100] + "…"
