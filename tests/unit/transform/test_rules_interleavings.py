"""The same facts in any order: what is left of each line item, what the feed shows, what Hakuna is told.

The topics of one order do not wait for each other, and two systems of a shop may tell of one thing. What must come
of it is reckoned here from the facts alone, in no order at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import permutations
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna import Api, Orders, feed
from processor.records import (
    Change,
    Fulfilled,
    IgnoredReason,
    LineItem,
    LineItemsCancelled,
    LineItemsRefunded,
    LinesCancelled,
    Movement,
    OrderEvent,
    Placed,
    Refunded,
)
from processor.transform.order_state import OrderState, decode, encode
from processor.transform.transitions import Applied, Ignored, Parked, Retold, Rules
from tests.unit.order_events import AT_MS, cancelled, fulfilled, lines_cancelled, placed, product, protection, refunded
from tests.unit.transform.histories import rules, take

HOUR_MS = 3_600_000
LATE_MS = AT_MS + HOUR_MS

_units = st.integers(1, 4)
_a, _b = (_units.map(partial(product, line_id)) for line_id in "ab")
_plan, _second, _of_b, _of_plan = (
    _units.map(partial(protection, line_id, protects)) for line_id, protects in ("pa", "qa", "qb", "qp")
)
LAYOUTS: dict[str, st.SearchStrategy[tuple[LineItem, ...]]] = {
    "a plan of fewer, as many or more units than its product": st.tuples(_a, _plan, st.just(product("b"))),
    "two plans on one product": st.tuples(_plan, _a, _second),
    "a plan of a plan": st.tuples(_of_plan, _plan, _a),
    "two products, each with its plan": st.tuples(_a, _b, _plan, _of_b),
}
_layout = st.one_of(*LAYOUTS.values())


@st.composite
def facts(draw: st.DrawFn, lines: tuple[LineItem, ...]) -> list[OrderEvent]:
    """What a shop says of its order: nothing moves that was not ordered, and nothing after the cancellation. Of a plan
    it says itself what it likes, as long as its own words agree."""
    said: list[OrderEvent] = []
    for line in lines:
        ordered = line.quantity
        off = draw(st.integers(0, ordered))
        out, back = draw(st.integers(0, ordered - off)), draw(st.integers(0, ordered - off))
        for move, total in ((fulfilled, out), (refunded, back), (lines_cancelled, off)):
            while total:
                some = draw(st.integers(1, total))
                total -= some
                at_ms = AT_MS + draw(st.integers(0, 20))
                said.append(move((line.id, some, at_ms), event_id=f"event-{len(said)}"))
    if draw(st.booleans()):
        said.append(cancelled(LATE_MS))
    return said


_order = _layout.flatmap(lambda lines: st.tuples(st.just(lines), facts(lines)))


class End:
    """What came of a history of which no event is refused; its state was encoded and decoded after each."""

    def __init__(self, history: Sequence[OrderEvent], by: Rules) -> None:
        state: OrderState | None = None
        self.snapshot: bytes | None = None
        self.told: list[Change] = []
        for event in history:
            transition = take(state, event, by)
            assert transition.state is not None
            state = decode(encode(transition.state))
            for effect in transition.effects:
                if isinstance(effect, Applied | Retold):
                    self.told.append(effect.change)
                    self.snapshot = feed.snapshot(effect.order_after)
                elif isinstance(effect, Ignored):
                    assert effect.reason in (IgnoredReason.TOLD_BY_PAIRING, IgnoredReason.UNPROTECTED)
                else:
                    assert isinstance(effect, Parked), effect
        assert state is not None
        self.state = state

    def gone(self) -> Counter[str]:
        """Units of each line item that Hakuna was told are refunded or cancelled."""
        return _units_of(item for one in self.told if isinstance(one, Refunded | LinesCancelled) for item in one.items)

    def out(self) -> Counter[str]:
        """The same of those that were fulfilled."""
        return _units_of(item for one in self.told if isinstance(one, Fulfilled) for item in one.items)

    def insurance(self) -> list[tuple[str, int]]:
        """Of each line item what is left of it."""
        assert self.state.order is not None
        return [
            (line.id, line.quantity - totals.told_refunded - totals.told_cancelled)
            for line, totals in zip(self.state.order.placed.line_items, self.state.totals, strict=True)
        ]


def _units_of(items: Iterable[Movement]) -> Counter[str]:
    units: Counter[str] = Counter()
    for item in items:
        units[item.line_item_id] += item.quantity
    return units


def gone_of(lines: Sequence[LineItem], said: Sequence[OrderEvent]) -> Counter[str]:
    """By the facts alone: what the shop took of each, and of a plan what its product, once touched, has no room for."""
    moved = [event for event in said if isinstance(event, LineItemsRefunded | LineItemsCancelled)]
    own = _units_of(item for event in moved for item in event.items)
    by_id = {line.id: line for line in lines}

    def gone(line: LineItem) -> int:
        if line.protection is None:
            return own[line.id]
        of = by_id[line.protection.protects_line_item_id]
        missing = gone(of)
        return max(own[line.id], line.quantity - (of.quantity - missing) if missing else 0)

    return +Counter({line.id: gone(line) for line in lines})


def shown(snapshot: bytes | None) -> Counter[str]:
    """Units that the feed shows as refunded."""
    lines = orjson.loads(snapshot or b"")["line_items"]
    return +Counter({line["id"]: sum(one["quantity"] for one in line["refunds"]) for line in lines})


@given(_order, st.sampled_from(Api), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=200)
def test_the_same_facts_give_the_same_insurance_in_any_order(
    order: tuple[tuple[LineItem, ...], list[OrderEvent]], api: Api, fulfil_protection: bool, random: Random
) -> None:
    """The topics of one order may come in any sequence: every event of a correct history is taken, of every line item
    the same is left, and the feed's last snapshot is the same to the byte."""
    lines, said = order
    by = rules(api, fulfil_protection=fulfil_protection)
    history = [placed(*lines), *said]
    shuffled = list(history)
    random.shuffle(shuffled)
    in_order, end = End(history, by), End(shuffled, by)
    assert end.insurance() == in_order.insurance()
    if api is Api.EVENTS:
        assert end.gone() == gone_of(lines, said)
    else:
        assert end.snapshot == in_order.snapshot
        assert end.state.order is not None
        assert end.snapshot == feed.snapshot(end.state.order)
        assert shown(end.snapshot) == gone_of(lines, said)


