"""The hako role on a real Kafka and a real registry, against a stand-in that is as strict as the reference: what Hako
holds in the end is what the topics say last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, cast

import httpx
import pytest

from processor.config import Quota
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import STOCK_TOPICS, Topic
from tests.conftest import StartWorker
from tests.integration.test_whole_path import headers, lag
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.json_output import printed
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

QUOTA = Quota(20, 2.0)
FINISH_SECONDS_MAX = 60.0
Tables = Mapping[str, list[dict[str, Any]]]


class Stock:
    """A shop's catalogue and what is in its warehouses: writes each change, and remembers the last. `last` has by topic
    and key what stands in Hako's table then."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._occurred_at = 1_700_000_000_000
        self.last: dict[Topic, dict[str, dict[str, Any]]] = {topic: {} for topic in STOCK_TOPICS}

    def item(self, sku: str, name: str, price: int) -> None:
        self._write(Topic.ITEMS, sku, {"sku": sku, "name": name, "expires": 1_800_000_000_999, "price": price})
        self.last[Topic.ITEMS][sku] = {"sku": sku, "name": name, "expires": 1_800_000_000, "price": price}

    def warehouse(self, warehouse: str, name: str) -> None:
        self._write(Topic.WAREHOUSES, warehouse, {"warehouse_id": warehouse, "name": name})
        self.last[Topic.WAREHOUSES][warehouse] = {"warehouseID": warehouse, "name": name}

    def level(self, warehouse: str, sku: str, quantity: int) -> None:
        self._occurred_at += 1
        self._level(warehouse, sku, quantity, self._occurred_at)
        self.last[Topic.LEVELS][f"{warehouse}/{sku}"] = {"sku": sku, "warehouseID": warehouse, "quantity": quantity}

    def late_level(self, warehouse: str, sku: str) -> None:
        """A count from long ago: ignored."""
        self._level(warehouse, sku, -1, 1_000_000_000_000)

    def delete(self, topic: Topic, key: str) -> None:
        self._installation.write(topic, key.encode(), None)
        self.last[topic].pop(key, None)

    def _level(self, warehouse: str, sku: str, quantity: int, at_ms: int) -> None:
        said = {"sku": sku, "warehouse_id": warehouse, "quantity": quantity, "occurred_at": at_ms}
        self._write(Topic.LEVELS, f"{warehouse}/{sku}", said)

    def _write(self, topic: Topic, key: str, said: Mapping[str, Any]) -> None:
        self._installation.write(topic, key.encode(), self._installation.encode(topic, said))

    @property
    def tables(self) -> Tables:
        topics = {"items": Topic.ITEMS, "warehouses": Topic.WAREHOUSES, "inventory": Topic.LEVELS}
        key_of: dict[str, Callable[[dict[str, Any]], tuple[str, ...]]] = {
            "items": lambda row: (row["sku"],),
            "warehouses": lambda row: (row["warehouseID"],),
            "inventory": lambda row: (row["warehouseID"], row["sku"]),
        }
        return {table: sorted(self.last[topic].values(), key=key_of[table]) for table, topic in topics.items()}


def stocked(installation: Installation, count: int) -> Stock:
    """A warehouse with so many items, each with its level, all of it acknowledged."""
    stock = Stock(installation)
    stock.warehouse("w", "W")
    for number in range(count):
        stock.item(f"sku-{number}", f"Item {number}", number)
        stock.level("w", f"sku-{number}", number)
    installation.flush()
    return stock


def wait_until_done(*workers: Worker) -> None:
    deadline_s = time.monotonic() + FINISH_SECONDS_MAX
    calm = 0
    while calm < 4:
        if time.monotonic() > deadline_s:  # an assert would cut off what tells why
            stands = [f"{worker.get('/status').text}\n{worker.get('/readyz').text}" for worker in workers]
            pytest.fail("\n".join([f"not done within {FINISH_SECONDS_MAX:g} s", *stands]), pytrace=False)
        try:
            calm = 0 if any(lag(worker) for worker in workers) else calm + 1
        except httpx.TransportError:
            calm = 0
        time.sleep(0.5)


