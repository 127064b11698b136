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

import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.measured import Run
from tests.benchmarks.peers import installed, run_peer, send_beside, send_options
from tests.support.children import Unavailable

PEER = Path(__file__).parent / "pyrallel_consumer" / "peer.py"
PYTHON = ">=3.12"
# aiohttp: with httpx's own pool the same peer posts a tenth as many.
PACKAGES = ("pyrallel-consumer==1.0.0", "aiohttp==3.14.5", "uvloop==0.23.0")
AT_ONCE = [64, 128]  # the best of 16 to 1,000; 256 halve its rate


def main(arguments: list[str]) -> None:
    options = send_options(arguments, AT_ONCE)
    with tempfile.TemporaryDirectory() as directory:
        try:
            python = installed(Path(directory), PYTHON, PACKAGES)
        except Unavailable as missing:
            print(f"pyrallel consumer: skipped: {missing}", flush=True)
            return

        def run(told: Sequence[str], entries: int, s_max: float) -> Run:
            return run_peer([str(python), str(PEER), *told], entries, s_max)

        send_beside("pyrallel consumer", options, run)
