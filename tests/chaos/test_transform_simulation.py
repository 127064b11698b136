"""Seeded simulations of the transform loop: whatever happens to its workers, the outbox is what the rules say.

python -m pytest tests/chaos/test_transform_simulation.py                          60 seeds, with CI set 1,000
TRANSFORM_SEEDS=9000 python -m pytest tests/chaos/test_transform_simulation.py     as many, or from one on: 1000-3000
TRANSFORM_SEED=123 python -m pytest tests/chaos/test_transform_simulation.py       that one again
"""

from __future__ import annotations

import pytest
import structlog

from processor.sources import merge
from processor.transform import partitions
from tests.chaos.seeds import seeds, seldom_collected
from tests.chaos.transform_checks import check
from tests.chaos.transform_world import World

pytestmark = pytest.mark.chaos


@pytest.mark.parametrize("some", seeds("TRANSFORM", 60), ids=str)
def test_every_record_has_its_one_effect_whatever_happens(some: range, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that a shop of thirty orders meets them.
    monkeypatch.setattr(merge, "BUFFER_RECORDS_MAX", 12)
    monkeypatch.setattr(partitions, "RESTORE_RECORDS_MAX", 6)
    with seldom_collected():
        for seed in some:
            suffer(seed)


def suffer(seed: int) -> None:
    world = World(seed)
    try:
        with structlog.testing.capture_logs():
            world.suffer(world.chance.choice((50, 300)))
            world.settle(parked=True)
            if world.traits.operated:
                world.operate()
                world.strike()
                world.suffer(50)
                world.settle(parked=True)
            world.let_parked_events_expire()
            world.strike()
            world.suffer(40)
            world.settle(parked=False)
            check(world)
    except Exception as failure:
        failure.add_note(
            f"{world.traits}\nreplay: TRANSFORM_SEED={seed} python -m pytest tests/chaos/test_transform_simulation.py"
        )
        raise
