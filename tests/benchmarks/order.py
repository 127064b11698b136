"""`order` as its user runs it, on topics of a million records: `python -m tests.benchmarks order [--records N]`.

The topics hold a million orders placed over six days, each with its state, its entry and its receipt, written here and
not by workers, which would take minutes. In one partition, each topic is a million records that one lookup may have to
pass; in twelve, as `topics create` makes them, a twelfth of that. What is asked for:

    newest, middle, oldest   an order by where it lies in the topics
    unknown                  no such order: the whole changelog has to be read for it
    full                     the oldest with --full: all topics are read
    help                     `order --help`, which asks nobody
    floor                    a process that imports librdkafka's binding and asks the broker for its topics

Wall clock from the start of the process to its end, imports and all, with their byte code there as an installed package
has it; the median of some runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from processor.config import Role
from processor.records import Address, Customer, LineItem, Order, OrderId, OrderPlaced
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.sources.placements import by_murmur2
from processor.topics import ORDER_TOPICS, Topic
from processor.transform.order_state import LineTotals, OrderState, Standing, encode
from tests.support.commands import command
from tests.support.installation import Installation
from tests.support.kafka import KafkaBroker
from tests.support.processes import OWN_PREFIXES
from tests.support.topics import TopicSpace, produce

RECORDS = 1_000_000
SPAN_MS = 6 * 86_400_000
RUNS = 7
_MARK = "ord-00000000"
"""Each record is that of this order, with another number of as many digits in its place."""
_FLOOR = (
    "import os; from confluent_kafka import Consumer; servers = os.environ['KAFKA_BOOTSTRAP_SERVERS'];"
    " Consumer({'bootstrap.servers': servers, 'group.id': 'floor'}).list_topics(timeout=10)"
)


class Took(NamedTuple):
    """One question's figures: seconds of wall clock and of CPU, and what was answered."""

    wall_s: float
    cpu_s: float
    out: str


def order_id(number: int) -> str:
    return f"ord-{number:08}"


