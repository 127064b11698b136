"""One event's Avro to one of our structs, by who wrote it: `python -m tests.benchmarks avro`. Nothing but this process.

Ours against what Java's generator makes of the same schema (`avro.java.string`), and against times in microseconds.
What counts is the ratio, side by side: rounds take turns, and of each the least is taken.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from processor.edges.avro import AvroDecoder, reader_schema
from processor.edges.avro_schema import parse
from processor.edges.avro_wire import SchemaId
from processor.records import SHAPES, Record
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.support.avro_writer import encoded

EVENTS: Final = 400
ROUNDS: Final = 25


class _Known:
    def __init__(self, schema: str) -> None:
        self._schema = schema

    def schema(self, _schema_id: SchemaId) -> tuple[str, dict[str, str]]:
        return self._schema, {}


def writers() -> dict[str, str]:
    """Schemas of `OrderPlaced` by who wrote them."""
    ours = reader_schema(Topic.PLACED)
    java = ours.replace('"string"', '{"type": "string", "avro.java.string": "String"}')
    assert json.loads(java) != json.loads(ours)
    micros = ours.replace("timestamp-millis", "timestamp-micros")
    return {"ours": ours, "Java's": java, "micros": micros}


def main(_arguments: list[str] | None = None) -> None:
    taken = measured()
    for name, us in taken.items():
        print(f"avro {name:<8} {us:>6.2f} µs CPU an event  {us / taken['ours']:.3f} of ours", flush=True)


def measured() -> dict[str, float]:
    """µs CPU an event by writer."""
    plan = Shop(orders=EVENTS, rate=1, bad_share=0.0, seed=1, start_ms=1_700_000_000_000)
    steps = [step.value for step in shop(plan)]
    events = [one for one in steps if isinstance(one, dict) and "placed_at" in one][:EVENTS]
    sides = {name: _side(schema, events, 1000 if name == "micros" else 1) for name, schema in writers().items()}
    least = dict.fromkeys(sides, float("inf"))
    for _ in range(ROUNDS):
        for name, (decoder, records) in sides.items():
            began_s = time.thread_time()
            for record in records:
                decoder.read(record)
            least[name] = min(least[name], time.thread_time() - began_s)
    return {name: seconds / len(events) * 1e6 for name, seconds in least.items()}


def _side(schema: str, events: list[dict[str, Any]], unit: int) -> tuple[AvroDecoder, list[Record]]:
    parsed = parse(schema)
    records = [
        Record(
            "t", 0, 0, 0, b"k", b"\0\0\0\0\1" + encoded(parsed, event | {"placed_at": event["placed_at"] * unit}), []
        )
        for event in events
    ]
    return AvroDecoder(reader_schema(Topic.PLACED), _Known(schema), SHAPES), records
