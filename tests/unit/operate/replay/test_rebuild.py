"""A rebuilt payload is the one that transform would make today, for every history that it can have taken."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna import Api, Orders, events, feed
from processor.letters.patch import Unsendable
from processor.operate.replay.rebuild import rebuilt
from processor.records import EntryType, Order, OrderEvent, Pairing
from processor.transform import rules
from processor.transform.transitions import Applied, Rules, Taken
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
def test_every_entry_can_be_rebuilt_as_it_was_made(drawn: list[tuple[object, list[object]]]) -> None:
    history: list[OrderEvent] = [placed(*LINES)]
    for number, (make, items) in enumerate(drawn):
        history.append(make(*items, event_id=f"e-{number}"))  # type: ignore[operator]
    applied, order = taken(history)
    for effect in applied:
        entry_type, body = events.entry(effect.change, effect.order_after)
        made = rebuilt(entry_type, order, effect.taken.event, fulfil_protection=True)
        assert not isinstance(made, Unsendable), made.why
        assert json.loads(made) == json.loads(body)


def test_a_snapshot_is_todays_whatever_it_was() -> None:
    _, order = taken([placed(*LINES), fulfilled(("a", 1))])
    assert rebuilt(EntryType.ORDER, order, None, fulfil_protection=True) == feed.snapshot(order)


def test_nothing_is_guessed() -> None:
    _, order = taken([placed(*LINES), fulfilled(("a", 1), event_id="f")])
    other = fulfilled(("b", 1))
    for entry_type, known, event, why in (
        (EntryType.ORDER_PLACED, None, None, "the state holds no such order any more"),
        (EntryType.ORDER_FULFILLMENT_ADDED, order, other, "the state does not hold what it moved"),
        (EntryType.ORDER_FULFILLMENT_ADDED, order, cancelled(), "its source record holds another kind of event"),
        (EntryType.ORDER_CANCELLED, order, None, "the state does not say that the order was cancelled"),
    ):
        assert rebuilt(entry_type, known, event, fulfil_protection=True) == Unsendable(why)


def rebuilt_refund(order: Order, event: OrderEvent) -> object:
    made = rebuilt(EntryType.ORDER_REFUND_ADDED, order, event, fulfil_protection=True)
    if isinstance(made, Unsendable):
        return made.why
    return [(one["line_item_id"], one["quantity"]) for one in json.loads(made)["payload"]["refund_items"]]


def test_what_pairing_made_of_an_event_is_known_by_its_id() -> None:
    """Two refunds say the same, and each took other protection along."""
    first, second = refunded(("a", 2), event_id="1"), refunded(("a", 2), event_id="2")
    echo = refunded(("pa", 2), ("b", 1), ("b", 0), event_id="echo")
    _, order = taken([placed(*LINES), first, second, echo])
    assert rebuilt_refund(order, first) == [("a", 2)]
    assert rebuilt_refund(order, second) == [("a", 2), ("pa", 2)]
    assert rebuilt_refund(order, echo) == [("b", 1), ("pb", 1)]
    alone = refunded(("pa", 1), event_id="alone")
    _, order = taken([placed(*LINES), refunded(("a", 6), event_id="0"), alone])
    assert rebuilt_refund(order, alone) == "nothing of it is told: pairing has told all that it says"


def test_of_a_refund_that_came_after_the_cancellation_what_was_taken_is_rebuilt() -> None:
    late = refunded(("a", 1, NOW_MS), ("b", 1), event_id="late")
    _, order = taken([placed(*LINES), cancelled(NOW_MS - 1), late])
    assert rebuilt_refund(order, late) == [("b", 1), ("pb", 1)]


def test_an_event_from_before_version_2_takes_along_the_protection_of_its_time() -> None:
    event = refunded(("b", 1))
    paired = Pairing("r", (), movements([("pb", 1)]))
    before = Order(placed(*LINES), refunds=event.items, pairings=(paired,))
    assert rebuilt_refund(before, event) == [("b", 1), ("pb", 1)]
    twice = Order(placed(*LINES), refunds=event.items * 2, pairings=(paired,))
    assert rebuilt_refund(twice, event) == "the state holds what it moved twice, with different protection"
    assert rebuilt_refund(Order(placed(*LINES), refunds=event.items * 2), event) == [("b", 1)]
