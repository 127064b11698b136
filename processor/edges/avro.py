"""Decodes the Avro of the source topics into our own values: writer schema from the registry, reader schema from us.

    record ─ framing (avro_wire.py) ─ schema ID ─ reader (avro_reader.py), made once of a plan (avro_plan.py) ─► value

Owned by the thread of the role that reads. Times are epoch milliseconds, whatever a writer's logical type.

Not chosen: confluent-kafka's AvroDeserializer, which costs six times as much and refuses values of under 6 bytes whose
framing is in a header.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from processor.edges.avro_plan import plan_of
from processor.edges.avro_reader import Reader, Refused, Shapes, Unreadable, compiled
from processor.edges.avro_schema import NotAvro, parse
from processor.edges.avro_wire import FRAME_BYTES, SchemaId, framing, undecodable, unknown
from processor.letters.letter import shortened
from processor.records import Record
from processor.topics import Topic

SCHEMAS_MAX: Final = 1000
"""Writer schemas in memory. A producer that registers a schema per record must not fill it."""

_READER_FILES: Final = {
    Topic.PLACED: "order_placed.avsc",
    Topic.FULFILLED: "line_items_fulfilled.avsc",
    Topic.REFUNDED: "line_items_refunded.avsc",
    Topic.LINE_ITEMS_CANCELLED: "line_items_cancelled.avsc",
    Topic.CANCELLED: "order_cancelled.avsc",
    Topic.ITEMS: "item_changed.avsc",
    Topic.WAREHOUSES: "warehouse_changed.avsc",
    Topic.LEVELS: "inventory_level_changed.avsc",
}


def schema_directory() -> Path:
    """Returns the directory of the .avsc files: in an installed package, else at the top of the checkout."""
    installed = Path(__file__).parents[1] / "_schemas"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "schemas"


def reader_file(topic: Topic) -> Path:
    """Returns the file of the reader schema of a topic."""
    return schema_directory() / _READER_FILES[topic]


def reader_schema(topic: Topic) -> str:
    return reader_file(topic).read_text(encoding="utf-8")


def reader_schema_of(topic: Topic, field: str) -> str:
    """Returns a reader schema with one field only: to skip a field costs a third of reading it."""
    schema = json.loads(reader_schema(topic))
    return json.dumps({**schema, "fields": [one for one in schema["fields"] if one["name"] == field]})


class Schemas(Protocol):
    """The decoder's questions to a registry (`processor/edges/registry.py`)."""

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None: ...


class AvroDecoder:
    """Decodes the values of one topic into the reader schema's shape: a dict for each record, or what `shapes` makes of
    its fields.

    Mutable: `_readers` maps a schema ID to its reader, at most SCHEMAS_MAX of them; `_framed` is the same by the first
    bytes of a value, for records without headers.
    """

    def __init__(
        self,
        reader_schema: str,
        schemas: Schemas,
        shapes: Shapes | None = None,
        *,
        references: Mapping[str, str] | None = None,
    ) -> None:
        """Raises `NotAvro` if the reader schema is not valid. `references` are the schemas that it refers to, by
        name."""
        self._ours = parse(reader_schema, references)
        self._schemas = schemas
        self._shapes = shapes
        self._readers: dict[SchemaId, Reader] = {}
        self._framed: dict[bytes, tuple[Reader, SchemaId, int]] = {}

    def decode(self, record: Record) -> dict[str, Any]:
        """Returns the value's fields, without shapes. Raises `BadRecord` (undecodable) or `RegistryOutage`."""
        fields: dict[str, Any] = self.read(record)
        return fields

    def read(self, record: Record) -> Any:
        """Returns the value in the shape of its record. Raises as `decode` does."""
        value = record.value
        assert value is not None, "a null value is an erasure and never decoded"
        known = None if record.headers else self._framed.get(value[:FRAME_BYTES])
        reader, schema_id, start = self._found(record, value) if known is None else known
        try:
            return reader(value, start)
        except Refused as refused:
            raise undecodable(shortened(f"{refused} (schema {schema_id})")) from refused
        except Exception as broken:
            # Hostile bytes make plain Python raise nearly anything (IndexError, UnicodeDecodeError, RecursionError,
            # OverflowError, MemoryError, struct.error, …), always with the same meaning.
            raise undecodable(f"not Avro of schema {schema_id}: {_said(broken)}") from broken

    def _found(self, record: Record, value: bytes) -> tuple[Reader, SchemaId, int]:
        """Returns the reader of a value, the writer's schema, and the start of the Avro."""
        schema_id, start = framing(record, value)
        found = self._readers.get(schema_id) or self._reader(schema_id), schema_id, start
        if not record.headers and start == FRAME_BYTES:
            self._framed[value[:FRAME_BYTES]] = found
        return found

    def _reader(self, schema_id: SchemaId) -> Reader:
        found = self._schemas.schema(schema_id)
        if found is None:
            raise unknown(schema_id)
        try:
            writer = parse(*found)
            made = compiled(plan_of(self._ours, writer), writer, self._shapes)
        except NotAvro as broken:
            raise undecodable(shortened(f"schema {schema_id} is not an Avro schema: {broken}")) from broken
        except Exception as broken:
            # Too large for Python's compiler or its stack: the fault of the schema, and so of its records.
            raise undecodable(f"schema {schema_id} cannot be read: {type(broken).__name__}") from broken
        if len(self._readers) >= SCHEMAS_MAX:
            self._readers.clear()
            self._framed.clear()
        reader = self._readers[schema_id] = made
        return reader


def _said(broken: Exception) -> str:
    """Returns the fault of bytes, in words that hold none of them."""
    match broken:
        case Unreadable():
            return str(broken)
        case IndexError() | struct.error():
            return "it ends in the middle of a value"
        case UnicodeDecodeError():
            return "a text is not UTF-8"
        case RecursionError():
            return "records within records without end"
    return type(broken).__name__
