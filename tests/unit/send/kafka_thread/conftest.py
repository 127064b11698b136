"""What the tests of the Kafka thread share: worlds of one partition, what is written to them, and what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from processor.interfaces import Committed
from processor.letters.letter import LetterHead, letter_head
from processor.records import Headers, TopicPartition
from tests.chaos.send_world import GROUP, TOPICS, Plan, Worker, World, entry_id

P0 = TopicPartition("hakuna.outbox", 0)
Worlds = Callable[..., World]


@pytest.fixture
def worlds() -> Iterator[Worlds]:
    """Makes worlds without workers, with these orders in their outbox and these entries refused, and ends them with
    the test."""
    made: list[World] = []

    def make(*orders: str, refused: Iterable[int] = (), extra: Headers | None = None, **plan: Any) -> World:
        world = World(Plan(**{"seed": 1, "partitions": 1, **plan}))
        made.append(world)
        world.broker.chance = None
        world.plan.script.refused.update({entry_id(number): "product_unsupported" for number in refused})
        fill(world, *orders, extra=extra)
        return world

    yield make
    for world in made:
        world.close()


def fill(world: World, *orders: str, partition: int = 0, then_s: float = 0.0, **more: Any) -> None:
    """Writes an entry of each order, `more` as `World.append` takes it; then time passes."""
    for order in orders:
        number = len(world.plan.entries)
        world.plan.entries.append((0.0, partition, order))
        world.append(number, partition, order, **more)
    world.pass_time(then_s)


def joined(world: World, *orders: str, then_s: float = 3.0) -> Worker:
    """Writes an entry of each order, and a worker joins; then time passes."""
    fill(world, *orders)
    worker = world.join()
    world.pass_time(then_s)
    return worker


def unready(worker: Worker, words: str) -> bool:
    return any(words in reason for reason in worker.role.standing.unready())


def committed(world: World) -> Committed:
    return world.broker.group(GROUP).committed[P0]


def letters(world: World) -> list[LetterHead]:
    found = [letter_head(record) for record in world.broker.records(TOPICS.dead_letters)]
    assert None not in found
    return [head for head in found if head is not None]


def accepted(world: World) -> list[str]:
    return [entry for call in world.api.calls if call.accepted for entry in call.entry_ids]
