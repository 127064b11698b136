"""What the tests of the event loop share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.send.loop_side import LoopSide


@pytest.fixture
def sides() -> Iterator[Any]:
    """Makes sides that were given entries of these orders, and ends them with the test."""
    made: list[LoopSide] = []

    def make(answer: Any, *orders: str, latency_s: float = 0.01, run_s: float = 0.0, **more: Any) -> LoopSide:
        side = LoopSide(answer, **more)
        made.append(side)
        side.api.latency_s = latency_s
        if orders:
            side.give(*orders, run_s=run_s)
        return side

    yield make
    for side in made:
        side.stop()
