"""The business rules, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from processor.hakuna import Api, Orders
from processor.hakuna.feed import snapshot
from processor.records import (
    Cancelled,
    Change,
    Fulfilled,
    IgnoredReason,
    LinesCancelled,
    Movement,
    Order,
    OrderEvent,
    Placed,
    Reason,
    Refunded,
)
from processor.transform.order_state import LineTotals, OrderState, ParkedEvent, Standing, Unheard, decode, encode
from processor.transform.rules import apply, erase, expire_parked
from processor.transform.transitions import Applied, Ignored, Parked, Refused, Retold, Rules, Taken, Transition
from tests.unit.order_events import (
    AT_MS,
    DAY_MS,
    NOW_MS,
    cancelled,
    fulfilled,
    lines_cancelled,
    placed,
    product,
    protection,
    record,
    refunded,
)
from tests.unit.transform.histories import after, ids_of, rules, take

EVENTS = rules(Api.EVENTS)
FEED = rules(Api.FEED)
PROTECTED = rules(orders=Orders.PROTECTED)
BOTH_APIS = pytest.mark.parametrize("by", [EVENTS, FEED], ids=["events", "feed"])

Move = Callable[..., OrderEvent]
"""Makes an event out of items, such as `fulfilled`."""
Kind = Callable[[tuple[Movement, ...]], Change]

LATE_MS = AT_MS + 1
"""After an order that was cancelled at `AT_MS`."""


def assert_applied(state: OrderState | None, event: OrderEvent, by: Rules = EVENTS) -> Applied:
    """It is taken, and nothing else happens."""
    (effect,) = take(state, event, by).effects
    assert isinstance(effect, Applied), effect
    return effect


def change_by(state: OrderState | None, event: OrderEvent, by: Rules = EVENTS) -> Change:
    return assert_applied(state, event, by).change


def assert_refused(state: OrderState | None, event: OrderEvent, reason: Reason, by: Rules = EVENTS) -> str:
    """It is refused for this reason, and nothing else happens: not a byte of the state changes. Returns the message."""
    stored = None if state is None else encode(state)
    transition = take(state, event, by)
    (effect,) = transition.effects
    assert isinstance(effect, Refused), effect
    assert effect.reason is reason, effect.message
    assert effect.taken == Taken(event, record(event))
    assert transition.state is state
    assert (None if transition.state is None else encode(transition.state)) == stored
    return effect.message


def assert_ignored(
    state: OrderState | None, event: OrderEvent, reason: IgnoredReason, by: Rules = EVENTS
) -> OrderState:
    transition = take(state, event, by)
    assert transition.effects == (Ignored(Taken(event, record(event)), reason),)
    assert transition.state is not None
    return transition.state


def then(state: OrderState | None, event: OrderEvent, by: Rules = EVENTS, now_ms: int = NOW_MS) -> OrderState:
    kept = take(state, event, by, now_ms).state
    assert kept is not None
    return kept


def order_of(state: OrderState | None) -> Order:
    assert state is not None
    assert state.order is not None
    return state.order


# ---- an event that is taken --------------------------------------------------------------------------------------


def test_an_order_that_is_placed_is_told_of() -> None:
    event = placed(product("a", 2))
    transition = take(None, event)
    assert transition.effects == (Applied(Taken(event, record(event)), Placed(event), Order(event)),)
    assert transition.state == OrderState(Standing.PLACED, NOW_MS, Order(event), (LineTotals(),), (), ())


def test_each_kind_of_event_changes_the_order_and_is_told_of() -> None:
    state = after(placed(product("a", 3)))
    each: list[tuple[OrderEvent, Change]] = [
        (fulfilled(("a", 2)), Fulfilled((Movement("a", 2, AT_MS),))),
        (refunded(("a", 1)), Refunded((Movement("a", 1, AT_MS),))),
        (lines_cancelled(("a", 1)), LinesCancelled((Movement("a", 1, AT_MS),))),
        (cancelled(LATE_MS), Cancelled(LATE_MS)),
    ]
    for event, change in each:
        assert change_by(state, event) == change
        state = then(state, event)
    assert order_of(state) == Order(
        placed(product("a", 3)),
        (Movement("a", 2, AT_MS),),
        (Movement("a", 1, AT_MS),),
        (Movement("a", 1, AT_MS),),
        LATE_MS,
    )
    assert state.totals == (LineTotals(2, 1, 1, 2, 1, 1),)
    assert state.event_keys == ("ffulfilled", "rrefunded", "llines-cancelled", "ccancelled")


def test_the_order_that_is_handed_on_is_the_one_after_the_event() -> None:
    state = after(placed(product("a", 2)))
    assert assert_applied(state, fulfilled(("a", 1))).order_after == order_of(then(state, fulfilled(("a", 1))))


def test_an_order_without_line_items_is_taken() -> None:
    assert change_by(None, placed()) == Placed(placed())


# ---- an event of an order that is not placed yet -----------------------------------------------------------------


def test_an_event_of_an_unknown_order_is_parked_with_its_record() -> None:
    event = fulfilled(("a", 1))
    assert take(None, event).effects == (Parked(Taken(event, record(event))),)
    state = then(None, event)
    assert state.standing is Standing.WAITING
    assert state.parked == (ParkedEvent(event, record(event), NOW_MS),)


@BOTH_APIS
def test_parked_events_are_applied_in_the_order_in_which_they_were_taken_right_after_placement(by: Rules) -> None:
    early: list[OrderEvent] = [
        lines_cancelled(("a", 1), event_id="1"),
        fulfilled(("a", 2), event_id="2"),
        refunded(("a", 1), event_id="3"),
        cancelled(event_id="4"),
    ]
    order = placed(product("a", 3))
    transition = take(after(*early, by=by), order, by)
    assert ids_of(transition.effects, Applied) == ["placed", "1", "2", "3", "4"]
    assert len(transition.effects) == 5
    assert transition.state == after(order, *early, by=by)


def test_a_parked_event_is_applied_with_its_own_record() -> None:
    early = fulfilled(("a", 1))
    transition = take(after(early), placed(product("a")))
    assert [effect.taken.origin for effect in transition.effects] == [record(placed(product("a"))), record(early)]


def test_a_parked_event_is_judged_when_its_order_is_placed() -> None:
    """It leaves with an effect of its own; one that is refused takes no other with it."""
    waiting = after(
        fulfilled(("a", 2), event_id="too many"),
        refunded(("x", 1), event_id="unknown"),
        cancelled(event_id="off"),
        refunded(("a", 1, LATE_MS), event_id="pointless"),
        fulfilled(("a", 1), event_id="in time"),
        fulfilled(("a", 1, LATE_MS), event_id="late"),
    )
    transition = take(waiting, placed(product("a")))
    assert [(type(effect), effect.taken.event.event_id) for effect in transition.effects] == [
        (Applied, "placed"),
        (Refused, "too many"),
        (Refused, "unknown"),
        (Applied, "off"),
        (Ignored, "pointless"),
        (Applied, "in time"),
        (Refused, "late"),
    ]
    assert transition.state is not None
    assert transition.state.event_keys == ("coff", "rpointless", "fin time")
    assert transition.state.parked == ()


def test_the_101st_parked_event_of_an_order_is_refused() -> None:
    waiting = after(*(fulfilled(("a", 1), event_id=f"{n}") for n in range(100)))
    assert_refused(waiting, fulfilled(("a", 1), event_id="the 101st"), Reason.PARKED_TOO_MANY)


def test_a_refused_placement_leaves_the_parked_events_waiting() -> None:
    waiting = after(fulfilled(("a", 1)))
    assert_refused(waiting, placed(product("a"), product("a")), Reason.LINE_ITEM_DUPLICATE)


def test_events_parked_longer_than_park_for_are_refused_each_with_its_record() -> None:
    first, second, third = (fulfilled(("a", 1), event_id=f"{n}") for n in range(3))
    state = then(then(then(None, first), second, now_ms=NOW_MS + 1), third, now_ms=NOW_MS + 2)
    transition = expire_parked(state, EVENTS, NOW_MS + 1 + DAY_MS + 1)
    assert [(effect.taken, effect.reason) for effect in transition.effects if isinstance(effect, Refused)] == [
        (Taken(event, record(event)), Reason.ORDER_UNKNOWN) for event in (first, second)
    ]
    assert len(transition.effects) == 2
    assert transition.state is not None
    assert [parked.event for parked in transition.state.parked] == [third]
    assert transition.state.touched_at_ms == state.touched_at_ms


def test_park_for_itself_is_not_too_long() -> None:
    waiting = after(fulfilled(("a", 1)))
    assert expire_parked(waiting, EVENTS, NOW_MS + DAY_MS) == Transition(waiting, ())


def test_nothing_is_kept_of_an_order_whose_last_parked_event_has_waited_too_long() -> None:
    waiting = after(fulfilled(("a", 1)))
    assert expire_parked(waiting, EVENTS, NOW_MS + DAY_MS + 1).state is None


def test_an_expired_event_is_refused_even_if_no_sweep_came_before_its_order() -> None:
    transition = take(after(fulfilled(("a", 1))), placed(product("a")), now_ms=NOW_MS + DAY_MS + 1)
    assert ids_of(transition.effects, Refused) == ["fulfilled"]
    assert ids_of(transition.effects, Applied) == ["placed"]


def test_an_expired_event_makes_room_for_another() -> None:
    waiting = after(*(fulfilled(("a", 1), event_id=f"{n}") for n in range(100)))
    transition = take(waiting, fulfilled(("a", 1), event_id="new"), now_ms=NOW_MS + DAY_MS + 1)
    assert len(ids_of(transition.effects, Refused)) == 100
    assert ids_of(transition.effects, Parked) == ["new"]


def test_an_expired_event_can_be_replayed() -> None:
    waiting = after(fulfilled(("a", 1)))
    transition = take(waiting, fulfilled(("a", 1)), now_ms=NOW_MS + DAY_MS + 1)
    assert [type(effect) for effect in transition.effects] == [Refused, Parked]


def test_a_clock_that_is_set_back_expires_nothing() -> None:
    waiting = after(fulfilled(("a", 1)))
    assert expire_parked(waiting, EVENTS, NOW_MS - DAY_MS) == Transition(waiting, ())


# ---- an event that was seen before -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "again",
    [placed(product("a", 3)), fulfilled(("a", 1)), refunded(("a", 1)), lines_cancelled(("a", 1)), cancelled()],
    ids=lambda event: type(event).__name__,
)
@BOTH_APIS
def test_an_event_is_taken_once(again: OrderEvent, by: Rules) -> None:
    state = after(
        placed(product("a", 3)), fulfilled(("a", 1)), refunded(("a", 1)), lines_cancelled(("a", 1)), cancelled(), by=by
    )
    assert assert_ignored(state, again, IgnoredReason.DUPLICATE, by) is state


def test_a_parked_event_counts_as_seen() -> None:
    waiting = after(fulfilled(("a", 1)))
    assert assert_ignored(waiting, fulfilled(("a", 1)), IgnoredReason.DUPLICATE) is waiting


def test_a_duplicate_is_known_by_its_id_whatever_it_says() -> None:
    state = after(placed(product("a", 2)), fulfilled(("a", 1)))
    assert_ignored(state, fulfilled(("a", 2, LATE_MS)), IgnoredReason.DUPLICATE)


@BOTH_APIS
def test_the_same_id_under_another_event_type_is_another_event(by: Rules) -> None:
    """Shops give the ID of one action to the refund and the cancellation that it makes."""
    each: list[OrderEvent] = [
        fulfilled(("a", 1), event_id="action"),
        refunded(("a", 1), event_id="action"),
        lines_cancelled(("a", 1), event_id="action"),
        cancelled(event_id="action"),
    ]
    state = after(placed(product("a", 3), event_id="action"), by=by)
    for event in each:
        assert_applied(state, event, by)
        state = then(state, event, by)
    for event in each:
        assert assert_ignored(state, event, IgnoredReason.DUPLICATE, by) is state
    waiting = after(*each, by=by)
    assert [parked.event for parked in waiting.parked] == each


def test_an_event_that_was_ignored_counts_as_seen() -> None:
    state = after(placed(product("a")), cancelled(), refunded(("a", 1, LATE_MS)))
    assert_ignored(state, refunded(("a", 1)), IgnoredReason.DUPLICATE)


def test_a_refused_event_is_not_remembered_so_that_its_dead_letter_can_be_replayed() -> None:
    state = after(placed(product("a", 2)), fulfilled(("a", 2), event_id="out"))
    back = lines_cancelled(("a", 1))
    assert_refused(state, back, Reason.QUANTITY_EXCEEDED)
    feed = after(placed(product("a", 2)), fulfilled(("a", 2), event_id="out"), by=FEED)
    assert_refused(feed, back, Reason.QUANTITY_EXCEEDED, FEED)
    corrected = take(feed, placed(product("a", 3), event_id="corrected"), FEED).state
    assert change_by(corrected, back, FEED) == LinesCancelled((Movement("a", 1, AT_MS),))


def test_an_order_remembers_its_last_event_ids_and_forgets_the_oldest() -> None:
    by = rules(event_ids_max=2)
    state = after(placed(product("a", 5)), *(fulfilled(("a", 1), event_id=f"{n}") for n in range(3)), by=by)
    assert state.event_keys == ("f1", "f2")
    assert change_by(state, fulfilled(("a", 1), event_id="0"), by) == Fulfilled((Movement("a", 1, AT_MS),))


def test_the_placement_itself_is_never_forgotten() -> None:
    by = rules(event_ids_max=1)
    state = after(placed(product("a", 5)), fulfilled(("a", 1), event_id="1"), fulfilled(("a", 1), event_id="2"), by=by)
    assert_ignored(state, placed(product("a", 5)), IgnoredReason.DUPLICATE, by)


def test_a_thousand_event_ids_are_remembered_by_default() -> None:
    state = after(placed(product("a", 2_000)), *(fulfilled(("a", 1), event_id=f"{n}") for n in range(1_001)))
    assert len(state.event_keys) == 1_000
    assert state.event_keys[0] == "f1"


def test_ten_thousand_events_of_one_order_are_each_taken_and_what_is_kept_of_them_can_be_stored() -> None:
    by = rules()
    state = after(placed(product("a", 10_000)))
    for number in range(10_000):
        assert_applied(state, event := fulfilled(("a", 1), event_id=f"{number}"), by)
        state = then(state, event, by)
    assert state.totals[0].fulfilled == 10_000
    assert len(state.event_keys) == 1_000
    assert decode(encode(state)) == state
    assert_refused(state, fulfilled(("a", 1), event_id="one more"), Reason.QUANTITY_EXCEEDED)


def test_an_order_of_a_thousand_line_items_moves_whole_and_takes_its_protection_along() -> None:
    names = [f"{number}" for number in range(500)]
    state = after(placed(*(product(name) for name in names), *(protection(f"p{name}", name) for name in names)))
    state = then(state, refunded(*((name, 1) for name in names)))
    assert [totals.told_refunded for totals in state.totals] == [1] * 1_000
    assert decode(encode(state)) == state


# ---- an order that is unsound ------------------------------------------------------------------------------------


@BOTH_APIS
def test_the_same_line_item_twice_is_refused(by: Rules) -> None:
    assert_refused(None, placed(product("a"), product("b"), product("a")), Reason.LINE_ITEM_DUPLICATE, by)


@BOTH_APIS
@pytest.mark.parametrize("protects", ["x", "p"], ids=["no line item", "itself"])
def test_protection_of_nothing_is_refused(protects: str, by: Rules) -> None:
    assert_refused(None, placed(product("a"), protection("p", protects)), Reason.PROTECTION_DANGLING, by)


@pytest.mark.parametrize("quantity", [-1, -(2**31)])
def test_an_order_of_less_than_one_unit_is_refused(quantity: int) -> None:
    assert_refused(None, placed(product("a"), product("b", quantity)), Reason.QUANTITY_EXCEEDED)


@BOTH_APIS
def test_a_line_of_quantity_0_is_left_out_of_its_order(by: Rules) -> None:
    """An edited order keeps what was removed like that; what was removed may stand there anew."""
    order = placed(product("gone", 0), product("a", 2), protection("p", "gone", 0), product("gone", 1))
    left = placed(product("a", 2), product("gone", 1))
    assert assert_applied(None, order, by) == Applied(Taken(order, record(order)), Placed(left), Order(left))


def test_protection_of_a_line_of_quantity_0_refers_to_none() -> None:
    assert_refused(None, placed(product("a", 0), protection("p", "a")), Reason.PROTECTION_DANGLING)


@BOTH_APIS
def test_an_order_of_nothing_but_lines_of_quantity_0_is_ignored_until_it_is_placed_again_with_more(by: Rules) -> None:
    """Its events come to nothing meanwhile: they do not wait for an order that nobody knows."""
    early, emptied = fulfilled(("a", 1)), placed(product("a", 0), protection("p", "a", 0))
    transition = take(after(early), emptied, by)
    assert transition.effects == (
        Ignored(Taken(emptied, record(emptied)), IgnoredReason.NOTHING_MOVED),
        Ignored(Taken(early, record(early)), IgnoredReason.UNPROTECTED),
    )
    state = assert_ignored(transition.state, cancelled(), IgnoredReason.UNPROTECTED, by)
    assert_ignored(state, emptied, IgnoredReason.DUPLICATE, by)
    state = assert_ignored(state, placed(product("a", 0), event_id="again"), IgnoredReason.NOTHING_MOVED, by)

    restored = placed(product("a", 2), event_id="restored")
    told, *moved = take(state, restored, by).effects
    assert isinstance(told, Applied)
    assert told.change == Placed(restored)
    if by.api is Api.EVENTS:
        assert [one.change for one in moved if isinstance(one, Retold)] == [Fulfilled(early.items), Cancelled(AT_MS)]
    else:
        assert (told.order_after.fulfilments, told.order_after.cancelled_at_ms) == (early.items, AT_MS)


def test_protection_may_stand_before_its_product() -> None:
    order = placed(protection("p", "a"), product("a"))
    assert change_by(None, order) == Placed(order)


def test_the_events_api_is_not_told_of_an_order_twice() -> None:
    state = after(placed(product("a")))
    assert_refused(state, placed(product("a"), event_id="again"), Reason.ORDER_EXISTS)


# ---- items -------------------------------------------------------------------------------------------------------

MOVEMENTS = pytest.mark.parametrize("move", [fulfilled, refunded, lines_cancelled])


@MOVEMENTS
def test_a_line_item_that_is_not_in_the_order_is_refused(move: Move) -> None:
    assert_refused(after(placed(product("a"))), move(("x", 1)), Reason.LINE_ITEM_UNKNOWN)


@MOVEMENTS
@pytest.mark.parametrize("quantity", [-1, 4, 2**31, 2**63 - 1, -(2**63)])
def test_less_than_one_unit_or_more_than_remain_are_refused(move: Move, quantity: int) -> None:
    assert_refused(after(placed(product("a", 3))), move(("a", quantity)), Reason.QUANTITY_EXCEEDED)


@MOVEMENTS
def test_all_that_remains_may_move(move: Move) -> None:
    assert_applied(after(placed(product("a", 2**31 - 1))), move(("a", 2**31 - 1)))


@MOVEMENTS
def test_one_bad_item_makes_the_whole_event_a_dead_letter(move: Move) -> None:
    state = after(placed(product("a", 2), product("b", 2)))
    assert_refused(state, move(("a", 1), ("b", 3)), Reason.QUANTITY_EXCEEDED)
    assert_refused(state, move(("a", 1), ("x", 1)), Reason.LINE_ITEM_UNKNOWN)


@MOVEMENTS
def test_items_that_name_the_same_line_item_add_up(move: Move) -> None:
    state = after(placed(product("a", 2)))
    assert_refused(state, move(("a", 1), ("a", 2)), Reason.QUANTITY_EXCEEDED)
    assert_refused(state, move(("a", 2**62), ("a", 2**62), ("a", 2**62)), Reason.QUANTITY_EXCEEDED)
    assert_applied(state, move(("a", 1), ("a", 1, LATE_MS)))


@MOVEMENTS
def test_the_first_bad_item_gives_the_reason(move: Move) -> None:
    state = after(placed(product("a", 2)))
    assert_refused(state, move(("a", 3), ("x", 1)), Reason.QUANTITY_EXCEEDED)
    assert_refused(state, move(("x", 9), ("a", 3)), Reason.LINE_ITEM_UNKNOWN)


@MOVEMENTS
@BOTH_APIS
def test_an_item_of_quantity_0_is_left_out_whatever_else_it_says(move: Move, by: Rules) -> None:
    state = after(placed(product("a", 2), product("b", 2)), by=by)
    one, other = move(("b", 0, 0), ("a", 1), ("x", 0)), move(("a", 1))
    assert change_by(state, one, by) == change_by(state, other, by)
    assert then(state, one, by) == then(state, other, by)


@MOVEMENTS
@BOTH_APIS
def test_an_event_of_nothing_else_is_ignored_and_remembered(move: Move, by: Rules) -> None:
    state = after(placed(product("a")), by=by)
    each = (move(("a", 0), event_id="0"), move(("x", 0, 0), event_id="1"), move(event_id="2"))
    for number, nothing in enumerate(each):
        state = assert_ignored(state, nothing, IgnoredReason.NOTHING_MOVED, by)
        assert order_of(state) == Order(placed(product("a")))
        assert len(state.event_keys) == number + 1
        assert_ignored(state, nothing, IgnoredReason.DUPLICATE, by)


def test_an_event_of_nothing_that_comes_early_waits_as_others_do() -> None:
    transition = take(after(refunded(("a", 0))), placed(product("a")))
    assert [type(effect) for effect in transition.effects] == [Applied, Ignored]


@pytest.mark.parametrize(
    ("moved", "out", "back", "cancel"),
    [
        ((0, 0, 0), 10, 10, 10),
        ((4, 0, 0), 6, 10, 6),
        ((0, 3, 0), 10, 7, 7),
        ((4, 3, 0), 6, 7, 6),
        ((3, 4, 0), 7, 6, 6),
        ((0, 0, 2), 8, 8, 8),
        ((4, 3, 2), 4, 5, 4),
        ((8, 8, 2), 0, 0, 0),
    ],
)
def test_what_remains(moved: tuple[int, int, int], out: int, back: int, cancel: int) -> None:
    """Ordered 10. For fulfilment: − fulfilled − cancelled; for refund: − refunded − cancelled; for cancellation:
    − max(fulfilled, refunded) − cancelled."""
    roads: list[Move] = [fulfilled, refunded, lines_cancelled]
    state = after(placed(product("a", 10)), *(road(("a", units)) for road, units in zip(roads, moved, strict=True)))
    for move, remains in zip(roads, (out, back, cancel), strict=True):
        if remains:
            assert_applied(state, move(("a", remains), event_id="rest"))
        assert_refused(state, move(("a", remains + 1), event_id="more"), Reason.QUANTITY_EXCEEDED)


def test_a_megabyte_of_a_line_item_id_makes_no_megabyte_of_a_message() -> None:
    event = fulfilled(("x" * 1_000_000, 1))
    assert len(assert_refused(after(placed(product("a"))), event, Reason.LINE_ITEM_UNKNOWN)) < 500


# ---- an order that was cancelled ---------------------------------------------------------------------------------


@BOTH_APIS
@pytest.mark.parametrize("move", [fulfilled, lines_cancelled])
def test_what_happened_after_the_order_was_cancelled_is_refused(move: Move, by: Rules) -> None:
    state = after(placed(product("a", 2)), cancelled(AT_MS), by=by)
    assert_refused(state, move(("a", 1, LATE_MS)), Reason.ORDER_CANCELLED, by)


@BOTH_APIS
@pytest.mark.parametrize("move", [fulfilled, lines_cancelled])
@pytest.mark.parametrize("at_ms", [AT_MS, AT_MS - 1, 946_684_800_000])
def test_what_happened_before_the_order_was_cancelled_and_came_late_is_applied(
    move: Move, at_ms: int, by: Rules
) -> None:
    state = after(placed(product("a", 2)), cancelled(AT_MS), by=by)
    assert_applied(state, move(("a", 1, at_ms)), by)


@pytest.mark.parametrize("move", [fulfilled, lines_cancelled])
def test_an_event_that_is_late_in_part_is_refused_whole(move: Move) -> None:
    state = after(placed(product("a", 2)), cancelled(AT_MS))
    assert_refused(state, move(("a", 1, AT_MS), ("a", 1, LATE_MS)), Reason.ORDER_CANCELLED)


@BOTH_APIS
def test_a_refund_that_happened_after_the_order_was_cancelled_is_ignored_sound_or_not(by: Rules) -> None:
    state = after(placed(product("a")), cancelled(AT_MS), by=by)
    later = assert_ignored(state, refunded(("a", 1, LATE_MS)), IgnoredReason.ORDER_CANCELLED, by)
    assert order_of(later) == order_of(state)
    assert_ignored(later, refunded(("x", 9, LATE_MS), event_id="unsound"), IgnoredReason.ORDER_CANCELLED, by)


@BOTH_APIS
@pytest.mark.parametrize("at_ms", [AT_MS, AT_MS - 1])
def test_a_refund_that_happened_before_the_order_was_cancelled_and_comes_late_is_applied(at_ms: int, by: Rules) -> None:
    state = after(placed(product("a", 2), protection("p", "a", 2)), cancelled(AT_MS), by=by)
    both = (Movement("a", 2, at_ms), Movement("p", 2, at_ms))
    assert change_by(state, refunded(("a", 2, at_ms)), by) == Refunded(both)
    assert_refused(state, refunded(("x", 1, at_ms)), Reason.LINE_ITEM_UNKNOWN, by)
    assert_refused(state, refunded(("a", 3, at_ms)), Reason.QUANTITY_EXCEEDED, by)


def test_of_a_refund_what_happened_after_the_cancellation_is_left_out() -> None:
    state = after(placed(product("a", 2)), cancelled(AT_MS))
    assert change_by(state, refunded(("a", 1, LATE_MS), ("a", 1))) == Refunded((Movement("a", 1, AT_MS),))
    assert_ignored(state, refunded(("a", 0), ("a", 1, LATE_MS)), IgnoredReason.ORDER_CANCELLED)
    assert_ignored(state, refunded(("a", 0, LATE_MS)), IgnoredReason.NOTHING_MOVED)


def test_a_second_cancellation_is_ignored_and_the_first_one_stays() -> None:
    state = after(placed(product("a")), cancelled(AT_MS))
    later = assert_ignored(state, cancelled(AT_MS - 9, event_id="second"), IgnoredReason.ORDER_CANCELLED)
    assert order_of(later).cancelled_at_ms == AT_MS


# ---- pairing -----------------------------------------------------------------------------------------------------

REMOVALS = pytest.mark.parametrize(
    ("move", "change"), [(refunded, Refunded), (lines_cancelled, LinesCancelled)], ids=["refunded", "lines_cancelled"]
)
DAY_LATER_MS = AT_MS + DAY_MS // 2


def p(units: int, at_ms: int = AT_MS) -> Movement:
    return Movement("p", units, at_ms)


def a(units: int, at_ms: int = AT_MS) -> Movement:
    return Movement("a", units, at_ms)


@BOTH_APIS
@REMOVALS
class TestPairingOfWhatGoes:
    """A protection keeps at most as many units as its product has left (ordered − refunded − cancelled)."""

    def test_what_is_over_is_added_after_the_named_items_at_the_same_time(
        self, move: Move, change: Kind, by: Rules
    ) -> None:
        state = after(placed(protection("p", "a", 3), product("a", 3), product("b", 3)), by=by)
        assert change_by(state, move(("a", 2, LATE_MS), ("b", 1)), by) == change(
            (a(2, LATE_MS), Movement("b", 1, AT_MS), p(2, LATE_MS))
        )

    def test_no_more_than_what_is_over(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 1)), by=by)
        assert change_by(state, move(("a", 2)), by) == change((a(2),)), "the third one is insured"
        assert change_by(state, move(("a", 3)), by) == change((a(3), p(1)))

    def test_two_protections_of_one_product_stay_while_a_unit_is_left(
        self, move: Move, change: Kind, by: Rules
    ) -> None:
        state = after(placed(product("a", 2), protection("p", "a", 1), protection("q", "a", 1)), by=by)
        assert change_by(state, move(("a", 1)), by) == change((a(1),))
        state = then(state, move(("a", 1)), by)
        assert change_by(state, move(("a", 1), event_id="last"), by) == change((a(1), p(1), Movement("q", 1, AT_MS)))

    def test_a_protection_that_is_named_gets_what_is_still_over(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 3)), by=by)
        assert change_by(state, move(("a", 2), ("p", 2)), by) == change((a(2), p(2)))
        assert change_by(state, move(("a", 2, LATE_MS), ("p", 1)), by) == change((a(2, LATE_MS), p(1), p(1, LATE_MS)))
        assert change_by(state, move(("p", 3), ("a", 2)), by) == change((p(3), a(2)))
        assert change_by(state, move(("a", 2), ("p", 0)), by) == change((a(2), p(2))), "0 names nothing"

    def test_each_item_of_a_product_takes_along_what_it_puts_over(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a", 5), protection("p", "a", 3)), by=by)
        assert change_by(state, move(("a", 2), ("a", 2, LATE_MS)), by) == change((a(2), a(2, LATE_MS), p(2, LATE_MS)))

    def test_protection_of_protection_follows_too(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 3), protection("q", "p", 3)), by=by)
        assert change_by(state, move(("a", 1)), by) == change((a(1), p(1), Movement("q", 1, AT_MS)))
        assert change_by(state, move(("p", 1)), by) == change((p(1), Movement("q", 1, AT_MS)))

    def test_two_protections_of_each_other_follow_once(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(protection("p", "q", 3), protection("q", "p", 3)), by=by)
        assert change_by(state, move(("p", 1)), by) == change((p(1), Movement("q", 1, AT_MS)))

    def test_a_product_does_not_follow_its_protection(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 3)), by=by)
        assert change_by(state, move(("p", 1)), by) == change((p(1),))
        state = then(state, move(("p", 1)), by)
        assert change_by(state, move(("a", 1), event_id="next"), by) == change((a(1),)), "two are left, and two insured"
        assert change_by(state, move(("a", 2), event_id="next"), by) == change((a(2), p(1)))

    def test_protection_goes_though_it_was_fulfilled_by_itself(self, move: Move, change: Kind, by: Rules) -> None:
        """Shops fulfil what is virtual when it is paid."""
        state = after(placed(product("a"), protection("p", "a")), fulfilled(("p", 1)), by=by)
        assert change_by(state, move(("a", 1)), by) == change((a(1), p(1)))
        assert change_by(state, move(("a", 1), ("p", 1)), by) == change((a(1), p(1)))
        assert change_by(state, move(("p", 1)), by) == change((p(1),))

    def test_protection_may_be_taken_back_whatever_pairing_fulfilled(self, move: Move, change: Kind, by: Rules) -> None:
        state = after(placed(product("a"), protection("p", "a")), fulfilled(("a", 1)), by=by)
        assert change_by(state, move(("p", 1)), by) == change((p(1),))

    def test_what_pairing_has_told_is_absorbed_and_the_rest_is_taken(self, move: Move, change: Kind, by: Rules) -> None:
        """Two systems tell of one refund, the later one together with another product."""
        lines = (product("a", 2), protection("p", "a", 2), product("b", 2))
        state = after(placed(*lines), move(("a", 1)), by=by)
        assert change_by(state, move(("p", 1, LATE_MS), ("b", 1, LATE_MS), event_id="later"), by) == change(
            (Movement("b", 1, LATE_MS),)
        )
        assert change_by(state, move(("p", 2, LATE_MS), event_id="later"), by) == change((p(1, LATE_MS),))

    def test_what_is_absorbed_is_told_once_whichever_way_it_goes(self, move: Move, change: Kind, by: Rules) -> None:
        for other in (refunded, lines_cancelled):
            state = after(placed(product("a"), protection("p", "a")), move(("a", 1)), by=by)
            state = assert_ignored(state, other(("p", 1), event_id="p"), IgnoredReason.TOLD_BY_PAIRING, by)
            assert_ignored(state, other(("p", 1), event_id="p"), IgnoredReason.DUPLICATE, by)
            assert_refused(state, other(("p", 1), event_id="q"), Reason.QUANTITY_EXCEEDED, by)

    def test_more_than_the_shop_ever_had_is_refused_though_some_of_it_is_told(
        self, move: Move, change: Kind, by: Rules
    ) -> None:
        state = after(placed(product("a", 2), protection("p", "a", 2), product("b", 2)), move(("a", 1)), by=by)
        assert_refused(state, move(("p", 3), event_id="p"), Reason.QUANTITY_EXCEEDED, by)
        assert_refused(state, move(("b", 1), ("p", 3), event_id="p"), Reason.QUANTITY_EXCEEDED, by)


@pytest.mark.parametrize("first", [lines_cancelled, fulfilled])
@BOTH_APIS
def test_two_units_cancelled_and_one_shipped_in_either_order_keep_the_plan(first: Move, by: Rules) -> None:
    events: list[OrderEvent] = [lines_cancelled(("a", 2)), fulfilled(("a", 1))]
    if first is fulfilled:
        events.reverse()
    state = after(placed(product("a", 3), protection("p", "a", 1)), *events, by=by)
    assert state.totals[1] == LineTotals(0, 0, 0, told_fulfilled=1)


def test_what_a_cancelled_product_took_along_needs_no_fulfilment() -> None:
    """In the other order the plan would have been fulfilled first and then cancelled."""
    state = after(placed(product("a"), protection("p", "a")), lines_cancelled(("a", 1)))
    assert_ignored(state, fulfilled(("p", 1)), IgnoredReason.TOLD_BY_PAIRING)


@BOTH_APIS
class TestPairingOfWhatIsFulfilled:
    def test_what_is_missing_is_added_after_the_named_items_at_the_same_time(self, by: Rules) -> None:
        state = after(placed(protection("p", "a", 3), product("a", 3), product("b", 3)), by=by)
        assert change_by(state, fulfilled(("a", 2, LATE_MS), ("b", 1)), by) == Fulfilled(
            (a(2, LATE_MS), Movement("b", 1, AT_MS), p(2, LATE_MS))
        )

    def test_no_more_than_there_is_of_the_protection(self, by: Rules) -> None:
        state = after(placed(product("a", 5), protection("p", "a", 2)), by=by)
        assert change_by(state, fulfilled(("a", 5)), by) == Fulfilled((a(5), p(2)))
        state = after(placed(product("a", 5), protection("p", "a", 2)), lines_cancelled(("p", 1)), by=by)
        assert change_by(state, fulfilled(("a", 5)), by) == Fulfilled((a(5), p(1)))

    def test_what_the_shop_says_of_it_goes_as_it_is_said(self, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 3)), by=by)
        assert change_by(state, fulfilled(("p", 2)), by) == Fulfilled((p(2),))
        assert change_by(state, fulfilled(("a", 2), ("p", 3)), by) == Fulfilled((a(2), p(3)))
        state = then(state, fulfilled(("p", 2)), by)
        assert change_by(state, fulfilled(("a", 3), event_id="next"), by) == Fulfilled((a(3), p(1)))

    def test_what_pairing_has_told_is_absorbed_and_the_rest_is_taken(self, by: Rules) -> None:
        state = after(placed(product("a", 2), protection("p", "a", 2), product("b")), fulfilled(("a", 1)), by=by)
        assert change_by(state, fulfilled(("p", 1), ("b", 1), event_id="p"), by) == Fulfilled(
            (Movement("b", 1, AT_MS),)
        )
        state = assert_ignored(state, fulfilled(("p", 1), event_id="p"), IgnoredReason.TOLD_BY_PAIRING, by)
        assert change_by(state, fulfilled(("p", 1), event_id="q"), by) == Fulfilled((p(1),))
        assert_refused(state, fulfilled(("p", 2), event_id="q"), Reason.QUANTITY_EXCEEDED, by)

    def test_protection_of_protection_is_fulfilled_too(self, by: Rules) -> None:
        state = after(placed(product("a", 3), protection("p", "a", 2), protection("q", "p", 3)), by=by)
        assert change_by(state, fulfilled(("a", 3)), by) == Fulfilled((a(3), p(2), Movement("q", 2, AT_MS)))


def test_the_events_api_is_told_of_no_fulfilled_protection_where_that_is_switched_off() -> None:
    by = rules(Api.EVENTS, fulfil_protection=False)
    state = after(placed(product("a", 3), protection("p", "a", 3)), by=by)
    assert change_by(state, fulfilled(("a", 1)), by) == Fulfilled((a(1),))
    assert change_by(state, fulfilled(("a", 1), ("p", 1)), by) == Fulfilled((a(1), p(1)))
    assert change_by(state, refunded(("a", 1)), by) == Refunded((a(1), p(1)))


def feed_shows(state: OrderState, line_item_id: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Quantities and times, fulfilled and refunded, of a line item in the feed's snapshot."""
    (line,) = [one for one in json.loads(snapshot(order_of(state)))["line_items"] if one["id"] == line_item_id]
    return (
        [(one["quantity"], one["fulfilled_at"]) for one in line["fulfillments"]],
        [(one["quantity"], one["refunded_at"]) for one in line["refunds"]],
    )


