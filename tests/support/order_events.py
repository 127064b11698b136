"""Order events out of plain fields, as tests write them: what the reader makes of a record of the reader schema."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from processor.edges.avro import reader_schema
from processor.edges.avro_schema import Array, Node, Record, Schema, Union, parse
from processor.records import OrderEvent
from processor.topics import Topic
from processor.transform.decode import SHAPES


def order_event(topic: Topic, fields: Mapping[str, Any]) -> OrderEvent:
    """Raises KeyError or TypeError where a field is missing or of another type."""
    schema = _schema(topic)
    event: OrderEvent = _shaped(schema, schema.top, fields)
    return event


@cache
def _schema(topic: Topic) -> Schema:
    return parse(reader_schema(topic))


def _shaped(schema: Schema, node: Node, value: Any) -> Any:
    match schema.at(node):
        case Record(name=name, fields=fields):
            return SHAPES[name](*(_shaped(schema, one.type, value[one.name]) for one in fields))
        case Array(items=items):
            return tuple(_shaped(schema, items, one) for one in value)
        case Union(branches=branches) if value is not None:
            return _shaped(schema, branches[1], value)
    return value
