"""What becomes of an order when something happens to it: the business rules, as one pure function.

Owned by transform, which calls `apply` for every decoded event, `expire_parked` for orders whose parked
events may have waited too long, and `erase` for a record without a value. No Kafka word, no clock, no I/O:
the present is handed in, and what comes back says everything that has to be done.

    apply ─┬─ seen before ─────────────────────────► Ignored(duplicate)
           ├─ at no plausible time ────────────────► Refused(time_implausible)
           ├─ the order is none of ours ─┬─ it is ─► Applied, then what it was not told of: Retold
           │  (`unheard.py`)             └─ still ─► Ignored(unprotected)
           ├─ OrderPlaced ─┬─ sound ───────────────► Applied, then one effect for each parked event
           │               └─ not ─────────────────► Refused
           ├─ the order is not placed yet ─┬─ room ► Parked
           │                               └─ none ► Refused(parked_too_many)
           └─ any other of a placed order ─────────► Applied, Ignored or Refused

One effect for each event, in the sequence in which they take effect. `Transition.state is state` where
nothing changed, so that nothing needs to be written: for a duplicate and for a refusal.

Invariants:
- An event is taken whole or not at all, and once per event ID and kind. Taken means applied, parked or ignored for
  what it says; a refused event is not remembered, so its dead letter can be replayed once the fault is gone.
- What `apply` decides never depends on when a sweep last ran: parked events whose time is up go first,
  always.
- Every parked event leaves with an effect of its own and the record it came in.

Decisions, where the rules leave room:
- An order without protection is ignored before it is judged: it is none of ours, sound or not. An order once taken
  stays taken when a correction takes its protection away: Hakuna has to hear of that.
- Of a refund of a cancelled order each item is taken or left out by its own time. Those that are left out are not
  looked at: what they say no longer matters.
- An order that is placed again at the Events API is `order_exists`, sound or not.
- A line of no unit is none: another line may have its ID, protection of it is `protection_dangling`, and a correction
  that leaves no unit of a line drops it.
- An order without line items is taken, an event without items is `nothing_moved`: the one may be corrected, the other
  says nothing, and Hakuna's refusal of it would hold the order.
- An event that only repeats what pairing has told is ignored. At the feed it is told all the same where it moves a
  time: the snapshot is the same in whatever order events come.
- Erasure drops parked events with the rest; it is there for customers' data, which a dead letter would keep.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from processor.hakuna import Api, Orders, feed
from processor.moments import PLAUSIBLE_AHEAD_MS_MAX, PLAUSIBLE_MS_MIN, implausible
from processor.records import (
    Cancelled,
    Change,
    Fulfilled,
    IgnoredReason,
    LineItem,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    LinesCancelled,
    Movement,
    Order,
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    Pairing,
    Placed,
    Reason,
    Record,
    Refunded,
    event_key,
)
from processor.transform.order_state import LineTotals, OrderState, ParkedEvent, Standing, Unheard
from processor.transform.units import (
    CANCELLATION,
    FULFILMENT,
    NOTHING_MOVED,
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


class Retold(msgspec.Struct, frozen=True, gc=False):
    """Hakuna is told of what moved before the order was one of ours. The event was counted when it came, and its
    origin says where that was and no more."""

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
    if state is not None and _is_seen(state, event):
        return Transition(state, (Ignored(taken, IgnoredReason.DUPLICATE),))
    why = _implausible_time(event, now_ms)
    if why is not None:
        return Transition(state, (Refused(taken, Reason.TIME_IMPLAUSIBLE, why),))
    if state is None:
        if isinstance(event, OrderPlaced):
            return _place((), taken, event, rules, now_ms)
        return Transition(_waiting((ParkedEvent(event, taken.origin, now_ms),), now_ms), (Parked(taken),))
    if state.order is not None:
        return _change(state, state.order, taken, rules, now_ms)
    if state.unheard is not None:
        if isinstance(event, OrderPlaced):
            return _place_again(state, state.unheard, taken, event, rules, now_ms)
        return _overhear(state, state.unheard, taken, rules, now_ms)
    if isinstance(event, OrderPlaced):
        placed = _place(state.parked, taken, event, rules, now_ms)
        return Transition(state, placed.effects) if placed.state is None else placed
    return _park(state, taken, rules, now_ms)


def _place(parked: tuple[ParkedEvent, ...], taken: Taken, event: OrderPlaced, rules: Rules, now_ms: int) -> Transition:
    """A new order, then what was parked for it. No state comes back when the order is refused."""
    placed = without_empty_lines(event)
    if not _is_ours(placed, rules):
        return _pass_over(parked, taken, placed, rules, now_ms)
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
    until_ms = order.cancelled_at_ms
    match event:
        case OrderPlaced():
            return _correct(state, order, taken, event, rules, now_ms)

        case LineItemsFulfilled(items=items):
            pairing = rules.fulfil_protection or rules.api is Api.FEED
            moved = move(FULFILMENT, order.placed.line_items, state.totals, items, until_ms=until_ms, pairing=pairing)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            out, pairings = order.fulfilments + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, out, order.refunds, order.cancellations, until_ms, pairings)
            return _moved(state, taken, moved, Fulfilled(moved.told), after, rules, now_ms)

        case LineItemsRefunded(items=items):
            in_time = refunded_in_time(items, until_ms)
            if not in_time and any(item.quantity for item in items):
                return _ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            moved = move(REFUND, order.placed.line_items, state.totals, in_time, until_ms=None, pairing=True)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            back, pairings = order.refunds + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, order.fulfilments, back, order.cancellations, until_ms, pairings)
            return _moved(state, taken, moved, Refunded(moved.told), after, rules, now_ms)

        case LineItemsCancelled(items=items):
            moved = move(CANCELLATION, order.placed.line_items, state.totals, items, until_ms=until_ms, pairing=True)
            if isinstance(moved, Unfit):
                return _refuse(state, taken, moved)
            off, pairings = order.cancellations + moved.said, _pairings(order, taken, moved, rules)
            after = Order(order.placed, order.fulfilments, order.refunds, off, until_ms, pairings)
            return _moved(state, taken, moved, LinesCancelled(moved.told), after, rules, now_ms)

        case OrderCancelled(cancelled_at_ms=at_ms):
            if until_ms is not None:
                return _ignore(state, taken, IgnoredReason.ORDER_CANCELLED, rules, now_ms)
            after = Order(order.placed, order.fulfilments, order.refunds, order.cancellations, at_ms, order.pairings)
            return _applied(state, taken, Cancelled(at_ms), after, state.totals, rules, now_ms)

        case _:
            assert_never(event)


def refunded_in_time(items: tuple[Movement, ...], until_ms: int | None) -> tuple[Movement, ...]:
    """Those of a refund's items that say something: what was paid back after the order was cancelled does not."""
    if until_ms is None:
        return items
    return tuple([item for item in items if item.quantity and item.at_ms <= until_ms])


