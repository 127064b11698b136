"""The transform loop on the fake broker: what it does in each kind of trouble, one at a time.

Whatever comes together is in `tests/chaos/test_transform_simulation.py`."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

import orjson
import pytest
from structlog.testing import capture_logs

from processor.errors import (
    BrokerOutage,
    Fenced,
    OutcomeUnknown,
    RegistryOutage,
    StateCorrupt,
    TransactionAborted,
    Unusable,
)
from processor.interfaces import Committed, Polled
from processor.letters.letter import letter_head
from processor.records import OrderEvent, Position, Record, TopicPartition
from processor.sources import merge
from processor.sources.loop import APART_S
from processor.sources.placements import JAVA, Partitioner, by_murmur2
from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.standstill import Standstill
from processor.sources.starts import Correction, Start
from processor.topics import ORDER_TOPICS, Topic
from processor.transform import taking
from processor.transform.book import BOOK_KEY, Here
from processor.transform.plan import StateSize, TransformEdges, TransformPlan
from processor.transform.transformer import Transformer
from tests.fakes.broker import FakeBroker
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction
from tests.fakes.stores import Disk
from tests.fakes.topology import FakeTopology, newest_book
from tests.support import shop_values
from tests.support.order_events import order_event
from tests.unit.order_events import AT_MS
from tests.unit.transform.histories import plan, rules

SOURCES = tuple(topic.value for topic in ORDER_TOPICS)
CHANGELOG, OUTBOX, DEAD = "changelog", "outbox", "dead"
GROUP, WORKER, OTHER = "g", "0123456789abcdef", "f" * 16
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Meter:
    def __init__(self) -> None:
        self.outcomes: list[TransactionOutcome] = []
        self.lags: list[SourceLag] = []
        self.sizes: list[StateSize] = []
        self.floods = 0
        self.elsewhere: Counter[str] = Counter()
        self.astray: Counter[str] = Counter()
        self.ignored: Counter[tuple[str, str]] = Counter()
        self.starts: list[tuple[str, int, Start]] = []
        self.throttled_s = 0.0

    def misplaced(self, records: Mapping[str, int]) -> None:
        self.elsewhere.update(records)

    def flooded(self) -> None:
        self.floods += 1

    def started(self, topic: str, partition: int, start: Start) -> None:
        self.starts.append((topic, partition, start))

    def throttled(self, seconds: float) -> None:
        self.throttled_s += seconds

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None:
        self.outcomes.append(outcome)

    def written(self, written: Written) -> None:
        self.astray.update(written.astray)
        self.ignored.update(written.ignored)

    def lag(self, lags: list[SourceLag]) -> None:
        self.lags = lags

    def state(self, sizes: list[StateSize]) -> None:
        self.sizes = sizes


class Patience(FakeConsumer):
    """Remembers how long each poll was willing to wait."""

    waits: list[float]

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        self.waits.append(timeout_s)
        return super().poll(records_max, timeout_s)


class World:
    """One worker, and more on demand, with everything that a test may break."""

    def __init__(self, partitions: int = 1, **plan: Any) -> None:
        self.broker = FakeBroker()
        self.clock = self.broker.clock
        self.broker.create(*SOURCES, CHANGELOG, OUTBOX, DEAD, partitions=partitions)
        self.partitions = partitions
        self.disk = Disk()
        self.meter = Meter()
        self.schema_unknown: set[int] = set()
        self.plan = plan
        self.topology = FakeTopology(self.broker, SOURCES, (OUTBOX, CHANGELOG, DEAD))
        self.loop = self.worker(WORKER, self.disk)
        self.events = 0

    def worker(self, name: str, disk: Disk, *, eager: bool = True) -> Transformer:
        consumer = Patience(self.broker, group=GROUP, client_id=f"c-{name}", eager=eager)
        consumer.waits = []
        limits = {"batch_records_max": 1000, "merge_wait_s": 30.0, "dead_letter_share_max": 1.0}
        settings = limits | {"retention_ms": int(400 * DAY_S * 1000)} | self.plan
        park_for_ms = settings.pop("decide_park_for_ms", int(DAY_S * 1000))
        settled = TransformPlan(
            topics=SOURCES,
            partitions=self.partitions,
            changelog=CHANGELOG,
            here=Here("cluster", self.broker.topic_ids[CHANGELOG], len(self.broker.partitions(CHANGELOG))),
            changelog_tombstones_ms=int(DAY_S * 1000),
            worker=name,
            decide=plan(dict.fromkeys(SOURCES, self._decode), rules(park_for_ms=park_for_ms)),
            **settings,
        )
        edges = TransformEdges(
            consumer=consumer,
            reader=FakeReader(self.broker, client_id=f"c-{name}"),
            transaction=FakeTransaction(self.broker, transactional_id=f"{GROUP}.{name}", consumer=consumer),
            predecessors=self,
            topology=self.topology,
            stores=disk,
            clock=self.clock,
            meter=self.meter,
            newest_book=lambda number: newest_book(self.broker, CHANGELOG, number),
        )
        made = Transformer(settled, edges)
        made.start()
        return made

    def moved(self) -> None:
        """The worker ends, and another one begins on an empty disk."""
        self.loop.stop()
        self.loop = self.worker(OTHER, Disk())

    def killed(self, *, forgotten: bool = False) -> Self:
        """The worker is gone without a word; `forgotten`: and so are the group's offsets."""
        self.broker.kill(f"c-{WORKER}", noticed=True)
        if forgotten:
            self.broker.forget(GROUP)
        return self

    def begun_anew(self) -> None:
        """Another life of the worker, on the same disk, once the group has noticed that the last one is gone."""
        self.loop = self.killed().worker(WORKER, self.disk)

    def end_transactions(self, partitions: object) -> None: ...

    def _decode(self, record: Record) -> OrderEvent:
        if record.partition in self.schema_unknown and record.value is not None and record.value.startswith(b" "):
            raise RegistryOutage("the registry is down")
        fields: Mapping[str, Any] = orjson.loads(record.value or b"")
        return order_event(Topic(record.topic), fields)

    # ---- the shop ----------------------------------------------------------------------------------------------------

    def place(self, order_id: str = "o", partition: int = 0, *, unread: bool = False, size: int = 0) -> None:
        event = shop_values.placed(order_id, AT_MS)
        event["line_items"][0]["quantity"] = 1000
        event["customer"]["last_name"] = "n" * 4 * size
        self.write(Topic.PLACED, order_id, partition, event, unread=unread)

    def fulfil(self, order_id: str = "o", partition: int = 0, quantity: int = 1) -> None:
        items = [{"line_item_id": "l", "quantity": quantity, "fulfilled_at": AT_MS}]
        self.write(Topic.FULFILLED, order_id, partition, {"items": items})

    def write(
        self, topic: Topic, order_id: str, partition: int, fields: dict[str, Any], *, unread: bool = False
    ) -> None:
        self.events += 1
        value = orjson.dumps(fields | {"event_id": f"e{self.events}", "order_id": order_id})
        self.broker.append(topic.value, partition, order_id.encode(), b" " + value if unread else value)
        self.clock.advance(0.001)

    # ---- the worker --------------------------------------------------------------------------------------------------

    def turn(self, times: int = 1, *others: Transformer) -> None:
        for _ in range(times):
            for loop in (self.loop, *others):
                loop.turn()

    def run(self, seconds: float, *others: Transformer) -> None:
        until_s = self.clock.monotonic_s() + seconds
        while self.clock.monotonic_s() < until_s:
            self.turn(1, *others)

    def begun(self) -> Self:
        """Assigned, restored, and a first order taken, so that whatever happens next happens to a worker at work."""
        for number in range(self.partitions):
            self.place(f"first-{number}", number)
        self.run(2.0)
        assert self.loop.unready() == []
        return self

    def entries(self, partition: int | None = None) -> list[str]:
        return [(record.key or b"").decode() for record in self.broker.records(OUTBOX, partition)]

    def letters(self) -> list[str]:
        heads = [letter_head(record) for record in self.broker.records(DEAD)]
        return [head.reason for head in heads if head is not None]

    def committed(self, topic: Topic = Topic.PLACED) -> int | None:
        where = TopicPartition(topic.value, 0)
        return self.broker.committed(GROUP, [where])[where].next_offset


