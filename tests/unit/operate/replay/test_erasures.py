"""Letters of erased orders stay, whichever of an erasure's traces is left; all others go."""

from __future__ import annotations

import random

import pytest

from processor.operate.replay.arrange import BEHIND
from processor.operate.replay.campaign import Report
from processor.operate.replay.survey import ERASED, STATELESS
from processor.topics import Topic
from tests.unit.operate.replay.world import World

WRITTEN_MS = 1
"""The `occurred-at` of all that stands in the outbox of these worlds."""


@pytest.fixture
def world() -> World:
    """Two orders of three entries, refused; both have a state, and the API accepts them from now on."""
    made = World(random.Random(1))
    made.refused({"o-0": 3, "o-2": 3})
    for order_id in (b"o-0", b"o-2"):
        made.broker.append(Topic.CHANGELOG, 0, order_id, b"state")
    return made


def replay(world: World, **task: object) -> Report:
    report = world.replayed(**task)
    world.drain()
    return report


def erase(world: World, order_id: str, at_ms: int = WRITTEN_MS, topic: Topic = Topic.PLACED) -> None:
    world.broker.append(topic, 0, order_id.encode(), None, [], at_ms)


def told(world: World) -> dict[str, int]:
    return {order_id: len(entries) for order_id, entries in world.api.accepted.items()}


@pytest.mark.parametrize("topic", [Topic.PLACED, Topic.CANCELLED])
def test_a_null_in_a_source_topic_keeps_the_order_back_and_no_other(world: World, topic: Topic) -> None:
    erase(world, "o-0", topic=topic)
    report = replay(world)
    assert told(world) == {"o-2": 3}
    assert report.stays == {ERASED: 3}
    assert world.held() == {"o-0"}


def test_an_order_that_had_a_state_and_has_none_is_kept_back(world: World) -> None:
    """The null is gone from the source topics by now."""
    world.broker.append(Topic.CHANGELOG, 0, b"o-0", None)
    assert replay(world).stays == {STATELESS: 3}
    assert told(world) == {"o-2": 3}


def test_an_order_of_which_compaction_has_left_nothing_is_kept_back(world: World) -> None:
    world.refused({"o-4": 1})
    assert replay(world).stays == {STATELESS: 1}
    assert told(world) == {"o-0": 3, "o-2": 3}


def test_without_any_state_in_the_partition_nothing_is_told_by_its_absence() -> None:
    made = World(random.Random(1))
    made.refused({"o-0": 2})
    assert replay(made).stays == {}
    assert told(made) == {"o-0": 2}


def test_what_was_written_after_the_erasure_goes(world: World) -> None:
    """The order was placed again under its ID."""
    erase(world, "o-0", at_ms=WRITTEN_MS - 1)
    assert replay(world).stays == {}
    assert told(world) == {"o-0": 3, "o-2": 3}


@pytest.mark.parametrize("occurred_ms", [1_790_000_000_000, 1_790_000_000])
@pytest.mark.parametrize("erased_at", [1_790_000_100_000, 1_790_000_100])
def test_an_erasure_is_as_late_as_its_producer_means_it_in_seconds_too(occurred_ms: int, erased_at: int) -> None:
    """An order that never had a state: the null alone tells."""
    world = World(random.Random(1))
    world.refused({"o-0": 1}, occurred_ms=occurred_ms)
    world.refused({"o-2": 1}, occurred_ms=occurred_ms + 200 * (1000 if occurred_ms > 1e12 else 1))
    for order_id in ("o-0", "o-2"):
        erase(world, order_id, at_ms=erased_at)
    assert replay(world).stays == {ERASED: 1}
    assert told(world) == {"o-2": 1}, "it was written after the erasure"


def test_it_goes_all_the_same_where_that_is_asked_for(world: World) -> None:
    erase(world, "o-0")
    world.broker.append(Topic.CHANGELOG, 0, b"o-0", None)
    assert replay(world, erased=True).stays == {}
    assert told(world) == {"o-0": 3, "o-2": 3}


def test_what_is_put_aside_is_put_aside_of_erased_orders_too(world: World) -> None:
    erase(world, "o-0")
    report = replay(world, discard="it was erased")
    assert (report.left, report.stays) == (0, {})


def test_what_waits_behind_a_letter_that_is_kept_back_stays_too(world: World) -> None:
    """The order was placed again, and its entries wait behind the old ones."""
    erase(world, "o-0")
    world.clock.advance(10)
    world.refused({"o-0": 1}, occurred_ms=world.clock.now_ms())
    assert replay(world).stays == {ERASED: 3, BEHIND: 1}
    assert told(world) == {"o-2": 3}
