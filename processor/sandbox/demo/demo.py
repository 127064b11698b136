"""Runs the demo: the real roles in processes of their own, between a shop and stand-ins for Hakuna and Hako that check
every request.

    shop ──► orders.* ──► transform ──► hakuna.outbox ──► send ──► stand-in (429, 503, resets, refusals)
              │              └──► orders.dead-letters       └──► hakuna.dead-letters
              └── each record with its expected outcome ──► compared at the end, record by record
         └──► catalog.*, inventory.levels ──► hako ──► stand-in for Hako; its tables are compared at the end

      STARTING ──workers ready──► FEEDING ──all is written──► FINISHING ──all is finished──► DONE
         │                           │                            │
         └───────────────────────────┴── a worker ended, or time is up ──► FAILED

Owned by the command `demo`, which shows each `View`. No role runs in this process.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Producer

from processor.config import Quota, Role
from processor.edges.kafka.reader import KafkaReader
from processor.records import Outcome, Position, Reason, Record, TopicPartition
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.record import Record as Seen
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Fault, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.demo import workers
from processor.sandbox.demo.judgement import dead_letters, differences, expected_letters
from processor.sandbox.demo.watch import Scraper, Sight
from processor.sandbox.shop.history import TRANSFORMED, Expected, Step
from processor.sandbox.shop.orders import REFUSED_COUNTRY, REFUSED_PRODUCT, Shop, shop
from processor.sandbox.shop.stock import Stock, stock
from processor.sandbox.shop.writer import OrderWriter, write_in_time
from processor.topics import DEAD_LETTER_TOPICS, ORDER_TOPICS, STOCK_TOPICS, plans

ROLES: Final = (Role.TRANSFORM, Role.SEND, Role.HAKO)
LETTERS: Final = DEAD_LETTER_TOPICS
STOCK_SEED: Final = 7

BROKERS: Final = 3
PARTITIONS: Final = 4
"""Of every topic; the mock cluster's default."""
_ANSWER_S_MAX: Final = 10.0

START_S_MAX: Final = 60.0
FINISH_S_MAX: Final = 60.0
"""From the last record written until all is finished. After that, the demo fails instead of hanging."""
READ_S_MAX: Final = 30.0
LOOK_EVERY_S: Final = 0.5
RATE_SIGHTS: Final = 6
"""Rates are of the last 3 s: the workers count once a second, and a calm figure is easier to read."""

_FETCH_WAIT_MS: Final = "50"
"""The embedded broker answers an empty fetch only after its whole wait, even if a record is written meanwhile."""
_PARK_FOR: Final = "5s"
"""Short, so that an event whose order is never placed becomes a dead letter during the demo."""

SCRIPT: Final = Script(
    latency=Latency(median_ms=15, p99_ms=120),
    shares={Fault.UNAVAILABLE: 0.02, Fault.TOO_MANY: 0.003, Fault.RESET: 0.005, Fault.LOST_ANSWER: 0.005},
    retry_after_s={Fault.TOO_MANY: 1},
    refused_countries=frozenset({REFUSED_COUNTRY}),
    refused_products=frozenset({REFUSED_PRODUCT}),
)
"""An ordinary day, a little worse."""
HAKO_SCRIPT: Final = Script(latency=Latency(median_ms=40, p99_ms=200), quota=Quota(120, 60.0))
"""The quota of its reference: 120 requests a minute."""


class EmbeddedBroker:
    """A Kafka in this process, librdkafka's mock cluster: `with EmbeddedBroker() as broker: …
    broker.bootstrap_servers`.

    Other processes reach it until the context ends. It ignores `read_committed`, keeps the last 5 MB of a partition,
    forgets everything when it ends, and answers no administrative request, so no test of a guarantee may run on it. It
    creates a topic, with PARTITIONS partitions, at the first request for it. Mutable: `_owner` is the client that holds
    the cluster; None once closed.
    """

    def __init__(self) -> None:
        self._owner: Producer | None = Producer({"test.mock.num.brokers": BROKERS, "log_level": 0})
        brokers = self._owner.list_topics(timeout=_ANSWER_S_MAX).brokers
        assert len(brokers) == BROKERS, f"{len(brokers)} of {BROKERS} mock brokers"
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers.values())

    def create(self, topics: list[str]) -> None:
        """Creates each topic, so that it exists before a consumer subscribes to it."""
        assert self._owner is not None, "closed"
        for topic in topics:
            found = self._owner.list_topics(topic, timeout=_ANSWER_S_MAX).topics[topic]
            assert found.error is None, f"{topic}: {found.error}"
            assert len(found.partitions) == PARTITIONS, f"{topic} has {len(found.partitions)} partitions"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner = None