@pytest.mark.parametrize("fulfil_protection", [True, False])
def test_the_feed_fulfils_protection_when_its_product_is_whatever_the_shop_says_of_it(fulfil_protection: bool) -> None:
    by = rules(Api.FEED, fulfil_protection=fulfil_protection)
    state = after(placed(product("a", 3), protection("p", "a", 2)), fulfilled(("p", 2), event_id="paid"), by=by)
    assert feed_shows(state, "p")[0] == []
    state = then(state, fulfilled(("a", 1, DAY_LATER_MS), event_id="1"), by)
    assert feed_shows(state, "p")[0] == [(1, DAY_LATER_MS)]
    state = then(state, fulfilled(("a", 2, LATE_MS), event_id="2"), by)
    assert feed_shows(state, "a")[0] == [(2, LATE_MS), (1, DAY_LATER_MS)]
    assert feed_shows(state, "p")[0] == [(2, LATE_MS)], "unit by unit, up to its own quantity"


def test_a_plan_that_a_correction_adds_is_fulfilled_when_its_product_was() -> None:
    state = after(placed(product("a", 2)), fulfilled(("a", 1, LATE_MS)), by=FEED)
    state = then(state, placed(product("a", 2), protection("p", "a", 2), event_id="corrected"), FEED)
    assert feed_shows(state, "p")[0] == [(1, LATE_MS)]
    state = then(state, fulfilled(("a", 1, DAY_LATER_MS), event_id="next"), FEED)
    assert feed_shows(state, "p")[0] == [(1, LATE_MS), (1, DAY_LATER_MS)]


