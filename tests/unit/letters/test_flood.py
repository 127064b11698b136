"""The flood guard: judged before anything is written, from a thousand records on."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.letters.flood import WINDOW_RECORDS, FloodGuard

GOOD, DEAD = [False], [True]


def test_fewer_than_a_thousand_records_are_never_a_flood() -> None:
    guard = FloodGuard(0.5)
    assert guard.flooded_by(DEAD * 999) is None
    assert guard.flooded_by(DEAD * 1000) == 1.0


def test_exactly_the_share_is_allowed_and_one_more_is_not() -> None:
    guard = FloodGuard(0.5)
    guard.written(GOOD * 500 + DEAD * 499)
    assert guard.flooded_by(DEAD) is None
    guard.written(DEAD)
    assert guard.flooded_by(GOOD) is None, "the oldest that leaves the window was good"
    assert guard.flooded_by(DEAD) == 0.501


def test_a_flood_in_the_middle_of_a_batch_counts_although_its_end_is_clean() -> None:
    assert FloodGuard(0.5).flooded_by(DEAD * 1000 + GOOD * 4000) == 1.0


def test_old_dead_letters_leave_the_window() -> None:
    guard = FloodGuard(0.5)
    guard.written(DEAD * 500 + GOOD * 1000)
    assert guard.flooded_by(DEAD * 500) is None
    assert guard.flooded_by(DEAD * 501) == 0.501


def test_asking_changes_nothing() -> None:
    guard = FloodGuard(0.5)
    guard.written(GOOD * 1000)
    for _ in range(3):
        assert guard.flooded_by(DEAD * 501) == 0.501


def test_a_share_of_one_never_stops_and_one_of_nothing_at_the_first() -> None:
    assert FloodGuard(1.0).flooded_by(DEAD * 5000) is None
    assert FloodGuard(0.0).flooded_by(GOOD * 999 + DEAD) == 0.001


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(AssertionError, match="no share"):
        FloodGuard(share)


_run = st.tuples(st.booleans(), st.integers(0, 700)).map(lambda run: [run[0]] * run[1])


@given(st.lists(_run, max_size=6), st.lists(_run, max_size=6), st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_it_refuses_exactly_what_a_naive_count_refuses(
    before: list[list[bool]], batch: list[list[bool]], share: float
) -> None:
    history, now = list(chain(*before)), list(chain(*batch))
    guard = FloodGuard(share)
    guard.written(history)
    everything = history + now
    floods = False
    for end in range(max(WINDOW_RECORDS, len(history) + 1), len(everything) + 1):
        floods = floods or sum(everything[end - WINDOW_RECORDS : end]) > share * WINDOW_RECORDS
    assert (guard.flooded_by(now) is not None) == floods
