"""From a record's timestamp to its outbox entry, at a steady load: `python -m tests.benchmarks latency [--rate N]`.

Events are written as a shop would, each with the time at which it is written; a reader of committed records notes when
their entries can be read, so that the transaction is part of it. The load is half of what one worker does on two
quiet cores, or what `--rate` says. Writer, reader and broker share the machine with the worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from processor.records import HeaderName
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import ORDER_TOPICS, Topic
from tests.benchmarks.transform import PARTITIONS, site
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

WARM_S = 10.0
"""Of the run, not counted: caches are cold, the broker compiles its code, and the first of a schema is asked for."""
SLICE_S = 0.005
SILENT_S_MAX = 20.0


def latencies_ms(installation: Installation, over: threading.Event, found: list[tuple[float, float]]) -> None:
    """Adds when an entry was read and how old its record was then, until `over` is set and nothing more comes."""
    consumer = Consumer(
        {
            "bootstrap.servers": installation.space.bootstrap_servers,
            "group.id": installation.space.name("latency"),
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
        }
    )
    outbox = installation.space.name(Topic.OUTBOX)
    consumer.assign([TopicPartition(outbox, number, 0) for number in range(PARTITIONS)])
    heard_s = time.monotonic()
    while not over.is_set() or time.monotonic() - heard_s < 1.0:
        assert time.monotonic() - heard_s < SILENT_S_MAX, "no entry comes"
        messages = consumer.consume(1000, SLICE_S)
        now_ms = time.time() * 1000
        for message in messages:
            headers = dict(message.headers() or [])
            occurred = headers.get(HeaderName.OCCURRED_AT)
            if isinstance(occurred, bytes):
                found.append((now_ms, now_ms - int(occurred)))
                heard_s = time.monotonic()
    consumer.close()


class Writers:
    """A producer a topic, as shops have them: a broker answers the requests of one connection one after the other, and
    with records so small and so many that is what a single writer would wait for."""

    def __init__(self, installation: Installation) -> None:
        common = {"bootstrap.servers": installation.space.bootstrap_servers, "partitioner": "murmur2_random"}
        self._space = installation.space
        self._producers = {topic: Producer({**common, "linger.ms": 50}) for topic in ORDER_TOPICS}

    def write(self, topic: Topic, key: bytes | None, value: bytes | None) -> None:
        producer = self._producers[topic]
        producer.produce(self._space.name(topic), key=key, value=value, timestamp=round(time.time() * 1000))
        producer.poll(0)

    def unwritten(self) -> int:
        return sum(len(producer) for producer in self._producers.values())

    def flush(self) -> None:
        assert sum(producer.flush(30) for producer in self._producers.values()) == 0


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, default=4_000, help="events a second")
    parser.add_argument("--seconds", type=int, default=30)
    options = parser.parse_args(arguments)
    with site() as (broker, registry_url), tempfile.TemporaryDirectory() as directory:
        made = Installation(TopicSpace(broker.bootstrap_servers), registry_url, partitions=PARTITIONS)
        wanted = options.rate * options.seconds
        steps = list(shop(Shop(orders=wanted // 2, rate=100, bad_share=0.0, seed=1, start_ms=1_700_000_000_000)))
        written = [(step.topic, step.key, made.value(step)) for step in steps[:wanted]]
        with Worker("run", "--role", "transform", environment=made.environment, directory=Path(directory)) as worker:
            found: list[tuple[float, float]] = []
            over = threading.Event()
            reader = threading.Thread(target=latencies_ms, args=(made, over, found))
            reader.start()
            writers = Writers(made)
            started_s = time.monotonic()
            begun_ms = time.time() * 1000
            for number, (topic, key, value) in enumerate(written):
                if (ahead_s := started_s + number / options.rate - time.monotonic()) > SLICE_S:
                    time.sleep(ahead_s)
                writers.write(topic, key, value)
            took_s = time.monotonic() - started_s
            assert writers.unwritten() < options.rate, "the broker takes less than is written: this is no steady load"
            writers.flush()
            over.set()
            reader.join()
            counted = sorted(age_ms for at_ms, age_ms in found if at_ms - begun_ms > WARM_S * 1000)
            per_cent = statistics.quantiles(counted, n=100)
            print(f"latency, {len(written) / took_s:,.0f} events/s, from record to readable outbox entry", flush=True)
            print(
                f"{'transform':<12} p50 {per_cent[49]:.0f} ms  p90 {per_cent[89]:.0f} ms  p99 {per_cent[98]:.0f} ms  "
                f"longest {counted[-1]:.0f} ms  ({len(counted):,} entries)",
                flush=True,
            )
            print(f"{'ratio':<12} {per_cent[98] / 300:>9.0%} of the 300 ms that p99 may be", flush=True)
            assert worker.terminate() == 0