def fill(made: Installation, records: int, now_ms: int) -> None:
    """A million orders, the newest a minute old, and both roles done with them."""
    line = LineItem("l1", 2, 12_900, "p-kettle", "Kettle", "Frutta", None)
    customer = Customer("Ada", "Lovelace", "ada@example.com", None)
    address = Address("Musterstr 1", None, "Ulm", "50667", "DE")
    placed = {
        "event_id": f"{_MARK}-placed",
        "order_id": _MARK,
        "placed_at": 0,
        "currency": "EUR",
        "customer": {name: getattr(customer, name) for name in customer.__struct_fields__},
        "billing_address": {name: getattr(address, name) for name in address.__struct_fields__},
        "line_items": [{name: getattr(line, name) for name in line.__struct_fields__}],
    }
    source = made.encode(Topic.PLACED, placed)
    body = json.dumps({"type": "order_placed", "payload": {"order": placed}}).encode()
    entry = {"order_id": _MARK, "entry_id": f"events/{_MARK}", "entry_type": "order_placed", "event_id": None}
    answer = {"status": 201, "attempts": 1, "delivered_at": now_ms, "latency_ms": 20}
    receipt = json.dumps(entry | answer).encode()
    producer = Producer({"bootstrap.servers": made.space.bootstrap_servers, "linger.ms": 20, "compression.type": "lz4"})

    def write(
        topic: Topic, where: int, key: bytes, value: bytes, at_ms: int, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        own = value.replace(_MARK.encode(), key)
        name = made.space.name(topic)
        produce(producer, name, own, key, partition=where, timestamp=at_ms, headers=headers or [])

    offsets = [0] * made.partitions
    for number in range(records):
        key = order_id(number).encode()
        where = by_murmur2(key, made.partitions)
        at_ms = now_ms - 60_000 - (records - 1 - number) * SPAN_MS // records
        event = OrderPlaced(f"{_MARK}-placed", OrderId(_MARK), at_ms, "EUR", customer, address, (line,))
        state = OrderState(Standing.PLACED, at_ms, Order(event, (), (), (), None), (LineTotals(),), (), ())
        headers = [
            ("entry-id", b"events/" + key),
            ("entry-type", b"order_placed"),
            ("source", f"{made.space.name(Topic.PLACED)}/{where}/{offsets[where]}".encode()),
            ("occurred-at", str(at_ms).encode()),
        ]
        offsets[where] += 1
        write(Topic.PLACED, where, key, source, at_ms)
        write(Topic.CHANGELOG, where, key, encode(state), at_ms)
        write(Topic.OUTBOX, where, key, body, at_ms + 100, headers)
        write(Topic.DELIVERIES, where, key, receipt, at_ms + 200)
    assert producer.flush(120) == 0
    commit(made, Role.TRANSFORM, ORDER_TOPICS)
    commit(made, Role.SEND, (Topic.OUTBOX,))


def commit(made: Installation, role: Role, topics: Iterable[Topic]) -> None:
    """All that is there, as the group of a worker that has done it."""
    settings = {"bootstrap.servers": made.space.bootstrap_servers}
    consumer = Consumer(settings | {"group.id": made.space.name(f"hakuna-processor.{role}")})
    places = [TopicPartition(made.space.name(topic), number) for topic in topics for number in range(made.partitions)]
    for place in places:
        place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


def took(arguments: list[str], environment: Mapping[str, str]) -> Took:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started_s = time.monotonic()
    done = subprocess.run(arguments, env=dict(environment), capture_output=True, text=True, timeout=120)
    wall_s = time.monotonic() - started_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Traceback" not in done.stderr, done.stderr
    return Took(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout)


def median(arguments: list[str], environment: Mapping[str, str]) -> Took:
    took(arguments, environment)  # the first one finds the disk's cache cold
    runs = [took(arguments, environment) for _ in range(RUNS)]
    return Took(
        statistics.median(one.wall_s for one in runs), statistics.median(one.cpu_s for one in runs), runs[-1].out
    )


def questions(records: int) -> Iterable[tuple[str, list[str], int]]:
    """What is asked, and how many lines the timeline has: event, entry, delivery, state."""
    yield "newest", [order_id(records - 1)], 4
    yield "middle", [order_id(records // 2)], 4
    yield "oldest", [order_id(0)], 4
    yield "unknown", ["ord-nobody"], 0
    yield "full", [order_id(0), "--full"], 4


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--partitions", type=int, nargs="*", default=[12, 1])
    options = parser.parse_args(arguments)
    with KafkaBroker() as broker, Loopback(StandIn(RegistryApi())) as registry:
        for partitions in options.partitions:
            made = Installation(TopicSpace(broker.bootstrap_servers), registry.url, partitions=partitions)
            fill(made, options.records, round(time.time() * 1000))
            with tempfile.TemporaryDirectory() as byte_code:
                ask_all(made, options.records, byte_code)


def ask_all(made: Installation, records: int, byte_code: str) -> None:
    left_out = (*OWN_PREFIXES, "PYTHONDONTWRITEBYTECODE")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment = outer | made.environment | {"PYTHONPYCACHEPREFIX": byte_code}
    print(f"order, four topics of {records:,} records in {made.partitions} partitions each", flush=True)
    floor = median([sys.executable, "-c", _FLOOR], environment)
    print(_line("floor", floor), flush=True)
    print(_line("help", median(command("order", "--help"), environment)), flush=True)
    for name, arguments, lines in questions(records):
        answer = median(command("order", *arguments, "--output", "json"), environment)
        timeline: list[Any] = json.loads(answer.out)["timeline"]
        assert len(timeline) == lines, timeline
        print(_line(name, answer), flush=True)


def _line(name: str, figures: Took) -> str:
    return f"{name:<12} {figures.wall_s:>6.2f} s from start to end, {figures.cpu_s:>5.2f} s CPU"
