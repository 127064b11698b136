"""What a million orders in state weigh, and what of it: `python -m tests.benchmarks state [--orders N] [--cache MIB]`.

Four partitions' stores in this process, each order written once and others changed in between, as transform would.
After each tenth: how much memory was gained since the stores were opened, and how much of it RocksDB says is its block
cache and its write buffers. It grows until the cache is full, and no further; another `--cache` shows that it is that.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from processor.edges.rocks import RocksStore, StateDirectory
from tests.benchmarks.memory import resident_mb
from tests.benchmarks.order_states import key_of, states

PARTITIONS = 4
TENTHS = 10
BATCH = 2_000
MIB = 1 << 20


def total_mb(stores: Sequence[RocksStore], name: str) -> float:
    return sum(store._db.property_int_value(name) or 0 for store in stores) / 1e6


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--cache", type=int, default=64, help="MiB of block cache (default: the worker's own)")
    options = parser.parse_args(arguments)
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as directory:
        home = StateDirectory(Path(directory), options.cache * MIB, 4 * MIB)
        stores = [home.open(number) for number in range(PARTITIONS)]
        before_mb = resident_mb(os.getpid())
        print(f"state, {options.orders:,} orders, a block cache of {options.cache} MiB: MB since it was opened")
        print(f"{'orders':>10} {'gained':>8} {'cache':>8} {'buffers':>8}", flush=True)
        made = states(options.orders)
        written, tenth = 0, options.orders // TENTHS
        while batch := list(islice(made, BATCH)):
            pairs: list[list[tuple[bytes, bytes | None]]] = [[] for _ in stores]
            for key, value in batch:
                pairs[written % PARTITIONS].append((b"o" + key, value))
                if written % 2 and written > BATCH:  # and an older one is looked up and written again
                    older = chance.randrange(written)
                    stored = stores[older % PARTITIONS].get(b"o" + key_of(older))
                    pairs[older % PARTITIONS].append((b"o" + key_of(older), stored))
                written += 1
            for store, changes in zip(stores, pairs, strict=True):
                store.write(changes)
            if written % tenth < BATCH:
                print(
                    f"{written:>10,} {resident_mb(os.getpid()) - before_mb:>8.0f} "
                    f"{total_mb(stores[:1], 'rocksdb.block-cache-usage'):>8.0f} "
                    f"{total_mb(stores, 'rocksdb.cur-size-all-mem-tables'):>8.0f}",
                    flush=True,
                )
        for store in stores:
            store.close()
        print(f"{'ratio':<12} {resident_mb(os.getpid()) / 300:>9.0%} of the 300 MB that a worker may have", flush=True)
