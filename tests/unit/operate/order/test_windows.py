"""Little is read, and what is not read is known not to be."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from processor.operate.order.windows import SLACKS_MS, SPANS_MAX, Span, moments, near_spans, whole_span
from processor.records import Address, Customer, Movement, Order, OrderId, OrderPlaced
from processor.transform.order_state import OrderState, Standing

DAY = SLACKS_MS[0]
MINUTES = SLACKS_MS[-1]
NOW = 1_800_000_000_000
PLACED = OrderPlaced(
    "e", OrderId("o"), NOW, "EUR", Customer(None, None, None, None), Address(None, None, None, None, "DE"), ()
)


def test_every_time_that_the_state_knows_is_a_moment() -> None:
    order = Order(
        PLACED, (Movement("l", 1, NOW + 1),), (Movement("l", 1, NOW + 2),), (Movement("l", 1, NOW + 3),), NOW + 4
    )
    state = OrderState(Standing.PLACED, NOW + 9, order, (), (), ())
    assert moments(state) == [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4, NOW + 9]


def test_all_of_an_order_lies_after_the_day_before_its_first_moment() -> None:
    assert whole_span([NOW, NOW + 5], None, None) == Span(NOW - DAY, None)
    assert whole_span([], None, None) == Span(None, None)
    assert whole_span([NOW], NOW + 1, NOW + 9) == Span(NOW + 1, NOW + 9)


def test_moments_that_are_close_share_a_span() -> None:
    spans = near_spans([NOW, NOW + MINUTES, NOW + 10 * DAY], MINUTES, None, None)
    assert spans == [Span(NOW - MINUTES, NOW + 2 * MINUTES), Span(NOW + 10 * DAY - MINUTES, NOW + 10 * DAY + MINUTES)]


def test_an_order_that_moved_ten_thousand_times_is_one_span() -> None:
    known = [NOW + number * DAY for number in range(SPANS_MAX + 1)]
    assert near_spans(known, MINUTES, None, None) == [Span(NOW - MINUTES, known[-1] + MINUTES)]


def test_what_was_asked_for_bounds_every_span() -> None:
    assert near_spans([NOW, NOW + 10 * DAY], MINUTES, NOW + DAY, None) == [
        Span(NOW + 10 * DAY - MINUTES, NOW + 10 * DAY + MINUTES)
    ]


@given(st.lists(st.integers(0, 2**42), min_size=1, max_size=50), st.sampled_from(SLACKS_MS))
def test_every_moment_is_in_a_span_and_no_span_meets_another(known: list[int], slack_ms: int) -> None:
    spans = near_spans(known, slack_ms, None, None)
    assert len(spans) <= SPANS_MAX
    for moment in known:
        assert any((span.from_ms or 0) <= moment < (span.until_ms or 0) for span in spans)
    for before, after in itertools.pairwise(spans):
        assert before.until_ms is not None
        assert after.from_ms is not None
        assert before.until_ms < after.from_ms
