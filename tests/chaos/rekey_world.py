"""A world for the rekey loop: shops of any partitioner, workers that die and move, a broker that does not answer.

Everything is seeded. Each source record carries a header of its own, so what became of it can be told from any other.
What must hold is checked from outside alone: what a read_committed reader sees in the topics, and the group's offsets.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from processor.edges.kafka.predecessors import KafkaPredecessors
from processor.errors import BadRecord, BrokerOutage, Fatal, RegistryOutage
from processor.letters.letter import letter_head
from processor.records import Headers, Reason, Record, Stage, TopicPartition
from processor.rekey.beginnings import Note
from processor.rekey.decide import Plan, Source
from processor.rekey.events import mark, place, unpacked
from processor.rekey.rekeyer import RekeyEdges, Rekeyer, RekeyPlan
from processor.sources import merge
from processor.sources.keys import read_key
from processor.sources.placements import by_murmur2
from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start
from processor.topics import ORDER_TOPICS, REKEYED, Topic
from tests.chaos.strikes import Strikes, left, move
from tests.chaos.transform_world import Groups, NoTopology
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import Crash, Point
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction

GROUP: Final = "hakuna-processor.rekey"
SOURCES: Final = tuple(topic.value for topic in ORDER_TOPICS)
EVENTS: Final = Topic.REKEYED_EVENTS.value
LETTERS: Final = Topic.ORDER_DEAD_LETTERS.value
TARGETS: Final = {source.value: target.value for source, target in REKEYED.items()}
NUMBER: Final = "number"
"""The header that tells a source record from all others."""
TURNS_MAX: Final = 4_000
"""Turns in which everything must be done once the strikes have ended. More is a stall."""


class NoMeter:
    """Nobody measures a simulation."""

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None: ...
    def written(self, written: Written) -> None: ...
    def lag(self, lags: list[SourceLag]) -> None: ...
    def flooded(self) -> None: ...
    def started(self, topic: str, partition: int, start: Start) -> None: ...


class FakeOthers:
    """What the group has left of others' partitions, of a `FakeBroker`."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def left(self, mine: Collection[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        if self._broker.down:
            raise BrokerOutage("no broker answers")
        others = [where for topic in SOURCES for where in self._broker.partitions(topic) if where not in mine]
        committed = self._broker.committed(GROUP, others)
        left = {
            where: next(
                (one.timestamp_ms for one in self._broker.records(*where) if one.offset >= (known.next_offset or 0)),
                None,
            )
            for where, known in committed.items()
        }
        return {where: at_ms for where, at_ms in left.items() if at_ms is not None} if others else None


@dataclass
class Worker:
    """One life of a worker process. It leaves nothing behind."""

    client_id: str
    rekeyer: Rekeyer


@dataclass(frozen=True)
class Traits:
    """What kind of world a seed makes; by itself a quiet one."""

    partitions: int = 1
    counts: tuple[int, ...] = (1,) * len(SOURCES)
    records: int = 0
    eager: bool = False
    live: bool = False
    workers: int = 1
    strike_share: float = 0.0
    batch_records_max: int = 100
    predecessors_named: bool = True


def traits_of(chance: random.Random) -> Traits:
    return Traits(
        partitions=chance.choice((1, 2, 3)),
        counts=tuple(chance.choice((1, 2, 3, 5)) for _ in SOURCES),
        records=chance.choice((30, 80, 160)),
        eager=chance.random() < 0.3,
        live=chance.random() < 0.4,
        workers=chance.choice((1, 2, 2, 3)),
        strike_share=chance.choice((0.0, 0.003, 0.01, 0.02)),
        batch_records_max=chance.choice((1, 7, 50, 5000)),
        predecessors_named=chance.random() < 0.6,
    )


