"""`python -m tests.benchmarks`: every bench, each beside its floor. Name one to run it alone."""

from __future__ import annotations

import sys

from tests.benchmarks import (
    avro,
    feed,
    growth,
    hako,
    http_clients,
    latency,
    letters,
    memory,
    order,
    parallel_consumer,
    producers,
    proxies,
    pyrallel_consumer,
    quix_streams,
    rekey,
    restore,
    send,
    state,
    streams,
    transform,
    whole,
)

BENCHES = {
    "transform": transform.main,
    "rekey": rekey.main,
    "avro": avro.main,
    "producers": producers.main,
    "state": state.main,
    "streams": streams.main,
    "quix_streams": quix_streams.main,
    "restore": restore.main,
    "growth": growth.main,
    "whole": whole.main,
    "latency": latency.main,
    "send": send.main,
    "parallel_consumer": parallel_consumer.main,
    "pyrallel_consumer": pyrallel_consumer.main,
    "feed": feed.main,
    "proxies": proxies.main,
    "memory": memory.main,
    "hako": hako.main,
    "order": order.main,
    "letters": letters.main,
}


def main(arguments: list[str]) -> None:
    if arguments and arguments[0] in BENCHES:
        BENCHES[arguments[0]](arguments[1:])
        return
    if arguments and arguments[0] == "http":
        sys.argv = [sys.argv[0], *arguments[1:]]
        http_clients.main()
        return
    for bench in BENCHES.values():
        bench(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
