"""What the tests of the event loop share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.send.loop_side import LoopSide


@pytest.fixture
def sides() -> Iterator[Any]:
    """Makes sides, and ends them with the test."""
    made: list[LoopSide] = []

    def make(*arguments: Any, **more: Any) -> LoopSide:
        made.append(LoopSide(*arguments, **more))
        return made[-1]

    yield make
    for side in made:
        side.stop()
