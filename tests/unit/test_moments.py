"""Which times a shop can have meant, and the unit that it may have written them in instead."""

from __future__ import annotations

import pytest

from processor.moments import PLAUSIBLE_AHEAD_MS_MAX, PLAUSIBLE_MS_MIN, implausible, meant_ms

NOW_MS = 1_795_255_200_123  # 2026-11-21T10:00:00.123Z


@pytest.mark.parametrize("at_ms", [PLAUSIBLE_MS_MIN, NOW_MS, NOW_MS + 1, NOW_MS + PLAUSIBLE_AHEAD_MS_MAX])
def test_a_time_from_2000_until_two_years_ahead_is_plausible(at_ms: int) -> None:
    assert implausible(at_ms, NOW_MS) is None


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        (NOW_MS // 1000, "seconds?"),
        (NOW_MS * 1000, "microseconds?"),
        (NOW_MS * 1_000_000, "nanoseconds?"),
        (NOW_MS // 86_400_000, "days?"),
    ],
)
def test_a_time_in_another_unit_is_implausible_and_the_unit_is_named(written: int, unit: str) -> None:
    assert (implausible(written, NOW_MS) or "").endswith(unit)


@pytest.mark.parametrize(
    "at_ms", [0, -1, PLAUSIBLE_MS_MIN - 1, NOW_MS + PLAUSIBLE_AHEAD_MS_MAX + 1, -(2**63), 2**63 - 1]
)
def test_a_time_that_no_unit_makes_plausible_is_named_as_it_is(at_ms: int) -> None:
    why = implausible(at_ms, NOW_MS)
    assert why is not None
    assert str(at_ms) in why
    assert "?" not in why


@pytest.mark.parametrize(
    ("stamp", "meant"),
    [
        (NOW_MS, NOW_MS),
        (NOW_MS // 1000, NOW_MS // 1000 * 1000),
        (NOW_MS * 1000 + 7, NOW_MS),
        (NOW_MS * 1_000_000 + 7, NOW_MS),
        (PLAUSIBLE_MS_MIN // 1000, PLAUSIBLE_MS_MIN),
        (-1, -1),
        (0, 0),
        (1, 1),
        (PLAUSIBLE_MS_MIN // 1000 - 1, PLAUSIBLE_MS_MIN // 1000 - 1),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_a_stamp_in_another_unit_is_taken_as_it_was_meant(stamp: int, meant: int) -> None:
    assert meant_ms(stamp) == meant
