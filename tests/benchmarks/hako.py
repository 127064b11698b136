"""Hako under pressure: `python -m tests.benchmarks hako [--records N] [--keys N] [--rate N] [--seconds N]`.

    all read     a full topic: N records of far fewer keys, read to its end before anything is sent
    first run    each key is told once, or this fails
    changes      levels change at `rate` a second, against the quota that Hako allows; what is sent is the newest

One hako process, the strict stand-in with its 120 requests a minute. In the end the stand-in's tables are the last
values of the topics, or this fails.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from random import Random

import httpx

from processor.config import Quota
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.benchmarks.measured import cpu_s, finished, rss_bytes
from tests.support.installation import Installation
from tests.support.kafka import KafkaBroker
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

PARTITIONS = 4
WAREHOUSES = 10
QUOTA = Quota(120, 60.0)
WAIT_S_MAX = 1800.0


class Stock:
    """Writes levels, and remembers the last of each key."""

    def __init__(self, installation: Installation, keys: int) -> None:
        self._installation = installation
        self._chance = Random(1)
        self.skus = [f"sku-{number}" for number in range(keys // WAREHOUSES)]
        self.last: dict[tuple[str, str], int] = {}
        self._at_ms = 1_700_000_000_000
        for sku in self.skus:
            item = {"sku": sku, "name": sku, "expires": None, "price": 100}
            installation.write(Topic.ITEMS, sku.encode(), installation.encode(Topic.ITEMS, item))
        for number in range(WAREHOUSES):
            name = f"w{number}"
            warehouse = {"warehouse_id": name, "name": name}
            installation.write(Topic.WAREHOUSES, name.encode(), installation.encode(Topic.WAREHOUSES, warehouse))
        installation.flush()

    def change(self) -> None:
        self._at_ms += 1
        warehouse = f"w{self._chance.randrange(WAREHOUSES)}"
        sku, quantity = self._chance.choice(self.skus), self._chance.randrange(100_000)
        level = {"sku": sku, "warehouse_id": warehouse, "quantity": quantity, "occurred_at": self._at_ms}
        value = self._installation.encode(Topic.LEVELS, level)
        self._installation.write(Topic.LEVELS, f"{warehouse}/{sku}".encode(), value)
        self.last[warehouse, sku] = quantity


def finish(worker: Worker, records: int) -> None:
    deadline_s = time.monotonic() + WAIT_S_MAX
    while (done := finished(worker, "hako")) < records:
        assert time.monotonic() < deadline_s, f"{done} of {records}: {worker.log_tail()}"
        time.sleep(0.2)


def table(url: str) -> dict[tuple[str, str], int]:
    answer = httpx.get(f"{url}/_sandbox/contents", timeout=60)
    rows = answer.raise_for_status().json()["inventory"]
    return {(row["warehouseID"], row["sku"]): row["quantity"] for row in rows}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args(arguments)
    hako = StandIn(HakoApi(), Script(key=SANDBOX_KEY, quota=QUOTA))
    with (
        KafkaBroker() as broker,
        Loopback(StandIn(RegistryApi())) as registry,
        Loopback(hako) as api,
        tempfile.TemporaryDirectory() as directory,
    ):
        made = Installation(TopicSpace(broker.bootstrap_servers), registry.url, partitions=PARTITIONS)
        stock = Stock(made, options.keys)
        for _ in range(options.records):
            stock.change()
        made.flush()
        catalogue = len(stock.skus) + WAREHOUSES
        hako_settings = {
            "HAKO_BASE_URL": f"{api.url}/v0",
            "HAKO_API_KEY": SANDBOX_KEY,
            "PROCESSOR_HAKO_CATCH_UP": "1h",  # a busy machine is no reason to tell keys twice
        }
        settings = made.environment | hako_settings
        print(f"hako, {options.records:,} levels of {len(stock.last):,} keys, {catalogue:,} objects", flush=True)
        with Worker(
            "run", "--role", "hako", environment=settings, directory=Path(directory), await_ready=False
        ) as worker:
            started_s = time.monotonic()
            worker.wait_ready(WAIT_S_MAX)
            print(_line("all read", worker, started_s, 0.0, options.records, hako.record.requests), flush=True)
            finish(worker, options.records + catalogue)
            told = [len(hako.record.history(subject)) for subject in hako.record.subjects()]
            print(_line("first run", worker, started_s, 0.0, options.records, hako.record.requests), flush=True)
            print(f"{'':<12} {len(told):,} objects told, {sum(told) - len(told):,} of them again", flush=True)
            assert len(told) == sum(told) == catalogue + len(stock.last), "an object is told twice, or never"
            before, cpu_before, started_s = hako.record.requests, cpu_s(worker.pid), time.monotonic()
            changed = 0
            while (elapsed_s := time.monotonic() - started_s) < options.seconds:
                while changed < elapsed_s * options.rate:
                    stock.change()
                    changed += 1
            made.flush()
            finish(worker, options.records + catalogue + changed)
            requests = hako.record.requests - before
            print(_line("changes", worker, started_s, cpu_before, changed, requests), flush=True)
            assert table(api.url) == stock.last, "Hako's table is not the last values of the topic"
            most = hako.record.most_in(QUOTA.window_s)
            refused = hako.record.statuses().get("429", 0)
            print(f"{'':<12} the last value of each key; {most} requests in the fullest minute, {refused} refused")
            assert worker.terminate() == 0


def _line(name: str, worker: Worker, started_s: float, cpu_before: float, records: int, requests: int) -> str:
    seconds, cpu = time.monotonic() - started_s, cpu_s(worker.pid) - cpu_before
    return (
        f"{name:<12} {records:,} records in {seconds:.0f} s, {cpu / records * 1e6:.0f} µs CPU each, "
        f"{requests} requests, {rss_bytes(worker.pid) / 1e6:.0f} MB at most"
    )