@given(_order, st.sampled_from(Api), st.randoms(use_true_random=False), st.data())
@settings(max_examples=200)
def test_protection_that_is_sold_later_ends_as_if_it_had_been_there_at_once(
    order: tuple[tuple[LineItem, ...], list[OrderEvent]], api: Api, random: Random, data: st.DataObject
) -> None:
    """`HAKUNA_ORDERS=protected`: before the second placement, or even the first, anything may have been said, of the
    plan as well."""
    lines, said = order
    bare = placed(*(line for line in lines if line.protection is None), event_id="bare")
    whole = placed(*lines, event_id="whole")
    random.shuffle(said)
    first = data.draw(st.integers(0, len(said)))
    second = data.draw(st.integers(first, len(said)))
    later = End([*said[:first], bare, *said[first:second], whole, *said[second:]], rules(api, Orders.PROTECTED))
    at_once = End([whole, *said], rules(api))
    if api is Api.FEED:
        assert later.snapshot == at_once.snapshot
        return
    assert isinstance(later.told[0], Placed)
    assert later.gone() == at_once.gone() == gone_of(lines, said)
    assert [later.out()[line.id] for line in bare.line_items] == [at_once.out()[line.id] for line in bare.line_items]


REPORTED: dict[str, list[OrderEvent]] = {
    "two cancelled, one shipped": [
        placed(product("a", 3), protection("p", "a", 1)),
        lines_cancelled(("a", 2, AT_MS + 1)),
        fulfilled(("a", 1, AT_MS + 2)),
        refunded(("a", 1, AT_MS + 3)),
    ],
    "two plans, one unit refunded": [
        placed(product("a", 2), protection("p", "a", 1), protection("q", "a", 1)),
        refunded(("a", 1, AT_MS + 1)),
        fulfilled(("a", 2, AT_MS + 2)),
        cancelled(AT_MS + 9),
    ],
    "two systems tell of one refund, and the plan is fulfilled when it is paid": [
        placed(product("a", 1), protection("p", "a", 1), product("b", 1)),
        fulfilled(("p", 1, AT_MS), event_id="paid"),
        refunded(("a", 1, AT_MS + 3), event_id="product"),
        refunded(("p", 1, AT_MS + 4), ("b", 1, AT_MS + 4), event_id="plan"),
        fulfilled(("a", 1, AT_MS + 1), event_id="shipped"),
    ],
    "a shipped unit refunded, two others cancelled": [
        placed(product("a", 3), protection("p", "a", 2)),
        fulfilled(("a", 1, AT_MS + 1)),
        refunded(("a", 1, AT_MS + 2)),
        lines_cancelled(("a", 2, AT_MS + 3)),
        lines_cancelled(("p", 1, AT_MS + 3), event_id="plan"),
    ],
}


@pytest.mark.parametrize("name", REPORTED)
@pytest.mark.parametrize("api", Api)
def test_all_interleavings_of_what_shops_reported_give_the_same_insurance(name: str, api: Api) -> None:
    ends = [End(history, rules(api)) for history in permutations(REPORTED[name])]
    assert len({tuple(end.insurance()) for end in ends}) == 1
    if api is Api.FEED:
        assert len({end.snapshot for end in ends}) == 1
