"""The business rules over histories that nobody thought of, against a model and against laws.

The model is the table of the rules written a second time, as slowly as it reads: it keeps every movement that the shop
has said and every one that was told in lists, and adds them up whenever it wants to know what remains, or what a
protection has to follow.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna import Api, Orders, feed
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
    Placed,
    Reason,
    Refunded,
)
from processor.transform.order_state import OrderState, decode, encode
from processor.transform.transitions import Applied, Effect, Ignored, Parked, Refused, Retold, Rules
from tests.unit.order_events import DAY_MS, NOW_MS, placed, product, protection
from tests.unit.transform.histories import any_history, any_rules, changed, rules, steps, take

Told = tuple[str, str, object]
"""Event ID, how it ended, and why or with which items."""

HOUR_MS = 3_600_000


Key = tuple[type[OrderEvent], str]


def key(event: OrderEvent) -> Key:
    return type(event), event.event_id


@dataclass
class Model:
    by: Rules
    seen: set[Key] = field(default_factory=set)
    waiting: list[OrderEvent] = field(default_factory=list)
    order: OrderPlaced | None = None
    unheard: Model | None = None
    """An order that is not told of goes on here, as if it were."""
    so_far: list[OrderEvent] = field(default_factory=list)
    """What moved of it."""
    said: dict[str, list[Movement]] = field(default_factory=lambda: {"out": [], "back": [], "off": []})
    told: dict[str, list[Movement]] = field(default_factory=lambda: {"out": [], "back": [], "off": []})
    cancelled_at: int | None = None

    def take(self, event: OrderEvent) -> list[Told]:
        if key(event) in self.seen | {key(waiting) for waiting in self.waiting}:
            return [(event.event_id, "ignored", IgnoredReason.DUPLICATE)]
        if any(not 946_684_800_000 <= at <= NOW_MS + 731 * DAY_MS for at in times(event)):
            return [(event.event_id, "refused", Reason.TIME_IMPLAUSIBLE)]
        is_new = self.order is None and self.unheard is None
        if is_new and not isinstance(event, OrderPlaced):
            if len(self.waiting) == self.by.parked_max:
                return [(event.event_id, "refused", Reason.PARKED_TOO_MANY)]
            self.waiting.append(event)
            return [(event.event_id, "parked", None)]
        told = self.judge(event)
        if is_new and told[0][1] != "refused":
            waiting, self.waiting = self.waiting, []
            for early in waiting:
                told += self.judge(early)
        return told

    def judge(self, event: OrderEvent) -> list[Told]:
        told = self.judge_untold(event) if self.order is None else [(event.event_id, *self.verdict(event))]
        if told[0][1] != "refused":
            self.seen.add(key(event))
        return told

    def judge_untold(self, event: OrderEvent) -> list[Told]:
        """Of an order that is new, or not told of."""
        assert self.order is None
        ignored: list[Told] = [(event.event_id, "ignored", IgnoredReason.UNPROTECTED)]
        if not isinstance(event, OrderPlaced):
            assert self.unheard is not None
            verdict = self.unheard.verdict(event)
            may_come = verdict == ("refused", Reason.LINE_ITEM_UNKNOWN) and len(self.so_far) < self.by.parked_max
            if verdict[0] == "applied" or may_come:
                self.so_far.append(event)
            return ignored
        ours = self.by.orders is Orders.ALL or any(line.protection and line.quantity for line in event.line_items)
        of_nothing = bool(event.line_items) and not any(line.quantity for line in event.line_items)
        if not ours or of_nothing:
            self.unheard = self.unheard or Model(FOR_ONE)
            self.unheard.place(event)  # of an unsound order no line is kept
            return [(event.event_id, "ignored", IgnoredReason.NOTHING_MOVED)] if of_nothing else ignored
        if self.unheard is not None and self.unheard.order is not None:
            verdict = copy.deepcopy(self.unheard).place(event)
        else:
            verdict = self.place(event)
        if verdict[0] == "refused":
            return [(event.event_id, *verdict)]
        self.order, self.unheard = event, None
        told: list[Told] = [(event.event_id, *self.place(event, first=True))]
        for earlier in self.so_far:
            verdict = self.verdict(earlier)
            if verdict[0] == "applied" and self.by.api is Api.EVENTS:
                told.append((earlier.event_id, "retold", verdict[1]))
        self.so_far = []
        return told

    def verdict(self, event: OrderEvent) -> tuple[str, object]:
        if isinstance(event, OrderPlaced):
            return self.place(event)
        if isinstance(event, OrderCancelled):
            if self.cancelled_at is not None:
                return "ignored", IgnoredReason.ORDER_CANCELLED
            self.cancelled_at = event.cancelled_at_ms
            return "applied", event.cancelled_at_ms
        return self.move(event)

    def place(self, event: OrderPlaced, *, first: bool = False) -> tuple[str, object]:
        lines = [line for line in event.line_items if line.quantity != 0]
        if self.order is not None and not first and self.by.api is Api.EVENTS:
            return "refused", Reason.ORDER_EXISTS
        ids = [line.id for line in lines]
        if len(set(ids)) < len(ids):
            return "refused", Reason.LINE_ITEM_DUPLICATE
        if any(line.quantity < 0 for line in lines):
            return "refused", Reason.QUANTITY_EXCEEDED
        for line in lines:
            if line.protection and line.protection.protects_line_item_id not in set(ids) - {line.id}:
                return "refused", Reason.PROTECTION_DANGLING
        every = self.said["out"] + self.said["back"] + self.said["off"]
        if {movement.line_item_id for movement in every} - set(ids):
            return "refused", Reason.LINE_ITEM_UNKNOWN
        for line in lines:
            out, back, off = (units(self.said[road], line.id) for road in ("out", "back", "off"))
            most = max(out, back + off) if line.protection else max(out, back) + off
            if most > line.quantity:
                return "refused", Reason.QUANTITY_EXCEEDED
        self.order = msgspec.structs.replace(event, line_items=tuple(lines))
        for line in lines:
            self.forget_pairing_that_cannot_be(line)
        return "applied", None

    def forget_pairing_that_cannot_be(self, line: LineItem) -> None:
        """A correction to less protection than was told of."""
        out, back, off = (units(self.told[road], line.id) for road in ("out", "back", "off"))
        if line.protection is None or out > line.quantity or back + off > line.quantity:
            for road, told in self.told.items():
                others = [movement for movement in told if movement.line_item_id != line.id]
                self.told[road] = others + [one for one in self.said[road] if one.line_item_id == line.id]

    def line(self, line_id: str) -> LineItem:
        assert self.order is not None
        (found,) = (line for line in self.order.line_items if line.id == line_id)
        return found

    def remains(self, road: str, line: LineItem) -> int:
        """By what the shop says; what is judged of an event's own items is among it already."""
        out, back, off = (units(self.said[one], line.id) for one in ("out", "back", "off"))
        if road == "out":
            return line.quantity - out - off
        if road == "back":
            return line.quantity - back - off
        if line.protection is not None:
            out = min(out, units(self.told["out"], line.protection.protects_line_item_id))
        return line.quantity - max(out, back) - off

    def left(self, line: LineItem) -> int:
        return line.quantity - units(self.told["back"] + self.told["off"], line.id)

    def move(self, event: LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled) -> tuple[str, object]:
        before = copy.deepcopy((self.said, self.told))
        shown = self.shown()
        verdict = self.move_each(event)
        if verdict[0] == "refused":
            self.said, self.told = before
        elif verdict == ("ignored", IgnoredReason.TOLD_BY_PAIRING) and self.by.api is Api.FEED:
            return verdict if self.shown() == shown else ("applied", ())
        return verdict

    def move_each(self, event: LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled) -> tuple[str, object]:
        known = {line.id for line in self.order.line_items} if self.order is not None else set()
        road = {LineItemsFulfilled: "out", LineItemsRefunded: "back", LineItemsCancelled: "off"}[type(event)]
        items = [item for item in event.items if item.quantity != 0]
        if not items:
            return "ignored", IgnoredReason.NOTHING_MOVED
        if self.cancelled_at is not None and road == "back":
            items = [item for item in items if item.at_ms <= (self.cancelled_at or 0)]
            if not items:
                return "ignored", IgnoredReason.ORDER_CANCELLED
        at_first = copy.deepcopy(self.told)
        told: list[Movement] = []
        for item in items:
            if item.line_item_id not in known:
                return "refused", Reason.LINE_ITEM_UNKNOWN
            line = self.line(item.line_item_id)
            if item.quantity < 0 or item.quantity > self.remains(road, line):
                return "refused", Reason.QUANTITY_EXCEEDED
            if self.cancelled_at is not None and item.at_ms > self.cancelled_at:
                return "refused", Reason.ORDER_CANCELLED
            untold = item.quantity if line.protection is None else self.untold(road, line, item.quantity)
            self.said[road].append(item)
            if untold:
                told.append(Movement(line.id, untold, item.at_ms))
                self.told[road].append(told[-1])
        if road != "out" or self.by.api is Api.FEED or self.by.fulfil_protection:
            self.pair(road, at_first, told)
        return ("applied", tuple(told)) if told else ("ignored", IgnoredReason.TOLD_BY_PAIRING)

    def untold(self, road: str, line: LineItem, quantity: int) -> int:
        """How many of these units of a protection pairing has not told of already."""
        out = units(self.told["out"], line.id)
        if road == "out":
            ahead = max(0, out - units(self.said["out"], line.id))
            gone = units(self.told["off"], line.id)
            return max(0, min(quantity - ahead, line.quantity - out - gone))
        said = units(self.said["back"] + self.said["off"], line.id)
        return max(0, quantity - (units(self.told["back"] + self.told["off"], line.id) - said))

    def pair(self, road: str, at_first: dict[str, list[Movement]], told: list[Movement]) -> None:
        assert self.order is not None
        for done, item in enumerate(told, start=1):  # grows
            product = self.line(item.line_item_id)
            by_now = units(told[:done], product.id)
            gone = units(at_first["back"] + at_first["off"], product.id)
            for line in self.order.line_items:
                if line.protection is None or line.protection.protects_line_item_id != product.id:
                    continue
                if road == "out":
                    out, off = units(self.told["out"], line.id), units(self.told["off"], line.id)
                    wanted = min(line.quantity, units(at_first["out"], product.id) + by_now)
                    some = min(wanted - out, line.quantity - out - off)
                else:
                    some = self.left(line) - (product.quantity - gone - by_now)
                if some > 0:
                    told.append(Movement(line.id, some, item.at_ms))
                    self.told[road].append(told[-1])

    # ---- what the feed shows

    def shown(self) -> dict[str, tuple[list[int], list[int]]]:
        """Of each line item: when each unit was fulfilled, and when each was refunded or cancelled, in time."""
        if self.order is None:
            return {}
        return {line.id: (self.shown_out(line), self.shown_gone(line)) for line in self.order.line_items}

    def follows(self, line: LineItem) -> LineItem | None:
        """The line item that this one protects; None for a product, and where the chain has no end."""
        met: list[str] = []
        end = line
        while end.protection is not None:
            if end.id in met:
                return None
            met.append(end.id)
            end = self.line(end.protection.protects_line_item_id)
        return None if line.protection is None else self.line(line.protection.protects_line_item_id)

    def shown_out(self, line: LineItem) -> list[int]:
        product = self.follows(line)
        if product is None:
            return each_unit(self.said["out"], line.id)
        return self.shown_out(product)[: line.quantity]

    def shown_gone(self, line: LineItem) -> list[int]:
        own = each_unit(self.said["back"] + self.said["off"], line.id)
        product = self.follows(line)
        if product is None:
            return own
        theirs = self.shown_gone(product)
        gone: list[int] = []
        for at in sorted({*own, *theirs}):
            taken = sum(1 for one in own if one <= at)
            went = sum(1 for one in theirs if one <= at)
            by_now = max(taken, line.quantity - (product.quantity - went) if went else 0)
            gone += [at] * (by_now - len(gone))
        return gone