def _pairings(order: Order, taken: Taken, moved: Moved, rules: Rules) -> tuple[Pairing, ...]:
    """What pairing made of an event is kept for a rebuild, and for whoever asks why nothing was told. The feed is
    rebuilt from what was said, and needs the latter alone."""
    if (moved.absorbed or moved.added) and (not moved.told or rules.api is Api.EVENTS):
        return (*order.pairings, Pairing(event_key(taken.event), moved.absorbed, moved.added))
    return order.pairings


def _moved(
    state: OrderState, taken: Taken, moved: Moved, change: Change, after: Order, rules: Rules, now_ms: int
) -> Transition:
    """Units moved; of which something is told, or nothing is."""
    if not moved.said:
        return _ignore(state, taken, IgnoredReason.NOTHING_MOVED, rules, now_ms)
    told = _applied(state, taken, change, after, moved.totals, rules, now_ms)
    if moved.told or _shows(state.order, after, rules):
        return told
    return Transition(told.state, (Ignored(taken, IgnoredReason.TOLD_BY_PAIRING),))


def _shows(before: Order | None, after: Order, rules: Rules) -> bool:
    """Whether the feed shows what the Events API would not be told of."""
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
        return _refuse(state, taken, unfit)
    totals = carried_over(order.placed.line_items, state.totals, placed)
    if isinstance(totals, Unfit):
        return _refuse(state, taken, totals)
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


