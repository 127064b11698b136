"""Seeded simulations of the transform loop: whatever happens to its workers, the outbox is what the rules say.

python -m pytest tests/chaos/test_transform_simulation.py                          some seeds, in seconds
TRANSFORM_SEEDS=1000 python -m pytest tests/chaos/test_transform_simulation.py     many
TRANSFORM_SEED=123 python -m pytest tests/chaos/test_transform_simulation.py       that one again
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest
import structlog

from processor.transform import merge, partitions
from tests.chaos.transform_world import World

pytestmark = pytest.mark.chaos

SEEDS_DEFAULT = 60


def seeds() -> Iterable[int]:
    one = os.environ.get("TRANSFORM_SEED")
    return [int(one)] if one else range(int(os.environ.get("TRANSFORM_SEEDS", SEEDS_DEFAULT)))


@pytest.mark.parametrize("seed", seeds())
def test_every_record_has_its_one_effect_whatever_happens(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that a shop of thirty orders meets them.
    monkeypatch.setattr(merge, "BUFFER_RECORDS_MAX", 12)
    monkeypatch.setattr(partitions, "RESTORE_RECORDS_MAX", 6)
    world = World(seed)
    try:
        with structlog.testing.capture_logs():
            world.suffer(world.chance.choice((50, 300)))
            world.settle(parked=True)
            world.let_parked_events_expire()
            world.strike()
            world.suffer(40)
            world.settle(parked=False)
            world.check()
    except Exception as failure:
        failure.add_note(
            f"{world.traits}\nreplay: TRANSFORM_SEED={seed} python -m pytest tests/chaos/test_transform_simulation.py"
        )
        raise