FOR_ONE = rules(Api.FEED)
"""By which an order that is not told of goes on: it may be corrected, and no protection is in it."""


def times(event: OrderEvent) -> list[int]:
    match event:
        case OrderPlaced():
            return [event.placed_at_ms]
        case OrderCancelled():
            return [event.cancelled_at_ms]
        case _:
            return [item.at_ms for item in event.items if item.quantity != 0]


def each_unit(movements: Iterable[Movement], line_id: str) -> list[int]:
    return sorted(one.at_ms for one in movements if one.line_item_id == line_id for _ in range(one.quantity))


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
        else:
            words.append((event_id, type(effect).__name__.lower(), said_of(effect.change)))
    return words


def said_of(change: Change) -> object:
    match change:
        case Placed():
            return None
        case Cancelled(at_ms=at_ms):
            return at_ms
        case _:
            return change.items


@given(any_history, any_rules)
@settings(max_examples=250)
def test_every_history_ends_as_the_model_says(history: list[OrderEvent], by: Rules) -> None:
    model = Model(by)
    state: OrderState | None = None
    for event, transition in zip(history, steps(history, by), strict=True):
        state = transition.state
        assert told(transition.effects) == model.take(event)
    order = None if state is None else state.order
    if model.order is None:
        assert order is None
    else:
        assert order is not None
        assert (order.placed, order.cancelled_at_ms) == (model.order, model.cancelled_at)
        assert order.fulfilments == tuple(model.said["out"])
        assert order.refunds == tuple(model.said["back"])
        assert order.cancellations == tuple(model.said["off"])
        assert snapshot_units(order) == model.shown()
    assert ([] if state is None else [parked.event for parked in state.parked]) == model.waiting


