"""Transform workers as processes on a broker of their own, killed, frozen and cut off: at default settings of both.

The figures that are promised are measured here and printed (`pytest -rP`)."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from processor.records import HeaderName
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.support.kafka import KafkaBroker, short_lived_jvm
from tests.support.processes import Worker
from tests.support.transform_model import difference
from tests.support.transform_site import DONE_SECONDS_MAX, Site, sorted_sources

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(300)]

TAKEOVER_S_MAX = 15.0
MOVE_S_MAX = 5.0
OPEN_TRANSACTION_S_MAX = 15.0


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    """A broker of this module's own, which it may stop."""
    with KafkaBroker(jvm=short_lived_jvm) as running:
        yield running


def test_a_broker_that_is_down_at_start_is_waited_for(
    broker: KafkaBroker, schema_registry: str, tmp_path: Path
) -> None:
    with Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=1) as site:
        broker.stop()
        worker = site.worker(await_ready=False)
        site.until(lambda: site.answers(worker) and bool(worker.get("/readyz").json()["reasons"]))
        time.sleep(1.0)
        assert worker.running
        assert not worker.ready()
        broker.start()
        worker.wait_ready()
        site.place("a", 0)
        site.installation.flush()
        site.wait_done()
        assert list(site.entries()) == ["a"]


def test_whatever_happens_to_workers_and_broker_the_outbox_is_what_the_rules_say(
    broker: KafkaBroker, schema_registry: str, tmp_path: Path
) -> None:
    """20,000 events, two workers: every few seconds one of them is killed and begins again with an empty directory, one
    is frozen until the group has gone on without it, and the broker is killed in the middle."""
    chance = random.Random(7)
    settings = {"PROCESSOR_BATCH_RECORDS_MAX": "25"}  # small transactions: many moments to be killed in
    with Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=4) as site:
        plan = Shop(orders=8_000, rate=100, bad_share=0.05, seed=3, start_ms=int(time.time() * 1000) - 3_600_000)
        written = len(site.installation.play(shop(plan)))
        assert written > 20_000
        lives = 0
        workers: list[Worker] = []

        def born() -> None:
            nonlocal lives
            lives += 1
            workers.append(site.worker(f"life-{lives}", settings, await_ready=False))

        born()
        born()
        workers[0].wait_ready()
        blows = 0
        while site.consumed() < written:
            time.sleep(chance.uniform(2.0, 4.0))
            blows += 1
            if blows == 3:
                broker.kill()
                broker.start()
            elif blows == 5:
                frozen = workers[0]
                frozen.child.signal(signal.SIGSTOP)
                time.sleep(11.0)
                frozen.child.signal(signal.SIGCONT)
            elif blows < 10:
                workers.pop(chance.randrange(2)).kill()
                born()
            assert blows < 60, f"not done: {site.left()}"
        site.wait_done()
        model = site.model()
        entries = site.entries()
        assert sorted_sources(entries.values()) == sorted_sources(model.entries.values()), difference(
            "entries", sorted_sources(entries.values()), sorted_sources(model.entries.values())
        )
        assert entries == model.entries
        assert site.letter_reasons() == model.reasons
        assert blows >= 5, "it was over before anything happened"
        for worker in workers:
            assert worker.terminate() == 0
        print(f"{written} events through {blows} blows and {lives} lives")  # noqa: T201


class Trickle:
    """A shop that places an order on every partition ten times a second, until it is told to stop."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Trickle:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._site.installation.flush()

    def _run(self) -> None:
        count = 0
        while not self._over.wait(0.1):
            for partition in range(self._site.partitions):
                self._site.place(f"order-{partition}-{count}", partition)
            self._site.installation.poll()
            count += 1


def test_takeovers_and_moves_are_quick(broker: KafkaBroker, schema_registry: str, tmp_path: Path) -> None:
    """How long an order waits, at worst, for its outbox entry while workers come, go and are killed. Who takes over has
    lived through a restart of the broker before."""
    with Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=4) as site:
        marks: list[tuple[str, float]] = []

        def mark(what: str) -> None:
            """Half a second before it happens, so that all whom it touches count."""
            marks.append((what, time.time() * 1000))
            time.sleep(0.5)

        first = site.worker("first")
        with Trickle(site):
            time.sleep(1.0)
            mark("quiet")
            time.sleep(1.0)
            mark("a worker comes")
            second = site.worker("second")
            time.sleep(1.0)
            mark("the broker is restarted")
            broker.stop()
            broker.start()
            site.until(lambda: first.ready() and second.ready() and site.behind() < 100)
            mark("a worker goes")
            assert first.terminate() == 0
            time.sleep(1.0)
            mark("another one comes")
            third = site.worker("third")
            time.sleep(1.0)
            mark("a worker is killed")
            third.kill()
            time.sleep(1.0)
            mark("over")
        site.wait_done()
        assert second.running
        waited = _longest_wait_s(site, marks)
        print(waited)  # noqa: T201
        assert waited["quiet"] < 2.0
        assert waited["a worker comes"] < MOVE_S_MAX
        assert waited["a worker goes"] < MOVE_S_MAX
        assert waited["a worker is killed"] < TAKEOVER_S_MAX


def _longest_wait_s(site: Site, marks: list[tuple[str, float]]) -> dict[str, float]:
    """Between each mark and the next: the longest time from an order's record to its entry."""
    waited: dict[str, float] = {}
    for record in site.records(Topic.OUTBOX):
        occurred_at = int(dict(record.headers)[HeaderName.OCCURRED_AT] or b"0")
        for (what, since_ms), (_, until_ms) in pairwise(marks):
            if since_ms <= occurred_at < until_ms:
                waited[what] = max(waited.get(what, 0.0), (record.timestamp_ms - occurred_at) / 1000)
    return {what: round(seconds, 2) for what, seconds in waited.items()}


def test_the_open_transaction_of_a_dead_worker_holds_readers_for_no_longer_than_promised(
    broker: KafkaBroker, schema_registry: str, tmp_path: Path
) -> None:
    """Nobody is left to end it: the broker must."""
    held_s = 0.0
    uncommitted = {
        "bootstrap.servers": broker.bootstrap_servers, "group.id": "looking", "isolation.level": "read_uncommitted",
    }  # fmt: skip
    with (
        Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=1) as site,
        closing(Consumer(uncommitted)) as looking,
    ):
        outbox = TopicPartition(site.space.name(Topic.OUTBOX), 0)
        for attempt in range(5):
            for number in range(12_000):
                site.place(f"order-{attempt}-{number}", 0)
            site.installation.flush()
            worker = site.worker(f"worker-{attempt}", {"PROCESSOR_BATCH_RECORDS_MAX": "6000"}, await_ready=False)
            before = site.space.end_offsets(Topic.OUTBOX)[0]
            until_s = time.monotonic() + DONE_SECONDS_MAX
            while looking.get_watermark_offsets(outbox, timeout=10.0)[1] == before:  # without a pause: it is soon over
                assert time.monotonic() < until_s
            worker.kill()
            killed_s = time.monotonic()
            if site.space.stable_offsets(Topic.OUTBOX) == site.space.end_offsets(Topic.OUTBOX):
                continue  # it had just ended
            site.until(lambda: site.space.stable_offsets(Topic.OUTBOX) == site.space.end_offsets(Topic.OUTBOX), 30.0)
            held_s = time.monotonic() - killed_s
            break
        assert 0.0 < held_s < OPEN_TRANSACTION_S_MAX
        print(f"held for {held_s:.1f} s")  # noqa: T201
