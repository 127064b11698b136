"""transform beside Kafka Streams in one run on one broker: `python -m tests.benchmarks streams [--orders N]`.

The peer (`streams/Peer.java`, compiled here) does the work of transform's floor: Avro, a state in RocksDB with its
changelog, an outbox, exactly once. No rules, no checks of what it reads, no dead letters: what it costs is what such
a program costs before it does anything of its own. Its figures are of a warm JVM, from a third of the events on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from processor.edges.avro import reader_file
from processor.topics import ORDER_TOPICS
from tests.benchmarks.measured import WAIT_S_MAX, Run, run_workers
from tests.benchmarks.peers import beside, compiled, run_java
from tests.benchmarks.transform import PARTITIONS, loaded, run_floor, site
from tests.support.installation import Installation

HERE = Path(__file__).parent / "streams"


def run_streams(installation: Installation, events: int, threads: int, class_path: str) -> Run:
    space = installation.space
    outbox, application = f"streams.outbox-{threads}", f"{space.prefix}streams-{threads}"
    space.create(outbox, partitions=PARTITIONS)
    sources = [f"{space.name(topic)}={reader_file(topic)}" for topic in ORDER_TOPICS]
    with tempfile.TemporaryDirectory() as state:
        arguments = [space.bootstrap_servers, application, space.name(outbox), state, str(threads), *sources]
        return run_java(class_path, arguments, events, WAIT_S_MAX)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=80_000)
    options = parser.parse_args(arguments)
    with site() as (broker, registry_url), tempfile.TemporaryDirectory() as classes:
        peer = compiled("streams", HERE, Path(classes))
        for count in (1, 2):
            made, events = loaded(broker, registry_url, options.orders)
            print(f"streams, {events:,} events: {count} of our processes, {count} of its threads", flush=True)
            if count == 1:
                run_floor(made, events)
            ours = run_workers("transform", made.environment, events, count)
            print(ours.line(f"transform ×{count}"), flush=True)
            theirs = run_streams(made, events, count, peer)
            print(theirs.line(f"streams ×{count}"), flush=True)
            print(beside(ours, theirs), flush=True)
