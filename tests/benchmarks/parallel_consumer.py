"""send beside Confluent's Parallel Consumer in one run on one broker and one API.

    python -m tests.benchmarks parallel_consumer [--entries N] [--latency-ms N] [--processes N] [--at-once N …]

The peer (`parallel_consumer/Peer.java`, compiled here) reads the outbox that send has read and posts what send's floor
posts to the same server: its Vert.x engine, one request in flight an order, what is finished beyond the committed
offset in the commit's metadata. It writes no receipts and has no quota, no dead letters, no metrics and no breaker:
what it costs is what such a program costs before it does anything of that. The figures of both are from a third of
the entries on: those of a warm JVM.

With more than one `--at-once`, the peer runs once with each.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.peers import compiled, run_java, send_beside, send_options

HERE = Path(__file__).parent / "parallel_consumer"
AT_ONCE = [256, 1000]  # the best of 100, 256 and 1,000 beside a server next door, and of those 50 ms away


def main(arguments: list[str]) -> None:
    options = send_options(arguments, AT_ONCE)
    with tempfile.TemporaryDirectory() as classes:
        peer = compiled("parallel-consumer", HERE, Path(classes))
        send_beside("parallel consumer", options, partial(run_java, peer))