class Phase(StrEnum):
    """The progress of the demo; drawn above."""

    STARTING = "starting"
    FEEDING = "feeding"
    FINISHING = "finishing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class View:
    """The progress at one moment. `before` is an earlier sight, for rates."""

    phase: Phase
    since_s: float
    written: int
    waiting_for: tuple[str, ...]
    before: Sight
    sight: Sight
    roles: tuple[Role, ...] = ROLES


@dataclass(frozen=True, slots=True)
class Report:
    """The result. `wrong` is empty if every outcome was as expected."""

    orders: int
    written: Mapping[Position, Step]
    sight: Sight
    seen: Seen
    letters: Mapping[str, str]
    seconds: float
    wrong: tuple[str, ...]

    @property
    def curious(self) -> str:
        """The ID of an order with a refused entry: one worth looking at."""
        return self._order(lambda expected: expected.answer is not None)

    @property
    def delivered(self) -> str:
        """The ID of an order that Hakuna accepted."""
        return self._order(lambda expected: expected == TRANSFORMED)

    def _order(self, wanted: Callable[[Expected], bool]) -> str:
        steps = self.written.values()
        step = next((step for step in steps if wanted(step.expected)), None) or next(iter(steps))
        return step.key.decode("utf-8", "backslashreplace")

    @property
    def outcomes(self) -> Counter[str]:
        """Returns the records by their outcome at transform."""
        return Counter(step.expected.outcome.value for step in self.written.values())

    @property
    def letter_counts(self) -> tuple[Counter[str], Counter[str]]:
        """Returns the dead letters by reason: the found ones and the expected ones."""
        return Counter(self.letters.values()), Counter(expected_letters(self.written).values())


