"""A small world for the transform loop: a broker, a shop, workers that come, die and hang, and what must hold.

    World(seed)  ─► records of a shop, written at once (or while it runs)
       .suffer() ─► workers turn in any order; at any call of any client something may happen: the process dies, the
                    call fails with or without effect, the group moves on, the clock jumps, others take turns
       .operate() ► an operator deletes the group's offsets, makes a topic again, lets retention overtake the group, or
                    gives topics more partitions (`growth.py`)
       .settle() ─► no more strikes: all must come to its end within a bound (a stall is a failure)
    check(world) ─► loss, duplication, order per order ID, offsets, state = changelog (`transform_checks.py`)

The loop is the real one with its real merge, state, batch and predecessors; the model is the pure rules applied to the
records in the order of their timestamps. Decoding is JSON here: Avro has its own tests, and costs most of the time.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from processor.config import Role
from processor.edges.kafka.admin import Member
from processor.edges.kafka.predecessors import KafkaPredecessors
from processor.edges.kafka.topics import WatchedTopics
from processor.errors import BadRecord, BrokerOutage, Fatal, Problem, RegistryOutage, Unusable
from processor.hakuna import Api, Orders
from processor.interfaces import Committed
from processor.records import OrderEvent, Reason, Record, Stage, TopicPartition
from processor.sandbox.shop.history import Step, Truncated
from processor.sandbox.shop.orders import Shop, shop
from processor.sources import merge
from processor.sources.placements import by_murmur2
from processor.sources.standing import SourceLag, TransactionOutcome, Written
from processor.sources.starts import Start
from processor.topics import CONFIG, ORDER_TOPICS, Topic, problems
from processor.transform.batch import Plan
from processor.transform.book import Book, Here, problems_at_start
from processor.transform.plan import StateSize, TransformEdges, TransformPlan
from processor.transform.transformer import Transformer
from processor.transform.transitions import Rules
from tests.chaos.growth import grow
from tests.chaos.strikes import Strikes, left, move
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import Crash, Point
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction
from tests.fakes.stores import Disk
from tests.fakes.topology import FakeAdmin, newest_book, states
from tests.support.order_events import order_event

GROUP: Final = "transform"
SOURCES: Final = tuple(topic.value for topic in ORDER_TOPICS)
OUTPUTS: Final = (Topic.CHANGELOG.value, Topic.OUTBOX.value, Topic.ORDER_DEAD_LETTERS.value)
DAY_S: Final = 86_400.0
TURNS_MAX: Final = 4_000
"""Turns in which everything must be done once the strikes have ended: some minutes on the clock. More is a stall."""

RULES: Final = Rules(api=Api.EVENTS, orders=Orders.ALL, fulfil_protection=True, park_for_ms=int(DAY_S * 1000))


class NoMeter:
    """Nobody measures a simulation."""

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None: ...
    def written(self, written: Written) -> None: ...
    def lag(self, lags: list[SourceLag]) -> None: ...
    def state(self, sizes: list[StateSize]) -> None: ...
    def misplaced(self, records: Mapping[str, int]) -> None: ...
    def flooded(self) -> None: ...
    def started(self, topic: str, partition: int, start: Start) -> None: ...
    def throttled(self, seconds: float) -> None: ...


class NoTopology:
    def check(self) -> None: ...

    def kept_s(self, topic: str) -> float | None:
        return None


class Groups:
    """The group as an admin client sees it."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        self._answering()
        return self._broker.committed(group, partitions)

    def members(self, group: str) -> Sequence[Member]:
        self._answering()
        return self._broker.members(group)

    def _answering(self) -> None:
        if self._broker.down:
            raise BrokerOutage("no broker answers")


@dataclass
class Worker:
    """One life of a worker process. `name` outlives it with its disk."""

    name: str
    client_id: str
    disk: Disk
    transformer: Transformer


@dataclass(frozen=True)
class Traits:
    """What kind of world a seed makes."""

    partitions: int
    orders: int
    eager: bool
    live: bool
    workers: int
    strike_share: float
    batch_records_max: int
    operated: bool
    """Whether an operator comes; then a part of the events comes after that."""
    predecessors_named: bool
    """Whether a dead worker's name is known to its successor; one that never committed anything leaves none."""


