"""The demo: the real roles in processes of their own, between a shop and stand-ins for Hakuna and Hako that
check every request.

    shop ──► orders.* ──► transform ──► hakuna.outbox ──► send ──► stand-in (429, 503, resets, refusals)
              │              └──► orders.dead-letters       └──► hakuna.dead-letters
              └── each record with what must become of it ──► compared at the end, record by record
         └──► catalog.*, inventory.levels ──► hako ──► stand-in for Hako; its tables are compared at the end

      STARTING ──workers ready──► FEEDING ──all is written──► FINISHING ──all is finished──► DONE
         │                           │                            │
         └───────────────────────────┴── a worker ended, or time is up ──► FAILED

Owned by the command `demo`, which shows each `View`. Nothing of the processor runs in this process.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

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
from processor.sandbox.demo.broker import PARTITIONS, EmbeddedBroker
from processor.sandbox.demo.judgement import dead_letters, differences, expected_letters
from processor.sandbox.demo.watch import Scraper, Sight
from processor.sandbox.shop.history import Step
from processor.sandbox.shop.orders import REFUSED_COUNTRY, REFUSED_PRODUCT, Shop, shop
from processor.sandbox.shop.stock import Stock, stock
from processor.sandbox.shop.writer import OrderWriter, write_in_time
from processor.topics import DEAD_LETTER_TOPICS, ORDER_TOPICS, STOCK_TOPICS, plans

ROLES: Final = (Role.TRANSFORM, Role.SEND, Role.HAKO)
LETTERS: Final = DEAD_LETTER_TOPICS
STOCK_SEED: Final = 7

START_S_MAX: Final = 60.0
FINISH_S_MAX: Final = 60.0
"""From the last record written until all is finished. Longer, and something is stuck: better say so."""
READ_S_MAX: Final = 30.0
LOOK_EVERY_S: Final = 0.5
RATE_SIGHTS: Final = 6
"""Rates are of the last 3 s: the workers count once a second, and the eye wants it calm."""

_FETCH_WAIT_MS: Final = "50"
"""The broker inside answers a fetch that finds nothing only after its whole wait, whatever is written meanwhile."""
_PARK_FOR: Final = "5s"
"""Short, so that an event whose order is never placed becomes a dead letter while somebody looks."""

SCRIPT: Final = Script(
    latency=Latency(median_ms=15, p99_ms=120),
    shares={Fault.UNAVAILABLE: 0.02, Fault.TOO_MANY: 0.003, Fault.RESET: 0.005, Fault.LOST_ANSWER: 0.005},
    retry_after_s={Fault.TOO_MANY: 1},
    refused_countries=frozenset({REFUSED_COUNTRY}),
    refused_products=frozenset({REFUSED_PRODUCT}),
)
"""A day like any other, a little worse."""


HAKO_SCRIPT: Final = Script(latency=Latency(median_ms=40, p99_ms=200), quota=Quota(120, 60.0))
"""As its reference says: no more than 120 requests a minute."""


class Phase(StrEnum):
    """How far the demo is; drawn above."""

    STARTING = "starting"
    FEEDING = "feeding"
    FINISHING = "finishing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class View:
    """What there is to be shown at one moment; `before` is an earlier sight, for rates."""

    phase: Phase
    since_s: float
    written: int
    waiting_for: tuple[str, ...]
    before: Sight
    sight: Sight
    roles: tuple[Role, ...] = ROLES


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended. `wrong` is empty when all became what it should."""

    orders: int
    written: Mapping[Position, Step]
    sight: Sight
    seen: Seen
    letters: Mapping[str, str]
    seconds: float
    wrong: tuple[str, ...]

    @property
    def curious(self) -> str:
        """The ID of an order that something has befallen: one worth looking at."""
        befallen = (step for step in self.written.values() if step.expected.answer is not None)
        step = next(befallen, None) or next(iter(self.written.values()))
        return step.key.decode("utf-8", "backslashreplace")

    @property
    def delivered(self) -> str:
        """The ID of an order that was told to Hakuna and accepted."""
        told = (one for one in self.written.values() if one.expected.outcome is Outcome.TRANSFORMED)
        step = next((one for one in told if one.expected.answer is None), None) or next(iter(self.written.values()))
        return step.key.decode("utf-8", "backslashreplace")

    @property
    def outcomes(self) -> Counter[str]:
        """Records by how they ended at transform."""
        return Counter(step.expected.outcome.value for step in self.written.values())

    @property
    def letter_counts(self) -> tuple[Counter[str], Counter[str]]:
        """Dead letters by reason: those that are there, those that should be."""
        return Counter(self.letters.values()), Counter(expected_letters(self.written).values())


