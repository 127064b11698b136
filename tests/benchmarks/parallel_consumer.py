"""send beside Confluent's Parallel Consumer in one run on one broker and one API:
`python -m tests.benchmarks parallel_consumer [--entries N] [--orders N] [--latency-ms N] [--at-once N …]`.

The peer (`parallel_consumer/Peer.java`, compiled here) reads the outbox that send has read and posts what send's floor
posts to the same server: its Vert.x engine, one request in flight an order, what is finished beyond the committed
offset in the commit's metadata. It writes no receipts and has no quota, no dead letters, no metrics and no breaker:
what it costs is what such a program costs before it does anything of that. The figures of both are from a third of
the entries on: those of a warm JVM.

With more than one `--at-once`, the peer runs once with each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from processor.topics import Topic
from tests.benchmarks.measured import Run
from tests.benchmarks.peers import WARM_SHARE, beside, compiled, run_java
from tests.benchmarks.send import HEADERS, WAIT_S_MAX, beside_the_floor, server
from tests.support.kafka import KafkaBroker
from tests.support.topics import TopicSpace

HERE = Path(__file__).parent / "parallel_consumer"
AT_ONCE = [256, 1000]  # the best of 100, 256 and 1,000 beside a server next door, and of those 50 ms away


def run_parallel_consumer(class_path: str, space: TopicSpace, url: str, entries: int, at_once: int) -> Run:
    headers = [f"{name.decode()}={value.decode()}" for name, value in HEADERS]
    group, outbox = f"{space.prefix}parallel-consumer-{at_once}", space.name(Topic.OUTBOX)
    arguments = [space.bootstrap_servers, group, outbox, f"{url}/events", str(at_once), *headers]
    return run_java(class_path, arguments, entries, WAIT_S_MAX)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=0)
    parser.add_argument("--at-once", type=int, nargs="+", default=AT_ONCE, help="the peer's max concurrency")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as classes,
        server(options.latency_ms) as url,
        KafkaBroker() as broker,
    ):
        peer = compiled("parallel-consumer", HERE, Path(classes))
        print(
            f"parallel consumer, {options.entries:,} entries of {options.orders:,} orders, "
            f"{options.latency_ms} ms latency",
            flush=True,
        )
        space, _, ours = beside_the_floor(url, broker, options.entries, options.orders, {}, WARM_SHARE)
        for at_once in options.at_once:
            theirs = run_parallel_consumer(peer, space, url, options.entries, at_once)
            print(f"{theirs.line('parallel consumer')}, {at_once} at once", flush=True)
            print(beside(ours, theirs), flush=True)


if __name__ == "__main__":
    main()
