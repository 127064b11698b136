"""An installation in memory for replays: topics, a sender with its holds, an API that says yes or no, live traffic.

    world = World(random)
    world.order("o-1", entries=3)            stands in the outbox
    world.refuse("o-1")                      the API refuses it from now on
    world.drain()                            the sender works off what is there
    world.accept_all()                       the API takes all of them from now on
    world.refused({"o-1": 3})                these four in one
    world.replay()                           one command, with crashes if `crash_share` says so; None if it died

The sender keeps the rules of `processor/send/`: one lane an order, refused entries hold their order, a tombstone is
heard of some time after it was written, letters and receipts are there before the commit. It runs at every point where
the command calls Kafka, as chance has it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from processor.cli.dead_letters.desk import Desk
from processor.errors import ProcessorError
from processor.interfaces import Committed
from processor.letters.holds import Hold, Holds, encode_hold
from processor.letters.letter import Refusal, letter_headers
from processor.operate.replay.campaign import Campaign, Report
from processor.operate.replay.contents import as_sent
from processor.operate.replay.making import Content
from processor.operate.replay.place import Clients, Exclusive, Ledger
from processor.operate.replay.reading import Reading
from processor.operate.replay.selection import EVERYTHING, Selection
from processor.operate.replay.sources import Sources
from processor.operate.replay.survey import Field, Route, Task
from processor.records import EntryId, Headers, NewRecord, OrderId, Record, Stage, TopicPartition
from processor.topics import ORDER_TOPICS, Topic
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import Crash, Point
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction
from tests.fakes.stores import DictStore

SEND_GROUP = "send"
PLACE = "dead-letters"
PARTITIONS = 2
HEARS_S = 0.3
"""In which the sender hears of a release."""


class FakeOffsets:
    """`ClusterOffsets` over the fake broker."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def partitions(self, topic: str) -> int | None:
        return len(self._broker.partitions(topic)) or None

    def retention_ms(self, topic: str) -> int | None:
        return None

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._broker.beginnings(partitions)

    def since(self, partitions: Sequence[TopicPartition], at_ms: int) -> Mapping[TopicPartition, int]:
        def first(where: TopicPartition) -> int:
            records = self._broker.records(where.topic, where.partition)
            return next((one.offset for one in records if one.timestamp_ms >= at_ms), self.ends([where])[where])

        return {where: first(where) for where in partitions}

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._broker.ends(partitions)

    def stable_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self.ends(partitions)

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        return self._broker.committed(group, partitions)


def reading_of(broker: FakeBroker, client_id: str) -> Reading:
    return Reading(FakeReader(broker, client_id=client_id), FakeOffsets(broker), broker.clock)


