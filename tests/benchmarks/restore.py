"""How fast a state comes back, and what a million orders weigh: `python -m tests.benchmarks restore [--orders N]`.

Three lives of one worker, whose changelog holds N orders (an order's whole state each, as transform writes it):

    restore    an empty directory: the changelog is read from the beginning into RocksDB
    floor      the same records, read by the same client and dropped
    holding    the worker with all of them in its state, while events of orders all over it pass: its memory
    streams    Kafka Streams' own restore of the same records from an empty directory, from a third of them on

What the memory is made of is shown by running it again with another block cache (`PROCESSOR_STATE_CACHE_BYTES`).
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from processor.edges.avro import reader_file
from processor.topics import ORDER_TOPICS, Topic
from tests.benchmarks.measured import WAIT_S_MAX, Run, cpu_s, finished, rss_bytes, run_floor
from tests.benchmarks.order_states import fill, key_of
from tests.benchmarks.peers import beside, compiled, run_java
from tests.benchmarks.streams import HERE as STREAMS
from tests.benchmarks.transform import PARTITIONS, site
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

LATE_EVENTS = 100_000


def floor(bootstrap: str, changelog: str, records: int, answer: Any) -> None:
    """Reads the changelog and drops it."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "floor", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(changelog, number, 0) for number in range(PARTITIONS)])
    done, started_s, started_cpu_s = 0, 0.0, 0.0
    while done < records:
        messages = consumer.consume(10_000, 0.2)
        if messages and not done:
            started_s, started_cpu_s = time.monotonic(), time.process_time()
        done += sum(message.value() is not None for message in messages)
    answer.send(Run(done, time.monotonic() - started_s, time.process_time() - started_cpu_s, 0))
    consumer.close()


def restored(worker: Worker, orders: int) -> Run:
    """From the first word of the restore to its end, by the worker's own log."""
    deadline_s = time.monotonic() + WAIT_S_MAX
    while "restore begins" not in worker.log.read_text():
        assert time.monotonic() < deadline_s, worker.log_tail()
        time.sleep(0.01)
    before_cpu_s = cpu_s(worker.pid)
    while worker.log.read_text().count("restore done") < PARTITIONS:
        assert time.monotonic() < deadline_s, worker.log_tail()
        time.sleep(0.01)
    after_cpu_s = cpu_s(worker.pid)
    log = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    began = min(seconds(line) for line in log if line["event"] == "restore begins")
    ended = max(seconds(line) for line in log if line["event"] == "restore done")
    return Run(orders, ended - began, after_cpu_s - before_cpu_s, rss_bytes(worker.pid))


def run_streams(installation: Installation, orders: int) -> Run:
    """Kafka Streams with a changelog of its own, which holds the same."""
    space = installation.space
    application = f"{space.prefix}streams"
    space.create("streams-orders-changelog", partitions=PARTITIONS, config={"cleanup.policy": "compact"})
    space.create("streams.outbox", partitions=PARTITIONS)
    fill(installation, space.name("streams-orders-changelog"), orders)
    sources = [f"{space.name(topic)}={reader_file(topic)}" for topic in ORDER_TOPICS]
    with tempfile.TemporaryDirectory() as classes, tempfile.TemporaryDirectory() as state:
        peer = compiled("streams", STREAMS, Path(classes))
        arguments = [space.bootstrap_servers, application, space.name("streams.outbox"), state, "1", *sources]
        return run_java(peer, arguments, orders, WAIT_S_MAX)


def seconds(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=3_000_000)
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for the worker")
    parser.add_argument("--no-streams", dest="streams", action="store_false", help="leave Kafka Streams out")
    options = parser.parse_args(arguments)
    environment = dict(item.split("=", 1) for item in options.env)
    with site() as (broker, registry_url), tempfile.TemporaryDirectory() as directory:
        made = Installation(TopicSpace(broker.bootstrap_servers), registry_url, partitions=PARTITIONS)
        written = fill(made, made.space.name(Topic.CHANGELOG), options.orders)
        print(f"restore, {options.orders:,} orders of {written / options.orders:.0f} bytes", flush=True)
        of_floor = run_floor(floor, broker.bootstrap_servers, made.space.name(Topic.CHANGELOG), options.orders)
        with Worker(
            "run",
            "--role",
            "transform",
            environment=made.environment | environment,
            directory=Path(directory),
            await_ready=False,
        ) as worker:
            run = restored(worker, options.orders)
            print(run.line("restore"), flush=True)
            print(f"{'ratio':<12} {run.rate / of_floor.rate:>9.0%} of the rate of only reading it", flush=True)
            chance = random.Random(1)
            for number in range(LATE_EVENTS):
                at = chance.randrange(options.orders)
                key = key_of(at)
                event = {"event_id": f"late-{number}", "order_id": key.decode(), "cancelled_at": 1_700_000_000_000}
                made.write(Topic.CANCELLED, key, made.encode(Topic.CANCELLED, event), partition=at % PARTITIONS)
            made.flush()
            deadline_s = time.monotonic() + WAIT_S_MAX
            while finished(worker, "transform") < LATE_EVENTS:
                assert time.monotonic() < deadline_s, worker.log_tail()
                time.sleep(0.25)
            print(f"{'holding':<12} {rss_bytes(worker.pid) / 1e6:>9.0f} MB after {LATE_EVENTS:,} events all over it")
            assert worker.terminate() == 0
        if options.streams:
            theirs = run_streams(made, options.orders)
            print(theirs.line("streams"), flush=True)
            print(beside(run, theirs), flush=True)
