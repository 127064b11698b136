"""Real send workers on a real Kafka, killed while they send to an API that fails: nothing is lost, each order's
sequence is kept, and what goes out twice is bounded."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from processor.config import Quota
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Fault, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.integration.test_whole_path import FINISH_SECONDS_MAX, by_source, lag
from tests.support.children import wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

ORDERS = 1200
IN_FLIGHT_MAX = 32
KILLS = 3
KILL_EVERY_S = 4.0
QUOTA = Quota(40, 4.0)
QUOTA_ORDERS = 120
STOP_ORDERS = 1100
GROUP = "hakuna-processor.send"


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kill_9_loses_nothing_keeps_the_order_and_repeats_little(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """Two workers, three `kill -9`, 3 % faults and an outage of 3 s: every entry is delivered, each order in its order
    and never twice at once but for what was in flight at a kill; repeats are those of lost answers and kills."""
    chance = random.Random(5)
    installation = Installation(topic_space, schema_registry, partitions=4)
    fill_outbox(installation, ORDERS, start_worker)
    shares = {Fault.UNAVAILABLE: 0.01, Fault.RESET: 0.01, Fault.LOST_ANSWER: 0.01}
    hakuna = StandIn(HakunaApi(), Script(latency=Latency(median_ms=50), shares=shares))
    with Loopback(hakuna) as api:
        start = senders(topic_space, api.url, start_worker, PROCESSOR_IN_FLIGHT_MAX=str(IN_FLIGHT_MAX))
        workers = {name: start(name) for name in ("send-a", "send-b")}
        for kill in range(KILLS):
            time.sleep(KILL_EVERY_S)
            name = chance.choice(sorted(workers))
            workers[name].kill()
            if kill == 1:
                api.stop()
                time.sleep(3)
                api.start()
            workers[name] = start(name)
        until_finished(topic_space)
        assert [worker.terminate() for worker in workers.values()] == [0, 0]

    outbox = topic_space.records(Topic.OUTBOX)
    rejected = by_source(topic_space.records(Topic.HAKUNA_DEAD_LETTERS), "entry-id")
    wanted: dict[str, list[bytes]] = defaultdict(list)
    for entry_id, message in by_source(outbox, "entry-id").items():
        key, value = message.key(), message.value()
        assert key is not None
        assert value is not None
        if entry_id not in rejected:
            wanted[key.decode()].append(value)
    record = hakuna.record
    assert record.mistakes() == []
    accepted = {order: [one.body for one in record.history(order)] for order in record.subjects()}
    assert accepted == dict(wanted), "every entry is accepted, each order's in its order"
    assert record.key_conflicts == 0, "a repeat carries the same key and the same bytes"
    # A kill repeats what was in flight, or answered since the last commit (one second at this latency).
    at_a_kill = IN_FLIGHT_MAX + IN_FLIGHT_MAX * round(1.5 / 0.05)
    lost_answers = round(len(outbox) * 0.03)
    assert record.repeats <= KILLS * at_a_kill + lost_answers
    assert record.overlap_count <= KILLS * IN_FLIGHT_MAX, "two at once only where a killed worker's was under way"


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_window_has_more_than_the_quota_through_kills_joins_and_drains(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """A `kill -9` and a restart, a third worker that joins, one that drains: Hakuna, which counts strictly, answers
    none of it with 429, and every entry ends."""
    installation = Installation(topic_space, schema_registry, partitions=8)
    fill_outbox(installation, QUOTA_ORDERS, start_worker)
    hakuna = StandIn(HakunaApi(), Script(quota=QUOTA, latency=Latency(median_ms=20)))
    with Loopback(hakuna) as api:
        start = senders(topic_space, api.url, start_worker, HAKUNA_QUOTA=str(QUOTA))
        first, second = start("first"), start("second")
        wait_until(lambda: hakuna.record.requests >= QUOTA.requests, what="a window's requests", timeout_s=30)
        second.kill()
        second = start("second")
        time.sleep(QUOTA.window_s)
        third = start("third")
        time.sleep(2 * QUOTA.window_s)
        assert first.terminate() == 0
        until_finished(topic_space)
        assert {second.terminate(), third.terminate()} == {0}

    entries = by_source(topic_space.records(Topic.OUTBOX), "entry-id").keys()
    delivered = {json.loads(one.value() or b"")["entry_id"] for one in topic_space.records(Topic.DELIVERIES)}
    rejected = by_source(topic_space.records(Topic.HAKUNA_DEAD_LETTERS), "entry-id").keys()
    assert entries == delivered | rejected
    assert len(entries) > 4 * QUOTA.requests, "too few to meet every turn"
    assert hakuna.record.most_in(QUOTA.window_s) <= QUOTA.requests
    assert "429" not in hakuna.record.statuses()


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sender_that_stood_still_for_a_session_never_sends_beside_its_heir(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """SIGSTOP for 7 s (still a member), 9.3 s and 12 s (no more), by turns: never two requests of one order at once,
    nothing lost, each order in its order, though there is always more to send."""
    installation = Installation(topic_space, schema_registry, partitions=4)
    fill_outbox(installation, STOP_ORDERS, start_worker)
    hakuna = StandIn(HakunaApi(), Script(latency=Latency(median_ms=20)))
    with Loopback(hakuna) as api:
        start = senders(topic_space, api.url, start_worker, HAKUNA_QUOTA="80/1s")
        workers = [start("stop-a"), start("stop-b")]
        wait_until(lambda: hakuna.record.requests > 100, what="requests of both", timeout_s=60)
        for number, seconds in enumerate((9.3, 7.0, 12.0)):
            worker = workers[number % 2]
            os.kill(worker.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(worker.pid, signal.SIGCONT)
            time.sleep(3.0)
        until_finished(topic_space)
        assert [worker.terminate() for worker in workers] == [0, 0]
    record = hakuna.record
    assert record.overlap_count == 0
    assert record.mistakes() == []
    rejected = by_source(topic_space.records(Topic.HAKUNA_DEAD_LETTERS), "entry-id")
    wanted: dict[str, list[bytes]] = defaultdict(list)
    for entry_id, message in by_source(topic_space.records(Topic.OUTBOX), "entry-id").items():
        if entry_id not in rejected:
            wanted[(message.key() or b"").decode()].append(message.value() or b"")
    assert {order: [one.body for one in record.history(order)] for order in record.subjects()} == dict(wanted)


def fill_outbox(installation: Installation, orders: int, start_worker: StartWorker) -> None:
    """What a shop's orders become, all of it there before anything is sent."""
    start_ms = round(time.time() * 1000) - 600_000
    installation.play(shop(Shop(orders=orders, rate=10, bad_share=0.0, seed=5, start_ms=start_ms)))
    transform = start_worker("run", "--role", "transform", environment=installation.environment, name="transform")
    until_idle([transform])
    assert transform.terminate() == 0


def senders(space: TopicSpace, url: str, start_worker: StartWorker, **settings: str) -> Callable[[str], Worker]:
    """What starts a send worker of that name."""
    environment = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY} | settings

    def start(name: str) -> Worker:
        return start_worker("run", "--role", "send", environment=environment, name=name, await_ready=False)

    return start


def until_finished(space: TopicSpace) -> None:
    """Until the group has committed the end of every outbox partition. The workers' own lag would not do: a partition
    that moves from one to the other is nobody's for a while, and in nobody's metrics."""
    ends = space.end_offsets(Topic.OUTBOX)

    def finished() -> bool:
        return ends == {where[1]: known.offset for where, known in space.committed(GROUP, Topic.OUTBOX).items()}

    wait_until(finished, what=f"commits of {ends}", timeout_s=FINISH_SECONDS_MAX)


def until_idle(workers: list[Worker]) -> None:
    """Until all workers' lag has been 0 for two seconds."""
    deadline_s = time.monotonic() + FINISH_SECONDS_MAX
    calm = 0
    while calm < 4:
        assert time.monotonic() < deadline_s, [lag(worker) for worker in workers]
        calm = 0 if any(lag(worker) for worker in workers) else calm + 1
        time.sleep(0.5)
