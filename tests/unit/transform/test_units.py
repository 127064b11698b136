"""What a correction of an order keeps, and what is left out for having no unit; movements are `test_rules.py`'s."""

from __future__ import annotations

import pytest

from processor.records import LineItem, OrderEvent, Reason
from processor.transform.order_state import LineTotals
from processor.transform.units import Unfit, carried_over, of_no_unit, shown, unfit_order, without_empty_lines
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
