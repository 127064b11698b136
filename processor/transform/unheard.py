"""unheard: orders that Hakuna does not get yet: those without protection with `HAKUNA_ORDERS=protected`, and those
whose lines all have quantity 0. Pure.

Owned by `rules.py`. The state of an unprotected order has what is needed to send it later, and nothing about a person:
lines and units, and each event that could be sent, with the place and time of its record. An event that does not fit is
ignored like the others, and forgotten. An event of an unknown line may be of a line that comes with the protection, and
is kept; as many are kept as are parked for an order that is not placed. When the order is placed again with protection,
it is placed (`placed.py`), and the events follow. An event that does not fit then was counted when it came.
"""

from __future__ import annotations

import msgspec

from processor.hakuna import Api, Orders
from processor.records import (
    IgnoredReason,
    LineItem,
    Order,
    OrderCancelled,
    OrderPlaced,
    Placed,
    Reason,
    Record,
    event_key,
)
from processor.transform.order_state import OrderState, ParkedEvent, Standing, Unheard
from processor.transform.placed import change, ignore, on_road, refuse
from processor.transform.transitions import Applied, Effect, Ignored, Retold, Rules, Taken, Transition
from processor.transform.units import NOTHING_MOVED, Unfit, carried_over, move, unfit_order, without_empty_lines


def not_ours(event: OrderPlaced, placed: OrderPlaced, rules: Rules) -> IgnoredReason | None:
    """Returns why Hakuna does not get an order; None if it does. `placed` is the event without lines of quantity 0."""
    if event.line_items and not placed.line_items:
        return IgnoredReason.NOTHING_MOVED
    if rules.orders is Orders.ALL or any(line.protection is not None for line in placed.line_items):
        return None
    return IgnoredReason.UNPROTECTED


def pass_over(
    parked: tuple[ParkedEvent, ...], taken: Taken, placed: OrderPlaced, why: IgnoredReason, rules: Rules, now_ms: int
) -> Transition:
    """Returns the state of a new order that Hakuna does not get: enough to send it later, without a person's data."""
    unheard = _unheard_lines(placed)
    state = OrderState(Standing.UNPROTECTED, now_ms, None, (), (event_key(placed),), (), unheard)
    effects: list[Effect] = [Ignored(taken, why)]
    for waiting in parked:
        assert state.unheard is not None, "an order that is not told of is"
        then = overhear(state, state.unheard, Taken(waiting.event, waiting.origin), rules, now_ms)
        assert then.state is not None, "an event made its order vanish"
        state = then.state
        effects += then.effects
    return Transition(state, tuple(effects))


def _unheard_lines(placed: OrderPlaced) -> Unheard:
    lines = () if unfit_order(placed) is not None else tuple([(line.id, line.quantity) for line in placed.line_items])
    return Unheard(lines, (NOTHING_MOVED,) * len(lines), None, ())


def overhear(state: OrderState, unheard: Unheard, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """Takes an event of an order that Hakuna does not get, and keeps it if it could be sent later."""
    after = _heard(unheard, taken, rules)
    ignored = ignore(state, taken, IgnoredReason.UNPROTECTED, rules, now_ms)
    assert ignored.state is not None
    return Transition(msgspec.structs.replace(ignored.state, unheard=after), ignored.effects)


def _heard(unheard: Unheard, taken: Taken, rules: Rules) -> Unheard:
    event = taken.event
    assert not isinstance(event, OrderPlaced)
    totals, until_ms = unheard.totals, unheard.cancelled_at_ms
    if isinstance(event, OrderCancelled):
        if until_ms is not None:
            return unheard
        until_ms = event.cancelled_at_ms
    elif unheard.lines is not None:
        road, items, late_ms = on_road(event, until_ms)
        moved = move(road, _bare(unheard), totals, items, until_ms=late_ms, pairing=False)
        if isinstance(moved, Unfit):
            if moved.reason is not Reason.LINE_ITEM_UNKNOWN or len(unheard.events) >= rules.parked_max:
                return unheard
        elif not moved.said:
            return unheard
        else:
            totals = moved.totals
            event = msgspec.structs.replace(event, items=moved.said)
    came = taken.origin
    origin = Record(came.topic, came.partition, came.offset, came.timestamp_ms, came.key, None, [])
    return Unheard(unheard.lines, totals, until_ms, (*unheard.events, ParkedEvent(event, origin, 0)))


def _bare(unheard: Unheard) -> tuple[LineItem, ...]:
    return tuple([LineItem(line_id, quantity, 0, "", "", "", None) for line_id, quantity in unheard.lines or ()])


def place_again(
    state: OrderState, unheard: Unheard, taken: Taken, event: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    """Takes the new placement of an order that Hakuna does not get. With protection, Hakuna gets it from now on."""
    placed = without_empty_lines(event)
    totals = carried_over(_bare(unheard), unheard.totals, placed)
    why = not_ours(event, placed, rules)
    if why is not None:
        ignored = ignore(state, taken, why, rules, now_ms)
        assert ignored.state is not None
        if unfit_order(placed) is None and not isinstance(totals, Unfit):
            lines = _unheard_lines(placed).lines
            unheard = Unheard(lines, totals, unheard.cancelled_at_ms, unheard.events)
        return Transition(msgspec.structs.replace(ignored.state, unheard=unheard), ignored.effects)
    unfit = unfit_order(placed) or (totals if isinstance(totals, Unfit) else None)
    if unfit is not None:
        return refuse(state, taken, unfit)
    return _hear_of(state, unheard, taken, placed, rules, now_ms)


def _hear_of(
    state: OrderState, unheard: Unheard, taken: Taken, placed: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    """Returns the order and then its earlier movements, in their order; the feed's snapshot has them already."""
    before = state.event_keys
    totals = (NOTHING_MOVED,) * len(placed.line_items)
    ours = OrderState(Standing.PLACED, now_ms, Order(placed), totals, before, (), None, state.event_ids)
    effects: list[Effect] = [Applied(taken, Placed(placed), Order(placed))]
    for kept in unheard.events:
        assert ours.order is not None, "a placed order vanished"
        then = change(ours, ours.order, Taken(kept.event, kept.origin), rules, now_ms)
        assert then.state is not None, "an event made its order vanish"
        ours = msgspec.structs.replace(then.state, event_keys=before)  # they are remembered already
        for effect in then.effects:
            if isinstance(effect, Applied):
                effects.append(Retold(effect.taken, effect.change, effect.order_after))
    if rules.api is Api.FEED:
        assert ours.order is not None, "a placed order vanished"
        effects = [Applied(taken, Placed(placed), ours.order)]
    return Transition(ours, tuple(effects))
