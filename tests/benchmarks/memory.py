"""Memory while orders pass: `python -m tests.benchmarks memory [--orders N]`.

One transform and one send process; their resident memory after each tenth of the orders. What must not grow is what
follows the first tenths, in which caches, pools and buffers fill.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from tests.benchmarks import send
from tests.benchmarks.measured import finished
from tests.support.installation import Installation
from tests.support.kafka import KafkaBroker
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

PARTITIONS = 4
TENTHS = 10
WAIT_S_MAX = 300.0


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1000 for line in status.splitlines() if line.startswith("VmRSS"))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=200_000)
    options = parser.parse_args(arguments)
    with (
        KafkaBroker() as broker,
        Loopback(StandIn(RegistryApi())) as registry,
        send.server(0) as url,
        tempfile.TemporaryDirectory() as directory,
    ):
        made = Installation(TopicSpace(broker.bootstrap_servers), registry.url, partitions=PARTITIONS)
        start_ms = round(time.time() * 1000) - 3_600_000
        plan = Shop(orders=options.orders, rate=options.orders / 3000, bad_share=0.0, seed=1, start_ms=start_ms)
        settings = made.environment | {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": "sk_test_bench"}
        with (
            Worker("run", "--role", "transform", environment=settings, directory=Path(directory, "transform")) as first,
            Worker("run", "--role", "send", environment=settings, directory=Path(directory, "send")) as second,
        ):
            print(f"memory, {options.orders:,} orders: MB of transform and of send", flush=True)
            events = shop(plan)
            written = 0
            tenth = options.orders * 5 // 2 // TENTHS
            while chunk := list(itertools.islice(events, tenth)):
                made.play(chunk)
                written += len(chunk)
                # Not to the last one: an event whose order is placed in the next tenth is parked until then.
                deadline_s = time.monotonic() + WAIT_S_MAX
                while finished(first, "transform") < written * 0.99 or finished(second, "send") < written * 0.9:
                    assert time.monotonic() < deadline_s, (
                        f"{finished(first, 'transform')} and {finished(second, 'send')} of {written} events"
                    )
                    time.sleep(0.2)
                print(f"{written:>10,} {resident_mb(first.pid):>6.0f} {resident_mb(second.pid):>6.0f}", flush=True)
            assert first.terminate() == 0
            assert second.terminate() == 0
