"""What a correction of an order keeps, what is left out for having no unit, and single movements; those of whole
orders are `test_rules.py`'s."""

from __future__ import annotations

import pytest

from processor.records import LineItem, Movement, OrderEvent, Reason
from processor.transform.order_state import LineTotals
from processor.transform.units import (
    FULFILMENT,
    Moved,
    Unfit,
    carried_over,
    move,
    of_no_unit,
    shown,
    unfit_order,
    without_empty_lines,
)
from tests.unit.order_events import cancelled, fulfilled, lines_cancelled, placed, product, protection, refunded


@pytest.mark.parametrize(
    ("moved", "line", "kept"),
    [
        (LineTotals(1, 0, 1, 1, 0, 1), product("l", 2), LineTotals(1, 0, 1, 1, 0, 1)),
        # What pairing has told of a protection stays for as long as it fits, and the shop's own words in any case.
        (LineTotals(0, 0, 0, 2, 0, 0), protection("l", "p", 2), LineTotals(0, 0, 0, 2, 0, 0)),
        (LineTotals(0, 0, 0, 2, 0, 0), protection("l", "p", 1), LineTotals()),
        (LineTotals(0, 1, 0, 0, 1, 1), protection("l", "p", 2), LineTotals(0, 1, 0, 0, 1, 1)),
        (LineTotals(0, 1, 0, 0, 2, 1), protection("l", "p", 2), LineTotals(0, 1, 0, 0, 1, 0)),
        (LineTotals(1, 0, 1, 2, 1, 2), protection("l", "p", 2), LineTotals(1, 0, 1, 1, 0, 1)),
        (LineTotals(1, 0, 0, 2, 1, 1), product("l", 2), LineTotals(1, 0, 0, 1, 0, 0)),  # protects nothing any more
    ],
)
def test_a_correction_keeps_what_the_shop_said_and_of_pairing_what_still_fits(
    moved: LineTotals, line: LineItem, kept: LineTotals
) -> None:
    before = [product("p", 2), protection("l", "p", 3)]
    after = carried_over(before, (LineTotals(), moved), placed(product("p", 2), line))
    assert after == (LineTotals(), kept)


@pytest.mark.parametrize(
    ("moved", "line", "least"),
    [
        (LineTotals(1, 0, 1, 1, 0, 1), product("l"), 2),
        (LineTotals(0, 1, 1, 0, 1, 1), product("l"), 2),
        (LineTotals(2, 1, 1, 2, 1, 1), product("l"), 3),
        # A protection that was fulfilled may be cancelled.
        (LineTotals(1, 0, 1, 1, 0, 1), protection("l", "p"), 1),
        (LineTotals(2, 1, 0, 2, 1, 0), protection("l", "p"), 2),
        (LineTotals(0, 1, 1, 0, 1, 1), protection("l", "p"), 2),
    ],
)
def test_a_correction_leaves_no_line_fewer_units_than_have_moved(moved: LineTotals, line: LineItem, least: int) -> None:
    def corrected(quantity: int) -> tuple[LineTotals, ...] | Unfit:
        now = type(line)(line.id, quantity, *[getattr(line, name) for name in line.__struct_fields__[2:]])
        return carried_over([product("p", 9), line], (LineTotals(), moved), placed(product("p", 9), now))

    assert corrected(least) == (LineTotals(), moved)
    assert corrected(least - 1) == Unfit(
        Reason.QUANTITY_EXCEEDED, f"line item l: the correction leaves {least - 1}, but more units moved"
    )


@pytest.mark.parametrize("moved", [LineTotals(1), LineTotals(0, 1), LineTotals(0, 0, 1)])
def test_a_correction_drops_no_line_of_which_the_shop_has_moved_units(moved: LineTotals) -> None:
    before = [product("p"), protection("l", "p")]
    after = carried_over(before, (LineTotals(), moved), placed(product("p")))
    assert after == Unfit(Reason.LINE_ITEM_UNKNOWN, "the correction drops line item l, of which units moved")


def test_a_correction_may_drop_what_only_pairing_moved_and_add_lines() -> None:
    before = [product("p"), protection("l", "p")]
    told = LineTotals(0, 0, 0, 1, 0, 1)
    after = carried_over(before, (LineTotals(1, 0, 0, 1), told), placed(product("new", 3), product("p")))
    assert after == (LineTotals(), LineTotals(1, 0, 0, 1))