class World:
    """See the module. Mutable, all of it: this is the outside."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"transform/{seed}")
        chance = self.chance
        self.traits = Traits(
            partitions=chance.choice((1, 2, 3)),
            orders=chance.choice((5, 15, 30)),
            eager=chance.random() < 0.5,
            live=(live := chance.random() < 0.25),
            operated=not live and chance.random() < 0.5,
            workers=chance.choice((1, 2, 2, 3)),
            strike_share=chance.choice((0.0, 0.003, 0.01, 0.02)),
            batch_records_max=chance.choice((1, 7, 50, 5000)),
            predecessors_named=chance.random() < 0.6,
        )
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, chance=random.Random(f"broker/{seed}"))
        self.partitions = self.traits.partitions
        for topic in (*SOURCES, *OUTPUTS):
            self.broker.create(topic, partitions=self.partitions, config=CONFIG[Topic(topic)])
        self.refused: list[str] = []
        """What workers have ended with because nothing may be taken, at work or at their start."""
        self.outbox_then: dict[int, int] = {}
        """The ends of the outbox when orders went to other partitions: what stood before them came first."""
        self.complaint = ""
        """The topic that somebody must mend while all goes on."""
        self.registry_down = False
        self.workers: list[Worker] = []
        self._lives = 0
        self._nested = False
        self._strikes = Strikes(self.chance, self.broker, self.traits.strike_share, self._meanwhile)
        self._running: Worker | None = None
        self._last_ms = 0
        self._steps = self._shop()
        self.positions: dict[tuple[str, int, int], Step] = {}
        share = 0.3 if self.traits.operated else 0.0
        self._late = [self._steps.pop() for _ in range(round(share * len(self._steps)))][::-1]
        if not self.traits.live:
            self._write(len(self._steps))
        self._down_until_s = 0.0
        self.before: list[Record] = []
        """What stood in the sources when an operator came, all of it taken."""
        for _ in range(self.traits.workers):
            self.start(Disk())
        self.strike()

    # ---- the shop ----------------------------------------------------------------------------------------------------

    def _shop(self, later_ms: int = 0) -> list[Step]:
        plan = Shop(
            orders=self.traits.orders,
            rate=20,
            bad_share=0.0 if self.traits.live else 0.4,
            seed=self.chance.randrange(10**6),
            start_ms=max(self.clock.now_ms() - 600_000 + later_ms, self._last_ms),
        )
        steps = list(shop(plan))
        if self.traits.live:
            # Of these the outcome depends on no order between topics: what comes too early is parked.
            steps = [step for step in steps if step.topic in (Topic.PLACED, Topic.FULFILLED) and step.value is not None]
        again = [step for step in steps if self.chance.random() < 0.05 and isinstance(step.value, dict)]
        self._last_ms = steps[-1].timestamp_ms + 1000
        return steps + [step._replace(timestamp_ms=self._last_ms) for step in again]

    def _write(self, count: int) -> None:
        for _ in range(min(count, len(self._steps))):
            step = self._steps.pop(0)
            partition = by_murmur2(step.key, len(self.broker.partitions(step.topic.value)))
            offset = self.broker.append(
                step.topic.value, partition, step.key, _value(step), [("shop", b"1")], step.timestamp_ms
            )
            self.positions[step.topic.value, partition, offset] = step

    # ---- workers -----------------------------------------------------------------------------------------------------

    def start(self, disk: Disk, name: str | None = None) -> None:
        wrong = problems_of(self.broker)
        if wrong:
            self.refused.append(str(Unusable(wrong)))
            return
        self._lives += 1
        name = name or f"{self.chance.getrandbits(64):016x}"
        client_id = f"{self._lives}-{name}"
        broker, traits = self.broker, self.traits
        consumer = FakeConsumer(broker, group=GROUP, client_id=client_id, eager=traits.eager)
        disk.touched = lambda how: self._struck(client_id, f"store.{how}")
        plan = plan_of(self, name)
        edges = TransformEdges(
            consumer=consumer,
            reader=FakeReader(broker, client_id=client_id),
            transaction=FakeTransaction(broker, transactional_id=f"{GROUP}.{name}", consumer=consumer),
            predecessors=KafkaPredecessors(Groups(broker), GROUP, name, lambda dead: self._end(dead)),
            topology=WatchedTopics(
                FakeAdmin(broker),  # type: ignore[arg-type]  # what it asks of a `KafkaAdmin`
                states(broker, (*SOURCES, *OUTPUTS)),
                self.clock,
                sources=SOURCES,
                changelog=Topic.CHANGELOG.value,
            ),
            stores=disk,
            clock=self.clock,
            meter=NoMeter(),
            newest_book=lambda number: newest_book(broker, Topic.CHANGELOG.value, number),
        )
        worker = Worker(name, client_id, disk, Transformer(plan, edges))
        worker.transformer.start()
        self.workers.append(worker)

    def _end(self, dead: str) -> None:
        if self.traits.predecessors_named:
            self.broker.abort_left_behind(f"{GROUP}.{dead}")

    def decode(self, record: Record) -> OrderEvent:
        if self.registry_down and self.chance.random() < 0.5:
            raise RegistryOutage("the registry is down")
        return decoded(record)

    def turn(self, worker: Worker) -> None:
        before, self._running = self._running, worker
        try:
            worker.transformer.turn()
            check_memory(worker)
        except (Crash, Fatal):
            self._died(worker)
        except Unusable as unusable:
            self.refused.append(str(unusable))
            self.workers.remove(worker)
            worker.transformer.stop()
        finally:
            self._running = before

    def _died(self, worker: Worker) -> None:
        self.broker.kill(worker.client_id, noticed=self.chance.random() < 0.3)
        if worker in self.workers:
            self.workers.remove(worker)
        worker.disk.touched = lambda _how: None
        fate = self.chance.random()
        if fate < 0.4:
            self.start(worker.disk, worker.name)
        elif fate < 0.6:
            self.start(Disk())
        elif fate < 0.75:
            foreign = Disk()
            if self.workers:
                foreign.partitions = {n: dict(c) for n, c in self.chance.choice(self.workers).disk.partitions.items()}
            self.start(foreign)
        elif fate < 0.9 or not self.workers:
            worker.disk.broken = set(range(self.partitions))
            self.start(worker.disk, worker.name)

    def _stop(self, worker: Worker) -> None:
        """An orderly end, as on SIGTERM, and a start on the same disk."""
        self.workers.remove(worker)
        try:
            worker.transformer.stop()
        except Crash:
            self.broker.kill(worker.client_id)
        self.start(worker.disk, worker.name)

    def strike(self) -> None:
        """From now on anything may happen, until `settle`."""
        self.broker.points.decide = self._strikes

    # ---- what happens --------------------------------------------------------------------------------------------

    def suffer(self, turns: int) -> None:
        for _ in range(turns):
            self._weather()
            if self.workers:
                self.turn(self.chance.choice(self.workers))
            else:
                self.start(Disk())

    def _weather(self) -> None:
        chance, broker = self.chance, self.broker
        if self.traits.live and chance.random() < 0.2:
            self._write(chance.randint(1, 10))
        broker.down = self.clock.monotonic_s() < self._down_until_s
        if not self._strikes.weather():
            return
        match chance.randrange(9):
            case 0:
                self._down_until_s = self.clock.monotonic_s() + chance.choice((0.2, 3.0, 12.0))
            case 1:
                self.registry_down = not self.registry_down
            case 2 if self.workers:
                self._died(chance.choice(self.workers))
            case 3 if self.workers and not broker.down:
                self._stop(chance.choice(self.workers))
            case 4:
                self._move()
            case 5:
                broker.compact(Topic.CHANGELOG.value)
            case 6:
                self.clock.advance(chance.choice((1.0, 9.0, 30.0, 70.0)))
            case 7:
                self.clock.jump(chance.choice((-1800.0, -5.0, 5.0, 1800.0)))
            case 8 if len(self.workers) < 4:
                self.start(Disk())

    def _move(self) -> None:
        """The group moves, topic by topic as it comes."""

        def owners(members: Sequence[str]) -> Mapping[TopicPartition, str]:
            found: dict[TopicPartition, str] = {}
            whole = self.chance.random() < 0.5
            for number in range(self.partitions):
                owner = self.chance.choice(members)
                for topic in SOURCES:
                    found[TopicPartition(topic, number)] = owner if whole else self.chance.choice(members)
            return found

        move(self.chance, self.broker, GROUP, owners)

    def _struck(self, client_id: str, call: str) -> None:
        error = self.broker.points.struck(client_id, call, False)
        if error is not None:
            raise error

    def _meanwhile(self, point: Point) -> None:
        """While one worker stands in this call: the others, the group and the clock go on."""
        chance, broker = self.chance, self.broker
        if self._nested or not point.call.startswith(("transaction.", "consumer.committed", "store.")):
            return
        me = self._running
        self._nested = True
        try:
            match chance.randrange(4):
                case 0:
                    self.clock.advance(chance.choice((5.0, 11.0, 20.0)))
                case 1:
                    broker.expel(point.client_id)
                case 2:
                    self._move()
                case 3:
                    broker.expel(point.client_id)
                    others = [worker for worker in self.workers if worker is not me]
                    for _ in range(12):
                        if others and not broker.down:
                            self._turn_untouched(chance.choice(others))
        finally:
            self._nested = False

    def _turn_untouched(self, worker: Worker) -> None:
        decide, self.broker.points.decide = self.broker.points.decide, None
        try:
            self.turn(worker)
        finally:
            self.broker.points.decide = decide

    def operate(self) -> None:
        """What operators and brokers do to topics and groups, once all that was written is taken; the shop goes on."""
        what = self.chance.choice(("forget", "make again", "overtake", "grow", "grow"))
        self.before = [record for topic in SOURCES for record in self.broker.records(topic)]
        topic = self.chance.choice(SOURCES)
        if what == "make again" and self.chance.random() < 0.5:
            self.broker.make_again(topic)
            for turn in range(40 * len(self.workers)):
                self.turn(self.workers[turn % len(self.workers)])
            what = "made again at work"
        if what == "grow":
            grow(self)
        # What is written to workers at work is taken in the order in which it comes: these begin with a backlog.
        disks = [(worker.disk, worker.name) for worker in self.workers]
        for worker in self.workers:
            worker.transformer.stop()
        self.workers.clear()
        if what == "forget":
            self.broker.forget(GROUP)
        elif what == "make again":
            self.broker.make_again(topic)
        ends = dict(self.ends())
        self._steps = self._late + self._shop(later_ms=660_000)
        self._write(len(self._steps))
        if what == "overtake":
            where = TopicPartition(topic, self.chance.randrange(self.partitions))
            cut = self.chance.randint(ends[where], self.broker.logs[where].high_watermark)
            self.broker.delete_before(*where, cut)
        for disk, name in disks:
            self.start(disk, name)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def settle(self, *, parked: bool) -> None:
        """Everything answers again. Raises AssertionError where not all is done within TURNS_MAX turns. `parked`:
        events may still wait for their order."""
        self.broker.points.spare()
        self._strikes.burst_until_s = 0.0
        self.broker.down, self._down_until_s = False, 0.0
        self.registry_down = False
        self._write(len(self._steps))
        if not self.workers:
            self.start(Disk())
        self.broker.rebalance(GROUP)
        for turn in range(TURNS_MAX):
            self.turn(self.workers[turn % len(self.workers)])
            if turn % 20 == 0 and self._done(parked):
                return
        raise AssertionError(f"stalled: {self._left()}; " + "; ".join(str(w.transformer.status) for w in self.workers))

    def let_parked_events_expire(self) -> None:
        self.clock.advance(2 * DAY_S)

    def _done(self, parked: bool) -> bool:
        reasons = [reason for worker in self.workers for reason in worker.transformer.unready()]
        if any(not self.complaint or self.complaint not in reason for reason in reasons) or self._left():
            return False
        running = sorted(number for worker in self.workers for number in worker.transformer._partitions.running)
        return running == list(range(self.partitions)) and (parked or not self._parked())

    def _parked(self) -> int:
        held = [held for worker in self.workers for held in worker.transformer._partitions.held.values()]
        return sum(one.state.parked_summary(1)[0] for one in held)

    def _left(self) -> list[TopicPartition]:
        return left(self.broker, GROUP, SOURCES)

    def ends(self) -> Mapping[TopicPartition, int]:
        return self.broker.ends([where for topic in SOURCES for where in self.broker.partitions(topic)])


def check_memory(worker: Worker) -> None:
    """Nothing grows with the backlog: buffers are bounded, and nothing is staged between two turns."""
    transformer = worker.transformer
    for number in transformer._merge.numbers:
        for one in transformer._merge.inputs(number):
            assert len(one.records) <= merge.BUFFER_RECORDS_MAX + transformer._plan.batch_records_max
            assert one.bytes == sum([len(record.value or b"") for record in one.records]), "bytes that nobody holds"
    for held in transformer._partitions.held.values():
        assert not held.state._staged, "staged beyond its transaction"


# ---- a start ---------------------------------------------------------------------------------------------------------


def plan_of(world: World, name: str) -> TransformPlan:
    """`name` is the worker's."""
    return TransformPlan(
        topics=SOURCES,
        partitions=world.partitions,
        changelog=Topic.CHANGELOG.value,
        here=here_of(world.broker),
        changelog_tombstones_ms=int(DAY_S * 1000),
        worker=name,
        batch_records_max=world.traits.batch_records_max,
        merge_wait_s=1e6,  # the wait has its own test; here what is taken must not depend on it
        retention_ms=int(400 * DAY_S * 1000),
        dead_letter_share_max=1.0,
        decide=Plan(
            group=GROUP,
            outbox=Topic.OUTBOX.value,
            dead_letters=Topic.ORDER_DEAD_LETTERS.value,
            rules=RULES,
            decoders=dict.fromkeys(SOURCES, world.decode),
            entry_bytes_max=1 << 20,
            state_bytes_max=1 << 20,
            letter_bytes_max=1 << 20,
        ),
    )


