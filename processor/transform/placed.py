"""placed: what an event does to an order that is placed and that Hakuna gets. Pure.

Owned by `rules.py`, which chooses the branch. Each branch asks `units.py` whether the event is sound, and returns the
order after it and the effect.
"""

from __future__ import annotations

from processor.hakuna import Api, feed
from processor.records import (
    Cancelled,
    Change,
    Fulfilled,
    IgnoredReason,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    LinesCancelled,
    Movement,
    Order,
    OrderCancelled,
    OrderPlaced,
    Pairing,
    Placed,
    Reason,
    Refunded,
    event_key,
)
from processor.transform.order_state import OrderState, Standing, Totals
from processor.transform.transitions import Applied, Ignored, Refused, Rules, Taken, Transition
from processor.transform.units import (
    CANCELLATION,
    FULFILMENT,
    REFUND,
    Moved,
    Road,
    Unfit,
    carried_over,
    move,
    shown,
    unfit_order,
    without_empty_lines,
)


def change(state: OrderState, order: Order, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """Returns what an event does to an order that is placed."""
    event, until_ms = taken.event, order.cancelled_at_ms
    if isinstance(event, OrderPlaced):
        return _correct(state, order, taken, event, rules, now_ms)
    out, back, off = order.fulfilments, order.refunds, order.cancellations
    if isinstance(event, OrderCancelled):
        if until_ms is not None:
            return ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
        after = Order(order.placed, out, back, off, event.cancelled_at_ms, order.pairings)
        return _applied(state, taken, Cancelled(event.cancelled_at_ms), after, state.totals, rules, now_ms)
    road, items, late_ms = on_road(event, until_ms)
    if not items and any(item.quantity for item in event.items):
        return ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
    pairing = road is not FULFILMENT or rules.fulfil_protection or rules.api is Api.FEED
    moved = move(road, order.placed.line_items, state.totals, items, until_ms=late_ms, pairing=pairing)
    if isinstance(moved, Unfit):
        return refuse(state, taken, moved)
    told: Change
    if road is FULFILMENT:
        told, out = Fulfilled(moved.told), out + moved.said
    elif road is REFUND:
        told, back = Refunded(moved.told), back + moved.said
    else:
        told, off = LinesCancelled(moved.told), off + moved.said
    after = Order(order.placed, out, back, off, until_ms, _pairings(order, taken, moved, rules))
    return _moved(state, taken, moved, told, after, rules, now_ms)


def on_road(
    event: LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled, until_ms: int | None
) -> tuple[Road, tuple[Movement, ...], int | None]:
    """Returns the road of an event's items, the items that count, and when their order was cancelled. Items of a refund
    that come after the cancellation do not count, and the others are not late."""
    if isinstance(event, LineItemsRefunded):
        return REFUND, refunded_in_time(event.items, until_ms), None
    return FULFILMENT if isinstance(event, LineItemsFulfilled) else CANCELLATION, event.items, until_ms


def refunded_in_time(items: tuple[Movement, ...], until_ms: int | None) -> tuple[Movement, ...]:
    """Returns the items of a refund that count: a refund after the order's cancellation does not."""
    if until_ms is None:
        return items
    return tuple([item for item in items if item.quantity and item.at_ms <= until_ms])


def _pairings(order: Order, taken: Taken, moved: Moved, rules: Rules) -> tuple[Pairing, ...]:
    """Returns the order's pairings, with that of this event. A rebuild needs them, and `order` shows by them why
    nothing was sent. The feed is rebuilt from the shop's own movements, and needs them for `order` alone."""
    if (moved.absorbed or moved.added) and (not moved.told or rules.api is Api.EVENTS):
        return (*order.pairings, Pairing(event_key(taken.event), moved.absorbed, moved.added))
    return order.pairings


def _moved(
    state: OrderState, taken: Taken, moved: Moved, change: Change, after: Order, rules: Rules, now_ms: int
) -> Transition:
    """Returns the effect of moved units: applied if Hakuna must learn something new, ignored otherwise."""
    if not moved.said:
        return ignore(state, taken, IgnoredReason.NOTHING_MOVED, rules, now_ms)
    told = _applied(state, taken, change, after, moved.totals, rules, now_ms)
    if moved.told or _shows(state.order, after, rules):
        return told
    return Transition(told.state, (Ignored(taken, IgnoredReason.TOLD_BY_PAIRING),))


def _shows(before: Order | None, after: Order, rules: Rules) -> bool:
    """Returns true if the feed's snapshot changes although the Events API would get nothing."""
    assert before is not None, "an order that was not there moved"
    return rules.api is Api.FEED and feed.snapshot(before) != feed.snapshot(after)


def _correct(
    state: OrderState, order: Order, taken: Taken, event: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    if rules.api is Api.EVENTS:
        message = f"the order was placed by event {shown(order.placed.event_id)} already"
        return Transition(state, (Refused(taken, Reason.ORDER_EXISTS, message),))
    placed = without_empty_lines(event)
    unfit = unfit_order(placed)
    if unfit is not None:
        return refuse(state, taken, unfit)
    totals = carried_over(order.placed.line_items, state.totals, placed)
    if isinstance(totals, Unfit):
        return refuse(state, taken, totals)
    after = Order(placed, order.fulfilments, order.refunds, order.cancellations, order.cancelled_at_ms, order.pairings)
    event_keys = _remembered(state, event_key(order.placed), rules)
    corrected = OrderState(Standing.PLACED, now_ms, after, totals, event_keys, (), None, state.event_ids)
    return Transition(corrected, (Applied(taken, Placed(placed), after),))


def _applied(
    state: OrderState, taken: Taken, change: Change, after: Order, totals: Totals, rules: Rules, now_ms: int
) -> Transition:
    event_keys = _remembered(state, event_key(taken.event), rules)
    return Transition(
        OrderState(state.standing, now_ms, after, totals, event_keys, (), None, state.event_ids),
        (Applied(taken, change, after),),
    )


def refuse(state: OrderState, taken: Taken, unfit: Unfit) -> Transition:
    return Transition(state, (Refused(taken, unfit.reason, unfit.message),))


def ignore(state: OrderState, taken: Taken, reason: IgnoredReason, rules: Rules, now_ms: int) -> Transition:
    event_keys = _remembered(state, event_key(taken.event), rules)
    after = OrderState(
        state.standing, now_ms, state.order, state.totals, event_keys, state.parked, state.unheard, state.event_ids
    )
    return Transition(after, (Ignored(taken, reason),))


def _remembered(state: OrderState, key: str, rules: Rules) -> tuple[str, ...]:
    remembered = (*state.event_keys, key)
    return remembered if len(remembered) <= rules.event_ids_max else remembered[-rules.event_ids_max :]
