"""The Order feed beside its floors, in one run: `python -m tests.benchmarks feed [--snapshots N]`.

transform    the same events as `transform.py`, each of which becomes a snapshot of its whole order
send         arrays of snapshots; the floor posts the same arrays with the same client, without Kafka
supersede    orders change at 10, 50, 90 and 200 % of what the quota lets through: how many a newer one replaced
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop
from confluent_kafka import Producer

from processor.edges.http.connection import HttpLimits
from processor.edges.http.exchange import ask
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import tls_context
from processor.hakuna import feed as hakuna_feed
from processor.topics import TOPICS, Topic
from tests.benchmarks import send, transform
from tests.benchmarks.measured import Run, finished, run_floor, run_workers
from tests.support.kafka import KafkaBroker
from tests.support.processes import Worker
from tests.support.topics import TopicSpace, produce

ARRAY = 100
SNAPSHOT_BYTES = 1_200
FEED = {"HAKUNA_API": "feed"}
QUOTA_REQUESTS, QUOTA_S = 10, 1
"""Of the runs that measure superseding: 10 arrays of 100 a second."""
SUPERSEDE_S = 15.0
SUPERSEDE_ORDERS = 2_000


def snapshot(number: int) -> bytes:
    return b'{"id":"ord-%d","filling":"%b"}' % (number, b"x" * SNAPSHOT_BYTES)


async def post_arrays(url: str, snapshots: int) -> None:
    transport = LeanTransport(tls_context, HttpLimits(connections_max=send.IN_FLIGHT))
    template = RequestTemplate("POST", httpx.URL(f"{url}/feeds/order"), send.HEADERS)
    arrays = iter(range(snapshots // ARRAY))

    async def work() -> None:
        for number in arrays:
            content = hakuna_feed.array([snapshot(number * ARRAY + at) for at in range(ARRAY)])
            own = [(b"Idempotency-Key", b'"array/%d"' % number)]
            assert (await ask(transport, template, content, own)).status == 200

    await asyncio.gather(*(work() for _ in range(16)))
    await transport.aclose()


def floor(url: str, snapshots: int, answer: Any) -> None:
    started_s, started_cpu = time.monotonic(), time.process_time()
    uvloop.run(post_arrays(url, snapshots))
    answer.send(Run(snapshots, time.monotonic() - started_s, time.process_time() - started_cpu, 0))


class Outbox:
    """Snapshots as transform leaves them, on topics of their own."""

    def __init__(self, space: TopicSpace) -> None:
        self._space = space
        for plan in TOPICS:
            space.create(plan.topic, partitions=send.PARTITIONS, config=plan.config)
        self._producer = Producer({"bootstrap.servers": space.bootstrap_servers, "linger.ms": 20})
        self._count = 0

    def write(self, order: int) -> None:
        headers = [
            ("entry-id", b"feed/bench/%d" % self._count),
            ("entry-type", b"order"),
            ("source", b"bench/0/%d" % self._count),
            ("occurred-at", b"%d" % (time.time() * 1000)),
        ]
        self._count += 1
        topic, partition = self._space.name(Topic.OUTBOX), order % send.PARTITIONS
        produce(self._producer, topic, snapshot(order), b"ord-%d" % order, partition=partition, headers=list(headers))

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


def superseded_share(space: TopicSpace, url: str, utilisation: float) -> tuple[float, int]:
    """Of the snapshots of some seconds at this share of the quota; and the requests that it took."""
    outbox = Outbox(space)
    settings = space.environment | FEED | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"}
    settings |= {"HAKUNA_QUOTA": f"{QUOTA_REQUESTS}/{QUOTA_S}s"}
    rate = utilisation * QUOTA_REQUESTS / QUOTA_S * ARRAY
    with (
        tempfile.TemporaryDirectory() as directory,
        Worker("run", "--role", "send", environment=settings, directory=Path(directory)) as worker,
    ):
        started_s = time.monotonic()
        written = 0
        while (elapsed_s := time.monotonic() - started_s) < SUPERSEDE_S:
            while written < elapsed_s * rate:
                outbox.write(written * 7_919 % SUPERSEDE_ORDERS)
                written += 1
            outbox.flush()
            time.sleep(0.01)
        while finished(worker, "send") < written:
            time.sleep(0.1)
        lines = worker.get("/metrics").text.splitlines()
        replaced = _sum(lines, "processor_records_total{", 'outcome="superseded"')
        requests = _sum(lines, "processor_requests_total{", "")
        assert worker.terminate() == 0
    return replaced / written, round(requests)


def _sum(lines: list[str], metric: str, label: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric) and label in line)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--snapshots", type=int, default=200_000)
    options = parser.parse_args(arguments)
    print("feed: transform, every event a snapshot of its order", flush=True)
    transform.main(["--env", "HAKUNA_API=feed"])
    with send.server(0) as url, KafkaBroker() as broker:
        print(f"feed: send, {options.snapshots:,} snapshots in arrays of {ARRAY}", flush=True)
        of_floor = run_floor(floor, url, options.snapshots)
        space = TopicSpace(broker.bootstrap_servers)
        outbox = Outbox(space)
        for number in range(options.snapshots):
            outbox.write(number)
        outbox.flush()
        settings = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"} | FEED
        ours = run_workers("send", settings, options.snapshots)
        print(ours.line("send"), flush=True)
        print(ours.beside_floor(of_floor), flush=True)
        for utilisation in (0.1, 0.5, 0.9, 2.0):
            share, requests = superseded_share(TopicSpace(broker.bootstrap_servers), url, utilisation)
            print(f"{utilisation:>12.0%} of the quota: {share:.1%} superseded, {requests} requests", flush=True)
