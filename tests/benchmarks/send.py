"""send beside its floor, in one run: `python -m tests.benchmarks.send [--entries N] [--orders N] [--latency-ms N]`.

With `--half-load`, a second run after it: entries come to the outbox one by one at half the rate that was just
measured, and each receipt tells how long it took from there to the 2xx; the second half of them, when all is warm.

The floor is the same HTTP client posting the same bodies to the same server from memory, by its cheapest way: no
Kafka, no lanes, no receipts, no offsets, no metrics. The server is a minimal one of ours in a process of its own;
with a latency it answers each request that much later, and then `orders / latency` is the ceiling, since an order has
one request in flight. CPU is of the whole process, librdkafka's threads included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import httptools
import httpx
import uvloop
from confluent_kafka import Producer

from processor.edges.http.connection import HttpLimits
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import tls_context
from processor.topics import TOPICS, Topic
from tests.benchmarks.measured import Run, both, finished, run_floor, run_workers
from tests.support.kafka import KafkaBroker
from tests.support.processes import Worker
from tests.support.topics import TopicSpace, produce

MODULE = "tests.benchmarks.send"
PARTITIONS = 4
IN_FLIGHT = 1024
BODY_BYTES = 600
WAIT_S_MAX = 600.0
HEADERS = [
    (b"Authorization", b"Bearer sk_test_bench"),
    (b"Content-Type", b"application/json"),
    (b"Hakuna-Version", b"v1.2"),
    (b"User-Agent", b"hakuna-processor/bench"),
]


def body(number: int) -> bytes:
    filling = "x" * (BODY_BYTES - 100)
    return b'{"type":"order_cancelled","payload":{"order_id":"ord-%d","filling":"%b"}}' % (number, filling.encode())


class Answering(asyncio.Protocol):
    """Whole requests in, one prebuilt answer each, `latency_s` later. Mutable: its parser and transport."""

    wire = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n{"event_id":"evt-1234"}'

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._latency_s:
            asyncio.get_running_loop().call_later(self._latency_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(self.wire)


async def serve(latency_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(partial(Answering, latency_s), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def server(latency_ms: int) -> Iterator[str]:
    command = [sys.executable, "-m", MODULE, "--serve", "--latency-ms", str(latency_ms)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{int(child.stdout.readline())}"
    finally:
        child.kill()
        child.wait()


class Posting:
    """One request after the other, as long as there are numbers. Mutable: `over` when there are none."""

    def __init__(self, transport: LeanTransport, template: RequestTemplate, numbers: Iterator[int]) -> None:
        self._transport = transport
        self._template = template
        self._numbers = numbers
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.post()

    def post(self) -> None:
        number = next(self._numbers, None)
        if number is None:
            self.over.set_result(None)
            return
        key = [(b"Idempotency-Key", b'"events/bench/%d"' % number)]
        self._transport.exchange(self._template, body(number % 1000), key, self)

    def answered(self, status: int, head: list[bytes], body: bytes, truncated: bool) -> None:
        assert status == 200
        self.post()

    def failed(self, error: Exception) -> None:
        self.over.set_exception(error)


async def post_all(url: str, entries: int) -> None:
    transport = LeanTransport(tls_context, HttpLimits(connections_max=IN_FLIGHT))
    template = RequestTemplate("POST", httpx.URL(f"{url}/events"), HEADERS)
    numbers = iter(range(entries))
    await asyncio.gather(*(Posting(transport, template, numbers).over for _ in range(IN_FLIGHT)))
    await transport.aclose()


def floor(url: str, entries: int, answer: Any) -> None:
    gc.set_threshold(50_000, 20, 100)
    started_s, started_cpu = time.monotonic(), time.process_time()
    uvloop.run(post_all(url, entries))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer.send(Run(entries, time.monotonic() - started_s, time.process_time() - started_cpu, usage.ru_maxrss * 1024))


def fill(space: TopicSpace, entries: int, orders: int) -> None:
    """An outbox as transform leaves it."""
    for plan in TOPICS:
        space.create(plan.topic, partitions=PARTITIONS, config=plan.config)
    write(space, entries, orders, None)


def write(space: TopicSpace, entries: int, orders: int, rate: float | None) -> None:
    """Entries a second; None: all at once."""
    producer = Producer({"bootstrap.servers": space.bootstrap_servers, "linger.ms": 20, "compression.type": "lz4"})
    now = b"%d" % (time.time() * 1000)
    started_s = time.monotonic()
    topic = space.name(Topic.OUTBOX)
    for number in range(entries):
        order = number % orders
        if rate is not None:
            now = b"%d" % (time.time() * 1000)
            ahead_s = number / rate - (time.monotonic() - started_s)
            if ahead_s > 0.001:
                producer.poll(ahead_s)
        headers = [
            ("entry-id", b"events/bench/%d" % number),
            ("entry-type", b"order_cancelled"),
            ("source", b"bench/0/%d" % number),
            ("occurred-at", now),
        ]
        produce(producer, topic, body(order), b"ord-%d" % order, partition=order % PARTITIONS, headers=list(headers))
    assert producer.flush(60) == 0


def beside_the_floor(
    url: str,
    broker: KafkaBroker,
    entries: int,
    orders: int,
    environment: dict[str, str],
    from_share: float = 0.0,
    processes: int = 1,
) -> tuple[TopicSpace, Run, Run]:
    """The floor, send, and the floor again. Returns the topics, the outbox still full, and both sides' figures."""
    before = run_floor(floor, url, entries)
    space = TopicSpace(broker.bootstrap_servers)
    fill(space, entries, orders)
    settings = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"} | environment
    ours = run_workers("send", settings, entries, processes, from_share)
    print(ours.line(f"send ×{processes}"), flush=True)
    return space, both(before, run_floor(floor, url, entries)), ours


