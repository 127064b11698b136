"""units: the units of an order that may still move, and the units that must move with them. Pure.

Owned by `rules.py`, which decides which events are judged, and when. This module decides whether the content of an
event is sound.

A unit of a line item is ordered, and then moves along two independent roads, out to the customer and back as money;
cancellation closes both:

    remains for fulfilment    ordered − fulfilled − cancelled
    remains for refund        ordered − refunded − cancelled
    remains for cancellation  ordered − max(fulfilled, refunded) − cancelled

so that, for every product, fulfilled + cancelled ≤ ordered and refunded + cancelled ≤ ordered. Only the movements that
the shop itself has reported are judged; those that pairing has added do not stand in the way.

An event's items are judged in their sequence, each after the ones before it, so several items of one line item add up.
An item of no unit is left out. The first bad item decides; of its own faults the first of: unknown, quantity, too late.

Pairing: a protection keeps at most as many units as its product has left (ordered − refunded − cancelled), and is
fulfilled with it, up to its own quantity. The missing movements are added after the named items, at the item's time. So
in whatever order the shop reports, the number of units that are gone from a protection is

    max(the units that the shop took, its quantity − the units that its product has left)

Two sources may therefore report one refund in any order. A movement that pairing has added absorbs the shop's own later
refund or cancellation of the protection: a unit is gone once. A protected protection takes its own protection along.

A protection can be withdrawn although it was fulfilled, by pairing or by a shop that fulfils its plans when they are
paid. If its product is out as well, the shop has to refund it instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from processor.records import LineItem, Movement, OrderCancelled, OrderEvent, OrderPlaced, Reason
from processor.transform.order_state import LineTotals, Totals

Lines = tuple[LineItem, ...]
Movements = tuple[Movement, ...]

NOTHING_MOVED: Final = LineTotals()


class Road(msgspec.Struct, frozen=True, gc=False):
    """One way in which units move. Functions of the units ordered and of a line item's totals."""

    name: str
    remains: Callable[[int, LineTotals], int]
    """Returns how many units may still move in this direction, by the shop's own movements."""
    plus: Callable[[LineTotals, int, int], LineTotals]
    """Returns the totals after the shop has reported `said` units and Hakuna knows `told` of them."""
    untold: Callable[[int, LineTotals, int], int]
    """Returns how many of a protection's units that the shop has just moved Hakuna does not know yet."""
    reached: Callable[[int, LineTotals], int]
    """Returns how far a product has moved, which its protections must follow."""
    onward: int
    """How much one more unit that moves adds to `reached`."""
    due: Callable[[int, LineTotals, int], int]
    """Returns how many units of a protection must follow a product that has reached this much; none if less than 1."""


def _due_out(ordered: int, totals: LineTotals, reached: int) -> int:
    return min(min(ordered, reached) - totals.told_fulfilled, ordered - totals.told_fulfilled - totals.told_cancelled)


def _due_back(ordered: int, totals: LineTotals, left: int) -> int:
    return ordered - totals.told_refunded - totals.told_cancelled - left


def _untold_out(ordered: int, totals: LineTotals, units: int) -> int:
    # Hakuna need not hear of the fulfilment of a unit that pairing has cancelled with its product.
    untold = units - max(0, totals.told_fulfilled - totals.fulfilled)
    return max(0, min(untold, ordered - totals.told_fulfilled - totals.told_cancelled))


def _untold_back(ordered: int, totals: LineTotals, units: int) -> int:
    ahead = totals.told_refunded + totals.told_cancelled - totals.refunded - totals.cancelled
    assert ahead >= 0, "the shop said more of a protection than was told"
    return max(0, units - ahead)


def _left(ordered: int, totals: LineTotals) -> int:
    return ordered - totals.told_refunded - totals.told_cancelled


