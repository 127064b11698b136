"""What an event does to an order that is placed and that Hakuna gets. Pure.

Owned by `rules.py`, which chooses the branch. Each branch asks `units.py` whether the event is sound, and returns the
order after it and the effect.
"""

from __future__ import annotations

from typing import assert_never

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
from processor.transform.order_state import LineTotals, OrderState, Standing
from processor.transform.transitions import Applied, Ignored, Refused, Rules, Taken, Transition
from processor.transform.units import (
    CANCELLATION,
    FULFILMENT,
    REFUND,
    Moved,
    Unfit,
    carried_over,
    move,
    shown,
    unfit_order,
    without_empty_lines,
)


def change(state: OrderState, order: Order, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """An event of an order that is placed."""
    event = taken.event
    until_ms = order.cancelled_at_ms
    match event:
        case OrderPlaced():
            return _correct(state, order, taken, event, rules, now_ms)

        case LineItemsFulfilled(items=items):
            pairing = rules.fulfil_protection or rules.api is Api.FEED
            moved = move(FULFILMENT, order.placed.line_items, state.totals, items, until_ms=until_ms, pairing=pairing)
            if isinstance(moved, Unfit):
                return refuse(state, taken, moved)
            out, pairings = order.fulfilments + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, out, order.refunds, order.cancellations, until_ms, pairings)
            return _moved(state, taken, moved, Fulfilled(moved.told), after, rules, now_ms)

        case LineItemsRefunded(items=items):
            in_time = refunded_in_time(items, until_ms)
            if not in_time and any(item.quantity for item in items):
                return ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            moved = move(REFUND, order.placed.line_items, state.totals, in_time, until_ms=None, pairing=True)
            if isinstance(moved, Unfit):
                return refuse(state, taken, moved)
            back, pairings = order.refunds + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, order.fulfilments, back, order.cancellations, until_ms, pairings)
            return _moved(state, taken, moved, Refunded(moved.told), after, rules, now_ms)

        case LineItemsCancelled(items=items):
            moved = move(CANCELLATION, order.placed.line_items, state.totals, items, until_ms=until_ms, pairing=True)
            if isinstance(moved, Unfit):
                return refuse(state, taken, moved)
            off, pairings = order.cancellations + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, order.fulfilments, order.refunds, off, until_ms, pairings)
            return _moved(state, taken, moved, LinesCancelled(moved.told), after, rules, now_ms)

        case OrderCancelled(cancelled_at_ms=at_ms):
            if until_ms is not None:
                return ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            after = Order(order.placed, order.fulfilments, order.refunds, order.cancellations, at_ms, order.pairings)
            return _applied(state, taken, Cancelled(at_ms), after, state.totals, rules, now_ms)

        case _:
            assert_never(event)


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
    state: OrderState,
    taken: Taken,
    change: Change,
    after: Order,
    totals: tuple[LineTotals, ...],
    rules: Rules,
    now_ms: int,
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