def snapshot_units(order: Order) -> dict[str, tuple[list[int], list[int]]]:
    return {
        line["id"]: (
            [one["fulfilled_at"] for one in line["fulfillments"] for _ in range(one["quantity"])],
            [one["refunded_at"] for one in line["refunds"] for _ in range(one["quantity"])],
        )
        for line in orjson.loads(feed.snapshot(order))["line_items"]
    }


@given(any_history, any_rules)
@settings(max_examples=80)
def test_no_unit_is_lost_or_invented(history: list[OrderEvent], by: Rules) -> None:
    """For every line item the totals are what the shop's movements and the told ones add up to; of a product what was
    ordered is what remains plus what moved, on each of the three roads."""
    told: Counter[tuple[type[Change], str]] = Counter()
    for transition in steps(history, by):
        state = transition.state
        for effect in transition.effects:
            if isinstance(effect, Applied | Retold) and isinstance(
                effect.change, Fulfilled | Refunded | LinesCancelled
            ):
                for item in effect.change.items:
                    assert item.quantity > 0
                    told[type(effect.change), item.line_item_id] += item.quantity
        if state is None or state.order is None:
            continue
        order = state.order
        for line, totals in zip(order.placed.line_items, state.totals, strict=True):
            assert totals.fulfilled == units(order.fulfilments, line.id)
            assert totals.refunded == units(order.refunds, line.id)
            assert totals.cancelled == units(order.cancellations, line.id)
            if by.api is Api.EVENTS:
                assert totals.told_fulfilled == told[Fulfilled, line.id]
                assert totals.told_refunded == told[Refunded, line.id]
                assert totals.told_cancelled == told[LinesCancelled, line.id]
            assert totals.told_refunded + totals.told_cancelled <= line.quantity
            if line.protection is None:
                assert totals.fulfilled + totals.cancelled <= line.quantity
        every = order.fulfilments + order.refunds + order.cancellations
        moved = sum(totals.fulfilled + totals.refunded + totals.cancelled for totals in state.totals)
        assert moved == sum(movement.quantity for movement in every), "a unit of no line item of the order"


