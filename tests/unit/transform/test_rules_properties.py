"""The business rules over histories that nobody thought of, against a model and against laws.

The model is the table of the rules written a second time, as slowly as it reads: it keeps every movement in a list
and adds them up whenever it wants to know what remains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna import Api, Orders, feed
from processor.records import (
    Cancelled,
    Fulfilled,
    IgnoredReason,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    LinesCancelled,
    Movement,
    Order,
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    Placed,
    Reason,
    Refunded,
)
from processor.transform.order_state import OrderState, decode, encode
from processor.transform.rules import Applied, Effect, Ignored, Parked, Refused, Rules
from tests.unit.order_events import AT_MS, cancelled, fulfilled, lines_cancelled, placed, product, protection, refunded
from tests.unit.transform.histories import any_history, any_rules, changed, rules, take

Told = tuple[str, str, object]
"""Event ID, how it ended, and why or with which items."""

HOUR_MS = 3_600_000


# ---- the model ---------------------------------------------------------------------------------------------------


@dataclass
class Model:
    by: Rules
    seen: set[str] = field(default_factory=set)
    waiting: list[OrderEvent] = field(default_factory=list)
    order: OrderPlaced | None = None
    ours: bool = True
    out: list[Movement] = field(default_factory=list)
    back: list[Movement] = field(default_factory=list)
    off: list[Movement] = field(default_factory=list)
    cancelled_at: int | None = None

    def take(self, event: OrderEvent) -> list[Told]:
        if event.event_id in self.seen | {waiting.event_id for waiting in self.waiting}:
            return [(event.event_id, "ignored", IgnoredReason.DUPLICATE)]
        if self.order is None and self.ours and not isinstance(event, OrderPlaced):
            if len(self.waiting) == self.by.parked_max:
                return [(event.event_id, "refused", Reason.PARKED_TOO_MANY)]
            self.waiting.append(event)
            return [(event.event_id, "parked", None)]
        first = self.order is None
        told = [self.judge(event)]
        if first and told[0][1] != "refused":
            waiting, self.waiting = self.waiting, []
            told += [self.judge(early) for early in waiting]
        return told

    def judge(self, event: OrderEvent) -> Told:
        verdict, detail = self.verdict(event)
        if verdict != "refused":
            self.seen.add(event.event_id)
        return event.event_id, verdict, detail

    def verdict(self, event: OrderEvent) -> tuple[str, object]:
        if not self.ours:
            return "ignored", IgnoredReason.UNPROTECTED
        if isinstance(event, OrderPlaced):
            return self.place(event)
        if isinstance(event, OrderCancelled):
            if self.cancelled_at is not None:
                return "ignored", IgnoredReason.ORDER_CANCELLED
            self.cancelled_at = event.cancelled_at_ms
            return "applied", event.cancelled_at_ms
        if isinstance(event, LineItemsRefunded) and self.cancelled_at is not None:
            return "ignored", IgnoredReason.ORDER_CANCELLED
        return self.move(event)

    def place(self, event: OrderPlaced) -> tuple[str, object]:
        protected = any(line.protection is not None for line in event.line_items)
        if self.order is None and self.by.orders is Orders.PROTECTED and not protected:
            self.ours = False
            return "ignored", IgnoredReason.UNPROTECTED
        if self.order is not None and self.by.api is Api.EVENTS:
            return "refused", Reason.ORDER_EXISTS
        ids = [line.id for line in event.line_items]
        if len(set(ids)) < len(ids):
            return "refused", Reason.LINE_ITEM_DUPLICATE
        if any(line.quantity < 1 for line in event.line_items):
            return "refused", Reason.QUANTITY_EXCEEDED
        for line in event.line_items:
            if line.protection and line.protection.protects_line_item_id not in set(ids) - {line.id}:
                return "refused", Reason.PROTECTION_DANGLING
        if {movement.line_item_id for movement in self.out + self.back + self.off} - set(ids):
            return "refused", Reason.LINE_ITEM_UNKNOWN
        for line in event.line_items:
            moved = max(units(self.out, line.id), units(self.back, line.id)) + units(self.off, line.id)
            if moved > line.quantity:
                return "refused", Reason.QUANTITY_EXCEEDED
        self.order = event
        return "applied", None

    def remains(self, moves: list[Movement], line_id: str, taken: Iterable[Movement]) -> int:
        assert self.order is not None
        (ordered,) = (line.quantity for line in self.order.line_items if line.id == line_id)
        used = units(self.off, line_id) + units(taken, line_id)
        if moves is self.off:
            return ordered - max(units(self.out, line_id), units(self.back, line_id)) - used
        return ordered - units(moves, line_id) - used

    def move(self, event: LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled) -> tuple[str, object]:
        assert self.order is not None
        moves = self.off
        paired = True
        if isinstance(event, LineItemsFulfilled):
            moves = self.out
            paired = self.by.api is Api.FEED or self.by.fulfil_protection
        elif isinstance(event, LineItemsRefunded):
            moves = self.back
        if not event.items:
            return "refused", Reason.QUANTITY_EXCEEDED
        taken: list[Movement] = []
        for item in event.items:
            if item.line_item_id not in {line.id for line in self.order.line_items}:
                return "refused", Reason.LINE_ITEM_UNKNOWN
            if item.quantity < 1 or item.quantity > self.remains(moves, item.line_item_id, taken):
                return "refused", Reason.QUANTITY_EXCEEDED
            if self.cancelled_at is not None and item.at_ms > self.cancelled_at:
                return "refused", Reason.ORDER_CANCELLED
            taken.append(item)
        if paired:
            self.pair(moves, taken, {item.line_item_id for item in event.items})
        moves += taken
        return "applied", tuple(taken)

    def pair(self, moves: list[Movement], taken: list[Movement], named: set[str]) -> None:
        assert self.order is not None
        done = 0
        while done < len(taken):
            item = taken[done]
            for line in self.order.line_items:
                if line.protection is None or line.id in named:
                    continue
                if line.protection.protects_line_item_id == item.line_item_id:
                    some = min(item.quantity, self.remains(moves, line.id, taken))
                    if some:
                        taken.append(Movement(line.id, some, item.at_ms))
            done += 1


def units(movements: Iterable[Movement], line_id: str) -> int:
    return sum(movement.quantity for movement in movements if movement.line_item_id == line_id)


def told(effects: Iterable[Effect]) -> list[Told]:
    """The effects in the words of the model."""
    words: list[Told] = []
    for effect in effects:
        event_id = effect.taken.event.event_id
        if isinstance(effect, Parked):
            words.append((event_id, "parked", None))
        elif isinstance(effect, Refused | Ignored):
            words.append((event_id, type(effect).__name__.lower(), effect.reason))
        elif isinstance(effect.change, Placed):
            words.append((event_id, "applied", None))
        elif isinstance(effect.change, Cancelled):
            words.append((event_id, "applied", effect.change.at_ms))
        else:
            words.append((event_id, "applied", effect.change.items))
    return words


@given(any_history, any_rules)
@settings(max_examples=250)
def test_every_history_ends_as_the_model_says(history: list[OrderEvent], by: Rules) -> None:
    model = Model(by)
    state: OrderState | None = None
    for event in history:
        transition = take(state, event, by)
        state = transition.state
        assert told(transition.effects) == model.take(event)
    order = None if state is None else state.order
    if model.order is None:
        assert order is None
    else:
        assert order == Order(model.order, tuple(model.out), tuple(model.back), tuple(model.off), model.cancelled_at)
    assert ([] if state is None else [parked.event for parked in state.parked]) == model.waiting


# ---- laws --------------------------------------------------------------------------------------------------------


@given(any_history, any_rules)
@settings(max_examples=80)
def test_no_unit_is_lost_or_invented(history: list[OrderEvent], by: Rules) -> None:
    """For every line item: what was ordered is what remains plus what moved, on each of the three roads, and the
    totals are what the movements add up to."""
    state: OrderState | None = None
    for event in history:
        state = take(state, event, by).state
        if state is None or state.order is None:
            continue
        order = state.order
        for line, totals in zip(order.placed.line_items, state.totals, strict=True):
            assert totals.fulfilled == units(order.fulfilments, line.id)
            assert totals.refunded == units(order.refunds, line.id)
            assert totals.cancelled == units(order.cancellations, line.id)
            assert min(totals.fulfilled, totals.refunded, totals.cancelled) >= 0
            assert totals.fulfilled + totals.cancelled <= line.quantity
            assert totals.refunded + totals.cancelled <= line.quantity
        moved = sum(totals.fulfilled + totals.refunded + totals.cancelled for totals in state.totals)
        every = order.fulfilments + order.refunds + order.cancellations
        assert moved == sum(movement.quantity for movement in every), "a unit of no line item of the order"


@given(any_history, any_rules)
@settings(max_examples=80)
def test_what_is_told_of_is_what_the_state_gained(history: list[OrderEvent], by: Rules) -> None:
    state: OrderState | None = None
    order: Order | None = None
    for event in history:
        transition = take(state, event, by)
        for effect in transition.effects:
            if not isinstance(effect, Applied):
                continue
            after = effect.order_after
            match effect.change:
                case Placed(placed=placed):
                    assert after.placed == placed
                case Fulfilled(items=items):
                    assert order is not None
                    assert after.fulfilments == order.fulfilments + items
                case Refunded(items=items):
                    assert order is not None
                    assert after.refunds == order.refunds + items
                case LinesCancelled(items=items):
                    assert order is not None
                    assert after.cancellations == order.cancellations + items
                case Cancelled(at_ms=at_ms):
                    assert after.cancelled_at_ms == at_ms
            order = after
        state = transition.state
        assert (None if state is None else state.order) == order


@given(any_history, any_rules)
@settings(max_examples=80)
def test_a_refused_event_and_a_duplicate_leave_not_a_byte_changed(history: list[OrderEvent], by: Rules) -> None:
    state: OrderState | None = None
    for event in history:
        before = None if state is None else encode(state)
        transition = take(state, event, by)
        first = transition.effects[0]
        if isinstance(first, Refused) or (isinstance(first, Ignored) and first.reason is IgnoredReason.DUPLICATE):
            assert len(transition.effects) == 1
            assert (None if transition.state is None else encode(transition.state)) == before
            assert transition.state is state
        state = transition.state


@given(any_history, any_rules, st.data())
@settings(max_examples=60)
def test_duplicates_change_nothing(history: list[OrderEvent], by: Rules, data: st.DataObject) -> None:
    """A history in which taken events come again, soon or late, ends as the one in which they do not."""
    history = one_id_each(history)
    state: OrderState | None = None
    words: list[Told] = []
    taken: dict[str, OrderEvent] = {}
    for event in history:
        taken[event.event_id] = event
        transition = take(state, event, by)
        state = transition.state
        words += told(transition.effects)
        for effect in transition.effects:
            if isinstance(effect, Refused):
                del taken[effect.taken.event.event_id]
        if taken:
            again = data.draw(st.sampled_from(list(taken.values())))
            assert told(take(state, again, by).effects) == [(again.event_id, "ignored", IgnoredReason.DUPLICATE)]
            state = take(state, again, by).state
    assert (words, state) == run(history, by)


@given(any_history, any_rules)
@settings(max_examples=80)
def test_every_event_ends_once(history: list[OrderEvent], by: Rules) -> None:
    """Parked events leave with an effect of their own: none is lost, none counts twice."""
    state: OrderState | None = None
    ended = 0
    for event in history:
        transition = take(state, event, by)
        state = transition.state
        ended += sum(not isinstance(effect, Parked) for effect in transition.effects)
    assert ended + (0 if state is None else len(state.parked)) == len(history)


@given(any_history, st.sampled_from(Api), st.booleans(), st.data())
@settings(max_examples=80)
def test_events_that_came_before_their_order_end_as_if_they_had_come_after_it(
    history: list[OrderEvent], api: Api, fulfil_protection: bool, data: st.DataObject
) -> None:
    by = rules(api, fulfil_protection=fulfil_protection)
    later = one_id_each([event for event in history if not isinstance(event, OrderPlaced)])
    order = placed(*data.draw(st.sampled_from(ORDERS)), event_id="the-order")
    at = data.draw(st.integers(0, len(later)))
    in_order = run([order, *later], by)
    early = run([*later[:at], order, *later[at:]], by)
    assert early[1] == in_order[1]
    assert [word for word in early[0] if word[1] == "applied"] == [word for word in in_order[0] if word[1] == "applied"]


ORDERS = [
    (product("a", 3),),
    (product("a", 3), product("b", 2)),
    (product("a", 3), protection("b", "a", 2), protection("c", "b", 1), product("d", 4)),
]


def one_id_each(history: list[OrderEvent]) -> list[OrderEvent]:
    return [changed(event, f"event-{number}") for number, event in enumerate(history)]


def run(history: Iterable[OrderEvent], by: Rules) -> tuple[list[Told], OrderState | None]:
    state: OrderState | None = None
    words: list[Told] = []
    for event in history:
        transition = take(state, event, by)
        state = transition.state
        words += told(transition.effects)
    return words, state


@st.composite
def correct_history(draw: st.DrawFn) -> list[OrderEvent]:
    """Nothing moves that was not ordered, and nothing after the cancellation; each movement has a time of its own."""
    quantity = draw(st.integers(1, 6))
    off = draw(st.integers(0, quantity))
    out = draw(st.integers(0, quantity - off))
    is_cancelled = draw(st.booleans())
    back = 0 if is_cancelled else draw(st.integers(0, quantity - off))
    history: list[OrderEvent] = [placed(product("a", quantity), product("b", 1))]
    for move, total in ((fulfilled, out), (refunded, back), (lines_cancelled, off)):
        while total:
            some = draw(st.integers(1, total))
            total -= some
            number = len(history)
            history.append(move(("a", some, AT_MS + number), event_id=f"event-{number}"))
    if is_cancelled:
        history.append(cancelled(AT_MS + HOUR_MS))
    return history


@given(correct_history(), st.sampled_from(Api), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_any_interleaving_of_a_correct_history_is_taken_whole(
    history: list[OrderEvent], api: Api, random: Random
) -> None:
    """The topics of one order may come in any sequence: every event of a correct history is applied, and the feed's
    snapshot is the same to the byte."""
    by = rules(api)
    shuffled = list(history)
    random.shuffle(shuffled)
    _, in_order = run(history, by)
    words, state = run(shuffled, by)
    assert {word[0] for word in words if word[1] == "applied"} == {event.event_id for event in history}
    assert not [word for word in words if word[1] in ("refused", "ignored")]
    assert state is not None
    assert state.order is not None
    assert in_order is not None
    assert in_order.order is not None
    assert state.totals == in_order.totals
    assert feed.snapshot(state.order) == feed.snapshot(in_order.order)


@given(any_history, any_rules)
@settings(max_examples=60)
def test_the_feed_shows_every_unit_that_moved(history: list[OrderEvent], by: Rules) -> None:
    _, state = run(history, by)
    if state is None or state.order is None:
        return
    shown = orjson.loads(feed.snapshot(state.order))
    for line, totals in zip(shown["line_items"], state.totals, strict=True):
        assert sum(one["quantity"] for one in line["fulfillments"]) == totals.fulfilled
        assert sum(one["quantity"] for one in line["refunds"]) == totals.refunded + totals.cancelled


@given(any_history, any_rules, st.integers(0, 12))
@settings(max_examples=60)
def test_a_state_that_was_stored_goes_on_as_if_it_had_not_been(history: list[OrderEvent], by: Rules, at: int) -> None:
    words, state = run(history[:at], by)
    kept = None if state is None else decode(encode(state))
    for event in history[at:]:
        transition = take(kept, event, by)
        kept = transition.state
        words += told(transition.effects)
    assert (words, kept) == run(history, by)
