"""What becomes of an order when something happens to it: the business rules, as one pure function.

Owned by transform, which calls `apply` for every decoded event, `expire_parked` for orders whose parked
events may have waited too long, and `erase` for a record without a value. No Kafka word, no clock, no I/O:
the present is handed in, and what comes back says everything that has to be done.

    apply ─┬─ seen before ─────────────────────────► Ignored(duplicate)
           ├─ the order is none of ours ───────────► Ignored(unprotected)
           ├─ OrderPlaced ─┬─ sound ───────────────► Applied, then one effect for each parked event
           │               └─ not ─────────────────► Refused
           ├─ the order is not placed yet ─┬─ room ► Parked
           │                               └─ none ► Refused(parked_too_many)
           └─ any other of a placed order ─────────► Applied, Ignored(order_cancelled) or Refused

One effect for each event, in the sequence in which they take effect. `Transition.state is state` where
nothing changed, so that nothing needs to be written: for a duplicate and for a refusal.

Invariants:
- An event is taken whole or not at all, and once per event ID. Taken means applied, parked or ignored for
  what it says; a refused event is not remembered, so its dead letter can be replayed once the fault is gone.
- What `apply` decides never depends on when a sweep last ran: parked events whose time is up go first,
  always.
- Every parked event leaves with an effect of its own and the record it came in.

Decisions, where the rules leave room:
- An order without protection is ignored before it is judged: it is none of ours, sound or not. It stays
  ignored when a later `OrderPlaced` brings protection (or the setting changes), for its movements were
  ignored too and Hakuna would be told half of it. An order once taken stays taken when a correction takes
  its protection away: Hakuna has to hear of that.
- A refund of a cancelled order is ignored without a look at its items: what it says no longer matters.
- An order that is placed again at the Events API is `order_exists`, sound or not.
- A correction keeps the movements as they are: protection that it adds gets none for what its product did
  before.
- An order without line items is taken, an event without items is refused (`quantity_exceeded`, no unit
  moves): the one may be corrected, the other says nothing, and Hakuna's refusal of it would hold the order.
- An ordered quantity below 1 is `quantity_exceeded` as any other quantity is.
- Erasure drops parked events with the rest; it is there for customers' data, which a dead letter would keep.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from processor.hakuna import Api, Orders
from processor.records import (
    Cancelled,
    Change,
    Fulfilled,
    IgnoredReason,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    LinesCancelled,
    Order,
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    Placed,
    Reason,
    Record,
    Refunded,
)
from processor.transform.order_state import LineTotals, OrderState, ParkedEvent, Standing
from processor.transform.units import (
    CANCELLATION,
    FULFILMENT,
    NOTHING_MOVED,
    REFUND,
    Unfit,
    carried_over,
    move,
    shown,
    unfit_order,
)


class Rules(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The settings that the rules depend on."""

    api: Api
    orders: Orders
    fulfil_protection: bool
    """Whether the Events API is told that protection is fulfilled with its product; the feed always is."""
    park_for_ms: int
    parked_max: int = 100
    """A producer that never places its orders would otherwise fill the state, a whole record an event."""
    event_ids_max: int = 1_000
    """An order with events without end would otherwise grow with each, and is rewritten whole every time."""

    def __post_init__(self) -> None:
        assert self.park_for_ms > 0
        assert self.parked_max > 0
        assert self.event_ids_max > 0


