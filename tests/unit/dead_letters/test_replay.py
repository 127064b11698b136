"""Replays of the outbox's letters, against a sender at work, live traffic, and kill -9 at any moment."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from processor.dead_letters.resolutions import Resolved
from processor.topics import Topic
from tests.unit.dead_letters.world import World


def refused_world(seed: int, orders: int = 12, **more: object) -> World:
    """Some orders of one to four entries; the API has refused them all, and accepts from now on."""
    world = World(random.Random(seed), **more)  # type: ignore[arg-type]
    names = [f"o-{number}" for number in range(orders)]
    world.refuse(*names)
    for name in names:
        world.order(name, world.chance.randint(1, 4))
    crash_share, world.crash_share = world.crash_share, 0.0
    world.drain()
    world.accept_all()
    world.crash_share = crash_share
    return world


def assert_all_delivered_once_in_order(world: World) -> None:
    world.crash_share = 0.0
    world.drain()
    for order_id in world._entries:
        assert world.api.accepted[order_id] == world.entries_of(order_id), order_id
    assert world.api.repeats == 0
    assert not world.held()
    assert not list(open_letters(world))


def open_letters(world: World) -> Iterator[str]:
    resolved = Resolved()
    resolved.take(world.broker.records(Topic.RESOLUTIONS))
    for letter in world.letters():
        if resolved.how(letter.position) is None:
            yield str(letter.position)


@pytest.mark.parametrize("seed", range(12))
def test_refused_orders_and_their_followers_are_delivered_once_in_order(seed: int) -> None:
    world = refused_world(seed)
    report = world.replay()
    assert report is not None
    assert report.ending == "done"
    assert report.left == 0
    assert report.sent == report.accepted + report.absorbed == len(world.letters())
    assert report.released_orders == 12
    assert_all_delivered_once_in_order(world)


@pytest.mark.parametrize("seed", range(40))
def test_a_command_that_is_killed_at_any_moment_is_gone_on_with_by_the_same(seed: int) -> None:
    world = refused_world(seed, crash_share=0.03)
    world.replay_until_done()
    assert world.crashes or seed
    assert_all_delivered_once_in_order(world)


@pytest.mark.parametrize("seed", range(40))
def test_what_comes_live_goes_behind_what_was_held(seed: int) -> None:
    world = refused_world(seed, crash_share=0.01 if seed % 2 else 0.0)
    world.live = [(f"o-{world.chance.randrange(12)}", 1) for _ in range(30)]
    world.replay_until_done()
    world.drain()
    while any(open_letters(world)) or world.held():
        world.replay_until_done()  # what came to an order that a killed run had not released
        world.drain()
    assert_all_delivered_once_in_order(world)