def test_the_feed_shows_a_plans_end_at_the_first_time_that_ends_it() -> None:
    state = after(placed(product("a", 2), protection("p", "a", 2)), refunded(("a", 1, DAY_LATER_MS)), by=FEED)
    assert feed_shows(state, "p")[1] == [(1, DAY_LATER_MS)]
    later = refunded(("p", 1, DAY_LATER_MS + 1), event_id="echo")
    assert feed_shows(assert_ignored(state, later, IgnoredReason.TOLD_BY_PAIRING, FEED), "p")[1] == [(1, DAY_LATER_MS)]
    earlier = refunded(("p", 1, LATE_MS), event_id="echo")
    assert_applied(state, earlier, FEED)  # the snapshot is another one
    assert feed_shows(then(state, earlier, FEED), "p")[1] == [(1, LATE_MS)]


def test_the_feed_shows_lines_that_protect_each_other_as_the_shop_says() -> None:
    state = after(placed(protection("p", "q", 3), protection("q", "p", 3)), refunded(("p", 1)), by=FEED)
    assert feed_shows(state, "p")[1] == [(1, AT_MS)]


def test_a_thousand_protections_of_each_other_are_shown_in_no_time() -> None:
    """Each of the one before, in whatever sequence: no recursion, and no walk along all of them for each."""
    names = [f"{number}" for number in range(1_000)]
    chain = [product("0"), *(protection(name, before) for before, name in pairwise(names))]
    state = after(placed(*reversed(chain)), refunded(("0", 1)), by=FEED)
    assert feed_shows(state, "999")[1] == [(1, AT_MS)]