@pytest.mark.parametrize(
    ("ordered", "totals", "reached", "due"),
    [
        (3, LineTotals(told_fulfilled=1), 2, 1),
        (2, LineTotals(told_fulfilled=1, told_cancelled=1), 2, 0),  # its other unit is gone
        (1, LineTotals(), 5, 1),
    ],
)
def test_a_protection_is_fulfilled_as_far_as_its_product_and_no_further_than_what_is_left_of_it(
    ordered: int, totals: LineTotals, reached: int, due: int
) -> None:
    assert FULFILMENT.due(ordered, totals, reached) == due


@pytest.mark.parametrize(
    ("totals", "untold"),
    [
        (LineTotals(1, 0, 0, 1, 0, 1), 1),  # of the other unit pairing has told that it is cancelled
        (LineTotals(0, 0, 0, 1, 0, 0), 1),  # of one pairing has told that it is fulfilled
        (LineTotals(), 2),
    ],
)
def test_of_a_protections_fulfilment_hakuna_hears_what_pairing_has_not_told(totals: LineTotals, untold: int) -> None:
    assert FULFILMENT.untold(3, totals, 2) == untold


def test_what_cannot_move_is_said_with_what_remains_and_what_is_too_late_with_how_late_it_is() -> None:
    def moved(fulfilled: int, *, until_ms: int | None, at_ms: int = 15) -> Moved | Unfit:
        items, totals = (Movement("a", 2, at_ms),), (LineTotals(fulfilled, 0, 0, fulfilled),)
        return move(FULFILMENT, (product("a", 2),), totals, items, until_ms=until_ms, pairing=True)

    def exceeded(left: int) -> Unfit:
        return Unfit(Reason.QUANTITY_EXCEEDED, f"line item a: fulfilment of 2, but {left} remain")

    assert (moved(1, until_ms=None), moved(2, until_ms=None)) == (exceeded(1), exceeded(0))
    late = Unfit(Reason.ORDER_CANCELLED, "line item a: fulfilment 5 ms after the order was cancelled")
    assert moved(0, until_ms=10) == late
    assert isinstance(moved(0, until_ms=15), Moved)


@pytest.mark.parametrize(
    ("event", "count"),
    [
        (placed(product("a", 0), product("b", 2), product("c", 0)), 2),
        (fulfilled(("a", 0), ("b", 1)), 1),
        (refunded(("a", 0), ("b", 0)), 2),
        (lines_cancelled(("a", 1)), 0),
        (cancelled(), 0),
    ],
)
def test_what_has_no_unit_is_counted(event: OrderEvent, count: int) -> None:
    assert of_no_unit(event) == count


def test_lines_of_no_unit_are_left_out_and_an_order_without_any_is_the_same() -> None:
    whole = placed(product("a", 1), product("b", 2))
    assert without_empty_lines(whole) is whole
    assert without_empty_lines(placed(product("a", 1), product("c", 0), product("b", 2))) == whole
    assert without_empty_lines(placed(product("c", 0))).line_items == ()


def test_an_order_is_unfit_by_the_first_of_its_faults() -> None:
    def wrong(*lines: LineItem) -> tuple[Reason, str] | None:
        unfit = unfit_order(placed(*lines))
        return None if unfit is None else (unfit.reason, unfit.message)

    twice = (Reason.LINE_ITEM_DUPLICATE, "line item b stands twice in the order")
    assert wrong(product("a", -1), product("b"), product("b")) == twice
    assert wrong(product("a", -1), protection("l", "q")) == (Reason.QUANTITY_EXCEEDED, "line item a: -1 ordered")
    for protects in ("q", "l"):
        what = f"line item l protects {protects}, no other line item of the order"
        assert wrong(product("p"), protection("l", protects)) == (Reason.PROTECTION_DANGLING, what)
    assert wrong(product("p"), protection("l", "p"), protection("m", "l")) is None
    assert wrong() is None


def test_a_foreign_id_is_cut_short() -> None:
    assert shown("x" * 100) == "x" * 100
    assert shown("x" * 101) == "x" * 100 + "…"
