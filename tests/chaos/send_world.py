"""The real send role on virtual time: workers over the fake broker and the scripted API, and what happens to them.

    world = World(plan)      one seed, one plan: how many workers, partitions, orders; what the API does; who is killed
    world.run()              until all is finished, or too much time has passed
    world.problems()         what the checkers found (tests/chaos/send_checks.py)

Each worker is the whole of it: `SendRole` turned by the simulation, `Sender` on the loop. Time passes in the
loop, between turns, and while a turn waits for the loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from processor.config import Quota, Role
from processor.edges.http.request import RequestTemplate
from processor.errors import Fatal
from processor.hakuna.destination import events_api, order_feed
from processor.letters.holds import Holds
from processor.records import EntryType, Headers, OutboxEntry, Record, TopicPartition
from processor.send.event_loop.endpoint import Endpoint
from processor.send.event_loop.sender import Sender
from processor.send.handover import Handover
from processor.send.kafka_thread.assignments import Phase
from processor.send.kafka_thread.intake import OutboxIntake
from processor.send.kafka_thread.role import SendEdges, SendRole
from processor.send.kafka_thread.takeover import HoldsPast
from processor.send.meter import Endings, Gauges, PartitionLag, Requests
from processor.send.settings import SenderSettings, SendSettings, SendTopics
from processor.topics import CONFIG, Topic, problems
from tests.chaos.send_api import Script, ScriptedApi
from tests.chaos.virtual_loop import VirtualLoop, VirtualSignal
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.kafka import FakeConsumer, FakeProducer, FakeReader, FakeTopics
from tests.fakes.stores import DictStore
from tests.fakes.topology import states

RESOLUTIONS = "hakuna.dead-letter-resolutions"
TOPICS = SendTopics(
    ("hakuna.outbox",),
    "hakuna.deliveries",
    "hakuna.dead-letters",
    "hakuna.holds",
    "hakuna.send-offsets",
    witnesses=("hakuna.dead-letters", RESOLUTIONS),
)
GROUP = "hakuna-processor.send"
BASE_URL = "http://api.test"


class RecordingMeter:
    """Both of send's meters: keeps what it is told."""

    def __init__(self) -> None:
        self.ended: dict[str, int] = {}
        self.replayed: Counter[str] = Counter()
        self.statuses: dict[str, int] = {}
        self.error_codes: dict[str, int] = {}
        self.loop_lag_s_max = 0.0
        self.latest: Gauges | None = None
        self.lags: Sequence[PartitionLag] = ()
        self.quota_wait_s = 0.0
        self.latencies_s: list[float] = []
        self.stopped_by_the_guard = False
        self.causes: Counter[str] = Counter()
        self.missed = 0

    def requests(self, destination: str, requests: Requests) -> None:
        for status, durations in requests.durations_s.items():
            self.statuses[status] = self.statuses.get(status, 0) + len(durations)
        for code, count in requests.error_codes.items():
            self.error_codes[code] = self.error_codes.get(code, 0) + count
        self.quota_wait_s += requests.quota_wait_s
        self.latencies_s += requests.latencies_s

    def gauges(self, destination: str, gauges: Gauges) -> None:
        self.latest = gauges

    def loop_lag(self, seconds: float) -> None:
        self.loop_lag_s_max = max(self.loop_lag_s_max, seconds)

    def endings(self, endings: Endings) -> None:
        self.replayed.update({outcome: count for (_, outcome), count in endings.replayed.items()})
        for (_, outcome), count in endings.records.items():
            self.ended[outcome] = self.ended.get(outcome, 0) + count

    def lag(self, lags: Sequence[PartitionLag]) -> None:
        self.lags = lags

    def began(self, causes: Mapping[tuple[TopicPartition, str], int], missed: Mapping[TopicPartition, int]) -> None:
        self.causes.update({cause: count for (_, cause), count in causes.items()})
        self.missed += sum(missed.values())

    def flooded(self) -> None:
        self.stopped_by_the_guard = True