def _refuse(state: OrderState, taken: Taken, unfit: Unfit) -> Transition:
    return Transition(state, (Refused(taken, unfit.reason, unfit.message),))


def _ignore(state: OrderState, taken: Taken, reason: IgnoredReason, rules: Rules, now_ms: int) -> Transition:
    event_keys = _remembered(state, event_key(taken.event), rules)
    after = OrderState(
        state.standing, now_ms, state.order, state.totals, event_keys, state.parked, state.unheard, state.event_ids
    )
    return Transition(after, (Ignored(taken, reason),))


def _implausible_time(event: OrderEvent, now_ms: int) -> str | None:
    """Why one of an event's own times cannot be meant. Of an item of no unit nothing is read."""
    ahead_ms = now_ms + PLAUSIBLE_AHEAD_MS_MAX
    if isinstance(event, OrderPlaced):
        at_ms, name = event.placed_at_ms, "placed_at"
    elif isinstance(event, OrderCancelled):
        at_ms, name = event.cancelled_at_ms, "cancelled_at"
    else:
        for item in event.items:
            if not PLAUSIBLE_MS_MIN <= item.at_ms <= ahead_ms and item.quantity:
                return f"line item {shown(item.line_item_id)}: its time {implausible(item.at_ms, now_ms)}"
        return None
    if PLAUSIBLE_MS_MIN <= at_ms <= ahead_ms:
        return None
    return f"{name} {implausible(at_ms, now_ms)}"


# ---- orders that are none of ours --------------------------------------------------------------------------


def _is_ours(placed: OrderPlaced, rules: Rules) -> bool:
    return rules.orders is Orders.ALL or any(line.protection is not None for line in placed.line_items)