def settings_of(installation: Installation, url: str) -> dict[str, str]:
    return installation.environment | {
        "HAKO_BASE_URL": f"{url}/v0",
        "HAKO_API_KEY": SANDBOX_KEY,
        "HAKO_QUOTA": str(QUOTA),
        "PROCESSOR_PARK_FOR": "5s",
        "KAFKA_SESSION_TIMEOUT_MS": "6000",
    }


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_tables_are_the_last_values_of_the_topics(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """Creates, updates, deletes and re-creates, with two workers, a restart and a kill -9: Hako has the last value of
    each key, nothing is a dead letter, and no window has more requests than the quota."""
    installation = Installation(topic_space, schema_registry, partitions=2)
    stock = Stock(installation)
    chance = Random(3)
    skus = [f"sku-{number}/é" for number in range(40)]
    warehouses = ["north", "south"]
    hako = StandIn(HakoApi(), Script(key=SANDBOX_KEY, quota=QUOTA, latency=Latency(median_ms=20)))

    def update(times: int) -> None:
        for _ in range(times):
            stock.level(chance.choice(warehouses), chance.choice(skus), chance.randint(-5, 10**9))
            sku = chance.choice(skus)
            stock.item(sku, f"{sku} {chance.random()}", chance.randint(0, 9999))
        installation.flush()

    with Loopback(hako) as api:
        settings = settings_of(installation, api.url)

        def start(name: str, await_ready: bool = True) -> Worker:
            return start_worker("run", "--role", "hako", environment=settings, name=name, await_ready=await_ready)

        for warehouse in warehouses:
            for sku in skus:
                stock.level(warehouse, sku, chance.randint(0, 99))
        for sku in skus:
            stock.item(sku, sku, 1)
        for warehouse in warehouses:
            stock.warehouse(warehouse, warehouse.title())
        installation.flush()
        first, second = start("first"), start("second")
        update(500)
        wait_until_done(first, second)
        assert hako.api.contents() == stock.tables

        for sku in skus[:10]:
            stock.delete(Topic.ITEMS, sku)
            for warehouse in warehouses:
                stock.delete(Topic.LEVELS, f"{warehouse}/{sku}")
        del skus[:10]
        installation.flush()
        assert first.terminate() == 0
        update(500)
        first = start("first", await_ready=False)
        update(500)
        second.kill()
        second = start("second", await_ready=False)
        for number in range(5):
            stock.item(f"sku-{number}/é", "again", 7)
            for warehouse in warehouses:
                stock.level(warehouse, f"sku-{number}/é", number)
                stock.late_level(warehouse, f"sku-{number}/é")
        update(200)
        first.wait_ready()
        second.wait_ready()
        wait_until_done(first, second)
        assert hako.api.contents() == stock.tables
        told = first.get("/metrics").text + second.get("/metrics").text
        stale = [line for line in told.splitlines() if line.startswith("processor_ignored_total{") and "stale" in line]
        assert any(f'topic="{topic_space.name(Topic.LEVELS)}"' in line for line in stale), "counts from long ago"
        requests = hako.record.requests
        assert first.terminate() == 0
        first = start("first")
        wait_until_done(first, second)
        assert hako.record.requests == requests, "an unchanged topic is not sent again"
        assert {first.terminate(), second.terminate()} == {0}

    assert topic_space.records(Topic.HAKO_DEAD_LETTERS) == []
    assert hako.record.most_in(QUOTA.window_s) <= QUOTA.requests
    assert "429" not in hako.record.statuses()
    assert hako.record.mistakes() == []


@pytest.mark.timeout(120)
def test_a_first_run_on_a_full_topic_tells_each_object_once(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """Twenty changes of each level stand there, before the items that they name: each object is told once, its newest
    value, in as many requests as full arrays need."""
    installation = Installation(topic_space, schema_registry, partitions=2)
    stock = Stock(installation)
    skus = [f"sku-{number}" for number in range(500)]
    for number in range(20):
        for sku in skus:
            stock.level("north", sku, number)
            stock.level("south", sku, -number)
    for sku in skus:
        stock.item(sku, sku, 1)
    stock.warehouse("north", "North")
    stock.warehouse("south", "South")
    installation.flush()
    hako = StandIn(HakoApi(), Script(key=SANDBOX_KEY, quota=QUOTA))
    with Loopback(hako) as api:
        worker = start_worker("run", "--role", "hako", environment=settings_of(installation, api.url))
        wait_until_done(worker)
        assert worker.terminate() == 0
    assert hako.api.contents() == stock.tables
    assert Counter(len(hako.record.history(subject)) for subject in hako.record.subjects()) == {1: 1502}
    assert hako.record.requests == hako.record.statuses()["200"] <= 9


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_what_is_refused_is_alone_in_the_dead_letters_and_what_comes_early_waits(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """One refused item of a hundred; a level before its item; a level of an item that never comes; a key without a
    slash, one of another object, a value that is no Avro, a quantity that JSON cannot hold: each ends as it should, and
    the newest of all others is there."""
    installation = Installation(topic_space, schema_registry, partitions=1)
    stock = Stock(installation)
    hako = StandIn(HakoApi(), Script(key=SANDBOX_KEY, quota=QUOTA, refused_skus=frozenset({"sku-37"})))
    for number in range(100):
        stock.item(f"sku-{number}", "x", number)
    stock.warehouse("w", "W")
    del stock.last[Topic.ITEMS]["sku-37"]
    stock.level("w", "early", 5)
    stock.level("w", "never", 6)
    del stock.last[Topic.LEVELS]["w/never"]
    bad = {
        b"no-slash": installation.encode(Topic.LEVELS, _level("w", "sku-1", 1)),
        b"w/other": installation.encode(Topic.LEVELS, _level("w", "sku-1", 1)),
        b"w/garbled": b"no avro",
        b"w/huge": installation.encode(Topic.LEVELS, _level("w", "huge", 2**60)),
    }
    for key, value in bad.items():
        installation.write(Topic.LEVELS, key, value, headers=[("trace", b"1")])
    installation.flush()
    with Loopback(hako) as api:
        settings = settings_of(installation, api.url)
        worker = start_worker("run", "--role", "hako", environment=settings)
        time.sleep(3.0)
        stock.item("early", "Early", 1)
        installation.flush()
        wait_until_done(worker)
        status = worker.get("/status").json()
        metrics = worker.get("/metrics").text
        told = printed("sku", ask("sku", "sku-37", "--output", "json", environment=settings).out)
        came = printed("sku", ask("sku", "early", "--output", "json", environment=settings).out)
        counts = ask("dead-letters", "list", "--topic", "hako.dead-letters", environment=settings)
        assert "http_404" in counts.out, counts
        assert hako.api.contents() == stock.tables

        hako.script = Script(key=SANDBOX_KEY, quota=QUOTA)
        stock.item("sku-37", "newer", 370)
        installation.flush()
        wait_until_done(worker)
        counts = ask("dead-letters", "list", "--topic", "hako.dead-letters", environment=settings)
        assert "http_404" in counts.out, counts
        assert "http_400" not in counts.out, "superseded by the newer value"
        stock.item("never", "after all", 1)
        installation.flush()
        replayed = ask(
            "dead-letters",
            "replay",
            "--topic",
            "hako.dead-letters",
            "--reason",
            "http_404",
            "--output",
            "json",
            environment=settings,
        )
        assert replayed.code == 0, replayed
        stock.last[Topic.LEVELS]["w/never"] = {"sku": "never", "warehouseID": "w", "quantity": 6}
        wait_until_done(worker)
        assert worker.terminate() == 0

    assert [(one["kind"], one.get("became")) for one in told["timeline"]] == [
        ("event", "dead_lettered"),
        ("dead_letter", None),
    ]
    assert [one.get("became") for one in came["timeline"]] == ["delivered", "delivered", None, None]
    assert hako.api.contents() == stock.tables
    letters = {cast(bytes, letter.key()): headers(letter) for letter in topic_space.records(Topic.HAKO_DEAD_LETTERS)}
    assert len(letters) == 6
    reasons = {key: found["__dlq.errors.reason"].decode() for key, found in letters.items()}
    assert reasons == {
        b"sku-37": "http_400",
        b"w/never": "http_404",
        b"no-slash": "key_mismatch",
        b"w/other": "key_mismatch",
        b"w/garbled": "undecodable",
        b"w/huge": "quantity_exceeded",
    }
    assert letters[b"no-slash"]["trace"] == b"1"
    assert b"sku-37" in letters[b"sku-37"]["__dlq.errors.http.validation.errors"]
    assert [one["name"] for one in status["destinations"]] == ["hako"]
    assert {one["topic"] for one in status["partitions"]} == {topic_space.name(topic) for topic in STOCK_TOPICS}
    assert 'processor_requests_total{destination="hako",status="200"}' in metrics
    assert 'processor_oldest_unsent_seconds{destination="hako"} 0.0' in metrics
    assert 'processor_unsent_objects{destination="hako",waits_for="unknown"} 0.0' in metrics
    assert hako.record.most_in(QUOTA.window_s) <= QUOTA.requests


def _level(warehouse: str, sku: str, quantity: int) -> dict[str, Any]:
    return {"sku": sku, "warehouse_id": warehouse, "quantity": quantity, "occurred_at": 1_600_000_000_001}