# Functions in a struct, and not an enum that is matched on: in Python 3.11 each mention of an enum's member
# costs 0.1 µs or more, and an event of two items would mention it a dozen times: 12 µs an event became 5.
FULFILMENT: Final = Road(
    "fulfilment",
    lambda ordered, t: ordered - t.fulfilled - t.cancelled,
    lambda t, said, told: LineTotals(
        t.fulfilled + said, t.refunded, t.cancelled, t.told_fulfilled + told, t.told_refunded, t.told_cancelled
    ),
    _untold_out,
    lambda ordered, t: t.told_fulfilled,
    1,
    _due_out,
)
REFUND: Final = Road(
    "refund",
    lambda ordered, t: ordered - t.refunded - t.cancelled,
    lambda t, said, told: LineTotals(
        t.fulfilled, t.refunded + said, t.cancelled, t.told_fulfilled, t.told_refunded + told, t.told_cancelled
    ),
    _untold_back,
    _left,
    -1,
    _due_back,
)
CANCELLATION: Final = Road(
    "cancellation",
    lambda ordered, t: ordered - max(t.fulfilled, t.refunded) - t.cancelled,
    lambda t, said, told: LineTotals(
        t.fulfilled, t.refunded, t.cancelled + said, t.told_fulfilled, t.told_refunded, t.told_cancelled + told
    ),
    _untold_back,
    _left,
    -1,
    _due_back,
)


class Moved(msgspec.Struct, frozen=True, gc=False):
    """The movements of an event. `said` are its items with a quantity; `told` those that Hakuna does not know yet, then
    `added` by pairing; `absorbed` those that it knows; `totals` the line items' totals afterwards."""

    said: Movements
    told: Movements
    absorbed: Movements
    added: Movements
    totals: Totals


class Unfit(msgspec.Struct, frozen=True, gc=False):
    """Why an event cannot be taken, not even in part."""

    reason: Reason
    message: str


def move(
    road: Road, lines: Lines, totals: Totals, items: Movements, *, until_ms: int | None, pairing: bool
) -> Moved | Unfit:
    """Takes an event's items whole or not at all. `until_ms` is when the order was cancelled, or None."""
    remains, plus = road.remains, road.plus
    after = list(totals)
    places, protections = _places(lines)
    said: list[Movement] = []
    told: list[Movement] = []
    absorbed: list[Movement] = []
    for item in items:
        units = item.quantity
        if units == 0:
            continue
        named = places.get(item.line_item_id)
        if named is None:
            return Unfit(Reason.LINE_ITEM_UNKNOWN, f"the order has no line item {shown(item.line_item_id)}")
        so_far, line = after[named], lines[named]
        left, protection = remains(line.quantity, so_far), line.protection
        if protection is not None and road is CANCELLATION:
            left = _withdrawable(line.quantity, so_far, after[places[protection.protects_line_item_id]])
        assert left >= 0 or protection is not None, "more units moved than were ordered"
        if not 1 <= units <= left:
            return _exceeded(road, item, left)
        if until_ms is not None and item.at_ms > until_ms:
            return _too_late(road, item, until_ms)
        said.append(item)
        if not protections:
            after[named] = plus(so_far, units, units)
            continue
        untold = units if protection is None else road.untold(line.quantity, so_far, units)
        after[named] = plus(so_far, units, untold)
        if untold < units:
            absorbed.append(Movement(item.line_item_id, units - untold, item.at_ms))
        if untold:
            told.append(item if untold == units else Movement(item.line_item_id, untold, item.at_ms))

    if not protections:
        whole = items if len(said) == len(items) else tuple(said)
        return Moved(whole, whole, (), (), tuple(after))
    named_items = len(told)
    if pairing:
        _follow(road, lines, totals, after, told, places, protections)
    return Moved(tuple(said), tuple(told), tuple(absorbed), tuple(told[named_items:]), tuple(after))