def half_load(space: TopicSpace, url: str, entries: int, orders: int, rate: float) -> str:
    """The latencies of a worker that is given `rate` entries a second, as its receipts tell them."""
    for plan in TOPICS:
        # The broker's clock, when it has the record: how long the writer and its client took is not the sender's.
        stamped = {"message.timestamp.type": "LogAppendTime"} if plan.topic is Topic.OUTBOX else {}
        space.create(plan.topic, partitions=PARTITIONS, config={**plan.config, **stamped})
    settings = space.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"}
    with (
        tempfile.TemporaryDirectory() as directory,
        Worker("run", "--role", "send", environment=settings, directory=Path(directory)) as worker,
    ):
        write(space, entries, orders, rate)
        deadline_s = time.monotonic() + WAIT_S_MAX
        while finished(worker, "send") < entries:
            assert time.monotonic() < deadline_s, worker.log_tail()
            time.sleep(0.2)
        assert worker.terminate() == 0
    written_ms: dict[str, int] = {}
    for message in space.records(Topic.OUTBOX):
        headers = cast("list[tuple[str, bytes]]", message.headers())
        written_ms[dict(headers)["entry-id"].decode()] = message.timestamp()[1]
    receipts = [json.loads(message.value() or b"") for message in space.records(Topic.DELIVERIES)]
    warm = sorted(receipts, key=lambda receipt: int(receipt["delivered_at"]))[entries // 2 :]
    latencies_ms = sorted(int(receipt["delivered_at"]) - written_ms[receipt["entry_id"]] for receipt in warm)
    at = {share: latencies_ms[int(len(latencies_ms) * share)] for share in (0.5, 0.99, 0.999)}
    told = ", ".join(f"{share:.1%} within {ms} ms" for share, ms in at.items())
    return f"{'half load':<12} {rate:>9,.0f} events/s  from the outbox record to its 2xx: {told}"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=0)
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the worker")
    parser.add_argument("--half-load", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        uvloop.run(serve(options.latency_ms / 1000))
        return
    environment = dict(item.split("=", 1) for item in options.env)
    with server(options.latency_ms) as url, KafkaBroker() as broker:
        print(
            f"send, {options.entries:,} entries of {options.orders:,} orders, {options.latency_ms} ms latency",
            flush=True,
        )
        _, of_floor, ours = beside_the_floor(url, broker, options.entries, options.orders, environment)
        print(ours.beside_floor(of_floor), flush=True)
        if options.latency_ms:
            print(f"{'ceiling':<12} {ours.rate * options.latency_ms / 1000 / options.orders:>9.0%} of orders / latency")
        if options.half_load:
            again = TopicSpace(broker.bootstrap_servers)
            print(half_load(again, url, options.entries // 2, options.orders, ours.rate / 2), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
