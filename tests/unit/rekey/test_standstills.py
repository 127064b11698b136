"""A rekey worker says why it stands still for as long as it does, and no longer."""

from __future__ import annotations

from tests.chaos.rekey_world import GROUP, SOURCES, Traits, World


def test_a_worker_whose_partitions_went_while_the_registry_was_down_is_ready_again() -> None:
    """It asks the registry nothing any more; unready for good, it would hold a rollout up."""
    world = World(1, Traits())
    left, heir = world.workers[0], world.start()
    for number in range(40):
        world.broker.append(SOURCES[0], 0, None, b'{"order_id": "ord-%d"}' % number, [("number", b"%d" % number)])
    world.registry_down = True
    for _ in range(20):
        world.turn(left)
        world.turn(heir)
    assert left.rekeyer.unready() == ["the schema registry does not answer: the registry is down"]
    partitions = {where for topic in SOURCES for where in world.broker.partitions(topic)}
    world.broker.rebalance(GROUP, {left.client_id: set(), heir.client_id: partitions})
    world.registry_down = False
    for _ in range(100):
        world.turn(left)
        world.turn(heir)
    assert left.rekeyer.status == ()
    assert left.rekeyer.unready() == []
