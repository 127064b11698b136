"""What must be true of a world of transform when it has settled, whatever befell it. One checker for each promise.

`check_memory` is in the world itself, which asks it after each turn.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from processor.letters.letter import letter_head
from processor.records import HeaderName, OrderId, Record
from processor.topics import Topic
from processor.transform import order_state
from processor.transform.book import BOOK_KEY
from processor.transform.order_state import OrderState
from tests.chaos.transform_world import GROUP, RULES, SOURCES, World, decoded
from tests.support.transform_model import Model, difference

TRANSACTION_S_MAX: Final = 15.0


def check(world: World) -> None:
    world.clock.advance(TRANSACTION_S_MAX)  # what a dead worker left open hides what others wrote behind it
    world.broker.overdue()
    model = model_of(world)
    check_nothing_is_lost_or_doubled(world, model)
    check_order_per_order_id(world, model)
    check_offsets(world)
    check_state_is_the_changelog(world, model)


def model_of(world: World) -> Model:
    model = Model(RULES, decoded, SOURCES, world.clock.now_ms())
    known = {id(record) for record in world.before}
    for number in range(world.partitions):
        model.take(record for record in world.before if record.partition == number)
    for number in range(world.partitions):
        now = [record for topic in SOURCES for record in world.broker.records(topic, number)]
        model.take(record for record in now if id(record) not in known)
    model.let_parked_events_expire()
    return model


def check_nothing_is_lost_or_doubled(world: World, model: Model) -> None:
    """Each source record has the one effect that the rules give it, and no other."""
    written = sorted(_header(record, HeaderName.SOURCE) for record in world.broker.records(Topic.OUTBOX.value))
    wanted = sorted(source for entries in model.entries.values() for source, _ in entries)
    assert written == wanted, difference("entries", written, wanted)
    origins = defaultdict(list)
    for one in (*world.before, *(record for topic in SOURCES for record in world.broker.records(topic))):
        origins[one.position].append((one.key, one.value, one.timestamp_ms))
    letters = []
    for record in world.broker.records(Topic.ORDER_DEAD_LETTERS.value):
        head = letter_head(record)
        assert head is not None
        letters.append((str(head.origin), head.reason))
        assert (record.key, record.value, record.timestamp_ms) in origins[head.origin]
    assert sorted(letters) == sorted(model.refused), difference("dead letters", sorted(letters), sorted(model.refused))


def check_order_per_order_id(world: World, model: Model) -> None:
    """An order's entries are those of the model, byte for byte, one after the other."""
    written: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
    records = world.broker.records(Topic.OUTBOX.value)
    for record in sorted(records, key=lambda one: one.offset >= world.outbox_then.get(one.partition, 1 << 62)):
        assert record.key is not None
        assert record.value is not None
        written[record.key.decode()].append((_header(record, HeaderName.SOURCE), record.value))
    for order_id, entries in model.entries.items():
        if world.traits.live:
            assert sorted(written[order_id]) == sorted(entries), order_id
            assert written[order_id][0] == entries[0], f"{order_id} does not begin with its placing"
        else:
            assert written[order_id] == entries, order_id


def check_offsets(world: World) -> None:
    """The group has committed the end of every source, in the name of a worker."""
    ends = world.ends()
    for where, committed in world.broker.committed(GROUP, list(ends)).items():
        assert (committed.next_offset or 0) == ends[where], where
        assert not committed.next_offset or len(committed.metadata) == 16, committed


def check_state_is_the_changelog(world: World, model: Model) -> None:
    """The whole changelog, the compacted one, the owner's store and the model agree."""
    whole = _latest(world)
    world.broker.compact(Topic.CHANGELOG.value)
    assert _latest(world) == whole
    stored: dict[bytes, bytes] = {}
    for worker in world.workers:
        for number in worker.transformer._partitions.held:
            contents = worker.disk.partitions[number]
            stored |= {key[1:]: value for key, value in contents.items() if key.startswith(b"o")}
            assert not any(key.startswith(b"p") for key in contents), "an index of parked events that are gone"
    assert stored == whole
    told = {OrderId(key.decode()): _timeless(order_state.decode(value)) for key, value in whole.items()}
    if not world.traits.live:
        assert told == {order_id: _timeless(state) for order_id, state in model.states.items()}


def _header(record: Record, name: str) -> str:
    return (dict(record.headers)[name] or b"").decode()


def _latest(world: World) -> dict[bytes, bytes]:
    latest: dict[tuple[bytes, int], bytes | None] = {}
    for record in world.broker.records(Topic.CHANGELOG.value):
        assert record.key is not None
        if record.key != BOOK_KEY:
            latest[record.key, record.partition] = record.value
    states = [(key, value) for (key, _), value in latest.items() if value is not None]
    assert len(dict(states)) == len(states), "an order with two states"
    return dict(states)


def _timeless(state: OrderState) -> tuple[Any, ...]:
    return state.standing, state.order, state.totals, state.event_keys, state.unheard
