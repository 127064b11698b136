"""transform beside Quix Streams, a Python program's way to the same, in one run on one broker:
`python -m tests.benchmarks quix_streams [--orders N]`.

The peer (`quix_streams/peer.py`) does the work of transform's floor: Avro, a state in RocksDB with its changelog, an
outbox, exactly once. No rules, no checks of what it reads, no dead letters. It gets an environment of its own, in a
temporary directory; where it cannot be installed, it is skipped and says so. Its figures start at a third of the
events.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from processor.edges.avro import reader_file
from processor.topics import ORDER_TOPICS
from tests.benchmarks.measured import WAIT_S_MAX, Run, run_workers
from tests.benchmarks.peers import beside, installed, run_peer
from tests.benchmarks.transform import PARTITIONS, loaded, run_floor, site
from tests.support.children import Unavailable
from tests.support.installation import Installation

PEER = Path(__file__).parent / "quix_streams" / "peer.py"
PACKAGES = ["quixstreams==3.28.1", "fastavro==1.13.1"]


def run_quix_streams(python: Path, installation: Installation, events: int) -> Run:
    space = installation.space
    outbox, group = "quix-streams.outbox", f"{space.prefix}quix-streams"
    space.create(outbox, partitions=PARTITIONS)
    sources = [f"{space.name(topic)}={reader_file(topic)}" for topic in ORDER_TOPICS]
    with tempfile.TemporaryDirectory() as state:
        arguments = [space.bootstrap_servers, group, space.name(outbox), state, *sources]
        return run_peer([str(python), str(PEER), *arguments], events, WAIT_S_MAX)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=80_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        try:
            python = installed(Path(directory), sys.executable, PACKAGES)
        except Unavailable as missing:
            print(f"quix streams: skipped: {missing}", flush=True)
            return
        with site() as (broker, registry_url):
            made, events = loaded(broker, registry_url, options.orders)
            print(f"quix streams, {events:,} events, one process a side", flush=True)
            run_floor(made, events)
            ours = run_workers("transform", made.environment, events)
            print(ours.line("transform"), flush=True)
            theirs = run_quix_streams(python, made, events)
            print(theirs.line("quix streams"), flush=True)
            print(beside(ours, theirs), flush=True)
