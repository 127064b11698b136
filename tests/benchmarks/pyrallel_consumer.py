"""send beside Pyrallel-Consumer, a Python program's way to the same, in one run on one broker and one API:
`python -m tests.benchmarks pyrallel_consumer [--entries N] [--orders N] [--latency-ms N] [--at-once N …]`.

The peer (`pyrallel_consumer/peer.py`) reads the outbox that send has read and posts what send's floor posts to the
same server, one request in flight an order. It gets an environment of its own, in a temporary directory: it needs
Python 3.12, which the bench looks for in PATH and does not fetch; without one, it is skipped and says so. It writes no
receipts and has no quota, no dead letters, no metrics and no breaker. The figures of both start at a third of the
entries.

With more than one `--at-once`, the peer runs once with each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from processor.topics import Topic
from tests.benchmarks.measured import Run
from tests.benchmarks.peers import WARM_SHARE, beside, installed, run_peer
from tests.benchmarks.send import HEADERS, WAIT_S_MAX, beside_the_floor, server
from tests.support.children import Unavailable
from tests.support.kafka import KafkaBroker
from tests.support.topics import TopicSpace

PEER = Path(__file__).parent / "pyrallel_consumer" / "peer.py"
PYTHON = ">=3.12"
# aiohttp: with httpx's own pool the same peer posts a tenth as many.
PACKAGES = ("pyrallel-consumer==1.0.0", "aiohttp==3.14.5", "uvloop==0.23.0")
AT_ONCE = [64, 128]  # the best of 16 to 1,000; 256 halve its rate


def run_pyrallel_consumer(python: Path, space: TopicSpace, url: str, entries: int, at_once: int) -> Run:
    headers = [f"{name.decode()}={value.decode()}" for name, value in HEADERS]
    group, outbox = f"{space.prefix}pyrallel-consumer-{at_once}", space.name(Topic.OUTBOX)
    arguments = [space.bootstrap_servers, group, outbox, f"{url}/events", str(at_once), *headers]
    return run_peer([str(python), str(PEER), *arguments], entries, WAIT_S_MAX)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--orders", type=int, default=1000)
    parser.add_argument("--latency-ms", type=int, default=0)
    parser.add_argument("--at-once", type=int, nargs="+", default=AT_ONCE, help="the peer's max_in_flight")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        try:
            python = installed(Path(directory), PYTHON, PACKAGES)
        except Unavailable as missing:
            print(f"pyrallel consumer: skipped: {missing}", flush=True)
            return
        with server(options.latency_ms) as url, KafkaBroker() as broker:
            print(
                f"pyrallel consumer, {options.entries:,} entries of {options.orders:,} orders, "
                f"{options.latency_ms} ms latency",
                flush=True,
            )
            space, _, ours = beside_the_floor(url, broker, options.entries, options.orders, {}, WARM_SHARE)
            for at_once in options.at_once:
                theirs = run_pyrallel_consumer(python, space, url, options.entries, at_once)
                print(f"{theirs.line('pyrallel consumer')}, {at_once} at once", flush=True)
                print(beside(ours, theirs), flush=True)


if __name__ == "__main__":
    main()