class Demo:
    """A broker, a registry, stand-ins and workers, for as long as the context of `demo` lasts.

    Mutable: `logs_wanted` once something went wrong that the workers' logs may explain.
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
        """`broker` is its bootstrap servers, `registry` its URL; each stand-in comes with its URL. `mixed`: the shop's
        services write each in its own way, and rekey runs."""
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
        """The workers' settings."""
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
        """Feeds a shop's orders (`plan` is given the time of the first, epoch ms) and waits until all are
        finished."""
        wrong = self._await_ready(show, began_s)
        now_ms = int(time.time() * 1000)
        goods = stock(STOCK_SEED, now_ms)
        feed = _Feed(self._writer, plan(now_ms), goods, mixed=self._mixed)
        sight = Sight(time.monotonic())
        if not wrong:
            feed.start()
            try:
                sight, wrong = self._watch(feed, show, began_s)
            finally:
                feed.stop()
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
        """Ends the workers as an orchestrator would; what went wrong with that."""
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
        """Until everything that was written is finished, or cannot be."""
        seen = deque([self._scraper.sight()], maxlen=RATE_SIGHTS)
        fed_s: float | None = None
        while True:
            time.sleep(LOOK_EVERY_S)
            sight = self._scraper.sight()
            now_s = time.monotonic()
            if feed.ended and fed_s is None:
                fed_s = now_s
            wrong = feed.problems() or self._ended()
            done = feed.ended and _finished(sight, feed.written, len(feed.goods.steps))
            if not done and fed_s is not None and now_s - fed_s > FINISH_S_MAX:
                wrong = wrong or [f"not finished {FINISH_S_MAX:g} s after the last record was written"]
            phase = _phase(bool(wrong), done, feed.ended)
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
        """The dead-letter topics, whole."""
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
    """Brings everything up, and down again whatever happens; the workers' logs stay when they are wanted."""
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


class _Feed:
    """Writes the shop's records on a thread of its own, for the demo's has to look.

    Mutable: `written` grows, on that thread; `ended` and `_failure` are set once, at its end.
    """

    def __init__(
        self,
        writer: Callable[[Callable[[Step, Position], None]], OrderWriter],
        plan: Shop,
        goods: Stock,
        *,
        mixed: bool,
    ) -> None:
        self._mixed = mixed
        self.plan = plan
        self.goods = goods
        self.written: dict[Position, Step] = {}
        self.ended = False
        self._failure: BaseException | None = None
        self._writer = writer
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(FINISH_S_MAX)

    def problems(self) -> list[str]:
        return [] if self._failure is None else [f"the shop cannot write: {self._failure}"]

    def _run(self) -> None:
        try:
            writer = self._writer(self._note)
            for step in self.goods.steps:
                writer.write(step)
            write_in_time(writer, self._steps(), lambda: int(time.time() * 1000), self._stop.is_set)
        except BaseException as failure:
            self._failure = failure
        finally:
            self.ended = True

    def _steps(self) -> Iterator[Step]:
        """What the shop does; an event under another order's key is no mistake where keys are no matter."""
        for step in shop(self.plan):
            if not self._mixed or step.expected.reason is not Reason.KEY_MISMATCH:
                yield step

    def _note(self, step: Step, position: Position) -> None:
        if step.topic not in STOCK_TOPICS:  # those are compared as a whole, in Hako's tables
            self.written[position] = step


def _finished(sight: Sight, written: Mapping[Position, Step], stocked: int) -> bool:
    """Whether each record has ended at transform or hako, and each entry made of one at send."""
    entries = sum(1 for step in written.values() if step.expected.outcome is Outcome.TRANSFORMED)
    repeats = sight.sum("processor_records_total", role=Role.REKEY.value, outcome=Outcome.DUPLICATE.value)
    return (
        sight.sum("processor_records_total", role=Role.TRANSFORM.value) + repeats >= len(written)
        and sight.sum("processor_records_total", role=Role.SEND.value) >= entries
        and sight.sum("processor_records_total", role=Role.HAKO.value) >= stocked
        and sight.sum("processor_consumer_lag_records") == 0
    )


def _stock_differences(hako: StandIn, goods: Stock) -> list[str]:
    """Whether Hako holds what was said last, and was asked no more often than it allows."""
    assert hako.script.quota is not None, "Hako has a quota"
    held = hako.api.contents()
    assert isinstance(held, dict), "three tables"
    wrong = [
        f"Hako's {table} are not what was said last" for table in goods.tables if held[table] != goods.tables[table]
    ]
    most = hako.record.most_in(hako.script.quota.window_s)
    if most > hako.script.quota.requests:
        wrong.append(f"Hako was asked {most} times in a window of {hako.script.quota}")
    return wrong + [f"Hako: {mistake}" for mistake in hako.record.mistakes()]


def _phase(wrong: bool, done: bool, fed: bool) -> Phase:
    if wrong:
        return Phase.FAILED
    if done:
        return Phase.DONE
    return Phase.FINISHING if fed else Phase.FEEDING