class FakeBarrier:
    """`KafkaBarrier` over the fake broker: an open transaction that is aborted in the end."""

    def __init__(self, broker: FakeBroker, consumer: FakeConsumer) -> None:
        self._broker = broker
        self._transaction = FakeTransaction(broker, transactional_id="barrier", consumer=consumer)

    def put(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._transaction.begin()
        for topic, partition in partitions:
            self._transaction.produce(NewRecord(topic, partition, None, None, []))
        return {
            where: max(e.record.offset for e in self._broker.logs[where].entries if e.transactional_id == "barrier")
            for where in partitions
        }

    def lift(self) -> None:
        self._transaction.abort()


@dataclass
class Api:
    """What Hakuna said yes to, per order and in order; each entry ID is taken once, however often it comes."""

    refused: set[str] = field(default_factory=set)
    accepted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    bodies: dict[str, bytes] = field(default_factory=dict)
    repeats: int = 0

    def post(self, order_id: str, entry_id: str, body: bytes) -> bool:
        if order_id in self.refused:
            return False
        if entry_id in self.bodies:
            self.repeats += 1
            return True
        self.bodies[entry_id] = body
        self.accepted[order_id].append(entry_id)
        return True


class World:
    """See the module. Mutable throughout."""

    def __init__(self, chance: random.Random, *, feed: bool = False) -> None:
        """`feed`: each entry is a snapshot of its whole order, and a refusal holds nothing."""
        self.chance = chance
        self.feed = feed
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, chance=chance)
        for topic in Topic:
            self.broker.create(topic, partitions=PARTITIONS)
        self.api = Api()
        self.crash_share = 0.0
        self.crashes = 0
        self.held_again = 0
        self.live: list[tuple[str, int]] = []
        self._entries: dict[str, int] = defaultdict(int)
        self._positions = dict.fromkeys(range(PARTITIONS), 0)
        self._holds_positions = dict.fromkeys(range(PARTITIONS), 0)
        self._holds = Holds(DictStore({}))
        for number in range(PARTITIONS):
            self._holds.open(number)
        self._heard_s = 0.0
        self._commands = 0
        self._inside = False
        self.broker.points.decide = self._at_point

    def partition_of(self, order_id: str) -> int:
        return int(order_id.rpartition("-")[2]) % PARTITIONS

    def order(self, order_id: str, entries: int = 1, *, occurred_ms: int = 1) -> None:
        """So many more entries of this order in the outbox."""
        partition = self.partition_of(order_id)
        for _ in range(entries):
            self._entries[order_id] += 1
            number = self._entries[order_id]
            headers: Headers = [
                ("entry-id", f"events/{order_id}/{number}".encode()),
                ("entry-type", self._type(number)),
                ("source", f"orders.placed/{partition}/{number}".encode()),
                ("occurred-at", b"%d" % occurred_ms),
                ("shop", b"s-1"),
            ]
            body = msgspec.json.encode({"order": order_id, "number": number})
            self.broker.append(Topic.OUTBOX, partition, order_id.encode(), body, headers)

    def _type(self, number: int) -> bytes:
        if self.feed:
            return b"order"
        return b"order_placed" if number == 1 else b"order_fulfillment_added"

    def entries_of(self, order_id: str) -> list[str]:
        return [f"events/{order_id}/{number + 1}" for number in range(self._entries[order_id])]

    def refuse(self, *order_ids: str) -> None:
        self.api.refused.update(order_ids)

    def accept_all(self) -> None:
        self.api.refused.clear()

    def refused(self, entries: Mapping[str, int], *, occurred_ms: int = 1) -> None:
        """So many entries of each order come and are refused; the API takes all from now on."""
        self.refuse(*entries)
        for order_id, number in entries.items():
            self.order(order_id, number, occurred_ms=occurred_ms)
        self.drain()
        self.accept_all()

    def drain(self) -> None:
        """Until nothing is left for the sender to do."""
        while any(self._behind(number) for number in range(PARTITIONS)):
            self._sender_step()
        for number in range(PARTITIONS):
            self._read_holds(number)

    def _behind(self, number: int) -> bool:
        log = self.broker.logs[TopicPartition(Topic.OUTBOX, number)]
        return self._positions[number] < log.last_stable_offset

    def _sender_step(self) -> None:
        for number in range(PARTITIONS):
            if self.chance.random() < 0.5:
                self._read_holds(number)
            log = self.broker.logs[TopicPartition(Topic.OUTBOX, number)]
            records, position = log.read(self._positions[number], self.chance.randint(1, 4))
            for record in records:
                self._send(record)
            self._positions[number] = position
            if self.chance.random() < 0.5:
                where = TopicPartition(Topic.OUTBOX, number)
                self.broker.group(SEND_GROUP).committed[where] = Committed(position, "")

    def _read_holds(self, number: int) -> None:
        self._heard_s = self.clock.monotonic_s()
        log = self.broker.logs[TopicPartition(Topic.HOLDS, number)]
        records, position = log.read(self._holds_positions[number], 100)
        for record in records:
            assert record.key is not None
            hold = None if record.value is None else msgspec.json.decode(record.value, type=Hold)
            self._holds.read(number, OrderId(record.key.decode()), hold)
        self._holds_positions[number] = position

    def _send(self, record: Record) -> None:
        headers = dict(record.headers)
        assert record.key is not None
        order_id, entry_id = record.key.decode(), (headers["entry-id"] or b"").decode()
        replay_id = (headers.get("replay-id") or b"").decode() or None
        hold = self._holds.of(record.partition, OrderId(order_id))
        if hold is not None and hold.stops(entry_id, replay_id):
            self._letter(record, "held", 0)
        elif self.api.post(order_id, entry_id, record.value or b""):
            entry_type = (headers["entry-type"] or b"").decode()
            receipt = {"order_id": order_id, "entry_id": entry_id, "entry_type": entry_type}
            value = msgspec.json.encode({**receipt, "delivered_at": self.clock.now_ms()})
            self.broker.append(Topic.DELIVERIES, record.partition, record.key, value)
        else:
            self._letter(record, "location_unsupported", 1)
            if self.feed:
                return
            refused = Hold(OrderId(order_id), EntryId(entry_id), "location_unsupported", self.clock.now_ms(), replay_id)
            self._holds.refused(record.partition, refused)
            self.broker.append(Topic.HOLDS, record.partition, record.key, encode_hold(refused))

    def _letter(self, record: Record, reason: str, count: int) -> None:
        now_ms = self.clock.now_ms()
        refusal = Refusal(
            stage=Stage.SEND, reason=reason, message="", group=SEND_GROUP, failed_ms=now_ms, delivery_count=count
        )
        headers = letter_headers(record, refusal)
        where = TopicPartition(Topic.HAKUNA_DEAD_LETTERS, record.partition)
        self.broker.append(*where, record.key, record.value, headers, record.timestamp_ms)

    def _at_point(self, point: Point) -> BaseException | None:
        """Between any two calls of the command: the sender works, a shop writes, the command dies."""
        if self._inside:
            return None
        self._inside = True
        if self.chance.random() < 0.7:
            self._sender_step()
        if self.clock.monotonic_s() - self._heard_s > HEARS_S:
            for number in range(PARTITIONS):
                self._read_holds(number)
        if self.live and self.chance.random() < 0.1:
            order_id, entries = self.live.pop()
            self.order(order_id, entries)
        self._inside = False
        if self.chance.random() < self.crash_share and not point.call.endswith(".abort"):
            self.crashes += 1
            return Crash(f"at {point}")
        return None

    def replay(self, selection: Selection = EVERYTHING, content: Content = as_sent, **task: Any) -> Report | None:
        """One command. None where it died."""
        self._commands += 1
        client_id = f"command-{self._commands}"
        try:
            return self._command(client_id, selection, content, task)
        except Crash:
            self.broker.kill(client_id)
            return None

    def replayed(self, *args: Any, **task: Any) -> Report:
        """One command, which nothing kills."""
        report = self.replay(*args, **task)
        assert report is not None
        return report

    def replay_until_done(self, **task: Any) -> Report:
        while True:
            report = self.replay(**task)
            if report is not None and report.ending == "done":
                return report

    def _command(self, client_id: str, selection: Selection, content: Content, task: dict[str, Any]) -> Report:
        broker = self.broker

        def wait(seconds: float, why: str) -> None:
            self.clock.advance(seconds)
            broker.overdue()

        def join() -> FakeConsumer:
            return FakeConsumer(broker, group=PLACE, client_id=client_id)

        exclusive = Exclusive(broker, PLACE, Topic.RESOLUTIONS, client_id, self.clock, self.chance, join)
        consumer = exclusive.take(wait)
        assert isinstance(consumer, FakeConsumer)
        transaction = FakeTransaction(broker, transactional_id=PLACE, consumer=consumer)
        reading = reading_of(broker, client_id)
        ledger = Ledger(transaction, reading, Topic.RESOLUTIONS, wait)
        ledger.open()
        clients = Clients(
            reading,
            FakeReader(broker, client_id=client_id),
            Sources(reading_of(broker, client_id)),
            ledger,
            FakeBarrier(broker, consumer),
            exclusive.keep,
        )
        campaign = Campaign(self._task(selection, task), clients, content)
        try:
            campaign.begin()
            report = campaign.execute(lambda _progress: None, lambda: False)
        except ProcessorError:
            exclusive.leave()
            raise
        finally:
            campaign.close()
        self.held_again += report.held_again_orders
        transaction.close()
        exclusive.leave()
        return report

    def asked(self) -> tuple[Desk, Clients]:
        """The desk of a command that only looks, and its clients."""
        reading = reading_of(self.broker, "looks")
        field = self._task(EVERYTHING, {}).field
        desk = SimpleNamespace(offsets=reading.offsets, resolutions=Topic.RESOLUTIONS, field=lambda _topic: field)
        return cast("Desk", desk), cast("Clients", SimpleNamespace(reading=reading))

    def _task(self, selection: Selection, more: dict[str, Any]) -> Task:
        numbers: dict[str, Any] = {"canary": 3, "share_max": 1.0, "rate_s": 1_000.0, "replays_max": 100}
        defaults = {"given": "replay", "by": "a test", "tells": Topic.DELIVERIES, "groups": {Topic.OUTBOX: SEND_GROUP}}
        field = Field(
            letters=Topic.HAKUNA_DEAD_LETTERS,
            resolutions=Topic.RESOLUTIONS,
            holds=Topic.HOLDS,
            deliveries=Topic.DELIVERIES,
            changelog=Topic.CHANGELOG,
            outbox=Topic.OUTBOX,
            route=Route.OUTBOX,
            ranks={topic: rank for rank, topic in enumerate(ORDER_TOPICS)},
        )
        return Task(field=field, selection=selection, **{**numbers, **defaults, **more})

    def held(self) -> set[str]:
        """The orders that the topic of holds holds."""
        found: dict[str, bool] = {}
        for record in self.broker.records(Topic.HOLDS):
            assert record.key is not None
            found[record.key.decode()] = record.value is not None
        return {order_id for order_id, is_held in found.items() if is_held}

    def letters(self) -> list[Record]:
        return self.broker.records(Topic.HAKUNA_DEAD_LETTERS)