def waiting(**plan: Any) -> World:
    """An event waits for its order."""
    world = World(**plan).begun()
    world.fulfil("never-placed")
    world.run(2.0)
    return world


# ---- transactions that come to nothing -------------------------------------------------------------------------------


def test_an_aborted_batch_is_taken_again() -> None:
    world = World().begun()
    world.place("a")
    world.fulfil("a")
    world.broker.points.fail("transaction.commit", TransactionAborted("timed out"))
    world.turn(3)
    assert world.loop.standstills[Standstill.ABORTED][0] == "the last transaction was aborted: timed out"
    world.run(2.0)
    assert world.entries() == ["first-0", "a", "a"]
    assert world.loop.unready() == []
    assert TransactionOutcome.ABORTED in world.meter.outcomes


@pytest.mark.parametrize("done", [False, True], ids=["not committed", "committed"])
def test_a_commit_that_nobody_confirmed_is_resolved_by_asking(done: bool) -> None:
    world = World().begun()
    world.place("a")
    world.broker.points.fail("transaction.commit", OutcomeUnknown("no answer"), done=done)
    world.run(3.0)
    world.fulfil("a")
    world.run(2.0)
    assert world.entries() == ["first-0", "a", "a"]
    assert world.committed() == 2
    assert world.loop.unready() == []


def test_an_outage_in_the_middle_of_a_resync_does_not_end_the_doubt() -> None:
    """The producer is open again, and only then the brokers are away: what was dropped must still be read anew."""
    world = World().begun()
    world.place("a")
    world.broker.points.fail("transaction.commit", Fenced("somebody else"))
    world.broker.points.fail("consumer.committed", BrokerOutage("away"), times=2)
    world.run(5.0)
    assert world.entries() == ["first-0", "a"]
    assert world.loop.unready() == []