# ---- times -------------------------------------------------------------------------------------------------------


@BOTH_APIS
@pytest.mark.parametrize(
    ("at_ms", "unit"),
    [
        (AT_MS // 1000, "seconds?"),
        (AT_MS * 1000, "microseconds?"),
        (946_684_799_999, ""),
        (NOW_MS + 3 * 366 * DAY_MS, ""),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused_with_the_unit_that_may_be(at_ms: int, unit: str, by: Rules) -> None:
    state = after(placed(product("a", 2)), by=by)
    wrong: list[tuple[OrderState | None, OrderEvent]] = [
        (None, placed(product("a"), placed_at_ms=at_ms)),
        (None, fulfilled(("a", 1, at_ms))),
        (state, fulfilled(("a", 1), ("a", 1, at_ms))),
        (state, refunded(("a", 1, at_ms))),
        (state, lines_cancelled(("a", 1, at_ms))),
        (state, cancelled(at_ms)),
    ]
    for before, event in wrong:
        assert assert_refused(before, event, Reason.TIME_IMPLAUSIBLE, by).endswith(unit)


@pytest.mark.parametrize("at_ms", [946_684_800_000, NOW_MS + 729 * DAY_MS])
def test_a_time_from_2000_until_two_years_ahead_is_taken(at_ms: int) -> None:
    assert_applied(None, placed(product("a"), placed_at_ms=at_ms))


# ---- the feed's corrections --------------------------------------------------------------------------------------


def test_an_order_placed_again_corrects_the_snapshot_and_keeps_its_movements() -> None:
    state = after(
        placed(product("a", 2), product("b", 2)), fulfilled(("b", 2)), refunded(("b", 1)), cancelled(LATE_MS), by=FEED
    )
    correction = placed(product("c", 1), product("b", 3), event_id="corrected")
    effect = assert_applied(state, correction, FEED)
    assert effect.change == Placed(correction)
    assert effect.order_after == Order(correction, (Movement("b", 2, AT_MS),), (Movement("b", 1, AT_MS),), (), LATE_MS)
    assert then(state, correction, FEED).totals == (LineTotals(), LineTotals(2, 1, 0, 2, 1, 0))


def test_a_correction_may_drop_a_line_item_of_which_nothing_moved() -> None:
    state = after(placed(product("a"), product("b")), fulfilled(("b", 1)), by=FEED)
    correction = placed(product("b"), event_id="corrected")
    assert change_by(state, correction, FEED) == Placed(correction)


@MOVEMENTS
def test_a_correction_that_drops_a_line_item_with_movements_is_refused(move: Move) -> None:
    state = after(placed(product("a"), product("b")), move(("b", 1)), by=FEED)
    assert_refused(state, placed(product("a"), event_id="corrected"), Reason.LINE_ITEM_UNKNOWN, FEED)


def test_a_correction_to_fewer_units_than_moved_is_refused() -> None:
    state = after(placed(product("a", 9)), fulfilled(("a", 2)), refunded(("a", 3)), lines_cancelled(("a", 4)), by=FEED)
    assert_refused(state, placed(product("a", 6), event_id="corrected"), Reason.QUANTITY_EXCEEDED, FEED)
    assert_applied(state, placed(product("a", 7), event_id="corrected"), FEED)


def test_an_unsound_correction_is_refused() -> None:
    state = after(placed(product("a")), by=FEED)
    assert_refused(state, placed(product("a"), product("a"), event_id="2"), Reason.LINE_ITEM_DUPLICATE, FEED)
    assert_refused(state, placed(product("a"), protection("p", "x"), event_id="2"), Reason.PROTECTION_DANGLING, FEED)
    assert_refused(state, placed(product("a", -1), event_id="2"), Reason.QUANTITY_EXCEEDED, FEED)


@MOVEMENTS
def test_a_correction_that_leaves_no_unit_of_a_line_item_drops_it(move: Move) -> None:
    state = after(placed(product("a"), product("b")), move(("b", 1)), by=FEED)
    correction = placed(product("a", 0), product("b"), event_id="corrected")
    assert change_by(state, correction, FEED) == Placed(placed(product("b"), event_id="corrected"))
    assert_refused(state, placed(product("a"), product("b", 0), event_id="corrected"), Reason.LINE_ITEM_UNKNOWN, FEED)


def test_a_correction_may_drop_protection_of_which_the_shop_moved_nothing() -> None:
    state = after(placed(product("a"), protection("p", "a")), refunded(("a", 1)), by=FEED)
    correction = placed(product("a"), event_id="corrected")
    assert change_by(state, correction, FEED) == Placed(correction)
    said = after(placed(product("a"), protection("p", "a")), refunded(("p", 1)), by=FEED)
    assert_refused(said, correction, Reason.LINE_ITEM_UNKNOWN, FEED)


def test_a_correction_to_less_protection_than_pairing_took_is_taken() -> None:
    state = after(placed(product("a", 2), protection("p", "a", 2)), fulfilled(("a", 2)), refunded(("a", 2)), by=FEED)
    corrected = then(state, placed(product("a", 2), protection("p", "a", 1), event_id="corrected"), FEED)
    assert feed_shows(corrected, "p") == ([(1, AT_MS)], [(1, AT_MS)])


def test_a_corrected_order_remembers_both_placements() -> None:
    state = after(placed(product("a")), placed(product("a"), event_id="corrected"), by=FEED)
    assert_ignored(state, placed(product("a")), IgnoredReason.DUPLICATE, FEED)
    assert_ignored(state, placed(product("a"), event_id="corrected"), IgnoredReason.DUPLICATE, FEED)


# ---- orders that are none of ours --------------------------------------------------------------------------------


BOTH_PROTECTED = pytest.mark.parametrize("by", [PROTECTED, rules(Api.FEED, Orders.PROTECTED)], ids=["events", "feed"])


@BOTH_PROTECTED
def test_an_order_without_protection_is_ignored_and_so_are_its_later_events(by: Rules) -> None:
    state = assert_ignored(None, placed(product("a")), IgnoredReason.UNPROTECTED, by)
    assert state == OrderState(
        Standing.UNPROTECTED, NOW_MS, None, (), ("pplaced",), (), Unheard((("a", 1),), (LineTotals(),), None, ())
    )
    later: list[OrderEvent] = [fulfilled(("a", 1)), refunded(("x", 0)), lines_cancelled(("a", 1)), cancelled()]
    for event in later:
        state = assert_ignored(state, event, IgnoredReason.UNPROTECTED, by)
    assert state.order is None


@BOTH_PROTECTED
def test_of_an_order_without_protection_no_person_is_kept(by: Rules) -> None:
    early: list[OrderEvent] = [fulfilled(("a", 1)), cancelled(LATE_MS)]
    state = after(
        *early, placed(product("a", 2), product("b", 0)), refunded(("a", 1)), refunded(("x", 1), event_id="x"), by=by
    )
    stored = encode(state)
    secrets = b"Max|Mustermann|example.com|+49|Muster|12345|A product|Apple|00-1-2".split(b"|")
    assert not [secret for secret in secrets if secret in stored]
    assert state.unheard is not None
    assert state.unheard.lines == (("a", 2),)
    assert [kept.event.event_id for kept in state.unheard.events] == ["fulfilled", "cancelled", "refunded", "x"]
    assert decode(stored) == state


def test_events_parked_for_an_order_without_protection_are_ignored_with_it() -> None:
    early: list[OrderEvent] = [fulfilled(("a", 1)), cancelled()]
    order = placed(product("a"))
    waiting = after(*early, by=PROTECTED)
    assert take(waiting, order, PROTECTED).effects == tuple(
        Ignored(Taken(event, record(event)), IgnoredReason.UNPROTECTED) for event in (order, *early)
    )
    state = then(waiting, order, PROTECTED)
    assert (state.standing, state.event_keys) == (Standing.UNPROTECTED, ("pplaced", "ffulfilled", "ccancelled"))


AGAIN = placed(product("a", 2), protection("p", "a", 2), product("b"), event_id="again")
MOVED_SO_FAR: list[OrderEvent] = [
    fulfilled(("a", 2)),
    refunded(("a", 1), ("b", 0)),
    cancelled(LATE_MS),
    refunded(("b", 1, LATE_MS + 1), event_id="too late"),
    refunded(("b", 1), event_id="late"),
]


def test_an_order_that_is_placed_again_with_protection_is_told_of_then_what_has_moved_so_far() -> None:
    state = after(placed(product("a", 2), product("b")), *MOVED_SO_FAR, by=PROTECTED)
    transition = take(state, AGAIN, PROTECTED)
    first, *told = transition.effects
    assert first == Applied(Taken(AGAIN, record(AGAIN)), Placed(AGAIN), Order(AGAIN))
    assert [(type(effect), effect.taken.event.event_id) for effect in told] == [
        (Retold, "fulfilled"),
        (Retold, "refunded"),
        (Retold, "cancelled"),
        (Retold, "late"),
    ]
    assert [effect.change for effect in told if isinstance(effect, Retold)] == [
        Fulfilled((a(2), p(2))),
        Refunded((a(1), p(1))),
        Cancelled(LATE_MS),
        Refunded((Movement("b", 1, AT_MS),)),
    ]
    origin = record(MOVED_SO_FAR[0])
    assert told[0].taken.origin == msgspec.structs.replace(origin, value=None, headers=[])
    later: list[OrderEvent] = [*MOVED_SO_FAR, placed(product("a", 2)), AGAIN]
    for event in later:
        assert_ignored(transition.state, event, IgnoredReason.DUPLICATE, PROTECTED)
    assert change_by(transition.state, refunded(("a", 1), event_id="next"), PROTECTED) == Refunded((a(1), p(1)))


@pytest.mark.parametrize("api", Api)
def test_what_moved_of_a_line_that_comes_with_the_protection_is_not_lost_though_it_is_told_before(api: Api) -> None:
    """A plan is fulfilled when it is paid; a product that is added ships at once: topics do not wait for each other."""
    by = rules(api, Orders.PROTECTED)
    early: list[OrderEvent] = [
        fulfilled(("p", 1), event_id="paid"),
        fulfilled(("a", 1), ("b", 1), event_id="shipped"),
        refunded(("x", 1), event_id="of no line at all"),
    ]
    state = after(placed(product("a", 2)), *early, by=by)
    for event in early:
        assert_ignored(state, event, IgnoredReason.DUPLICATE, by)
    if api is Api.FEED:
        assert assert_applied(state, AGAIN, by).order_after == order_of(after(AGAIN, *early[:2], by=by))
    else:
        assert ids_of(take(state, AGAIN, by).effects, Retold) == ["paid", "shipped"]


def test_of_what_names_no_line_yet_no_more_is_kept_than_of_an_order_that_is_not_placed() -> None:
    by = rules(orders=Orders.PROTECTED, parked_max=3)
    state = after(placed(product("a")), by=by)
    for number in range(9):
        state = then(state, fulfilled(("x", 1), event_id=f"x{number}"), by)
    assert state.unheard is not None
    assert [kept.event.event_id for kept in state.unheard.events] == ["x0", "x1", "x2"]
    state = then(state, fulfilled(("a", 1)), by)
    assert ids_of(take(state, AGAIN, by).effects, Retold) == ["fulfilled"]


def test_the_feed_tells_the_snapshot_of_an_order_that_is_placed_again_with_protection() -> None:
    by = rules(Api.FEED, Orders.PROTECTED)
    state = after(placed(product("a", 2), product("b")), *MOVED_SO_FAR, by=by)
    assert assert_applied(state, AGAIN, by).order_after == order_of(after(AGAIN, *MOVED_SO_FAR, by=by))
    assert_refused(state, placed(protection("p", "b"), product("b"), event_id="2"), Reason.LINE_ITEM_UNKNOWN, by)
    assert_refused(
        state, placed(product("a"), protection("p", "a"), product("b"), event_id="2"), Reason.QUANTITY_EXCEEDED, by
    )
    assert_refused(state, placed(*AGAIN.line_items, product("a"), event_id="2"), Reason.LINE_ITEM_DUPLICATE, by)


def test_an_order_that_is_placed_again_without_protection_is_judged_by_its_new_lines() -> None:
    state = after(placed(product("a")), placed(product("a", 2), event_id="edited"), fulfilled(("a", 2)), by=PROTECTED)
    assert ids_of(take(state, AGAIN, PROTECTED).effects, Retold) == ["fulfilled"]


def test_a_setting_that_is_changed_holds_for_the_next_placement() -> None:
    state = after(placed(product("a")), fulfilled(("a", 1)), by=PROTECTED)
    assert_ignored(state, cancelled(), IgnoredReason.UNPROTECTED, EVENTS)
    order = placed(product("a"), event_id="again")
    transition = take(state, order, EVENTS)
    assert [type(effect) for effect in transition.effects] == [Applied, Retold]


def test_what_version_1_ignored_is_taken_when_it_is_placed_with_protection() -> None:
    """It kept no lines, so that what comes afterwards is kept as it is said and tried then."""
    old = OrderState(Standing.UNPROTECTED, NOW_MS, None, (), (), (), Unheard(None, (), None, ()), ("placed", "old"))
    assert_ignored(old, refunded(("a", 1), event_id="old"), IgnoredReason.DUPLICATE, PROTECTED)
    state = then(old, fulfilled(("a", 1)), PROTECTED)
    state = then(state, fulfilled(("x", 1), event_id="x"), PROTECTED)
    transition = take(state, AGAIN, PROTECTED)
    assert ids_of(transition.effects, Retold) == ["fulfilled"]
    assert_ignored(transition.state, fulfilled(("x", 1), event_id="x"), IgnoredReason.DUPLICATE, PROTECTED)


def test_an_order_without_protection_is_ignored_even_if_it_is_unsound() -> None:
    assert_ignored(None, placed(product("a"), product("a")), IgnoredReason.UNPROTECTED, PROTECTED)


def test_an_order_with_protection_is_taken() -> None:
    order = placed(product("a"), protection("p", "a"))
    assert change_by(None, order, PROTECTED) == Placed(order)


def test_an_order_that_was_taken_stays_taken_when_a_correction_takes_its_protection_away() -> None:
    by = rules(Api.FEED, Orders.PROTECTED)
    state = after(placed(product("a"), protection("p", "a")), by=by)
    later = placed(product("a"), event_id="later")
    assert change_by(state, later, by) == Placed(later)


def test_an_unprotected_order_tells_duplicates_apart() -> None:
    state = after(placed(product("a")), cancelled(), by=PROTECTED)
    assert_ignored(state, cancelled(), IgnoredReason.DUPLICATE, PROTECTED)


# ---- erasure -----------------------------------------------------------------------------------------------------


def test_erasure_leaves_nothing() -> None:
    assert erase(after(placed(product("a")), fulfilled(("a", 1)))) == Transition(None, ())
    assert erase(None) == Transition(None, ())


def test_erasure_drops_parked_events_and_says_so() -> None:
    early: list[OrderEvent] = [fulfilled(("a", 1)), cancelled()]
    assert erase(after(*early)) == Transition(
        None, tuple(Ignored(Taken(event, record(event)), IgnoredReason.ERASED) for event in early)
    )


def test_an_erased_order_that_is_placed_again_starts_anew() -> None:
    order = placed(product("a"))
    state = erase(after(order, fulfilled(("a", 1)))).state
    assert take(state, order).state == after(order)


# ---- what a sweep needs ------------------------------------------------------------------------------------------


def test_the_state_tells_when_its_last_event_was_taken() -> None:
    events: list[OrderEvent] = [placed(product("a")), cancelled(), refunded(("a", 1)), cancelled(), fulfilled(("x", 1))]
    state: OrderState | None = None
    for later_ms, event in enumerate(events):
        state = then(state, event, now_ms=NOW_MS + later_ms)
    assert state is not None
    assert state.touched_at_ms == NOW_MS + 2, "a duplicate and a refused event are not taken"


def test_a_wall_clock_before_1970_is_no_clock() -> None:
    with pytest.raises(AssertionError):
        apply(None, Taken(cancelled(), record(cancelled())), EVENTS, 0)
