"""rules: what an event does to its order: the business rules, as one pure function.

Owned by transform, which calls `apply` for every decoded event, `expire_parked` for orders whose parked events may have
waited too long, and `erase` for a record without a value. No Kafka, no clock, no I/O: the caller passes the time, and
the result has every effect to be performed.

    apply ─┬─ seen before ─────────────────────────► Ignored(duplicate)
           ├─ at no plausible time ────────────────► Refused(time_implausible)
           ├─ an order that Hakuna does ─┬─ now ───► Applied, then its earlier movements: Retold
           │  not get (`unheard.py`)     └─ still ─► Ignored(unprotected)
           ├─ OrderPlaced ─┬─ sound ───────────────► Applied, then one effect for each parked event
           │               └─ not ─────────────────► Refused
           ├─ the order is not placed yet ─┬─ room ► Parked
           │                               └─ none ► Refused(parked_too_many)
           └─ any other of a placed order ─────────► Applied, Ignored or Refused

Each event has one effect, in sequence. `Transition.state is state` if nothing changed: for a duplicate and a refusal.

Invariants:
- An event is taken whole or not at all, and once per event ID and kind. Taken means applied, parked or ignored for
  its content; a refused event is not remembered, so its dead letter can be replayed once the fault is gone.
- The result of `apply` never depends on when a sweep last ran: parked events whose time is up always leave first.
- Every parked event leaves with an effect of its own and the record it came in.

Decisions, where the rules leave room:
- An order without protection is ignored before it is judged, sound or not. An order that Hakuna has stays taken when a
  correction removes its protection: Hakuna has to hear of that.
- Each item of a refund of a cancelled order is taken or left out by its own time. Items that are left out are not
  judged: their content no longer matters.
- An order that is placed again at the Events API is `order_exists`, sound or not.
- A line of no unit does not count: another line may have its ID, protection of it is `protection_dangling`, and a
  correction that leaves no unit of a line drops it.
- An order with nothing but lines of no unit is not sent until it is placed again with more: Hakuna would refuse it, and
  its events do not belong to an unknown order. A correction to no unit is sent as any other.
- An order without line items is taken, because it may be corrected. An event without items is `nothing_moved`: Hakuna
  would refuse it, and the refusal would hold the order.
- An event that only repeats what pairing has sent is ignored. At the feed it is sent if it changes a time: so the
  snapshot is the same in whatever order events come.
- Erasure drops parked events too: it is for customers' data, which a dead letter would keep.
"""

from __future__ import annotations

from processor.moments import PLAUSIBLE_AHEAD_MS_MAX, PLAUSIBLE_MS_MIN, implausible
from processor.records import IgnoredReason, Order, OrderCancelled, OrderEvent, OrderPlaced, Placed, Reason, event_key
from processor.transform.order_state import OrderState, ParkedEvent, Standing
from processor.transform.placed import change
from processor.transform.transitions import Applied, Effect, Ignored, Parked, Refused, Rules, Taken, Transition
from processor.transform.unheard import not_ours, overhear, pass_over, place_again
from processor.transform.units import NOTHING_MOVED, shown, unfit_order, without_empty_lines


def apply(state: OrderState | None, taken: Taken, rules: Rules, now_ms: int) -> Transition:
    """Returns what one event does to its order. `now_ms` is the wall clock (epoch ms)."""
    assert now_ms > 0, "a wall clock before 1970"
    if state is not None and state.parked:
        expired = expire_parked(state, rules, now_ms)
        if expired.effects:
            then = _take(expired.state, taken, rules, now_ms)
            return Transition(then.state, expired.effects + then.effects)
    return _take(state, taken, rules, now_ms)


def expire_parked(state: OrderState, rules: Rules, now_ms: int) -> Transition:
    """Refuses the events that have been parked for longer than `park_for_ms`; the others stay."""
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
    parked = () if state is None else state.parked
    return Transition(None, tuple(Ignored(Taken(gone.event, gone.origin), IgnoredReason.ERASED) for gone in parked))


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
        return change(state, state.order, taken, rules, now_ms)
    if state.unheard is not None:
        if isinstance(event, OrderPlaced):
            return place_again(state, state.unheard, taken, event, rules, now_ms)
        return overhear(state, state.unheard, taken, rules, now_ms)
    if isinstance(event, OrderPlaced):
        placed = _place(state.parked, taken, event, rules, now_ms)
        return Transition(state, placed.effects) if placed.state is None else placed
    return _park(state, taken, rules, now_ms)


def _place(parked: tuple[ParkedEvent, ...], taken: Taken, event: OrderPlaced, rules: Rules, now_ms: int) -> Transition:
    """Takes a new order, then its parked events. Returns no state if the order is refused."""
    placed = without_empty_lines(event)
    why = not_ours(event, placed, rules)
    if why is not None:
        return pass_over(parked, taken, placed, why, rules, now_ms)
    unfit = unfit_order(placed)
    if unfit is not None:
        return Transition(None, (Refused(taken, unfit.reason, unfit.message),))
    order = Order(placed)
    totals = (NOTHING_MOVED,) * len(placed.line_items)
    state = OrderState(Standing.PLACED, now_ms, order, totals, (), ())
    effects: list[Effect] = [Applied(taken, Placed(placed), order)]
    for waiting in parked:
        assert state.order is not None, "a placed order vanished"
        then = change(state, state.order, Taken(waiting.event, waiting.origin), rules, now_ms)
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


def _implausible_time(event: OrderEvent, now_ms: int) -> str | None:
    """Returns why one of an event's own times is not plausible, or None. Ignores items of no unit."""
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


def _is_seen(state: OrderState, event: OrderEvent) -> bool:
    if event_key(event) in state.event_keys or (state.event_ids and event.event_id in state.event_ids):
        return True
    if state.order is not None:
        return isinstance(event, OrderPlaced) and state.order.placed.event_id == event.event_id
    key = event_key(event)
    return any(event_key(waiting.event) == key for waiting in state.parked)


def _waiting(parked: tuple[ParkedEvent, ...], touched_at_ms: int) -> OrderState:
    return OrderState(Standing.WAITING, touched_at_ms, None, (), (), parked)