class World:
    """See the module. Mutable, all of it: this is the outside."""

    def __init__(self, seed: int, traits: Traits | None = None) -> None:
        self.chance = random.Random(f"rekey/{seed}")
        self.traits = traits or traits_of(self.chance)
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, chance=random.Random(f"rekey broker/{seed}"))
        for topic, count in zip(SOURCES, self.traits.counts, strict=True):
            self.broker.create(topic, partitions=count)
        self.broker.create(*TARGETS.values(), EVENTS, LETTERS, partitions=self.traits.partitions)
        self.registry_down = False
        self.workers: list[Worker] = []
        self._lives = 0
        self._numbers = 0
        self._down_until_s = 0.0
        self._strikes = Strikes(self.chance, self.broker, self.traits.strike_share, self._meanwhile)
        self._nested = False
        self._shop = self._records()
        if not self.traits.live:
            self.write(len(self._shop))
        for _ in range(self.traits.workers):
            self.start()

    # ---- the shop ----------------------------------------------------------------------------------------------------

    def _records(self) -> list[tuple[str, bytes | None, bytes | None]]:
        """Topic, key and value: events under keys of any kind, erasures, bytes that nobody can read, and repeats."""
        chance = self.chance
        made: list[tuple[str, bytes | None, bytes | None]] = []
        for number in range(self.traits.records):
            order_id = f"ord-{chance.randrange(12)}"
            topic = chance.choice(SOURCES)
            fate = chance.random()
            if fate < 0.05:
                made.append((topic, _key(chance, order_id), b"\x00 no event"))
            elif fate < 0.15:
                made.append((SOURCES[0], _key(chance, order_id), None))
            elif fate < 0.25 and made:
                again = chance.choice(made)
                made.append((again[0], _key(chance, order_id), again[2]) if again[2] is not None else again)
            else:
                made.append((topic, _key(chance, order_id), orjson.dumps({"order_id": order_id, "n": number})))
        return made

    def write(self, count: int) -> None:
        for _ in range(min(count, len(self._shop))):
            topic, key, value = self._shop.pop(0)
            partition = self.chance.randrange(len(self.broker.partitions(topic)))
            self._numbers += 1
            headers: Headers = [(NUMBER, str(self._numbers).encode())]
            at_ms = self.clock.now_ms() - self.chance.randrange(600_000)
            self.broker.append(topic, partition, key, value, headers, at_ms)

    # ---- workers -----------------------------------------------------------------------------------------------------

    def start(self) -> Worker:
        self._lives += 1
        name = f"{self.chance.getrandbits(64):016x}"
        client_id = f"{self._lives}-{name}"
        broker, traits = self.broker, self.traits
        consumer = FakeConsumer(broker, group=GROUP, client_id=client_id, eager=traits.eager)
        plan = RekeyPlan(
            topics=SOURCES,
            events=EVENTS,
            events_partitions=traits.partitions,
            worker=name,
            batch_records_max=traits.batch_records_max,
            merge_wait_s=1e6,  # the wait has its own test; here what is taken must not depend on it
            dead_letter_share_max=1.0,
            here={topic: Note(broker.cluster_id, broker.topic_ids[topic]) for topic in SOURCES},
            decide=Plan(
                group=GROUP,
                sources={topic: Source(rank, TARGETS[topic], self._read) for rank, topic in enumerate(SOURCES)},
                partitions=traits.partitions,
                dead_letters=LETTERS,
                record_bytes_max=1 << 20,
                letter_bytes_max=1 << 20,
            ),
        )
        edges = RekeyEdges(
            consumer=consumer,
            reader=FakeReader(broker, client_id=client_id),
            transaction=FakeTransaction(broker, transactional_id=f"{GROUP}.{name}", consumer=consumer),
            predecessors=KafkaPredecessors(Groups(broker), GROUP, name, self._end),
            others=FakeOthers(broker),
            topology=NoTopology(),
            clock=self.clock,
            meter=NoMeter(),
        )
        worker = Worker(client_id, Rekeyer(plan, edges))
        worker.rekeyer.start()
        self.workers.append(worker)
        return worker

    def _end(self, dead: str) -> None:
        if self.traits.predecessors_named:
            self.broker.abort_left_behind(f"{GROUP}.{dead}")

    def _read(self, record: Record) -> tuple[str, bytes]:
        if self.registry_down and self.chance.random() < 0.5:
            raise RegistryOutage("the registry is down")
        return read(record)

    def turn(self, worker: Worker) -> None:
        try:
            worker.rekeyer.turn()
            check_memory(worker)
        except (Crash, Fatal):
            self._died(worker)

    def _died(self, worker: Worker) -> None:
        self.broker.kill(worker.client_id, noticed=self.chance.random() < 0.3)
        if worker in self.workers:
            self.workers.remove(worker)
        if self.chance.random() < 0.7 or not self.workers:
            self.start()

    def strike(self) -> None:
        """From now on anything may happen, until `settle`."""
        self.broker.points.decide = self._strikes

    # ---- what happens ------------------------------------------------------------------------------------------------

    def suffer(self, turns: int) -> None:
        for _ in range(turns):
            self._weather()
            if not self.workers:
                self.start()
            self.turn(self.chance.choice(self.workers))

    def _weather(self) -> None:
        chance, broker = self.chance, self.broker
        if self.traits.live and chance.random() < 0.2:
            self.write(chance.randint(1, 10))
        broker.down = self.clock.monotonic_s() < self._down_until_s
        if not self._strikes.weather():
            return
        match chance.randrange(8):
            case 0:
                self._down_until_s = self.clock.monotonic_s() + chance.choice((0.2, 3.0, 12.0))
            case 1:
                self.registry_down = not self.registry_down
            case 2 if self.workers:
                self._died(chance.choice(self.workers))
            case 3 if self.workers and not broker.down:
                worker = chance.choice(self.workers)
                self.workers.remove(worker)
                try:
                    worker.rekeyer.stop()
                except Crash:
                    broker.kill(worker.client_id)
            case 4:
                self._move()
            case 5:
                self.clock.advance(chance.choice((1.0, 9.0, 30.0, 70.0)))
            case 6:
                self.clock.jump(chance.choice((-1800.0, -5.0, 5.0, 1800.0)))
            case 7 if len(self.workers) < 4:
                self.start()

    def _move(self) -> None:
        """The group moves, partition by partition."""

        def owners(members: Sequence[str]) -> Mapping[TopicPartition, str]:
            partitions = [where for topic in SOURCES for where in self.broker.partitions(topic)]
            return {where: self.chance.choice(members) for where in partitions}

        move(self.chance, self.broker, GROUP, owners)

    def _meanwhile(self, point: Point) -> None:
        """While one worker stands in this call: the others, the group and the clock go on."""
        if self._nested or not point.call.startswith(("transaction.", "consumer.committed")):
            return
        self._nested = True
        try:
            match self.chance.randrange(3):
                case 0:
                    self.clock.advance(self.chance.choice((5.0, 11.0, 20.0)))
                case 1:
                    self._move()
                case 2:
                    self.broker.expel(point.client_id)
                    others = [worker for worker in self.workers if worker.client_id != point.client_id]
                    decide, self.broker.points.decide = self.broker.points.decide, None
                    for _ in range(12):
                        if others and not self.broker.down:
                            self.turn(self.chance.choice(others))
                    self.broker.points.decide = decide
        finally:
            self._nested = False

    # ---- the end -----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Everything answers again. Raises AssertionError where not all is done within TURNS_MAX turns."""
        self.broker.points.spare()
        self._strikes.burst_until_s = 0.0
        self.broker.down, self._down_until_s = False, 0.0
        self.registry_down = False
        self.write(len(self._shop))
        if not self.workers:
            self.start()
        self.broker.rebalance(GROUP)
        for turn in range(TURNS_MAX):
            self.turn(self.workers[turn % len(self.workers)])
            if turn % 20 == 0 and not self._left() and not any(worker.rekeyer.unready() for worker in self.workers):
                return
        raise AssertionError(f"stalled: {self._left()}; " + "; ".join(str(one.rekeyer.status) for one in self.workers))

    def _left(self) -> list[TopicPartition]:
        return left(self.broker, GROUP, SOURCES)

    # ---- what must hold ----------------------------------------------------------------------------------------------

    def check(self, *, repeats: bool = False) -> None:
        """`repeats`: none may have slipped through."""
        self.clock.advance(30.0)  # what a dead worker left open, and nobody could name, hides nothing any more
        self.broker.overdue()
        sources = [record for topic in SOURCES for record in self.broker.records(topic)]
        written = [record for topic in TARGETS.values() for record in self.broker.records(topic)]
        check_each_has_its_one_effect(self, sources, written, repeats=repeats)
        check_order_per_source(sources, written)
        check_events(self, sources, written)