def test_a_resync_resumes_what_was_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The merge begins anew and knows of no pause: left to itself, the partition would stay paused for ever."""
    monkeypatch.setattr(merge, "BUFFER_RECORDS_MAX", 4)
    world = World(batch_records_max=10).begun()
    world.broker.points.fail("transaction.begin", BrokerOutage("away"), times=2)
    for number in range(30):
        world.place(f"o{number}")
    world.turn(3)
    assert world.loop._merge.paused(0)
    world.broker.points.fail("transaction.begin", Fenced("somebody else"))
    world.run(10.0)
    assert len(world.entries()) == 31


def test_a_broker_that_is_away_at_the_begin_leaves_no_reason_behind() -> None:
    world = World().begun()
    world.place("a")
    world.broker.points.fail("transaction.begin", BrokerOutage("away"))
    world.turn(3)
    assert "away" in world.loop.standstills[Standstill.ABORTED][0]
    world.run(2.0)
    assert (world.entries(), world.loop.unready()) == (["first-0", "a"], [])


def test_a_worker_whose_aborted_work_went_elsewhere_is_ready_again() -> None:
    world = World().begun()
    other = world.worker(OTHER, Disk())
    world.run(2.0, other)
    world.place("a")
    world.broker.points.fail("transaction.commit", TransactionAborted("rebalanced"))
    world.turn(3)
    assert world.loop.standstills[Standstill.ABORTED][0] == "the last transaction was aborted: rebalanced"
    world.broker.rebalance(GROUP, {f"c-{OTHER}": [TopicPartition(topic, 0) for topic in SOURCES]})
    world.run(5.0, other)
    assert world.entries() == ["first-0", "a"]
    assert world.loop._partitions.running == []
    assert world.loop.unready() == []


def test_batches_shrink_while_transactions_come_to_nothing_and_grow_again() -> None:
    """What is too much for the broker in its time must not be tried again, as much, for ever."""
    world = World(batch_records_max=400).begun()
    world.broker.points.fail("transaction.commit", TransactionAborted("too slow"), times=3)
    for number in range(400):
        world.fulfil(f"o{number}")
    while world.meter.outcomes.count(TransactionOutcome.ABORTED) < 3:
        world.turn()
    assert world.loop._transactions.records_max == 50
    world.run(5.0)
    assert world.loop._transactions.records_max == 400
    assert world.committed(Topic.FULFILLED) == 400


def waits(world: World, turns: int) -> set[float]:
    """How long the polls of these turns were willing to wait."""
    consumer = world.loop._edges.consumer
    assert isinstance(consumer, Patience)
    consumer.waits.clear()
    world.turn(turns)
    return set(consumer.waits)


def test_a_waiting_worker_does_not_spin() -> None:
    world = World(batch_records_max=2).begun()
    for number in range(20):
        world.place(f"o{number}")
    world.turn(2)
    world.broker.points.fail("transaction.open", BrokerOutage("away"), times=1000)
    world.broker.points.fail("transaction.begin", Fenced("somebody else"))
    world.turn(2)
    assert waits(world, turns=50) == {0.05}


def test_a_worker_that_waits_in_the_middle_of_its_restore_does_not_spin() -> None:
    world = World(partitions=2).begun()
    world.moved()
    world.broker.points.fail("reader.poll", BrokerOutage("away"))
    world.turn(3)
    assert waits(world, turns=3) == {0.05}


def test_a_transaction_is_followed_by_a_rest_in_which_more_records_come_unless_there_is_more_already() -> None:
    world = World(batch_records_max=2).begun()
    assert world.loop.turn() == 0.0, "nothing to write"
    world.place("a")
    assert 0.0 < world.loop.turn() <= APART_S
    for order_id in "bcd":
        world.place(order_id)
    assert world.loop.turn() == 0.0, "the third is left over"
    assert 0.0 < world.loop.turn() <= APART_S
    assert world.entries() == ["first-0", *"abcd"]


def test_a_worker_does_not_rest_while_it_restores_another_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(partitions=2).begun()
    nothing = Polled([], {}, frozenset(), {})
    monkeypatch.setattr(world.loop._edges.reader, "poll", lambda records_max, timeout_s: nothing)
    world.loop._partitions.begin_restore([1])
    world.place("a", 0)
    assert world.loop.turn() == 0.0
    assert (world.entries(0), list(world.loop.restoring)) == (["first-0", "a"], [1])


# ---- moves -------------------------------------------------------------------------------------------------------


def test_a_worker_that_was_thrown_out_cannot_write_even_when_it_only_sweeps() -> None:
    """It has consumed nothing that the group would refuse: without an offset in it, its transaction would be taken, and
    the parked event would be a dead letter twice."""
    world = waiting()
    other = world.worker(OTHER, Disk())
    world.clock.advance(2 * DAY_S)

    def strike(point: Any) -> None:
        if point.call == "transaction.begin" and point.client_id == f"c-{WORKER}":
            world.broker.points.spare()
            world.broker.expel(f"c-{WORKER}")
            for _ in range(60):
                other.turn()
            assert world.letters() == ["order_unknown"]

    world.broker.points.decide = strike
    world.broker.groups[GROUP].members[f"c-{WORKER}"].seen_s = world.clock.monotonic_s()
    world.run(3.0)
    assert world.letters() == ["order_unknown"]
    world.run(5.0, other)
    assert world.letters() == ["order_unknown"]


def test_a_group_that_lost_its_offsets_has_some_again_from_its_book_and_sweeps() -> None:
    """Every transaction carries an offset: it is how the broker knows a worker that its group has gone on without."""
    world = waiting()
    world.broker.groups[GROUP].committed.clear()
    again = world.worker(OTHER, Disk())
    world.loop.stop()
    world.loop = again
    world.clock.advance(2 * DAY_S)
    for where in world.broker.logs:
        if where.topic in SOURCES:
            world.broker.delete_before(where.topic, where.partition, 99)
    world.run(3.0)
    assert world.letters() == ["order_unknown"]
    assert world.committed() == 1


def test_partitions_that_come_one_topic_after_the_other_are_read_from_their_offsets_once_whole() -> None:
    world = World()
    world.loop = world.worker(OTHER, Disk(), eager=False)
    first = {TopicPartition(topic, 0) for topic in SOURCES[:3]}
    rest = {TopicPartition(topic, 0) for topic in SOURCES[3:]}
    me = f"c-{OTHER}"
    world.turn()
    world.broker.rebalance(GROUP, {me: first})
    world.run(1.0)
    world.place("a")
    world.run(3.0)
    assert world.entries() == []
    assert world.loop.unready() == ["partitions are here without all of their topics: partitions [0]"]
    assert world.loop.progress()[1] is False, "it excuses no other partition"
    world.broker.rebalance(GROUP, {me: first | rest})
    world.run(3.0)
    assert (world.entries(), world.loop.unready()) == (["a"], [])
    world.fulfil("a")
    world.turn()
    world.broker.rebalance(GROUP, {me: first})
    world.run(2.0)
    world.fulfil("a")
    world.run(2.0)
    world.broker.rebalance(GROUP, {me: first | rest})
    world.run(3.0)
    assert world.entries() == ["a", "a", "a"]


def test_a_worker_that_was_lost_says_so_until_it_is_back() -> None:
    world = World().begun()
    other = world.worker(OTHER, Disk())
    world.run(2.0, other)
    world.broker.expel(f"c-{WORKER}")
    with capture_logs():
        world.loop.turn()
    assert "joins it again" in world.loop.unready()[0]
    world.run(5.0, other)
    assert world.loop.unready() == []


def test_it_is_not_ready_from_the_assignment_to_the_end_of_the_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processor.transform.partitions.RESTORE_RECORDS_MAX", 1)
    world = World().begun()
    for number in range(5):
        world.place(f"o{number}")
    world.run(1.0)
    world.moved()
    seen: list[list[str]] = []
    while not seen or world.loop.unready():
        world.turn()
        seen.append(world.loop.unready())
    assert any("restoring 1 partitions" in (reasons or [""])[0] for reasons in seen)
    assert [] not in seen[:-1], "ready, and then not"


def test_a_probe_between_the_assignment_and_the_restore_is_told_that_it_is_not_ready() -> None:
    """It may ask in the middle of a turn, while the loop asks the broker what the group has committed."""
    world = World()
    seen: list[list[str]] = []

    def probe(point: Any) -> None:
        if point.call == "consumer.committed":
            seen.append(world.loop.unready())

    world.broker.points.decide = probe
    world.begun()
    assert seen == [["no assignment yet: partitions are being taken over"]]


def test_the_position_is_where_the_group_left_off_until_something_is_read() -> None:
    world = World().begun()
    world.broker.denied.add(Topic.PLACED.value)
    world.moved()
    world.run(2.0)
    (placed,) = [one for one in world.loop.status if one.topic == Topic.PLACED]
    assert (placed.position, placed.committed, placed.lag) == (1, 1, 0)


def test_restoring_is_progress() -> None:
    world = World().begun()
    world.moved()
    before = world.loop.progress()[0]
    world.run(2.0)
    (work,) = world.loop.progress()[0].values()
    assert before == {}
    assert work.done > 0


def test_a_stop_closes_everything_although_leaving_the_group_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().begun()
    closed: list[str] = []
    reader, transaction = world.loop._edges.reader, world.loop._edges.transaction
    monkeypatch.setattr(reader, "close", lambda: closed.append("reader"))
    monkeypatch.setattr(transaction, "close", lambda: closed.append("transaction"))

    def fail() -> None:
        raise StateCorrupt("in a callback")

    monkeypatch.setattr(world.loop._edges.consumer, "close", fail)
    with pytest.raises(StateCorrupt):
        world.loop.stop()
    assert closed == ["transaction", "reader"]


# ---- stores that break -----------------------------------------------------------------------------------------------


def test_a_store_that_breaks_after_the_commit_is_restored_and_nothing_is_written_twice() -> None:
    world = World().begun()
    world.place("a")
    broken = iter([StateCorrupt("a bad block")])

    def strike(how: str) -> None:
        if how == "write":
            world.disk.touched = lambda _how: None
            raise next(broken)

    world.disk.touched = strike
    world.run(2.0)
    world.fulfil("a")
    world.run(2.0)
    assert world.entries() == ["first-0", "a", "a"]
    assert world.disk.wiped == 1


def test_a_store_that_breaks_while_a_batch_is_decided_costs_a_restore() -> None:
    world = World(partitions=2).begun()
    world.place("a", 0)
    world.place("b", 1)
    world.fulfil("a", 0)
    world.disk.partitions[1][b"ob"] = b"rubbish"
    world.run(3.0)
    assert sorted(world.entries()) == ["a", "a", "b", "first-0", "first-1"]
    assert world.disk.wiped == 1


# ---- the registry ----------------------------------------------------------------------------------------------------


def test_what_needs_an_unknown_schema_waits_and_the_other_partitions_go_on() -> None:
    world = World(partitions=2).begun()
    world.schema_unknown = {0}
    world.place("waits", 0, unread=True)
    world.fulfil("waits", 0)
    world.place("goes-on", 1)
    with capture_logs() as logs:
        world.run(5.0)
        world.place("goes-on-too", 1)
        world.run(5.0)
    assert world.entries(1) == ["first-1", "goes-on", "goes-on-too"]
    assert world.entries(0) == ["first-0"]
    assert world.loop.unready() == ["the schema registry does not answer: the registry is down"]
    said = [entry for entry in logs if entry["event"] == "standing still"]
    assert len(said) == 1, "said once, and not with every batch of the others"
    world.schema_unknown = set()
    world.run(3.0)
    assert world.entries(0) == ["first-0", "waits", "waits"]
    assert (world.letters(), world.loop.unready()) == ([], [])


# ---- the flood guard -------------------------------------------------------------------------------------------------


def test_a_flood_stops_the_role_before_anything_of_it_is_written() -> None:
    world = World(dead_letter_share_max=0.5).begun()
    for _ in range(600):
        world.broker.append(
            Topic.FULFILLED.value, 0, b"astray", orjson.dumps({"event_id": "e", "order_id": "o", "items": []})
        )
    for number in range(400):
        world.place(f"o{number}")
    before = world.committed()
    world.run(5.0)
    assert world.letters() == []
    assert world.committed() == before
    (reason,) = world.loop.unready()
    assert "60% of the last 1,000 records" in reason
    assert "600" in reason
    assert sum(lag.records for lag in world.meter.lags) == 1000, "what it holds back is still to be done"
    assert world.loop.progress()[1] is True
    assert world.meter.floods == 1
    world.run(30.0)
    assert world.letters() == []


# ---- producers that place keys differently ---------------------------------------------------------------------------


def by_crc32(key: bytes, partitions: int) -> int:
    return zlib.crc32(key) % partitions


def misplacing(
    world: World, orders: range, fulfilled: Partitioner = by_murmur2, placed: Partitioner = by_murmur2
) -> None:
    """A shop that places orders as `placed` does, and fulfils them as `fulfilled` does."""
    for number in orders:
        key = b"ord-%d" % number
        world.place(key.decode(), placed(key, world.partitions))
        world.fulfil(key.decode(), fulfilled(key, world.partitions))


def six(**plan: Any) -> World:
    """A worker with six partitions, and nothing in them."""
    world = World(partitions=6, **plan)
    world.run(1.0)
    return world


def mostly_lost(fulfilled: Partitioner) -> World:
    """A worker with a hundred orders and 1,500 events, placed like theirs, that nobody places an order for in time."""
    world = six(dead_letter_share_max=0.5, decide_park_for_ms=2_000)
    misplacing(world, range(100), fulfilled)
    world.run(8.0)
    for number in range(1_500):
        key = b"lost-%d" % number
        world.fulfil(key.decode(), fulfilled(key, 6))
    world.run(20.0)
    return world


def erase_astray(world: World) -> None:
    """Three orders, each where crc32 would have put it and murmur2 has not."""
    keys = [key for number in range(100) if by_crc32(key := b"ord-%d" % number, 6) != by_murmur2(key, 6)]
    for key in keys[:3]:
        world.broker.append(Topic.PLACED.value, by_crc32(key, 6), key, None)


def test_topics_whose_producers_disagree_are_named_by_topic_family_and_remedy() -> None:
    world = six()
    with capture_logs() as lines:
        misplacing(world, range(200), by_crc32)
        world.run(12.0)
    verdicts = world.loop.whereabouts.verdicts
    assert verdicts["orders.placed"].placement.family is JAVA
    found = verdicts["orders.fulfilled"]
    assert found.placement.family is not None
    assert (found.placement.family.name, found.mend) == ("crc32", "partitioner=murmur2_random")
    assert found.share is not None
    assert 0.7 < found.share < 0.95
    assert 10 < world.meter.elsewhere["orders.fulfilled"] <= 200
    assert world.meter.elsewhere["orders.placed"] == 0
    assert [line["topic"] for line in lines if line["log_level"] == "error"] == ["orders.fulfilled"]
    size = max(world.meter.sizes, key=lambda one: one.parked_oldest_s)
    assert size.parked_events > 0
    assert 10 <= size.parked_oldest_s <= 14


def test_topics_whose_producers_agree_are_said_nothing_of() -> None:
    """By whatever partitioner that is."""
    for partitioner in (by_murmur2, by_crc32, lambda key, partitions: sum(key) * 7 % partitions):
        world = six()
        with capture_logs() as lines:
            misplacing(world, range(200), partitioner, partitioner)
            world.run(12.0)
        assert all(one.agrees for one in world.loop.whereabouts.verdicts.values())
        assert sum(world.meter.elsewhere.values()) == 0
        assert not [line for line in lines if line["log_level"] == "error"]


def test_misplaced_events_alone_never_stop_good_orders() -> None:
    """A day later each of them is a dead letter, 90 of a hundred records, and the good orders go on."""
    world = mostly_lost(by_crc32)
    assert world.letters().count("order_unknown") > 1_000
    world.place("good", by_murmur2(b"good", 6))
    world.run(2.0)
    assert "good" in world.entries()
    assert world.meter.floods == 0


def test_events_whose_order_nobody_places_anywhere_still_stop_the_role() -> None:
    world = mostly_lost(by_murmur2)
    assert world.meter.floods == 1


def test_an_erasure_where_the_order_is_not_is_counted_as_that_and_said() -> None:
    world = six()
    misplacing(world, range(100))
    world.run(8.0)
    with capture_logs() as lines:
        erase_astray(world)
        world.broker.append(Topic.PLACED.value, by_murmur2(b"nobody", 6), b"nobody", None)
        world.run(2.0)
    assert world.meter.astray == {"orders.placed": 3}
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert line["erasures"] == 3


def test_an_erasure_that_came_before_anybody_knew_where_orders_live_is_looked_at_again() -> None:
    world = six()
    erase_astray(world)
    world.run(1.0)
    assert not world.meter.astray
    misplacing(world, range(200, 300))
    with capture_logs() as lines:
        world.run(12.0)
    assert world.meter.astray == {"orders.placed": 3}
    assert [line["erasures"] for line in lines if line["log_level"] == "error"] == [3]


# ---- time ------------------------------------------------------------------------------------------------------------


def test_orders_are_forgotten_when_their_retention_is_over() -> None:
    world = World(retention_ms=int(10 * DAY_S * 1000)).begun()
    world.clock.advance(11 * DAY_S)
    world.place("new")
    world.run(4.0)
    assert [key for key in world.disk.partitions[0] if key.startswith(b"o")] == [b"onew"]
    assert [record.value for record in world.broker.records(CHANGELOG) if record.key == b"first-0"][-1] is None


def test_an_order_that_is_touched_in_the_very_batch_of_the_sweep_is_not_forgotten() -> None:
    world = World(retention_ms=int(10 * DAY_S * 1000)).begun()
    world.clock.advance(11 * DAY_S)
    world.fulfil("first-0")
    world.run(4.0)
    assert b"ofirst-0" in world.disk.partitions[0]
    assert world.entries() == ["first-0", "first-0"]


def test_events_that_wait_leave_as_dead_letters_although_the_retention_is_shorter() -> None:
    world = waiting(retention_ms=int(HOUR_S * 1000))
    world.clock.advance(2 * HOUR_S)
    world.run(3.0)
    assert world.letters() == []
    world.clock.advance(DAY_S)
    world.run(3.0)
    assert world.letters() == ["order_unknown"]


def test_an_order_that_is_erased_in_the_very_batch_of_the_sweep_is_erased_and_no_more() -> None:
    world = waiting()
    world.clock.advance(2 * DAY_S)
    world.broker.append(Topic.PLACED.value, 0, b"never-placed", None)
    world.run(3.0)
    assert world.letters() == []
    assert not [key for key in world.disk.partitions[0] if b"never" in key]


# ---- bounds and what is seen -------------------------------------------------------------------------------------


def test_a_batch_ends_when_it_is_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "BATCH_BYTES_MAX", 50_000)
    world = World().begun()
    before = len(world.meter.outcomes)
    for number in range(40):
        world.place(f"o{number}", size=2_500)
    world.run(2.0)
    assert len(world.entries()) == 41
    assert len(world.meter.outcomes) - before >= 12


def test_lag_is_what_is_unfinished_and_how_old_it_is() -> None:
    world = World().begun()
    assert {(lag.records, lag.seconds) for lag in world.meter.lags} == {(0, 0.0)}
    world.broker.points.fail("transaction.begin", BrokerOutage("away"), times=20)
    world.place("a")
    world.place("b")
    world.run(10.0)
    (lag,) = [lag for lag in world.meter.lags if lag.records]
    assert (lag.topic, lag.records) == (Topic.PLACED.value, 2)
    assert 8.0 < lag.seconds < 11.0
    (status,) = [status for status in world.loop.status if status.lag]
    assert (status.position, status.committed) == (3, 1)
    assert status.blocked_by is not None
    assert "away" in status.blocked_by
    assert status.blocked_since is not None


def test_a_topic_that_is_waited_for_is_said_and_so_is_going_on_without_it() -> None:
    world = World().begun()
    world.broker.denied.add(Topic.PLACED.value)  # there is more, and it does not come
    world.place("a")
    world.loop._edges.consumer.resume([TopicPartition(Topic.PLACED.value, 0)])
    world.loop._merge.inputs(0)[0].at_end = False
    world.fulfil("first-0")
    world.run(3.0)
    (status,) = [status for status in world.loop.status if status.topic == Topic.FULFILLED]
    assert status.blocked_by == "merge: orders.placed has more at the broker"
    assert world.entries() == ["first-0"]
    with capture_logs() as logs:
        world.run(30.0)
    assert world.entries() == ["first-0", "first-0"]
    (said,) = [entry for entry in logs if "going on without" in entry["event"]]
    assert (said["partition"], said["topics"], said["log_level"]) == (0, ["orders.placed"], "warning")


# ---- a cluster that changes under it ---------------------------------------------------------------------------------


def notices(world: World) -> list[tuple[str, int, int, str]]:
    return [(one.topic, one.offset, one.missed, one.why) for one in world.loop.notices]


def test_one_abort_is_no_reason_to_be_unready_and_some_seconds_of_them_are() -> None:
    world = World().begun()
    world.place("a")
    world.broker.points.fail("transaction.commit", TransactionAborted("timed out"), times=9)
    world.run(3.0)
    assert world.loop.unready() == []
    world.run(3.0)
    assert world.loop.unready() == ["the last transaction was aborted: timed out"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_source_that_was_made_again_is_read_from_its_beginning(restarted: bool) -> None:
    """The new log is shorter than the old position or longer: nothing of it is passed over, nothing told twice."""
    world = World().begun()
    for number in range(5):
        world.place(f"old-{number}")
    world.run(1.0)
    if restarted:
        world.killed()
    world.broker.make_again(Topic.PLACED)
    for number in range(9):
        world.place(f"new-{number}")
    if restarted:
        world.begun_anew()
    world.run(3.0)
    # What stands behind the old position may be read before the change is seen, and is known when it comes again.
    wanted = sorted(["first-0", *(f"old-{n}" for n in range(5)), *(f"new-{n}" for n in range(9))])
    assert sorted(world.entries()) == wanted
    assert notices(world) == [("orders.placed", 0, 0, "made_again")]
    assert world.committed() == 9
    assert world.loop.unready() == []
    world.begun_anew()
    world.run(2.0)
    assert notices(world) == [], "and it is over then"


def test_a_group_without_offsets_goes_on_from_the_book() -> None:
    world = World().begun().killed(forgotten=True)
    world.place("while it was away")
    world.begun_anew()
    world.run(2.0)
    assert world.entries() == ["first-0", "while it was away"]
    assert {why for _, _, _, why in notices(world)} == {"offsets_gone"}
    assert world.meter.starts[0][2].corrections == (Correction.OFFSETS_GONE,)
    assert world.committed() == 2


def test_a_client_that_answers_a_seek_with_the_beginning_is_told_again() -> None:
    """librdkafka asks for the beginning of a log where the group has no offset, and takes a late answer for the
    position, whatever it was told meanwhile. What was taken before would be taken again."""
    world = World().begun().killed(forgotten=True)
    world.begun_anew()
    while not world.meter.starts:
        world.turn()
    world.loop._edges.consumer.seek([Position(topic, 0, 0) for topic in SOURCES])
    world.place("a")
    world.run(3.0)
    assert world.entries() == ["first-0", "a"]
    assert {one.lag for one in world.loop.status} == {0}
    assert not world.meter.ignored, "an event was taken again"


@pytest.mark.parametrize("done", [False, True], ids=["not committed", "committed"])
def test_a_first_commit_that_nobody_confirmed_sets_no_offset_back(done: bool) -> None:
    """It has where the sources begin and what was taken since: where they begin is not to be committed once more."""
    world = World()
    world.place("a")
    world.broker.points.fail("transaction.commit", OutcomeUnknown("no answer"), done=done)
    world.run(5.0)
    assert world.entries() == ["a"]
    assert world.committed() == 1
    assert world.loop.unready() == []


@pytest.mark.parametrize("done", [False, True], ids=["not committed", "committed"])
def test_a_start_by_the_book_outlives_a_commit_that_nobody_confirmed(done: bool) -> None:
    """The group has no offsets, or those from before: what it would read again was taken."""
    world = World().begun()
    world.place("a")
    world.run(1.0)
    world.killed(forgotten=True)
    world.place("while it was away")
    world.broker.points.fail("transaction.commit", OutcomeUnknown("no answer"), done=done)
    world.begun_anew()
    world.run(5.0)
    assert world.entries() == ["first-0", "a", "while it was away"]
    assert world.committed() == 3
    assert not world.meter.ignored, "an event was taken again"
    assert len(world.meter.starts) == len(SOURCES), "what was out of the ordinary is said once"


def test_what_was_gone_is_counted_once_though_nobody_confirmed_the_start() -> None:
    world = World().begun().killed()
    for number in range(12):
        world.place(f"o-{number}")
    world.broker.delete_before(Topic.PLACED, 0, 9)
    world.broker.points.fail("transaction.commit", Fenced("somebody else"))
    world.begun_anew()
    while not world.meter.starts:
        world.turn()
    world.broker.delete_before(Topic.PLACED, 0, 11)
    world.run(5.0)
    assert [start.missed for _, _, start in world.meter.starts] == [8, 2]
    assert world.entries() == ["first-0", "o-10", "o-11"]
    assert world.committed() == 13


def test_a_new_installation_is_no_group_that_lost_its_offsets() -> None:
    world = World()
    world.run(1.0)
    assert notices(world) == []
    assert [record.key for record in world.broker.records(CHANGELOG)] == [BOOK_KEY], "its book is opened at once"
    world.killed(forgotten=True)
    world.begun_anew()
    world.run(1.0)
    assert {why for _, _, _, why in notices(world)} == {"offsets_gone"}, "a worker that has a book is not new"


def test_a_group_that_was_set_back_or_on_is_followed_and_it_is_said() -> None:
    world = World().begun()
    world.place("a")
    world.run(1.0)
    where = TopicPartition(Topic.PLACED, 0)
    world.killed()
    world.broker.group(GROUP).committed[where] = Committed(0, "")
    world.begun_anew()
    world.run(1.0)
    assert notices(world) == [("orders.placed", 0, 0, "set_back")]
    world.place("passed over")
    world.killed()
    world.broker.group(GROUP).committed[where] = Committed(3, "")
    world.begun_anew()
    world.run(1.0)
    assert notices(world) == [("orders.placed", 3, 1, "set_forward")]
    assert world.entries() == ["first-0", "a"]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_retention_took_before_it_was_read_is_counted_exactly_and_once(restarted: bool) -> None:
    world = World().begun().killed()
    for number in range(12):
        world.place(f"o-{number}")
    if not restarted:
        world.begun_anew()
        world.broker.points.fail("consumer.committed", BrokerOutage("away"), times=2)
    world.broker.delete_before(Topic.PLACED, 0, 11)
    if restarted:
        world.begun_anew()
    world.run(6.0)
    assert notices(world) == [("orders.placed", 11, 10, "overtaken")]
    assert sum(start.missed for _, _, start in world.meter.starts) == 10
    assert world.entries() == ["first-0", "o-10", "o-11"]
    world.begun_anew()
    world.place("later")
    world.run(2.0)
    assert notices(world) == []
    assert "later" in world.entries()
    book = newest_book(world.broker, CHANGELOG, 0)
    assert book is not None
    assert {topic: (gap.missed, gap.next_offset) for topic, gap in book.gaps.items()} == {"orders.placed": (10, 11)}


def test_records_that_are_deleted_under_a_worker_at_work_are_counted() -> None:
    world = World().begun()
    world.broker.down = True
    world.run(1.0)
    for number in range(12):
        world.place(f"o-{number}")
    world.broker.delete_before(Topic.PLACED, 0, 9)
    world.broker.down = False
    world.run(2.0)
    assert notices(world) == [("orders.placed", 9, 8, "overtaken")]
    assert world.entries() == ["first-0", *(f"o-{n}" for n in range(8, 12))]


def test_how_long_the_oldest_record_will_be_there_is_known_while_one_waits() -> None:
    world = World()
    world.broker.config[Topic.PLACED] = {"retention.ms": str(int(2 * HOUR_S * 1000))}
    world.begun()
    world.schema_unknown.add(0)
    world.place("o", unread=True)
    world.clock.advance(1.5 * HOUR_S)
    world.run(2.0)
    (left,) = [lag.retention_left_s for lag in world.meter.lags if lag.retention_left_s is not None]
    assert 0.4 * HOUR_S < left < 0.5 * HOUR_S


@pytest.mark.parametrize("topic", [OUTBOX, CHANGELOG])
def test_a_limit_that_is_lowered_at_work_makes_a_letter_of_what_is_too_large_and_the_rest_flows(topic: str) -> None:
    world = World().begun()
    world.broker.config[topic] = {"max.message.bytes": "3000"}
    world.place("small")
    world.place("large", size=5000)
    world.place("other")
    world.run(4.0)
    assert world.entries() == ["first-0", "small", "other"]
    assert world.letters() == ["too_large"]
    (letter,) = world.broker.records(DEAD)
    assert "3000" in dict(letter.headers)["__dlq.errors.message"].decode()  # type: ignore[union-attr]
    assert world.loop.unready() == []


def test_a_limit_of_the_dead_letters_that_is_lowered_at_work_costs_a_letter_its_value_and_the_rest_flows() -> None:
    world = World().begun()
    world.broker.config[DEAD] = {"max.message.bytes": "3000"}
    world.place("small")
    items = [{"line_item_id": "x" * 5000, "quantity": 1, "fulfilled_at": AT_MS}]
    world.write(Topic.FULFILLED, "first-0", 0, {"items": items})
    world.place("other")
    world.run(4.0)
    assert world.entries() == ["first-0", "small", "other"]
    (letter,) = world.broker.records(DEAD)
    assert letter.value is None
    assert world.letters() == ["too_large"]
    assert world.loop.unready() == []


def test_dead_letters_are_one_line_a_minute_with_an_example() -> None:
    world = World().begun()
    with capture_logs() as logs:
        for _ in range(5):
            world.fulfil("first-0", quantity=5000)
            world.run(1.0)
        world.clock.advance(60.0)
        world.fulfil("first-0", quantity=5000)
        world.run(1.0)
    said = [one for one in logs if "dead letters were written" in one["event"]]
    assert [one["count"] for one in said] == [1, 5]
    assert {(one["record"], one["reason"], one["to"]) for one in said[:1]} == {
        ("orders.fulfilled/0/0", "quantity_exceeded", DEAD)
    }


def test_a_quota_of_the_brokers_is_said_and_waited_for_and_batches_shrink_to_one_record() -> None:
    world = World().begun()
    for number in range(30):
        world.place(f"o-{number}")
    world.broker.points.fail("transaction.commit", TransactionAborted("timed out"), times=1000)
    for _ in range(10):
        world.broker.throttled_s = 4.0
        world.run(5.5)
    assert "throttle" in world.loop.unready()[0]
    assert world.loop._transactions.records_max == taking.BATCH_RECORDS_MIN == 1
    world.broker.points.spare()
    world.run(30.0)
    assert len(world.entries()) == 31
    assert world.meter.throttled_s == world.loop.throttled_s > 20
    assert world.loop.unready() == []


def test_the_orders_in_state_are_counted_exactly_through_restores_and_erasures() -> None:
    world = World()
    for number in range(20):
        world.place(f"o-{number}")
    world.run(1.0)
    for number in range(5):
        world.broker.append(Topic.PLACED, 0, f"o-{number}".encode(), None)
        world.fulfil(f"o-{number + 10}")
    world.run(2.0)
    assert [size.orders for size in world.meter.sizes] == [15]
    world.disk.partitions.clear()
    world.begun_anew()
    world.run(2.0)
    assert [size.orders for size in world.meter.sizes] == [15]


def test_topics_that_changed_end_the_role() -> None:
    world = World().begun()
    world.topology.changed = Unusable(["orders.placed had 1 partitions"])
    with pytest.raises(Unusable):
        world.run(2.0)


def test_every_reason_is_a_word_for_people() -> None:
    assert all(standstill.value.islower() for standstill in Standstill)