@given(any_history, any_rules)
@settings(max_examples=80)
def test_what_is_told_of_is_the_order_after_it(history: list[OrderEvent], by: Rules) -> None:
    order: Order | None = None
    for transition in steps(history, by):
        for effect in transition.effects:
            if isinstance(effect, Applied | Retold):
                order = effect.order_after
            elif isinstance(effect, Ignored) and effect.reason is IgnoredReason.TOLD_BY_PAIRING:
                order = None  # what was said is kept, though nobody is told of it
        state = transition.state
        if order is not None and state is not None and state.order != order:
            # Of an order that is told of later, an event may have been told by pairing as well: it has no effect.
            assert state.order is not None
            assert state.order.placed == order.placed
            assert any(isinstance(effect, Retold) for effect in transition.effects)
            beyond = state.order.pairings[len(order.pairings) :]
            assert beyond
            assert not any(pairing.added for pairing in beyond), "told by nobody"
            order = None


@given(any_history, any_rules)
@settings(max_examples=80)
def test_a_protection_keeps_no_more_than_its_product_has_left(history: list[OrderEvent], by: Rules) -> None:
    """Once a unit of the product is gone; a product of more protections than units may be sold."""
    for transition in steps(history, by):
        state = transition.state
        if state is None or state.order is None or by.api is Api.FEED:
            continue
        lines = {
            line.id: (line, totals) for line, totals in zip(state.order.placed.line_items, state.totals, strict=True)
        }
        for line, totals in lines.values():
            if line.protection is None:
                continue
            product, gone = lines[line.protection.protects_line_item_id]
            if gone.told_refunded + gone.told_cancelled:
                left = product.quantity - gone.told_refunded - gone.told_cancelled
                assert line.quantity - totals.told_refunded - totals.told_cancelled <= left


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
    taken: dict[Key, OrderEvent] = {}
    for event in history:
        taken[key(event)] = event
        transition = take(state, event, by)
        state = transition.state
        words += told(transition.effects)
        for effect in transition.effects:
            if isinstance(effect, Refused):
                del taken[key(effect.taken.event)]
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
    each = 0
    for transition in steps(history, by):
        state = transition.state
        each += sum(not isinstance(effect, Parked | Retold) for effect in transition.effects)
    assert each + (0 if state is None else len(state.parked)) == len(history)


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
    made = list(steps(history, by))
    return [word for one in made for word in told(one.effects)], made[-1].state if made else None


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