def here_of(broker: FakeBroker) -> Here:
    return Here("cluster", "changelog", len(broker.partitions(SOURCES[0])))


def books_of(broker: FakeBroker) -> dict[int, Book]:
    books = {one.partition: newest_book(broker, one.topic, one.partition) for one in _changelog(broker)}
    return {number: book for number, book in books.items() if book is not None}


def problems_of(broker: FakeBroker) -> list[Problem]:
    """What keeps a worker from starting, as the role itself finds out."""
    found = problems(Role.TRANSFORM, states(broker, (*SOURCES, *OUTPUTS)), "")
    beginnings = {one.partition: offset for one, offset in broker.beginnings(_changelog(broker)).items()}
    ends = {one.partition: offset for one, offset in broker.ends(_changelog(broker)).items()}
    changelog = Topic.CHANGELOG.value
    here, books = here_of(broker), books_of(broker)
    return found or problems_at_start(changelog, here, books, beginnings, ends, taken=frozenset())


def _changelog(broker: FakeBroker) -> Sequence[TopicPartition]:
    return broker.partitions(Topic.CHANGELOG.value)


# ---- small things ----------------------------------------------------------------------------------------------------


def decoded(record: Record) -> OrderEvent:
    try:
        fields: Mapping[str, Any] = orjson.loads(record.value or b"")
        return order_event(Topic(record.topic), fields)
    except (orjson.JSONDecodeError, KeyError, TypeError) as broken:
        raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no event") from broken


def _value(step: Step) -> bytes | None:
    match step.value:
        case None | bytes():
            return step.value
        case Truncated(event):
            return orjson.dumps(event)[:-3]
        case _:
            return orjson.dumps(step.value)
