"""Seeded simulations of the rekey loop: whatever happens to its workers, each record is written once, where it belongs.

python -m pytest tests/chaos/test_rekey_simulation.py                  60 seeds, with CI set 1,000
REKEY_SEEDS=9000 python -m pytest tests/chaos/test_rekey_simulation.py     as many, or from one on: 1000-3000
REKEY_SEED=123 python -m pytest tests/chaos/test_rekey_simulation.py       that one again
"""

from __future__ import annotations

import pytest
import structlog

from processor.sources import merge
from tests.chaos.rekey_world import Traits, World
from tests.chaos.seeds import seeds, seldom_collected

pytestmark = pytest.mark.chaos

CALM = Traits(partitions=2, counts=(1, 3, 2, 1, 2), records=24, batch_records_max=9)
CRASHES_MAX = 400
"""Above the points that such a world passes."""


@pytest.mark.parametrize("some", seeds("REKEY", 60), ids=str)
def test_every_record_has_its_one_effect_whatever_happens(some: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "BUFFER_RECORDS_MAX", 12)  # so small that a shop of a hundred records meets it
    with seldom_collected():
        for seed in some:
            suffer(seed)


def suffer(seed: int) -> None:
    world = World(seed)
    try:
        with structlog.testing.capture_logs():
            world.strike()
            world.suffer(world.chance.choice((50, 300)))
            world.settle()
            world.check()
    except Exception as failure:
        failure.add_note(
            f"{world.traits}\nreplay: REKEY_SEED={seed} python -m pytest tests/chaos/test_rekey_simulation.py"
        )
        raise


def test_a_worker_that_dies_at_any_call_is_succeeded_by_one_that_knows_every_repeat() -> None:
    reached = 0
    for at in range(1, CRASHES_MAX):
        world = World(7, CALM)
        before = world.broker.points.reached
        world.broker.points.crash(at=at)
        with structlog.testing.capture_logs():
            for _ in range(25):
                world.turn(world.workers[0])
            world.settle()
        world.check(repeats=True)
        reached = world.broker.points.reached - before
        if world._lives == 1:
            break  # the crash would have come after the end
    else:
        pytest.fail(f"{CRASHES_MAX} crashes do not cover its calls; a run passes {reached}")
