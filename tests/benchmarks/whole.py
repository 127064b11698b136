"""The whole path on two cores, from a shop's record to the 2xx of its request: `python -m tests.benchmarks whole`.

A broker, a stand-in for both APIs in a process of its own, and one worker a role: transform, send, and hako beside
them with changes of stock. First a backlog, which tells the rate that all of it together can do; then half of it for a
while that is not counted, until the broker's JVM has compiled what it runs (`--warm`); then a steady load at 10, 50 and
90 % of that. What it took is what the receipts say: from the source record's timestamp, which is when it was
written, to the answer. Writer, broker and stand-in share the cores with the workers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.benchmarks.hako import Stock
from tests.benchmarks.latency import Writers
from tests.benchmarks.measured import LOOK_S, WAIT_S_MAX, Run, cpu_s, finished, rss_bytes
from tests.benchmarks.send import server
from tests.benchmarks.transform import PARTITIONS, site
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

SHARES = (0.1, 0.5, 0.9)
WARM_SHARE = 1 / 3
"""Of each load, not counted."""
P99_MS_MAX = 250
JUDGED = 0.5
STOCK_KEYS = 5_000
STOCK_EVERY = 10
"""Order events to each change of stock."""
SLICE_S = 0.005

Event = tuple[Topic, bytes | None, bytes | None]


class Site:
    """An installation with its writers and its three workers. Mutable: `workers` once they run."""

    def __init__(self, made: Installation, url: str, directory: Path) -> None:
        self.made = made
        self.writers = Writers(made)
        self.stock = Stock(made, STOCK_KEYS)
        self.workers: dict[str, Worker] = {}
        self._directory = directory
        self._environments = {
            "transform": made.environment,
            "send": made.space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"},
            "hako": made.environment | {"HAKO_BASE_URL": url, "HAKO_API_KEY": "sk_test_bench"},
        }

    def start(self, running: ExitStack) -> None:
        for role, environment in self._environments.items():
            home = self._directory / role
            worker = Worker("run", "--role", role, environment=environment, directory=home, await_ready=False)
            self.workers[role] = running.enter_context(worker)

    def write(self, event: Event, number: int) -> None:
        self.writers.write(*event)
        if number % STOCK_EVERY == 0:
            self.stock.change()

    def flush(self) -> None:
        self.writers.flush()
        self.made.flush()

    def transformed(self) -> int:
        """Those that wait for their order to be placed have been seen, and send nothing yet."""
        lines = self.workers["transform"].get("/metrics").text.splitlines()
        parked = sum(float(line.split()[-1]) for line in lines if line.startswith("processor_parked_events"))
        return finished(self.workers["transform"], "transform") + round(parked)

    def sent(self) -> int:
        return finished(self.workers["send"], "send")

    def await_all(self, events: int) -> None:
        """Until so many events in all are transformed, and all that they became is sent."""
        deadline_s = time.monotonic() + WAIT_S_MAX
        while self.transformed() < events:
            assert time.monotonic() < deadline_s, self.workers["transform"].log_tail()
            time.sleep(LOOK_S)
        entries = len(self.made.space.records(Topic.OUTBOX))
        while self.sent() < entries:
            assert time.monotonic() < deadline_s, self.workers["send"].log_tail()
            time.sleep(LOOK_S)

    def cpu_s(self) -> float:
        return sum(cpu_s(worker.pid) for worker in self.workers.values())


def most(site: Site, backlog: Sequence[Event], running: ExitStack) -> Run:
    """What all of it does at once: a backlog, from the first accepted request to the last."""
    for number, event in enumerate(backlog):
        site.write(event, number)
    site.flush()
    site.start(running)
    deadline_s = time.monotonic() + WAIT_S_MAX
    while not site.sent():
        assert time.monotonic() < deadline_s, site.workers["send"].log_tail()
        time.sleep(LOOK_S / 5)
    started_s, started_cpu_s = time.monotonic(), site.cpu_s()
    site.await_all(len(backlog))
    rss = sum(rss_bytes(worker.pid) for worker in site.workers.values())
    return Run(len(backlog), time.monotonic() - started_s, site.cpu_s() - started_cpu_s, rss)


def latencies_ms(site: Site, steady: Sequence[Event], rate: float, before: int) -> list[int]:
    """At so many events a second, of those that came when all was warm. `before`: events so far."""
    started_s, warm_ms = time.monotonic(), 0.0
    for number, event in enumerate(steady):
        if (ahead_s := started_s + number / rate - time.monotonic()) > SLICE_S:
            time.sleep(ahead_s)
        if number == round(len(steady) * WARM_SHARE):
            warm_ms = time.time() * 1000
        site.write(event, number)
    took_s = time.monotonic() - started_s
    print(f"{'load':<12} {len(steady) / took_s:>9,.0f} events/s of {rate:,.0f}", flush=True)
    site.flush()
    site.await_all(before + len(steady))
    receipts = [json.loads(message.value() or b"") for message in site.made.space.records(Topic.DELIVERIES)]
    return sorted(
        receipt["latency_ms"] for receipt in receipts if receipt["delivered_at"] - receipt["latency_ms"] >= warm_ms
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backlog", type=int, default=100_000, help="events by which the rate is found")
    parser.add_argument("--seconds", type=int, default=30, help="of each steady load")
    parser.add_argument("--warm", type=int, default=60, help="seconds of a load beforehand, which does not count")
    options = parser.parse_args(arguments)
    with (
        site() as (broker, registry_url),
        server(0) as url,
        tempfile.TemporaryDirectory() as directory,
        ExitStack() as running,
    ):
        made = Installation(TopicSpace(broker.bootstrap_servers), registry_url, partitions=PARTITIONS)
        shown = Shop(orders=options.backlog * 12, rate=100, bad_share=0.0, seed=1, start_ms=1_700_000_000_000)
        coming = ((step.topic, step.key, made.value(step)) for step in shop(shown))
        whole = Site(made, url, Path(directory))
        found = most(whole, list(islice(coming, options.backlog)), running)
        print(f"whole, from a shop's record to its 2xx, a backlog of {options.backlog:,} events", flush=True)
        print(found.line("all roles"), flush=True)
        before = options.backlog
        warming = list(islice(coming, round(found.rate * JUDGED * options.warm)))
        latencies_ms(whole, warming, found.rate * JUDGED, before)
        before += len(warming)
        for share in SHARES:
            rate = found.rate * share
            steady = list(islice(coming, round(rate * options.seconds)))
            ages_ms = latencies_ms(whole, steady, rate, before)
            before += len(steady)
            p50, p99, p999 = (ages_ms[int(len(ages_ms) * part)] for part in (0.5, 0.99, 0.999))
            of_max = f"  ({p99 / P99_MS_MAX:.0%} of the {P99_MS_MAX} ms that p99 may be)" if share == JUDGED else ""
            print(
                f"{share:<12.0%} {rate:>9,.0f} events/s  p50 {p50} ms  p99 {p99} ms  p99.9 {p999} ms{of_max}",
                flush=True,
            )
