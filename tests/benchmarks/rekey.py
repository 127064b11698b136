"""rekey beside transform, in one run on one broker: `python -m tests.benchmarks rekey [--orders N]`.

rekey takes a backlog first, then transform takes what it has written. The ratio of their CPU an event is what counts:
rekey reads one field of each event and writes the record again, so it should cost no more than what follows it.
"""

from __future__ import annotations

import argparse

from tests.benchmarks.measured import run_workers
from tests.benchmarks.transform import loaded, site


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=60_000)
    options = parser.parse_args(arguments)
    with site() as (broker, registry_url):
        made, events = loaded(broker, registry_url, options.orders, sources={})
        print(f"rekey, {events:,} events of {options.orders:,} orders, one process a side", flush=True)
        ours = run_workers("rekey", made.environment, events)
        print(ours.line("rekey"), flush=True)
        after = run_workers("transform", made.environment, events)
        print(after.line("transform"), flush=True)
        print(f"{'ratio':<12} {ours.cpu_us / after.cpu_us:.0%} of transform's CPU an event", flush=True)
