"""What it costs to look at the producers: `python -m tests.benchmarks producers [--records N]`.

`check` reads the newest keys of topics of so many records each; a running transform samples what it takes anyway. The
one is held against two seconds, the other against what transform's own work on the same records costs.
"""

from __future__ import annotations

import argparse
import time
from typing import Final

import structlog
from confluent_kafka import Producer

from processor.edges.kafka.looks import survey
from processor.records import Record
from processor.sources.survey import judged
from processor.topics import ORDER_TOPICS
from processor.transform.whereabouts import Whereabouts
from tests.support.kafka import KafkaBroker
from tests.support.topics import TopicSpace, produce

PARTITIONS: Final = 12
TRANSFORM_US: Final = 76.0
"""CPU of one event in transform, the least that its bench has shown here."""
RATE: Final = 10_000
SECONDS: Final = 60
BATCH: Final = 2_500


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    sampled()
    with KafkaBroker() as broker:
        looked_at(broker.bootstrap_servers, options.records)


def sampled() -> None:
    """CPU of the sampler over a minute of traffic."""
    topics = [topic.value for topic in ORDER_TOPICS]
    where = Whereabouts(topics, PARTITIONS)
    records = [
        Record(topics[number % 5], number % PARTITIONS, number, 0, b"ord-%d" % number, b"", [])
        for number in range(RATE)
    ]
    began_s = time.thread_time()
    for turn in range(SECONDS * RATE // BATCH):
        now_s = turn * BATCH / RATE
        at = turn * BATCH % RATE
        where.sample(records[at : at + BATCH], now_s)
        where.judge(now_s)
    share = (time.thread_time() - began_s) / (SECONDS * RATE * TRANSFORM_US / 1e6)
    print(f"sampler      {share:.2%} of transform's CPU at {RATE:,} events/s", flush=True)


def looked_at(servers: str, records: int) -> None:
    """Seconds that a survey of topics of so many records takes, the first and the next."""
    space = TopicSpace(servers)
    producer = Producer({"bootstrap.servers": servers, "partitioner": "murmur2_random", "linger.ms": 50, "acks": 1})
    for topic in ORDER_TOPICS:
        space.create(topic, partitions=PARTITIONS)
        for number in range(records):
            produce(producer, space.name(topic), b"x" * 100, b"ord-%d" % number)
        producer.flush()
    counts = {space.name(topic): PARTITIONS for topic in ORDER_TOPICS}
    for which in ("first", "next"):
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        found = survey({"bootstrap.servers": servers}, counts, group="g", client_id="c", log=structlog.get_logger())
        said = judged(found, {topic: {"retention.ms": "-1"} for topic in counts})
        took_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        read = sum(one.records for one in found.values())
        print(
            f"survey {which:<6}{took_s:.2f} s, {cpu_s:.2f} s CPU, {read:,} of {5 * records:,} records, "
            f"{len(said)} topics told",
            flush=True,
        )
