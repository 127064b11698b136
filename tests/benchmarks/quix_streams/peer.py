"""Quix Streams at the work of the bench's floor: Avro decoded, the order's state in RocksDB with its changelog, the
event as JSON into an outbox, all of it exactly once. No rules. Everything else is at its defaults, with which it
commits every five seconds.

Arguments: bootstrap servers, group, outbox, state directory, then topic=schema file for each source. Prints how many
records it has taken, ten times a second, until it is ended.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import reduce
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
from quixstreams import Application, State  # type: ignore[import-not-found]  # in the peer's own environment

FRAMING_BYTES = 5
PRINT_S = 0.1


class Taken:
    """How many records were taken. Mutable: written by the stream's thread alone, read by the one that prints."""

    def __init__(self) -> None:
        self.records = 0

    def print(self) -> None:
        while True:
            print(self.records, flush=True)
            time.sleep(PRINT_S)


def decoder(schema_file: str, taken: Taken) -> Callable[[bytes | None], Any]:
    text = Path(schema_file).read_text(encoding="utf-8").replace('"logicalType": "timestamp-millis"', '"x": 0')
    schema = fastavro.parse_schema(json.loads(text))

    def decode(value: bytes | None) -> Any:
        taken.records += 1
        return None if value is None else fastavro.schemaless_reader(BytesIO(value[FRAMING_BYTES:]), schema, None)

    return decode


def apply(event: Any, state: State) -> Any:
    if event is None:
        state.delete("events")
    else:
        state.set_bytes("events", state.get_bytes("events", b"") + event["event_id"].encode() + b",")
    return event


def main(arguments: list[str]) -> None:
    servers, group, outbox, state_directory, *sources = arguments
    taken = Taken()
    application = Application(
        servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=state_directory,
        producer_extra_config={"compression.type": "lz4"},
        loglevel="ERROR",
    )
    streams = [
        application.dataframe(application.topic(topic, key_deserializer="bytes", value_deserializer="bytes")).apply(
            decoder(schema_file, taken)
        )
        for topic, schema_file in (source.split("=", 1) for source in sources)
    ]
    events = reduce(lambda one, other: one.concat(other), streams).apply(apply, stateful=True)
    events = events.filter(lambda event: event is not None)
    events.to_topic(application.topic(outbox, key_serializer="bytes", value_serializer="json"))
    threading.Thread(target=taken.print, daemon=True).start()
    application.run()


if __name__ == "__main__":
    main(sys.argv[1:])
