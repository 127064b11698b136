"""Pyrallel-Consumer at the work of the bench's floor: each record's value posted with aiohttp, one request in flight
a key, offsets committed up to the oldest that is not finished. A worker of it is not given a record's headers, so the
idempotency key is the record's place. No dead-letter topic, which spares it a copy of each value; no metrics.
Everything else is at its defaults.

Arguments: bootstrap servers, group, topic, URL, requests in flight, then name=value for each header. Prints how many
records were answered with a 2xx, ten times a second, until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys

import aiohttp  # type: ignore[import-not-found]  # in the peer's own environment, like its other packages
import uvloop
from pyrallel_consumer.config import KafkaConfig  # type: ignore[import-not-found]
from pyrallel_consumer.consumer import PyrallelConsumer  # type: ignore[import-not-found]
from pyrallel_consumer.dto import OrderingMode, WorkItem  # type: ignore[import-not-found]

REQUEST_S_MAX = 30.0
PRINT_S = 0.1


async def consume(servers: str, group: str, topic: str, url: str, at_once: int, headers: dict[str, str]) -> None:
    answered = 0
    connections = aiohttp.TCPConnector(limit=at_once)
    timeout = aiohttp.ClientTimeout(total=REQUEST_S_MAX)
    client = aiohttp.ClientSession(headers=headers, connector=connections, timeout=timeout)

    async def post(item: WorkItem) -> None:
        nonlocal answered
        key = f'"{item.tp.partition}/{item.offset}"'
        async with client.post(url, data=item.payload, headers={"Idempotency-Key": key}) as response:
            response.raise_for_status()
            await response.read()
        answered += 1

    config = KafkaConfig(BOOTSTRAP_SERVERS=servers, CONSUMER_GROUP=group, dlq_enabled=False)
    config.parallel_consumer.ordering_mode = OrderingMode.KEY_HASH
    config.parallel_consumer.execution.max_in_flight = at_once
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    consumer = PyrallelConsumer(config=config, worker=post, topic=topic)
    await consumer.start()
    while not ended.is_set():
        print(answered, flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), PRINT_S)
    await consumer.stop()
    await client.close()


def main(arguments: list[str]) -> None:
    servers, group, topic, url, at_once, *headers = arguments
    named = dict(header.split("=", 1) for header in headers)
    logging.basicConfig(level=logging.ERROR)  # each pause of its reading is a warning
    uvloop.run(consume(servers, group, topic, url, int(at_once), named))


if __name__ == "__main__":
    main(sys.argv[1:])