def _pass_over(
    parked: tuple[ParkedEvent, ...], taken: Taken, placed: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    """A new order that is not told of. What is kept of it is enough to tell of it later, and of no person."""
    unheard = _unheard_lines(placed)
    state = OrderState(Standing.UNPROTECTED, now_ms, None, (), (event_key(placed),), (), unheard)
    effects: list[Effect] = [Ignored(taken, IgnoredReason.UNPROTECTED)]
    for waiting in parked:
        assert state.unheard is not None, "an order that is not told of is"
        then = _overhear(state, state.unheard, Taken(waiting.event, waiting.origin), rules, now_ms)
        assert then.state is not None, "an event made its order vanish"
        state = then.state
        effects += then.effects
    return Transition(state, tuple(effects))


def _unheard_lines(placed: OrderPlaced) -> Unheard:
    lines = () if unfit_order(placed) is not None else tuple([(line.id, line.quantity) for line in placed.line_items])
    return Unheard(lines, (NOTHING_MOVED,) * len(lines), None, ())


def _overhear(state: OrderState, unheard: Unheard, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """An event of an order that is not told of: kept, where it could be told."""
    after = _heard(unheard, taken)
    ignored = _ignore(state, taken, IgnoredReason.UNPROTECTED, rules, now_ms)
    assert ignored.state is not None
    return Transition(msgspec.structs.replace(ignored.state, unheard=after), ignored.effects)


def _heard(unheard: Unheard, taken: Taken) -> Unheard:
    event = taken.event
    assert not isinstance(event, OrderPlaced)
    totals, until_ms = unheard.totals, unheard.cancelled_at_ms
    if isinstance(event, OrderCancelled):
        if until_ms is not None:
            return unheard
        until_ms = event.cancelled_at_ms
    elif unheard.lines is not None:
        road, items = _road(event, until_ms)
        lines = tuple([_bare(line_id, quantity) for line_id, quantity in unheard.lines])
        late_ms = None if road is REFUND else until_ms
        moved = move(road, lines, totals, items, until_ms=late_ms, pairing=False)
        if isinstance(moved, Unfit) or not moved.said:
            return unheard
        totals = moved.totals
        event = msgspec.structs.replace(event, items=moved.said)
    came = taken.origin
    origin = Record(came.topic, came.partition, came.offset, came.timestamp_ms, came.key, None, [])
    return Unheard(unheard.lines, totals, until_ms, (*unheard.events, ParkedEvent(event, origin, 0)))


def _road(
    event: LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled, until_ms: int | None
) -> tuple[Road, tuple[Movement, ...]]:
    match event:
        case LineItemsFulfilled(items=items):
            return FULFILMENT, items
        case LineItemsRefunded(items=items):
            return REFUND, refunded_in_time(items, until_ms)
        case LineItemsCancelled(items=items):
            return CANCELLATION, items
        case _:
            assert_never(event)


def _bare(line_id: str, quantity: int) -> LineItem:
    return LineItem(line_id, quantity, 0, "", "", "", None)


def _place_again(
    state: OrderState, unheard: Unheard, taken: Taken, event: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    """An order that was not told of is placed anew: with protection it is one of ours from now on."""
    placed = without_empty_lines(event)
    bare = tuple([_bare(line_id, quantity) for line_id, quantity in unheard.lines or ()])
    totals = carried_over(bare, unheard.totals, placed)
    if not _is_ours(placed, rules):
        ignored = _ignore(state, taken, IgnoredReason.UNPROTECTED, rules, now_ms)
        assert ignored.state is not None
        if unfit_order(placed) is None and not isinstance(totals, Unfit):
            lines = _unheard_lines(placed).lines
            unheard = Unheard(lines, totals, unheard.cancelled_at_ms, unheard.events)
        return Transition(msgspec.structs.replace(ignored.state, unheard=unheard), ignored.effects)
    unfit = unfit_order(placed)
    if unfit is not None:
        return _refuse(state, taken, unfit)
    if isinstance(totals, Unfit):
        return _refuse(state, taken, totals)
    return _hear_of(state, unheard, taken, placed, rules, now_ms)


def _hear_of(
    state: OrderState, unheard: Unheard, taken: Taken, placed: OrderPlaced, rules: Rules, now_ms: int
) -> Transition:
    """The order, then what has moved so far, as it came; the feed's snapshot holds that already."""
    before = state.event_keys
    ours = OrderState(
        Standing.PLACED, now_ms, Order(placed), (NOTHING_MOVED,) * len(placed.line_items), before, (), None,
        state.event_ids,
    )  # fmt: skip
    effects: list[Effect] = [Applied(taken, Placed(placed), Order(placed))]
    for kept in unheard.events:
        assert ours.order is not None, "a placed order vanished"
        then = _change(ours, ours.order, Taken(kept.event, kept.origin), rules, now_ms)
        assert then.state is not None, "an event made its order vanish"
        ours = msgspec.structs.replace(then.state, event_keys=before)  # they are remembered already
        for effect in then.effects:
            if isinstance(effect, Applied):
                effects.append(Retold(effect.taken, effect.change, effect.order_after))
    if rules.api is Api.FEED:
        assert ours.order is not None, "a placed order vanished"
        effects = [Applied(taken, Placed(placed), ours.order)]
    return Transition(ours, tuple(effects))


# ---- what is remembered -----------------------------------------------------------------------------------


def _is_seen(state: OrderState, event: OrderEvent) -> bool:
    if event_key(event) in state.event_keys or (state.event_ids and event.event_id in state.event_ids):
        return True
    if state.order is not None:
        return isinstance(event, OrderPlaced) and state.order.placed.event_id == event.event_id
    key = event_key(event)
    return any(event_key(waiting.event) == key for waiting in state.parked)


def _remembered(state: OrderState, key: str, rules: Rules) -> tuple[str, ...]:
    remembered = (*state.event_keys, key)
    return remembered if len(remembered) <= rules.event_ids_max else remembered[-rules.event_ids_max :]


def _waiting(parked: tuple[ParkedEvent, ...], touched_at_ms: int) -> OrderState:
    return OrderState(Standing.WAITING, touched_at_ms, None, (), (), parked)
