"""A seeded simulation of the whole send role on virtual time; every promise is checked for every seed.

pytest tests/chaos/test_send.py                            100 seeds, with CI set 1,000
SEND_SEEDS=9000 pytest tests/chaos/test_send.py            as many, or from one on: 1000-3000
SEND_SEED=417 pytest tests/chaos/test_send.py -k seed       one of them again
"""

from __future__ import annotations

import pytest

from processor.config import Quota
from tests.chaos.seeds import seeds, seldom_collected
from tests.chaos.send_checks import problems
from tests.chaos.send_plans import plan_of
from tests.chaos.send_world import Plan, World


@pytest.mark.chaos
@pytest.mark.parametrize("some", seeds("SEND", 100), ids=str)
def test_every_promise_is_kept_for_every_seed(some: range) -> None:
    """Faults, resets, hangs, pauses, refused keys, poison, moves, kills, a broker that is down: nothing lost,
    in order, no overlap, never above the quota, bounded, and sent again only what a kill explains."""
    with seldom_collected():
        for seed in some:
            _survive(seed)


def _survive(seed: int) -> None:
    world = World(plan_of(seed))
    try:
        world.run()
        found = problems(world)
    except BaseException as error:
        raise AssertionError(f"seed {seed}: SEND_SEED={seed} pytest tests/chaos/test_send.py") from error
    assert not found, f"seed {seed} (SEND_SEED={seed} pytest tests/chaos/test_send.py): {found[:5]}"


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [115, 153])
def test_a_seed_is_one_history_however_often_it_is_run(seed: int) -> None:
    """In these, several requests end at the same moment."""
    worlds = [World(plan_of(seed)) for _ in range(6)]  # kept, so that no object is where another was
    for world in worlds:
        world.run()
    first, *others = [world.api.calls for world in worlds]
    assert all(calls == first for calls in others)


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [7.9, 9.3, 12.0])
def test_a_worker_that_stood_still_with_much_to_send_sends_nothing_beside_its_heir(seconds: float) -> None:
    plan = Plan(seed=3, partitions=2, quota=Quota(20, 1.0), entries_max=400, done_within_s=120.0)
    plan.entries = [(0.0, number % 2, f"order-{number % 40}") for number in range(400)]
    world = World(plan)
    try:
        for _ in range(2):
            world.join()
        world.plan.workers = 0
        for number, (_, partition, order_id) in enumerate(plan.entries):
            world.append(number, partition, order_id)
        world.pass_time(6.0)
        world.freeze(world.workers[0], seconds)
        world.pass_time(60.0)
        assert any(call.sent_s > world.frozen[0][1] + 5.0 for call in world.api.calls if call.worker == "w1")
        assert problems(world) == []
    finally:
        world.close()