class Demo:
    """The workers, with the addresses of everything around them, inside the context of `demo`.

    Mutable: `logs_wanted` is set if something went wrong that the workers' logs may explain.
    """

    def __init__(
        self,
        broker: str,
        registry: str,
        hakuna: tuple[StandIn, str],
        hako: tuple[StandIn, str],
        directory: Path,
        *,
        mixed: bool,
    ) -> None:
        """`broker` is its bootstrap servers, `registry` its URL; each stand-in comes with its URL. With `mixed`, each
        service of the shop writes in its own way, and rekey runs."""
        self._mixed = mixed
        self.roles = (Role.REKEY, *ROLES) if mixed else ROLES
        self._kafka = {"bootstrap.servers": broker, "fetch.wait.max.ms": _FETCH_WAIT_MS}
        self.hakuna, self.hakuna_url = hakuna
        self.hako, self.hako_url = hako
        self.directory = directory
        self.logs_wanted = False
        self.registry_url = registry
        self.workers = tuple(workers.start(role, self.environment, directory) for role in self.roles)
        self._scraper = Scraper({worker.role: worker.port for worker in self.workers}, time.monotonic)

    @property
    def environment(self) -> dict[str, str]:
        """Returns the workers' settings."""
        kafka = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in self._kafka.items()}
        return kafka | {
            "SCHEMA_REGISTRY_URL": self.registry_url,
            "HAKUNA_BASE_URL": self.hakuna_url,
            "HAKUNA_API_KEY": self.hakuna.script.key,
            "HAKO_BASE_URL": f"{self.hako_url}/v0",
            "HAKO_API_KEY": self.hako.script.key,
            "PROCESSOR_PARK_FOR": _PARK_FOR,
            "PROCESSOR_REKEY": "on" if self._mixed else "off",
        }

    def run(self, plan: Callable[[int], Shop], show: Callable[[View], None], began_s: float) -> Report:
        """Writes a shop's orders (`plan` gets the time of the first, epoch ms) and waits until all are finished."""
        wrong = self._await_ready(show, began_s)
        now_ms = int(time.time() * 1000)
        goods = stock(STOCK_SEED, now_ms)
        feed = _Feed(plan(now_ms), goods, self._writer, self._mixed)
        sight = Sight(time.monotonic())
        if not wrong:
            with feed.writing():
                sight, wrong = self._watch(feed, show, began_s)
        letters = {} if wrong else dead_letters(self._letters())
        wrong = wrong or [
            *differences(feed.written, letters, self.hakuna.record),
            *_stock_differences(self.hako, goods),
        ]
        self.logs_wanted = bool(wrong)
        return Report(
            orders=feed.plan.orders,
            written=feed.written,
            sight=sight,
            seen=self.hakuna.record,
            letters=letters,
            seconds=time.monotonic() - began_s,
            wrong=tuple(wrong),
        )

    def drain(self) -> list[str]:
        """Ends the workers as an orchestrator would. Returns what went wrong."""
        codes = workers.drain(self.workers)
        wrong = [f"{role} ended with {code}, should be 0" for role, code in codes.items() if code != 0]
        self.logs_wanted = self.logs_wanted or bool(wrong)
        return wrong

    def _await_ready(self, show: Callable[[View], None], began_s: float) -> list[str]:
        deadline_s = time.monotonic() + START_S_MAX
        sight = Sight(time.monotonic())
        while reasons := self._scraper.unready():
            if wrong := self._ended():
                return wrong
            if time.monotonic() > deadline_s:
                return [f"not ready within {START_S_MAX:g} s: {reason}" for reason in reasons]
            show(View(Phase.STARTING, time.monotonic() - began_s, 0, tuple(reasons), sight, sight, self.roles))
            time.sleep(LOOK_EVERY_S)
        return []

    def _watch(self, feed: _Feed, show: Callable[[View], None], began_s: float) -> tuple[Sight, list[str]]:
        """Returns the last sight when everything is finished, or what went wrong."""
        seen = deque([self._scraper.sight()], maxlen=RATE_SIGHTS)
        fed_s: float | None = None
        while True:
            time.sleep(LOOK_EVERY_S)
            sight = self._scraper.sight()
            now_s = time.monotonic()
            if feed.ended and fed_s is None:
                fed_s = now_s
            wrong = self._ended() if feed.failure is None else [f"the shop cannot write: {feed.failure}"]
            done = feed.ended and _finished(sight, feed.written, len(feed.goods.steps))
            if not done and fed_s is not None and now_s - fed_s > FINISH_S_MAX:
                wrong = wrong or [f"not finished {FINISH_S_MAX:g} s after the last record was written"]
            phase = Phase.FAILED if wrong else Phase.DONE if done else Phase.FINISHING if feed.ended else Phase.FEEDING
            show(View(phase, now_s - began_s, len(feed.written), (), seen[0], sight, self.roles))
            if wrong or done:
                return sight, wrong
            seen.append(sight)

    def _ended(self) -> list[str]:
        return [
            f"{worker.role} ended with {worker.exit_code}; its log: {worker.log}"
            for worker in self.workers
            if worker.exit_code is not None
        ]

    def _writer(self, written: Callable[[Step, Position], None]) -> OrderWriter:
        return OrderWriter(
            self._kafka, self.registry_url, topics=(*ORDER_TOPICS, *STOCK_TOPICS), written=written, mixed=self._mixed
        )

    def _letters(self) -> list[Record]:
        """Returns all records of the dead-letter topics."""
        reader = KafkaReader(self._kafka, group="hakuna-processor.demo", client_id="hakuna-processor-demo")
        partitions = [TopicPartition(topic, number) for topic in LETTERS for number in range(PARTITIONS)]
        try:
            ends = reader.ends(partitions)
            reader.assign([Position(*partition, 0) for partition in partitions])
            found: list[Record] = []
            deadline_s = time.monotonic() + READ_S_MAX
            while any(reader.position(partition) < ends[partition] for partition in partitions):
                assert time.monotonic() < deadline_s, "the dead-letter topics cannot be read to their ends"
                found += reader.poll(1_000, 0.2).records
            return found
        finally:
            reader.close()


