"""A rebuilt payload is the one that transform would make today, for every history that it can have taken."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna import Api, Orders, events, feed
from processor.letters.patch import Unsendable
from processor.operate.replay.rebuild import moved_by, rebuilt
from processor.records import EntryType, Movement, Order, OrderEvent
from processor.transform import rules
from processor.transform.rules import Applied, Rules, Taken
from tests.unit.order_events import (
    NOW_MS,
    cancelled,
    fulfilled,
    lines_cancelled,
    movements,
    placed,
    product,
    protection,
    record,
    refunded,
)

RULES = Rules(api=Api.EVENTS, orders=Orders.ALL, fulfil_protection=True, park_for_ms=1_000)
LINES = (
    product("a", 6),
    product("b", 6),
    protection("pa", "a", 4),
    protection("pa2", "a", 2),
    protection("pb", "b", 6),
)


def taken(history: list[OrderEvent]) -> tuple[list[Applied], Order]:
    """What transform made of it, and the order as it stands."""
    state, applied = None, []
    for number, event in enumerate(history):
        transition = rules.apply(state, Taken(event, record(event, number)), RULES, NOW_MS)
        state = transition.state
        applied += [effect for effect in transition.effects if isinstance(effect, Applied)]
    assert state is not None
    assert state.order is not None
    return applied, state.order


moves = st.lists(
    st.tuples(
        st.sampled_from([fulfilled, refunded, lines_cancelled]),
        st.lists(
            st.tuples(st.sampled_from(["a", "b", "pa", "pb"]), st.integers(1, 3), st.integers(1, 3)),
            min_size=1,
            max_size=3,
            unique_by=lambda item: item[0],
        ),
    ),
    max_size=6,
)


@given(moves)
@settings(max_examples=300)
def test_every_entry_can_be_rebuilt_as_it_was_made_or_says_why_not(drawn: list[tuple[object, list[object]]]) -> None:
    history: list[OrderEvent] = [placed(*LINES)]
    for number, (make, items) in enumerate(drawn):
        history.append(make(*items, event_id=f"e-{number}"))  # type: ignore[operator]
    applied, order = taken(history)
    for effect in applied:
        entry_type, body = events.entry(effect.change, effect.order_after)
        made = rebuilt(entry_type, order, effect.taken.event, fulfil_protection=True)
        if isinstance(made, Unsendable):
            assert made.why == "the state holds what it moved twice, with different protection"
        else:
            assert json.loads(made) == json.loads(body)


def test_a_snapshot_is_todays_whatever_it_was() -> None:
    _, order = taken([placed(*LINES), fulfilled(("a", 1))])
    assert rebuilt(EntryType.ORDER, order, None, fulfil_protection=True) == feed.snapshot(order)


def test_nothing_is_guessed() -> None:
    _, order = taken([placed(*LINES), fulfilled(("a", 1), event_id="f")])
    other = fulfilled(("b", 1))
    assert rebuilt(EntryType.ORDER_PLACED, None, None, fulfil_protection=True) == Unsendable(
        "the state holds no such order any more"
    )
    assert rebuilt(EntryType.ORDER_FULFILLMENT_ADDED, order, other, fulfil_protection=True) == Unsendable(
        "the state does not hold what it moved"
    )
    assert rebuilt(EntryType.ORDER_FULFILLMENT_ADDED, order, cancelled(), fulfil_protection=True) == Unsendable(
        "its source record holds another kind of event"
    )
    assert rebuilt(EntryType.ORDER_CANCELLED, order, None, fulfil_protection=True) == Unsendable(
        "the state does not say that the order was cancelled"
    )


def test_the_same_movement_twice_is_rebuilt_where_both_are_the_same() -> None:
    items = movements([("b", 1)])
    twice = (*items, *items)
    assert moved_by(items, twice, (product("b", 2),), pairing=True) == items
    with_protection = (items[0], Movement("pb", 1, items[0].at_ms), items[0])
    assert isinstance(moved_by(items, with_protection, LINES, pairing=True), Unsendable)
