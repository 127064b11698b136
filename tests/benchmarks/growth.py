"""transform over states of ten thousand, a million, ten million orders: `python -m tests.benchmarks growth`.

Each size has topics of its own. The state is written into the changelog (`order_states.fill`), and a worker restores
it and ends once RocksDB has merged what was restored. Then a shop's events are written, new orders and what follows
them, and among them cancellations of orders out of all of the state, one each, which no cache has; and a worker with
the same volume takes them. What counts is its rate and CPU an event beside the smallest state's, and the peak of
memory, the restore included. With `--at-once` the events are there before the restore: RocksDB merges beside them.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.benchmarks.measured import LOOK_S, WAIT_S_MAX, Run, between, cpu_s, finished, rss_bytes
from tests.benchmarks.order_states import fill, key_of
from tests.benchmarks.transform import PARTITIONS, site
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

SPAN_MS = 3_000_000
AT_REST_CPU_S = 0.1
"""CPU seconds in a second of a worker that has nothing to do but to poll."""


def played(made: Installation, state: int, new: int, old: int) -> int:
    """Writes the events: those of so many new orders, and cancellations of so many of the state. Returns how many."""
    start_ms = round(time.time() * 1000) - 3_600_000
    steps = made.play(shop(Shop(orders=new, rate=new * 1000 / SPAN_MS, bad_share=0.0, seed=1, start_ms=start_ms)))
    chance = random.Random(1)
    for number, at in enumerate(chance.sample(range(state), old)):
        event = {"event_id": f"late-{number}", "order_id": key_of(at).decode(), "cancelled_at": start_ms}
        value = made.encode(Topic.CANCELLED, event)
        when_ms = start_ms + number * SPAN_MS // old
        made.write(Topic.CANCELLED, key_of(at), value, partition=at % PARTITIONS, timestamp_ms=when_ms)
    made.flush()
    return len(steps) + old


def transform(made: Installation, directory: Path) -> Worker:
    return Worker("run", "--role", "transform", environment=made.environment, directory=directory, await_ready=False)


def restored(made: Installation, directory: Path) -> int:
    """Restores the state into the directory. Returns the peak of memory in bytes."""
    with transform(made, directory) as worker:
        deadline_s = time.monotonic() + WAIT_S_MAX
        while worker.log.read_text().count("restore done") < PARTITIONS:
            assert time.monotonic() < deadline_s, worker.log_tail()
            time.sleep(LOOK_S)
        before_s = -1.0
        while cpu_s(worker.pid) - before_s > AT_REST_CPU_S:
            assert time.monotonic() < deadline_s, worker.log_tail()
            before_s = cpu_s(worker.pid)
            time.sleep(1.0)
        peak = rss_bytes(worker.pid)
        assert worker.terminate() == 0
        return peak


def run(made: Installation, events: int, directory: Path, peak: int) -> Run:
    """Measured from the first event on."""
    with transform(made, directory) as worker:
        deadline_s = time.monotonic() + WAIT_S_MAX
        looks: list[tuple[float, float, int]] = []
        while (done := finished(worker, "transform")) < events:
            assert time.monotonic() < deadline_s, f"{done} of {events}: {worker.log_tail()}"
            if done:
                looks.append((time.monotonic(), cpu_s(worker.pid), done))
            time.sleep(LOOK_S)
        figures = between(looks, max(peak, rss_bytes(worker.pid)))
        assert worker.terminate() == 0
        return figures


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000], help="orders of state")
    parser.add_argument("--orders", type=int, default=30_000, help="new ones")
    parser.add_argument("--old", type=int, default=10_000, help="orders of the state that are cancelled")
    parser.add_argument("--at-once", action="store_true", help="events straight after the restore")
    options = parser.parse_args(arguments)
    smallest: Run | None = None
    with site() as (broker, registry_url):
        for size in sorted(options.sizes):
            made = Installation(TopicSpace(broker.bootstrap_servers), registry_url, partitions=PARTITIONS)
            fill(made, made.space.name(Topic.CHANGELOG), size)
            with tempfile.TemporaryDirectory() as directory:
                peak = 0 if options.at_once else restored(made, Path(directory))
                events = played(made, size, options.orders, options.old)
                print(f"growth, {events:,} events over a state of {size:,} orders", flush=True)
                figures = run(made, events, Path(directory), peak)
            print(figures.line("transform"), flush=True)
            smallest = smallest or figures
            rate, cpu = figures.rate / smallest.rate, figures.cpu_us / smallest.cpu_us
            print(f"{'ratio':<12} {rate:>9.0%} of the smallest state's rate, {cpu:.0%} of its CPU an event", flush=True)