@contextmanager
def demo(*, mixed: bool) -> Iterator[Demo]:
    """Starts everything, and stops it whatever happens. The workers' logs stay if they are wanted."""
    directory = Path(tempfile.mkdtemp(prefix="hakuna-processor-demo-"))
    with ExitStack() as up:
        tidy = up.enter_context(ExitStack())
        tidy.callback(shutil.rmtree, directory, ignore_errors=True)
        broker = up.enter_context(EmbeddedBroker())
        broker.create([plan.topic.value for plan in plans(rekey=mixed)])
        hakuna, hako = StandIn(HakunaApi(), SCRIPT), StandIn(HakoApi(), HAKO_SCRIPT)
        urls = [up.enter_context(Loopback(api)).url for api in (hakuna, hako)]
        registry = up.enter_context(Loopback(StandIn(RegistryApi()))).url
        running = Demo(broker.bootstrap_servers, registry, (hakuna, urls[0]), (hako, urls[1]), directory, mixed=mixed)
        up.callback(workers.drain, running.workers)
        yield running
        if running.logs_wanted:
            tidy.pop_all()


@dataclass(eq=False)
class _Feed:
    """Writes the shop's records on a thread of its own, while the demo's thread watches.

    Mutable: `written` grows, on that thread; `ended` and `failure` are set once, at its end.
    """

    plan: Shop
    goods: Stock
    _writer: Callable[[Callable[[Step, Position], None]], OrderWriter]
    _mixed: bool
    written: dict[Position, Step] = field(default_factory=dict)
    ended: bool = False
    failure: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def writing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="shop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(FINISH_S_MAX)

    def _run(self) -> None:
        try:
            writer = self._writer(self._note)
            for step in self.goods.steps:
                writer.write(step)
            write_in_time(writer, self._steps(), lambda: int(time.time() * 1000), self._stop.is_set)
        except BaseException as failure:
            self.failure = failure
        finally:
            self.ended = True

    def _steps(self) -> Iterator[Step]:
        """Yields the shop's records. With mixed producers, an event under another order's key is not a mistake."""
        for step in shop(self.plan):
            if not self._mixed or step.expected.reason is not Reason.KEY_MISMATCH:
                yield step

    def _note(self, step: Step, position: Position) -> None:
        if step.topic not in STOCK_TOPICS:  # stock is compared as a whole, in Hako's tables
            self.written[position] = step


def _finished(sight: Sight, written: Mapping[Position, Step], stocked: int) -> bool:
    """True if each record has ended at transform or hako, and each entry at send."""
    entries = sum(1 for step in written.values() if step.expected.outcome is Outcome.TRANSFORMED)
    repeats = sight.sum("processor_records_total", role=Role.REKEY.value, outcome=Outcome.DUPLICATE.value)
    return (
        sight.sum("processor_records_total", role=Role.TRANSFORM.value) + repeats >= len(written)
        and sight.sum("processor_records_total", role=Role.SEND.value) >= entries
        and sight.sum("processor_records_total", role=Role.HAKO.value) >= stocked
        and sight.sum("processor_consumer_lag_records") == 0
    )


def _stock_differences(hako: StandIn, goods: Stock) -> list[str]:
    """Returns each difference between Hako's tables and the last values, and each request above the quota."""
    assert hako.script.quota is not None, "Hako has a quota"
    held = hako.api.contents()
    assert isinstance(held, dict), "three tables"
    wrong = [f"Hako's {table} are not the last values" for table in goods.tables if held[table] != goods.tables[table]]
    most = hako.record.most_in(hako.script.quota.window_s)
    if most > hako.script.quota.requests:
        wrong.append(f"Hako was asked {most} times in a window of {hako.script.quota}")
    return wrong + [f"Hako: {mistake}" for mistake in hako.record.mistakes()]
