"""A seeded simulation of the whole send role on virtual time; every promise is checked for every seed.

pytest tests/chaos/test_send.py                            100 seeds, with CI set 1,000
SEND_SEEDS=9000 pytest tests/chaos/test_send.py            as many
SEND_SEED=417 pytest tests/chaos/test_send.py -k seed       one of them again
"""

from __future__ import annotations

import pytest

from tests.chaos.seeds import seeds
from tests.chaos.send_checks import problems
from tests.chaos.send_plans import plan_of
from tests.chaos.send_world import World


@pytest.mark.chaos
@pytest.mark.parametrize("some", seeds("SEND", 100), ids=str)
def test_every_promise_is_kept_for_every_seed(some: range) -> None:
    """Faults, resets, hangs, pauses, refused keys, poison, moves, kills, a broker that is down: nothing lost,
    in order, no overlap, never above the quota, bounded, and sent again only what a kill explains."""
    for seed in some:
        world = World(plan_of(seed))
        try:
            world.run()
            found = problems(world)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: SEND_SEED={seed} pytest tests/chaos/test_send.py") from error
        assert not found, f"seed {seed} (SEND_SEED={seed} pytest tests/chaos/test_send.py): {found[:5]}"