def check_each_has_its_one_effect(
    world: World, sources: Sequence[Record], written: Sequence[Record], *, repeats: bool
) -> None:
    """Each source record is written once, unchanged, where it belongs; or is a letter; or repeats one that is."""
    letters = world.broker.records(LETTERS)
    counts = Counter(_number(record) for record in (*written, *letters))
    assert all(count == 1 for count in counts.values()), f"twice: {[n for n, count in counts.items() if count > 1]}"
    by_number = {_number(record): record for record in written}
    refused = {_number(record): record for record in letters}
    alike: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    for record in sources:
        number = _number(record)
        order_id = order_id_of(record)
        if record.value is None and order_id is None:
            letter = refused[number]
            head = letter_head(letter)
            assert head is not None
            assert (head.reason, head.origin) == (Reason.KEY_MISMATCH, record.position)
            assert (letter.key, letter.value, letter.timestamp_ms) == (record.key, None, record.timestamp_ms)
            continue
        if record.value is not None and order_id is not None:
            alike[record.topic, record.value].append(number)
            if number not in by_number:
                continue  # it must be a repeat: see below
        one = by_number[number]
        assert one.topic == TARGETS[record.topic]
        assert (one.value, one.headers, one.timestamp_ms) == (record.value, record.headers, record.timestamp_ms)
        assert one.key == (record.key if order_id is None else order_id.encode())
        if one.key:
            assert one.partition == by_murmur2(one.key, world.traits.partitions)
    for numbers in alike.values():
        times = sum(number in by_number for number in numbers)
        assert times == 1 if repeats else times >= 1, f"of {numbers} {times} are written"