def _places(lines: Sequence[LineItem]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Returns the place of each line by its ID, and the places of its protections."""
    places: dict[str, int] = {}
    protections: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        places[line.id] = place
        if line.protection is not None:
            protections.setdefault(line.protection.protects_line_item_id, []).append(place)
    return places, protections


def _exceeded(road: Road, item: Movement, left: int) -> Unfit:
    what = f"{road.name} of {item.quantity}, but {max(0, left)} remain"
    return Unfit(Reason.QUANTITY_EXCEEDED, f"line item {shown(item.line_item_id)}: {what}")


def _too_late(road: Road, item: Movement, until_ms: int) -> Unfit:
    what = f"{road.name} {item.at_ms - until_ms} ms after the order was cancelled"
    return Unfit(Reason.ORDER_CANCELLED, f"line item {shown(item.line_item_id)}: {what}")


def _withdrawable(ordered: int, totals: LineTotals, product: LineTotals) -> int:
    """Returns how many units of a protection may still be cancelled: a unit is out only if its product is."""
    out = min(totals.fulfilled, product.told_fulfilled)
    return ordered - max(out, totals.refunded) - totals.cancelled


def _follow(
    road: Road,
    lines: Sequence[LineItem],
    before: Sequence[LineTotals],
    after: list[LineTotals],
    told: list[Movement],
    places: Mapping[str, int],
    protections: Mapping[str, list[int]],
) -> None:
    """Adds the units of protections that must follow the movements in `told` to `told` and `after`."""
    reached: dict[int, int] = {}
    for item in told:  # grows as it is walked: an added line may be protected too
        followers = protections.get(item.line_item_id)
        if followers is None:
            continue
        at = places[item.line_item_id]
        if at not in reached:
            reached[at] = road.reached(lines[at].quantity, before[at])
        reached[at] += road.onward * item.quantity
        for place in followers:
            units = road.due(lines[place].quantity, after[place], reached[at])
            if units > 0:
                told.append(Movement(lines[place].id, units, item.at_ms))
                after[place] = road.plus(after[place], 0, units)


def of_no_unit(event: OrderEvent) -> int:
    """Returns how many of an event's lines or items are left out because they have no unit."""
    if isinstance(event, OrderCancelled):
        return 0
    count = 0
    for item in event.line_items if isinstance(event, OrderPlaced) else event.items:
        if not item.quantity:
            count += 1
    return count


def without_empty_lines(placed: OrderPlaced) -> OrderPlaced:
    """Returns the order without its lines of no unit, which are how an edited order keeps its removed lines."""
    if all(line.quantity for line in placed.line_items):
        return placed
    return msgspec.structs.replace(placed, line_items=tuple([line for line in placed.line_items if line.quantity]))


def unfit_order(placed: OrderPlaced) -> Unfit | None:
    """Returns what is wrong with an order by itself, or None."""
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
            what = f"line item {shown(line.id)} protects {shown(protects)}, no other line item of the order"
            return Unfit(Reason.PROTECTION_DANGLING, what)
    return None


def carried_over(before: Sequence[LineItem], totals: Totals, corrected: OrderPlaced) -> Totals | Unfit:
    """Returns the totals of a corrected order: movements that the shop has reported stay.

    A removed line item must have no movements. A kept one must have at least as many units as moved: a snapshot with
    "2 ordered, 3 fulfilled" is wrong in either number, and the remaining units would stay negative.
    """
    kept = {line.id: moved for line, moved in zip(before, totals, strict=True)}
    after = tuple([_corrected(kept.pop(line.id, NOTHING_MOVED), line) for line in corrected.line_items])
    for dropped, moved in kept.items():
        if moved.fulfilled or moved.refunded or moved.cancelled:
            what = f"the correction drops line item {shown(dropped)}, of which units moved"
            return Unfit(Reason.LINE_ITEM_UNKNOWN, what)
    for line, moved in zip(corrected.line_items, after, strict=True):
        if _moved_most(line, moved) > line.quantity:
            what = f"line item {shown(line.id)}: the correction leaves {line.quantity}, but more units moved"
            return Unfit(Reason.QUANTITY_EXCEEDED, what)
    return after


def _moved_most(line: LineItem, moved: LineTotals) -> int:
    """Returns the least quantity that a line item must have. A protection that was fulfilled may be cancelled."""
    if line.protection is not None:
        return max(moved.fulfilled, moved.refunded + moved.cancelled)
    return max(moved.fulfilled, moved.refunded) + moved.cancelled


def _corrected(moved: LineTotals, line: LineItem) -> LineTotals:
    """Returns a corrected line's totals: without what pairing added, unless it is a protection that still fits."""
    gone = moved.told_refunded + moved.told_cancelled
    if line.protection is not None and max(moved.told_fulfilled, gone) <= line.quantity:
        return moved
    said = (moved.fulfilled, moved.refunded, moved.cancelled)
    return LineTotals(*said, *said)


def shown(foreign_id: str) -> str:
    """Returns a foreign ID cut short for a message. The message becomes a header of the dead letter, beside the
    record's own bytes: with an ID of a megabyte, no broker would take the letter."""
    return foreign_id if len(foreign_id) <= 100 else foreign_id[:100] + "…"
