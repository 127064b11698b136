"""transform beside its floor, in one run on one broker: `python -m tests.benchmarks transform [--orders N]`.

The floor is the least that any such program has to do, in one function (`floor`): consume, fastavro, a state in a
dict, orjson, two transactional produces an event. It runs before and after, and the ratio to both is what counts: these
machines are noisy. CPU is of the whole process, librdkafka's threads included.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import fastavro
import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from fastavro.schema import parse_schema

from processor.edges.avro import reader_schema
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import ORDER_TOPICS, Topic
from tests.benchmarks import measured
from tests.benchmarks.measured import Run, both, run_workers
from tests.support.installation import Installation
from tests.support.kafka import KafkaBroker
from tests.support.topics import TopicSpace

BATCH = 5000
PARTITIONS = 4


def floor(bootstrap: str, prefix: str, name: str, events: int, answer: Any) -> None:
    """What cannot be left out, and nothing else: no rules, no checks, no recovery, no metrics."""
    topics = {prefix + topic: parse_schema(json.loads(_bare(topic))) for topic in ORDER_TOPICS}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": prefix + name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": prefix + name, "linger.ms": 5, "compression.type": "lz4"}
    )
    producer.init_transactions()
    consumer.subscribe(list(topics))
    state: dict[bytes, bytes] = {}
    done, started_s, started_cpu = 0, 0.0, 0.0
    outbox, changelog = f"{prefix}{name}.outbox", f"{prefix}{name}.changelog"
    while done < events:
        messages: list[Any] = consumer.consume(BATCH, 0.2)
        if not messages:
            continue
        if not done:
            started_s, started_cpu = time.monotonic(), time.process_time()
        producer.begin_transaction()
        offsets: dict[tuple[str, int], int] = {}
        for message in messages:
            topic, partition, key = message.topic(), message.partition(), message.key()
            value = message.value()
            if value is not None:
                event: Any = fastavro.schemaless_reader(BytesIO(value[5:]), topics[topic], None)
                known = orjson.loads(state[key]) if key in state else []
                known.append(event["event_id"])
                state[key] = orjson.dumps(known)
                producer.produce(outbox, key=key, value=orjson.dumps(event), partition=partition)
                producer.produce(changelog, key=key, value=state[key], partition=partition)
            offsets[topic, partition] = message.offset() + 1
        producer.send_offsets_to_transaction(
            [TopicPartition(*where, offset) for where, offset in offsets.items()], consumer.consumer_group_metadata()
        )
        producer.commit_transaction()
        done += len(messages)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer.send(Run(done, time.monotonic() - started_s, time.process_time() - started_cpu, usage.ru_maxrss * 1024))
    consumer.close()


def _bare(topic: Topic) -> str:
    return reader_schema(topic).replace('"logicalType": "timestamp-millis"', '"x": 0')


def run_floor(installation: Installation, events: int, name: str = "floor") -> Run:
    """`name` is its group's and its topics': another one reads all of it once more."""
    space = installation.space
    space.create(f"{name}.outbox", f"{name}.changelog", partitions=PARTITIONS)
    return measured.run_floor(floor, space.bootstrap_servers, space.prefix, name, events)


@contextmanager
def site() -> Iterator[tuple[KafkaBroker, str]]:
    """A broker, and the URL of a registry."""
    with KafkaBroker() as broker, Loopback(StandIn(RegistryApi())) as registry:
        yield broker, registry.url


def loaded(
    broker: KafkaBroker, registry_url: str, orders: int, sources: Mapping[Topic, int] | None = None
) -> tuple[Installation, int]:
    """An installation of its own whose topics hold the histories of so many orders, and how many events that is."""
    made = Installation(TopicSpace(broker.bootstrap_servers), registry_url, partitions=PARTITIONS, sources=sources)
    start_ms = round(time.time() * 1000) - 3_600_000
    steps = made.play(shop(Shop(orders=orders, rate=orders / 3000, bad_share=0.0, seed=1, start_ms=start_ms)))
    return made, len(steps)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=60_000)
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the worker")
    options = parser.parse_args(arguments)
    environment = dict(item.split("=", 1) for item in options.env)
    with site() as (broker, registry_url):
        made, events = loaded(broker, registry_url, options.orders)
        print(f"transform, {events:,} events of {options.orders:,} orders, one process a side", flush=True)
        before = run_floor(made, events)
        ours = run_workers("transform", made.environment | environment, events)
        print(ours.line("transform"), flush=True)
        after = run_floor(made, events, "floor-again")
        print(ours.beside_floor(both(before, after)), flush=True)