def check_order_per_source(sources: Sequence[Record], written: Sequence[Record]) -> None:
    """What one source partition says of one order keeps its sequence."""
    place_of = {_number(record): record for record in sources}
    last: dict[tuple[str, int, bytes | None], int] = {}
    for record in sorted(written, key=lambda one: (one.topic, one.partition, one.offset)):
        source = place_of[_number(record)]
        at = (source.topic, source.partition, record.key)
        assert last.get(at, -1) < source.offset, f"{source.position} overtook"
        last[at] = source.offset


def check_events(world: World, sources: Sequence[Record], written: Sequence[Record]) -> None:
    """The topic of events tells of each event that is written, and how far each source partition was taken, and of
    nothing else."""
    told: Counter[int] = Counter()
    marks = {
        mark(SOURCES.index(topic), number, 0)[0]: TopicPartition(topic, number)
        for topic in SOURCES
        for topic, number in world.broker.partitions(topic)
    }
    taken: dict[TopicPartition, int] = {}
    for record in world.broker.records(EVENTS):
        for digest, at in unpacked(record.value).items():
            if digest in marks:
                source = marks[digest]
                next_offset = at - place(SOURCES.index(source.topic), source.partition, 0)
                taken[source] = max(next_offset, taken.get(source, 0))
            else:
                told[at] += 1
    committed = world.broker.committed(GROUP, list(marks.values()))
    assert taken == {source: one.next_offset for source, one in committed.items() if one.next_offset}
    place_of = {_number(record): record for record in sources}
    wanted = Counter(
        place(SOURCES.index(source.topic), source.partition, source.offset)
        for source in (place_of[_number(record)] for record in written)
        if source.value is not None and order_id_of(source) is not None
    )
    assert told == wanted


def check_memory(worker: Worker) -> None:
    """Nothing grows with the backlog."""
    held = worker.rekeyer._merge
    for one in held.inputs(0) if held.numbers else []:
        assert len(one.records) <= merge.BUFFER_RECORDS_MAX + worker.rekeyer._plan.batch_records_max


# ---- small things ----------------------------------------------------------------------------------------------------


def read(record: Record) -> tuple[str, bytes]:
    try:
        fields: Mapping[str, str] = orjson.loads(record.value or b"")
        return fields["order_id"], record.value or b""
    except (orjson.JSONDecodeError, KeyError, TypeError) as broken:
        raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no event") from broken


def order_id_of(record: Record) -> str | None:
    if record.value is None:
        key = read_key(record.key)
        return key.order_id if key.is_trusted else None
    try:
        return read(record)[0]
    except BadRecord:
        return None


def _key(chance: random.Random, order_id: str) -> bytes | None:
    plain = order_id.encode()
    framed = b"\x00\x00\x00\x00\x07" + bytes([2 * len(plain)]) + plain
    return chance.choice((plain, plain, framed, b'"' + plain + b'"', b"\xff\xfe\xfd", b"", None))


def _number(record: Record) -> int:
    return int(dict(record.headers)[NUMBER] or b"")
