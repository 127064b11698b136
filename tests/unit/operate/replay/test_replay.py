"""Replays of the outbox's letters, against a sender at work, live traffic, and kill -9 at any moment."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from processor.operate.replay.campaign import Refused
from processor.operate.replay.database import Going
from processor.operate.replay.noted import Resolved
from processor.operate.replay.plan import Plan
from processor.operate.replay.selection import Selection
from processor.records import Record
from processor.topics import Topic
from tests.unit.operate.replay.world import World


def refused_world(seed: int, orders: int = 12, crash_share: float = 0.0) -> World:
    """Some orders of one to four entries; the API has refused them all, and accepts from now on."""
    world = World(random.Random(seed))
    world.refused({f"o-{number}": world.chance.randint(1, 4) for number in range(orders)})
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
    resolved = Resolved({})
    resolved.take(world.broker.records(Topic.RESOLUTIONS))
    for letter in world.letters():
        if resolved.how(letter.position) is None:
            yield str(letter.position)


@pytest.mark.parametrize("seed", range(6))
def test_refused_orders_and_their_followers_are_delivered_once_in_order(seed: int) -> None:
    world = refused_world(seed)
    report = world.replayed()
    assert (report.ending, report.left) == ("done", 0)
    assert report.sent == report.accepted + report.absorbed == len(world.letters())
    assert report.released_orders == 12
    assert_all_delivered_once_in_order(world)


def test_letters_of_a_topic_made_again_are_open_whatever_was_resolved_at_their_places() -> None:
    world = refused_world(0)
    before = world.replayed().sent
    world.broker.clock.advance(3600.0)
    world.broker.make_again(Topic.HAKUNA_DEAD_LETTERS)
    world.refused({"p-1": 3, "p-2": 1})
    report = world.replayed()
    assert (report.ending, report.sent) == ("done", 4)
    assert before >= 4
    world.drain()
    assert [len(world.api.accepted[order]) for order in ("p-1", "p-2")] == [3, 1]


@pytest.mark.parametrize("seed", range(20))
def test_a_command_that_is_killed_at_any_moment_is_gone_on_with_by_the_same(seed: int) -> None:
    world = refused_world(seed, crash_share=0.03)
    world.replay_until_done()
    assert world.crashes or seed
    assert_all_delivered_once_in_order(world)


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_live_goes_behind_what_was_held(seed: int) -> None:
    world = refused_world(seed, crash_share=0.01 if seed % 2 else 0.0)
    world.live = [(f"o-{world.chance.randrange(12)}", 1) for _ in range(30)]
    world.replay_until_done()
    world.drain()
    while any(open_letters(world)) or world.held():
        world.replay_until_done()  # what came to an order that a killed run had not released
        world.drain()
    assert_all_delivered_once_in_order(world)


def test_a_snapshot_whose_order_was_told_a_newer_one_while_the_replay_ran_is_superseded_and_not_sent() -> None:
    world = World(random.Random(1), feed=True)
    names = [f"o-{number}" for number in range(8)]
    world.refused(dict.fromkeys(names, 1))
    told = False

    def content(letter: Record, going: Going, plan: Plan) -> bytes | None:
        """After the first letters have gone, all orders are told a newer snapshot, and the command hears of it."""
        nonlocal told
        if not told:
            told = True
            for name in names:
                world.order(name)
            world.drain()
        return letter.value

    report = world.replayed(content=content, canary=1, rate_s=10.0)
    assert (report.ending, report.sent, report.superseded) == ("done", 1, 7)
    assert not list(open_letters(world))
    assert sum(world.api.accepted[name] == world.entries_of(name)[-1:] for name in names) == 7


def test_it_stops_when_too_many_of_the_canary_come_back_and_the_next_run_begins_anew() -> None:
    world = refused_world(3)
    world.refuse(*(f"o-{number}" for number in range(12)))
    letters = len(world.letters())
    report = world.replayed(canary=3, share_max=0.1)
    assert report.ending == "too many came back"
    assert 3 <= report.sent <= 6  # whole orders go, and the last one may have four entries
    assert sum(report.returned.values()) == report.sent
    assert not report.released_orders
    assert len(list(open_letters(world))) == letters
    world.accept_all()
    again = world.replay_until_done(share_max=0.1)
    assert again.replay_id != report.replay_id
    assert_all_delivered_once_in_order(world)


def test_an_order_whose_letters_are_all_put_aside_goes_on_and_one_with_some_left_stays_held() -> None:
    world = refused_world(4, orders=2)
    for order_id in ("o-0", "o-1"):
        world.order(order_id, 2)
    world.drain()
    world.replay(discard="by hand", selection=Selection(order_ids=("o-0",)))
    world.replay(discard="by hand", selection=Selection(order_ids=("o-1",), reasons=("location_unsupported",)))
    assert world.held() == {"o-1"}
    world.order("o-0")
    world.drain()
    assert world.api.accepted["o-0"] == world.entries_of("o-0")[-1:]
    world.replay_until_done(given="replay --again")
    assert world.api.accepted["o-1"] == world.entries_of("o-1")[1:]
    assert not world.held()


@pytest.mark.parametrize("seed", range(10))
def test_a_discard_that_is_killed_at_any_moment_puts_all_aside_and_leaves_no_hold(seed: int) -> None:
    world = refused_world(seed, crash_share=0.02)
    world.replay_until_done(discard="by hand")
    assert not list(open_letters(world))
    assert not world.held()
    assert not world.api.accepted


def test_another_command_is_refused_while_a_run_is_not_finished() -> None:
    world = refused_world(5, crash_share=0.2)
    while world.replay() is not None or not world.broker.records(Topic.RESOLUTIONS):
        pass
    world.crash_share = 0.0
    with pytest.raises(Refused, match="go on with it by `hakuna-processor dead-letters replay`"):
        world.replay(given="replay --reason held")
    world.replay_until_done()
    assert_all_delivered_once_in_order(world)