class Taken(msgspec.Struct, frozen=True, gc=False):
    """An event, and the record in which it came."""

    event: OrderEvent
    origin: Record


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The order changed: Hakuna is told of `change`, or given `order_after`."""

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


Effect = Applied | Ignored | Refused | Parked


class Transition(msgspec.Struct, frozen=True, gc=False):
    """The state to keep from now on (None: nothing), and what is to be done about it, in this sequence."""

    state: OrderState | None
    effects: tuple[Effect, ...]


def apply(state: OrderState | None, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """What one event does to its order. `now_ms` is the wall clock."""
    assert now_ms > 0, "a wall clock before 1970"
    if state is not None and state.parked:
        expired = expire_parked(state, rules, now_ms)
        if expired.effects:
            then = _take(expired.state, taken, rules, now_ms)
            return Transition(then.state, expired.effects + then.effects)
    return _take(state, taken, rules, now_ms)


def expire_parked(state: OrderState, rules: Rules, now_ms: int) -> Transition:
    """Refuses the events that have been parked for longer than `park_for_ms`; others keep their places."""
    kept: list[ParkedEvent] = []
    effects: list[Effect] = []
    for parked in state.parked:
        waited_ms = now_ms - parked.parked_at_ms
        if waited_ms > rules.park_for_ms:
            message = f"the order was not placed within {rules.park_for_ms} ms of this event"
            effects.append(Refused(Taken(parked.event, parked.origin), Reason.ORDER_UNKNOWN, message))
        else:
            kept.append(parked)
    if not effects:
        return Transition(state, ())
    assert state.standing is Standing.WAITING, "parked events are for orders to come"
    return Transition(_waiting(tuple(kept), state.touched_at_ms) if kept else None, tuple(effects))


def erase(state: OrderState | None) -> Transition:
    """Forgets the order; an `OrderPlaced` of its ID starts anew. The caller counts the erasing record."""
    if state is None:
        return Transition(None, ())
    return Transition(
        None, tuple(Ignored(Taken(gone.event, gone.origin), IgnoredReason.ERASED) for gone in state.parked)
    )


# ---- one event --------------------------------------------------------------------------------------------


def _take(state: OrderState | None, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    event = taken.event
    if state is None:
        if isinstance(event, OrderPlaced):
            return _place((), taken, event, rules, now_ms)
        return Transition(_waiting((ParkedEvent(event, taken.origin, now_ms),), now_ms), (Parked(taken),))
    if _is_seen(state, event.event_id):
        return Transition(state, (Ignored(taken, IgnoredReason.DUPLICATE),))
    if state.order is not None:
        return _change(state, state.order, taken, rules, now_ms)
    if state.parked:
        if isinstance(event, OrderPlaced):
            placed = _place(state.parked, taken, event, rules, now_ms)
            return Transition(state, placed.effects) if placed.state is None else placed
        return _park(state, taken, rules, now_ms)
    assert state.standing is Standing.UNPROTECTED, "a state of nothing"
    return _ignore(state, taken, IgnoredReason.UNPROTECTED, rules, now_ms)


def _place(parked: tuple[ParkedEvent, ...], taken: Taken, placed: OrderPlaced, rules: Rules, now_ms: int) -> Transition:
    """A new order, then what was parked for it. No state comes back when the order is refused."""
    if rules.orders is Orders.PROTECTED and not any(line.protection for line in placed.line_items):
        takens = (taken, *(Taken(waiting.event, waiting.origin) for waiting in parked))
        event_ids = tuple(each.event.event_id for each in takens)[-rules.event_ids_max :]
        return Transition(
            OrderState(Standing.UNPROTECTED, now_ms, None, (), event_ids, ()),
            tuple(Ignored(each, IgnoredReason.UNPROTECTED) for each in takens),
        )
    unfit = unfit_order(placed)
    if unfit is not None:
        return Transition(None, (Refused(taken, unfit.reason, unfit.message),))
    order = Order(placed)
    totals = (NOTHING_MOVED,) * len(placed.line_items)
    state = OrderState(Standing.PLACED, now_ms, order, totals, (), ())
    effects: list[Effect] = [Applied(taken, Placed(placed), order)]
    for waiting in parked:
        assert state.order is not None, "a placed order vanished"
        then = _change(state, state.order, Taken(waiting.event, waiting.origin), rules, now_ms)
        assert then.state is not None, "an event made its order vanish"
        state = then.state
        effects += then.effects
    return Transition(state, tuple(effects))


def _park(state: OrderState, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    if len(state.parked) >= rules.parked_max:
        message = f"the order is not placed, and {len(state.parked)} of its events wait for that already"
        return Transition(state, (Refused(taken, Reason.PARKED_TOO_MANY, message),))
    waiting = ParkedEvent(taken.event, taken.origin, now_ms)
    return Transition(_waiting((*state.parked, waiting), now_ms), (Parked(taken),))


def _change(state: OrderState, order: Order, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """An event of an order that is placed."""
    event = taken.event
    lines = order.placed.line_items
    cancelled_at_ms = order.cancelled_at_ms
    match event:
        case OrderPlaced():
            return _correct(state, order, taken, event, rules, now_ms)

        case LineItemsFulfilled(items=items):
            pairing = rules.fulfil_protection or rules.api is Api.FEED
            moved = move(FULFILMENT, lines, state.totals, items, until_ms=cancelled_at_ms, pairing=pairing)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            fulfilments = order.fulfilments + moved.items
            after = Order(order.placed, fulfilments, order.refunds, order.cancellations, cancelled_at_ms)
            return _applied(state, taken, Fulfilled(moved.items), after, moved.totals, rules, now_ms)

        case LineItemsRefunded(items=items):
            if cancelled_at_ms is not None:
                return _ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            moved = move(REFUND, lines, state.totals, items, until_ms=None, pairing=True)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            refunds = order.refunds + moved.items
            after = Order(order.placed, order.fulfilments, refunds, order.cancellations, None)
            return _applied(state, taken, Refunded(moved.items), after, moved.totals, rules, now_ms)

        case LineItemsCancelled(items=items):
            moved = move(CANCELLATION, lines, state.totals, items, until_ms=cancelled_at_ms, pairing=True)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            cancellations = order.cancellations + moved.items
            after = Order(order.placed, order.fulfilments, order.refunds, cancellations, cancelled_at_ms)
            return _applied(state, taken, LinesCancelled(moved.items), after, moved.totals, rules, now_ms)

        case OrderCancelled(cancelled_at_ms=at_ms):
            if cancelled_at_ms is not None:
                return _ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            after = Order(order.placed, order.fulfilments, order.refunds, order.cancellations, at_ms)
            return _applied(state, taken, Cancelled(at_ms), after, state.totals, rules, now_ms)

        case _:
            assert_never(event)


def _correct(
    state: OrderState, order: Order, taken: Taken, placed: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    if rules.api is Api.EVENTS:
        message = f"the order was placed by event {shown(order.placed.event_id)} already"
        return Transition(state, (Refused(taken, Reason.ORDER_EXISTS, message),))
    unfit = unfit_order(placed)
    if unfit is not None:
        return _refuse(state, taken, unfit)
    totals = carried_over(order.placed, state.totals, placed)
    if isinstance(totals, Unfit):
        return _refuse(state, taken, totals)
    after = Order(placed, order.fulfilments, order.refunds, order.cancellations, order.cancelled_at_ms)
    event_ids = _remembered(state, order.placed.event_id, rules)
    corrected = OrderState(Standing.PLACED, now_ms, after, totals, event_ids, ())
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
    event_ids = _remembered(state, taken.event.event_id, rules)
    return Transition(
        OrderState(state.standing, now_ms, after, totals, event_ids, ()), (Applied(taken, change, after),)
    )


def _refuse(state: OrderState, taken: Taken, unfit: Unfit) -> Transition:
    return Transition(state, (Refused(taken, unfit.reason, unfit.message),))


def _ignore(state: OrderState, taken: Taken, reason: IgnoredReason, rules: Rules, now_ms: int) -> Transition:
    event_ids = _remembered(state, taken.event.event_id, rules)
    after = OrderState(state.standing, now_ms, state.order, state.totals, event_ids, state.parked)
    return Transition(after, (Ignored(taken, reason),))


# ---- what is remembered -----------------------------------------------------------------------------------


def _is_seen(state: OrderState, event_id: str) -> bool:
    if event_id in state.event_ids:
        return True
    if state.order is not None:
        return state.order.placed.event_id == event_id
    return any(waiting.event.event_id == event_id for waiting in state.parked)


def _remembered(state: OrderState, event_id: str, rules: Rules) -> tuple[str, ...]:
    remembered = (*state.event_ids, event_id)
    return remembered if len(remembered) <= rules.event_ids_max else remembered[-rules.event_ids_max :]


def _waiting(parked: tuple[ParkedEvent, ...], touched_at_ms: int) -> OrderState:
    return OrderState(Standing.WAITING, touched_at_ms, None, (), (), parked)
