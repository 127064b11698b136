"""Order events out of plain fields, as tests write them: what the reader makes of a record of the reader schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from processor.edges.avro import reader_schema
from processor.edges.avro_schema import Array, Node, Record, Schema, Union, parse
from processor.records import SHAPES, OrderEvent
from processor.topics import Topic


def order_event(topic: Topic, fields: Mapping[str, Any]) -> OrderEvent:
    """Raises KeyError or TypeError where a field is missing or of another type."""
    event: OrderEvent = _reader(topic)(fields)
    return event


@cache
def _reader(topic: Topic) -> Callable[[Any], Any]:
    schema = parse(reader_schema(topic))
    return _shaper(schema, schema.top)


def _shaper(schema: Schema, node: Node) -> Callable[[Any], Any]:
    match schema.at(node):
        case Record(name=name, fields=fields):
            shape, parts = SHAPES[name], [(one.name, _shaper(schema, one.type)) for one in fields]
            return lambda value: shape(*[shaped(value[field]) for field, shaped in parts])
        case Array(items=items):
            item = _shaper(schema, items)
            return lambda value: tuple([item(one) for one in value])
        case Union(branches=branches):
            branch = _shaper(schema, branches[1])
            return lambda value: None if value is None else branch(value)
    return lambda value: value