class FileKey:
    """A key in a file: `file` is what stands in it now."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._current = file

    def current(self) -> str:
        return self._current

    def reread(self) -> bool:
        changed = self.file != self._current
        self._current = self.file
        return changed


@dataclass(slots=True)
class Worker:
    """One process. `ended_s` and `how`: when it was killed, thrown out or stopped."""

    name: str
    role: SendRole[OutboxEntry]
    sender: Sender[OutboxEntry]
    handover: Handover[OutboxEntry]
    task: asyncio.Task[None]
    meter: RecordingMeter
    key: FileKey
    ended_s: float | None = None
    how: str = ""
    frozen_until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Blow:
    """Something that befalls the workers: `what` is join, stop, kill, expel, freeze, broker_down, broker_up or key; or
    what an operator does to the cluster: forget (the group's offsets), overtake (the oldest records are deleted),
    outbox_again and holds_again (the topic is made anew), grow (the outbox alone), grow_rest (all others)."""

    at_s: float
    what: str


@dataclass(slots=True)
class Plan:
    """What happens, all of it decided before it begins. Times count from the start."""

    seed: int
    feed: bool = False
    partitions: int = 3
    workers: int = 2
    quota: Quota | None = None
    entries: list[tuple[float, int, str]] = field(default_factory=list)
    """(when, partition, order ID); their entry IDs are their numbers."""
    script: Script = field(default_factory=Script)
    blows: list[Blow] = field(default_factory=list)
    eager: bool = True
    in_flight_max: int = 16
    entries_max: int = 60
    poison_after_s: float = 5.0
    dead_letter_share_max: float = 1.0
    done_within_s: float = 600.0
    turn_s: tuple[float, float] = (0.02, 0.3)
    markers: float = 0.2
    """The share of entries that a transaction's marker follows, which takes an offset."""


def entry_id(number: int) -> str:
    return f"events/orders.placed/0/{number}"


class World:
    """See the module."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = Random(plan.seed)
        self.clock = FakeClock()
        self.start_s = self.clock.at_s
        self.loop = VirtualLoop(self.clock)
        self.broker = FakeBroker(self.clock, chance=Random(plan.seed + 1))
        for topic in (
            "hakuna.outbox",
            TOPICS.receipts,
            TOPICS.dead_letters,
            "hakuna.holds",
            "hakuna.send-offsets",
            RESOLUTIONS,
        ):
            assert topic is not None
            self.broker.create(topic, partitions=plan.partitions, config=CONFIG[Topic(topic)])
        self.api = ScriptedApi(self.loop, plan.script, Random(plan.seed + 2))
        self.workers: list[Worker] = []
        self.entries_seen_max = 0
        self.expelled: list[tuple[str, float]] = []
        self.frozen: list[tuple[str, float, float]] = []
        """Whose Kafka thread stood still, heartbeats and all, from the group's last answer until when. Its event loop
        goes on, as it would in the moment after: what it may send then is the same question."""
        self.stood: list[tuple[str, float, float]] = []
        """In whose turn, revoke or drain time passed, from when to when: it is in one piece here, and nobody else had a
        turn meanwhile."""
        self.unowned: list[TopicPartition] = []
        """Partitions that no living worker had opened when the world ended."""
        self.missed: set[int] = set()
        """Entries that were deleted with their records before anybody had finished them."""
        self.overtaken = 0
        """How many of them a group with offsets must have counted."""
        self._cut: TopicPartition | None = None
        """Where retention has deleted, until somebody has begun there since: a topic that is made again before that
        takes along what could have been counted."""
        self.refused = 0
        """Workers that would not start."""
        self._named = 0
        self._key = "key-1"
        self._testify_at_s = 0.0
        self._is_judged = False
        self._quiet_from_s = 0.0

    def run(self) -> None:
        asyncio.set_event_loop(None)
        try:
            for _ in range(self.plan.workers):
                self.join()
            self._live()
            for worker in self.alive():
                self.stop(worker)
        finally:
            self.close()

    def _live(self) -> None:
        entries = list(enumerate(self.plan.entries))
        blows = sorted(self.plan.blows, key=lambda blow: blow.at_s)
        deadline_s = self.start_s + self.plan.done_within_s
        while self.now_s() < deadline_s:
            elapsed_s = self.now_s() - self.start_s
            while entries and entries[0][1][0] <= elapsed_s:
                number, (_, partition, order_id) = entries.pop(0)
                self.append(number, partition, order_id)
            while blows and blows[0].at_s <= elapsed_s:
                self.befall(blows.pop(0))
            for worker in self.alive():
                self.turn(worker)
            self.broker.overdue()
            self.loop.run_for(self.random.uniform(*self.plan.turn_s))
            if not entries and not blows:
                if self.is_done():
                    self.unowned = self._unowned()
                    if not self.unowned and self.now_s() >= self._quiet_from_s:
                        return
                self.testify()
        self.unowned = self._unowned()

    def pass_time(self, seconds: float) -> None:
        """For tests that do by hand what `run` does by plan."""
        until_s = self.now_s() + seconds
        while self.now_s() < until_s:
            for worker in self.alive():
                self.turn(worker)
            self.broker.overdue()
            self.loop.run_for(0.05)

    def testify(self) -> None:
        """While a poisonous order is on trial, others must go by: they prove that it is no outage."""
        if not self.plan.script.poisonous or self._is_judged or self.now_s() < self._testify_at_s:
            return
        last = [number for number, entry in enumerate(self.plan.entries) if entry[2] in self.plan.script.poisonous][-1:]
        judged = {record.header("entry-id") for record in self.broker.records(TOPICS.dead_letters)}
        self._is_judged = all(entry_id(number).encode() in judged for number in last)
        if not self._is_judged:
            quota = self.plan.quota  # of which they use a quarter
            self._testify_at_s = self.now_s() + (1.0 if quota is None else 1.0 + 4 * quota.window_s / quota.requests)
            number = len(self.plan.entries)
            self.plan.entries.append((self.now_s(), 0, f"witness-{number % 7}"))
            self.append(number, 0, f"witness-{number % 7}")

    def now_s(self) -> float:
        return self.clock.at_s

    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.ended_s is None]

    def is_done(self) -> bool:
        """Whether everything in the outbox is finished and committed."""
        committed = self.broker.group(GROUP).committed
        for where in self.broker.partitions(TOPICS.sources[0]):
            known = committed.get(where)
            if self.broker.logs[where].high_watermark > 0 and (
                known is None or known.next_offset != self.broker.logs[where].high_watermark
            ):
                return False
        return True

    def _unowned(self) -> list[TopicPartition]:
        """A killed worker's, until its session is over and another has taken them over: before that nobody makes the
        holds anew that were lost with their topic."""
        opened = {
            assignment.where
            for worker in self.alive()
            if worker.frozen_until_s is None
            for assignment in worker.role._assignments
            if assignment.phase is Phase.OPEN
        }
        return [where for where in self.broker.partitions(TOPICS.sources[0]) if where not in opened]

    # ---- what befalls the workers -------------------------------------------------------------------------

    def befall(self, blow: Blow) -> None:
        alive = self.alive()
        match blow.what:
            case "join":
                self.start()
            case "stop" if len(alive) > 1:
                self.stop(self.random.choice(alive))
            case "kill" if alive:
                self.kill(self.random.choice(alive))
                self.start()
            case "expel" if awake := [worker for worker in alive if worker.frozen_until_s is None]:
                worker = self.random.choice(awake)  # one that stands still is thrown out by its session alone
                self.broker.expel(worker.name)
                self.expelled.append((worker.name, self.now_s()))
                self.turn(worker)  # it hears of it before others are told: else two own a partition for a moment
            case "freeze" if alive:
                self.freeze(self.random.choice(alive), self.random.uniform(7.0, 12.0))
            case "broker_down":
                self.broker.down = True
            case "broker_up":
                self.broker.down = False
            case "key":
                self._key = "key-2"
                for worker in alive:
                    worker.key.file = self._key
            case "grow":
                self._grow([TOPICS.sources[0]])
            case "grow_rest":
                self._grow(list(self.broker.config))
            case "holds_again" if not self.broker.down:
                self.broker.make_again("hakuna.holds")
                self._quiet_from_s = self.now_s() + 8.0  # the topics are looked at now and then
            case "forget" | "overtake" | "outbox_again" if not self.broker.down:
                self._operate(blow.what)
            case _:
                pass

    def _grow(self, topics: list[str]) -> None:
        """Whoever writes to the outbox, writes to its new partitions at once: of orders that were nowhere before."""
        grown = self.plan.partitions + 2
        for topic in topics:
            self.broker.grow(topic, grown)
        refused, self.refused = self.refused, 0
        for _ in range(refused):
            self.start()
        for turn in range(20):
            partition, number = self.plan.partitions + turn % 2, len(self.plan.entries)
            order_id = f"new-{partition}-{turn % 6}"
            self.plan.entries.append((self.now_s(), partition, order_id))
            self.append(number, partition, order_id)

    def _operate(self, what: str) -> None:
        """Done to the cluster while nobody works."""
        workers = self.alive()
        for worker in workers:
            self.stop(worker)
        outbox = TOPICS.sources[0]
        where = self.random.choice(self.broker.partitions(outbox))
        if what == "forget":
            self.broker.forget(GROUP)
        elif what == "overtake":
            log = self.broker.logs[where]
            cut = self.random.randint(log.start, log.high_watermark)
            before = len(self.missed)
            self._miss(record for record in self.broker.records(outbox, where.partition) if record.offset < cut)
            if (
                where in self.broker.group(GROUP).committed and not self.plan.feed
            ):  # there a newer one may have replaced it
                self.overtaken += len(self.missed) - before
                self._cut = where
            self.broker.delete_before(outbox, where.partition, cut)
        else:
            self._miss(self.broker.records(outbox))
            self.broker.make_again(outbox)
            if self._cut is not None:
                self.overtaken, self._cut = 0, None
        for _ in workers:
            self.start()

    def _miss(self, records: Iterable[Record]) -> None:
        """Of these records, the entries that nobody has finished are gone for good."""
        receipts = self.broker.records(TOPICS.receipts)
        done = {msgspec.json.decode(receipt.value or b"")["entry_id"] for receipt in receipts}
        done |= {(dict(one.headers)["entry-id"] or b"").decode() for one in self.broker.records(TOPICS.dead_letters)}
        committed = self.broker.group(GROUP).committed
        for record in records:
            known = committed.get(TopicPartition(record.topic, record.partition))
            if known is not None and record.offset < (known.next_offset or 0):
                continue
            entry = (dict(record.headers)["entry-id"] or b"").decode()
            if entry not in done:
                self.missed.add(int(entry.rpartition("/")[2]))

    def start(self) -> None:
        """One more, unless it refuses the topics as they are: then once somebody has made them alike."""
        if problems(Role.SEND, states(self.broker, list(self.broker.config)), ""):
            self.refused += 1
        else:
            self.join()

    def join(self) -> Worker:
        plan = self.plan
        self._named += 1
        name = f"w{self._named}"
        feed = order_feed("v1.2", "test/1", entries_max=8, bytes_max=100_000, linger_s=0.2)
        destination = feed if plan.feed else events_api("v1.2", "test/1")
        settings = SenderSettings(
            base_url=BASE_URL,
            quota=plan.quota,
            partitions_total=len(self.broker.partitions(TOPICS.sources[0])),
            in_flight_max=plan.in_flight_max,
            request_s_max=2.0,
            backoff_s_max=2.0,
            poison_after_s=plan.poison_after_s,
        )
        meter = RecordingMeter()
        handover: Handover[OutboxEntry] = Handover(VirtualSignal(self.loop))
        endpoint = Endpoint(self.api.transport(name), RequestTemplate, BASE_URL, settings.request_s_max, self.clock)
        key = FileKey(self._key)
        random = Random(self.random.random())
        sender = Sender(settings, destination, endpoint, key, Holds(DictStore({})), handover, self.clock, random, meter)
        edges = SendEdges(
            consumer=FakeConsumer(self.broker, group=GROUP, client_id=name, eager=plan.eager, resets=False),
            producer=FakeProducer(self.broker, client_id=name, queue_max=40),
            reader=FakeReader(self.broker, client_id=name),
            topics=FakeTopics(self.broker, [topic for topic in self.broker.config if topic != RESOLUTIONS]),
            clock=self.clock,
            meter=meter,
        )
        topics = (
            TOPICS
            if not plan.feed
            else SendTopics(TOPICS.sources, TOPICS.receipts, TOPICS.dead_letters, None, TOPICS.offsets, RESOLUTIONS)
        )
        role = SendRole(
            SendSettings(
                topics=topics,
                group=GROUP,
                partitions=len(self.broker.partitions(topics.sources[0])),
                dead_letter_share_max=plan.dead_letter_share_max,
                entries_max=plan.entries_max,
                poll_records_max=20,
                poll_s_max=0.0,
                drain_s_max=5.0,
            ),
            edges,
            handover,
            sender.standing,
            OutboxIntake(destination.entry_types),
            None if topics.holds is None else HoldsPast(topics.holds),
        )
        worker = Worker(name, role, sender, handover, self.loop.spawn(sender.run()), meter, key)
        self.workers.append(worker)
        role.start()
        return worker

    def freeze(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.turn(worker)
        worker.frozen_until_s = self.now_s() + seconds
        self.broker.freeze(worker.name)
        self.frozen.append((worker.name, worker.role._consumer.answered_s(), worker.frozen_until_s))

    def turn(self, worker: Worker) -> None:
        if worker.frozen_until_s is not None:
            if self.now_s() < worker.frozen_until_s:
                return
            worker.frozen_until_s = None
            self.broker.freeze(worker.name, frozen=False)
        before_s = self.now_s()
        try:
            worker.role.turn()
        except Fatal as fatal:
            self._end(worker, fatal)
            return
        finally:
            if self.now_s() > before_s:
                self.stood.append((worker.name, before_s, self.now_s()))
        if worker.task.done():
            worker.task.result()
        if self._cut is not None:
            begun = worker.role._assignments.at(self._cut)
            self._cut = None if begun is not None and begun.phase is Phase.OPEN else self._cut
        self.entries_seen_max = max(self.entries_seen_max, worker.role._assignments.entries)

    def _end(self, worker: Worker, fatal: Fatal) -> None:
        """As its process does, which is started again."""
        if "to be started again" not in str(fatal):
            raise fatal
        worker.role.fail()
        self.loop.run_for(0.5)
        assert worker.task.done(), "the loop outlives its role"
        worker.task.result()
        worker.ended_s, worker.how = self.now_s(), "grown"
        self.start()

    def stop(self, worker: Worker) -> None:
        """SIGTERM."""
        if worker.frozen_until_s is not None:  # heard of when it goes on
            from_s = self.now_s()
            self.loop.run_for(max(worker.frozen_until_s - from_s, 0.0))
            self.stood.append((worker.name, from_s, self.now_s()))
            self.turn(worker)
        before_s = self.now_s()
        worker.role.stop()
        self.loop.run_for(0.5)
        assert worker.task.done(), "the loop outlives its role"
        worker.task.result()
        assert self.now_s() - before_s < (14.0 if self.broker.down else 8.0), "a drain took too long"
        worker.ended_s, worker.how = self.now_s(), "stop"
        self.stood.append((worker.name, before_s, worker.ended_s))

    def kill(self, worker: Worker) -> None:
        """kill -9: what it has sent may still arrive."""
        worker.ended_s, worker.how = self.now_s(), "kill"
        self.broker.kill(worker.name)
        worker.task.cancel()
        self.loop.run_for(0.0)

    def append(
        self, number: int, partition: int, order_id: str, extra: Headers | None = None, padding: int = 0
    ) -> None:
        body = msgspec.json.encode({"order": order_id, "entry": entry_id(number), "padding": "x" * padding})
        kind = EntryType.ORDER if self.plan.feed else EntryType.ORDER_PLACED
        headers: Headers = [
            ("entry-id", entry_id(number).encode()),
            ("entry-type", kind.value.encode()),
            ("source", f"orders.placed/{partition}/{number}".encode()),
            ("occurred-at", b"%d" % self.clock.now_ms()),
            *(extra or []),
        ]
        self.broker.append(TOPICS.sources[0], partition, order_id.encode(), body, headers)
        if self.random.random() < self.plan.markers:  # a transaction's marker takes an offset
            self.broker.take_over("somebody")
            self.broker.open_transaction("somebody", 60.0).touched.add(TopicPartition(TOPICS.sources[0], partition))
            self.broker.take_over("somebody")

    def close(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_for(0.0)
        self.loop.run_for(0.1)
        self.loop.close()
