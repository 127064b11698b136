"""What replays may take: their share of the slots in any window, however few slots there are."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.send.event_loop.pace import ReplayShare

WINDOW_S = 10.0


@given(
    share_max=st.floats(0.05, 1),
    slots=st.integers(1, 60),
    steps=st.lists(st.tuples(st.floats(0, 4), st.floats(0, 3)), max_size=120),
)
def test_no_window_sees_more_of_replays_than_their_share_and_a_slot_for_a_worker_that_has_less(
    share_max: float, slots: int, steps: list[tuple[float, float]]
) -> None:
    share = ReplayShare(share_max, lambda: slots, WINDOW_S)
    now_s = 0.0
    arrived: list[float] = []
    under_way: list[float] = []
    for wait_s, latency_s in steps:
        now_s += wait_s
        for answered_s in sorted(under_way):
            if answered_s <= now_s:
                share.answered(answered_s)
                under_way.remove(answered_s)
        while share.is_free(now_s):
            share.taken()
            under_way.append(now_s + latency_s)
            arrived.append(now_s + latency_s)
    allowed = share_max * slots
    windows = max(1.0, 1 / allowed)
    for first_s in arrived:
        inside = sum(first_s <= at_s < first_s + WINDOW_S * windows for at_s in arrived)
        assert inside <= max(1, floor(allowed))


def test_a_slot_is_free_again_one_window_after_the_answer_and_no_sooner() -> None:
    share = ReplayShare(0.5, lambda: 4, WINDOW_S)
    share.taken()
    share.taken()
    assert not share.is_free(100.0)
    assert share.next_s() is None  # an answer has to come first
    share.answered(100.0)
    share.answered(101.0)
    assert share.next_s() == 110.0
    assert not share.is_free(109.9)
    assert share.is_free(110.0)
    share.taken()
    assert share.next_s() == 111.0


def test_a_worker_of_one_slot_lets_every_second_window_to_live_traffic_at_a_half() -> None:
    share = ReplayShare(0.5, lambda: 1, WINDOW_S)
    assert share.is_free(0.0)
    share.taken()
    share.answered(1.0)
    assert share.next_s() == pytest.approx(21.0)


def test_a_worker_without_slots_has_none_for_a_replay() -> None:
    slots = 0
    share = ReplayShare(0.5, lambda: slots, WINDOW_S)
    assert not share.is_free(0.0)
    slots = 2
    assert share.is_free(0.0)


def test_without_a_quota_it_is_a_share_of_the_requests_at_once() -> None:
    share = ReplayShare(0.5, lambda: 4, 0.0)
    share.taken()
    share.taken()
    assert not share.is_free(0.0)
    share.answered(1.0)
    assert share.is_free(1.0)
