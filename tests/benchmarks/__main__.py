"""`python -m tests.benchmarks`: every bench, each beside its floor. Name one to run it alone."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHES = (
    *("transform", "rekey", "avro", "producers", "state", "streams", "quix_streams", "restore", "growth", "whole"),
    *("latency", "send", "parallel_consumer", "pyrallel_consumer", "feed", "proxies", "memory", "hako", "order"),
    "letters",
)
"""Modules beside this one, in the order in which they run."""


def main(arguments: list[str]) -> None:
    named = BENCHES if not arguments or arguments[0] not in BENCHES else (arguments.pop(0),)
    for name in named:
        import_module(f"tests.benchmarks.{name}").main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
