"""Topics that are given more partitions under transform, in a simulation: one source, the outbox, the letters, or all.

at work ─► the outbox or the letters alone: named, and all goes on
        ─► a source, or all of them: every worker ends, none starts, nothing is written ─► `topics grow` ─► on
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from processor.interfaces import Committed
from processor.operate.state.grow import Grower, Growth
from processor.operate.state.steps import moved_book
from processor.operate.state.writing import Writing
from processor.records import NewRecord, TopicPartition
from processor.sources.placements import JAVA
from processor.topics import Topic
from processor.transform.book import BOOK_KEY, encode_book
from tests.chaos import transform_world as worlds
from tests.fakes.broker import Fate
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction

if TYPE_CHECKING:
    from tests.chaos.transform_world import World

TURNS_MAX: Final = 400
"""Some twenty seconds on the clock: the topics are looked at every five."""


def grow(world: World) -> None:
    """Every record has been taken. Afterwards a worker may be started, or is at work."""
    broker, chance = world.broker, world.chance
    to = world.partitions + chance.randint(1, 2)
    everything = (*worlds.SOURCES, *worlds.OUTPUTS)
    besides = ((Topic.OUTBOX.value,), (Topic.ORDER_DEAD_LETTERS.value,))
    grown: tuple[str, ...] = chance.choice((*besides, (chance.choice(worlds.SOURCES),), everything))
    for topic in grown:
        broker.grow(topic, to)
    if grown in besides:
        (world.complaint,) = grown
        _turn(world, lambda: all(_is_named(world, worker) for worker in world.workers))
        return
    before, workers = _written(world), list(world.workers)
    _turn(world, lambda: not world.workers)
    for worker in workers:
        world.start(worker.disk, worker.name)
    assert not world.workers, "started where keys may be away from their state"
    named = [f"topics grow --partitions {to}" in refusal for refusal in world.refused]
    assert len(named) == 2 * len(workers), world.refused
    assert all(named), world.refused
    assert _written(world) == before, "written after the topics had grown"
    _mend(world, Growth(world.partitions, to, JAVA))
    outbox = broker.partitions(Topic.OUTBOX.value)
    world.outbox_then = {where.partition: end for where, end in broker.ends(outbox).items()}
    world.partitions = to
    for worker in workers:
        world.start(worker.disk, worker.name)


def _turn(world: World, done: Callable[[], bool]) -> None:
    for turn in range(TURNS_MAX):
        if done():
            return
        world.turn(world.workers[turn % len(world.workers)])
    raise AssertionError(f"nobody has seen that the topics have grown: {world.refused}")


def _is_named(world: World, worker: worlds.Worker) -> bool:
    return any(reason.startswith(f"{world.complaint} has ") for reason in worker.transformer.unready())


def _written(world: World) -> list[int]:
    """How much is committed, though a dead worker's open transaction may still hide it from readers. States aside: a
    book may be written once more before the change is seen."""
    logs = [world.broker.logs[w] for t in (Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS) for w in world.broker.partitions(t)]
    return [sum(entry.fate is Fate.COMMITTED for entry in log.entries) for log in logs]


def _mend(world: World, growth: Growth) -> None:
    """As `topics grow` does it, by its own means."""
    broker, clock, changelog = world.broker, world.clock, Topic.CHANGELOG.value
    for topic in (*worlds.SOURCES, *worlds.OUTPUTS):
        broker.grow(topic, growth.to)
    nobody = FakeConsumer(broker, group=worlds.GROUP, client_id="grow")
    transaction = FakeTransaction(broker, transactional_id="grow", consumer=nobody)
    writing = Writing(transaction, clock)
    grower = Grower(FakeReader(broker, client_id="grow"), writing, clock, "an operator")
    grower.states(changelog, growth)
    assert grower.misplaced([changelog], growth) == []
    known, committed = worlds.books_of(broker), broker.group(worlds.GROUP).committed
    for number in range(growth.to):
        starts: dict[TopicPartition, int] = {}
        for topic in worlds.SOURCES:
            where = TopicPartition(topic, number)
            starts[where] = committed.setdefault(where, Committed(0, "")).next_offset or 0
        whole_from = known[number].whole_from if number in known else 0
        identities = {topic: broker.topic_ids[topic] for topic in worlds.SOURCES}
        here, now_ms = worlds.here_of(broker), clock.now_ms()
        book = moved_book(known.get(number), here, number, starts, identities, decided_ms=now_ms, whole_from=whole_from)
        writing.add([NewRecord(changelog, number, BOOK_KEY, encode_book(book), [])])
    writing.commit()
