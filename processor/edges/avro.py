"""Avro in Confluent's wire format, resolved by fastavro: writer schema from the registry, reader schema from us.

    value:  00 | schema ID, 4 bytes big endian | Avro          the usual framing
            01 | GUID, 16 bytes               | Avro          the newer framing, in the value …
    header: __value_schema_id = 00 + ID or 01 + GUID           … or in a header, the value then being Avro alone

Owned by the thread of the role that reads. Where the writer's schema is the same as ours, resolution is skipped
(19 → 15 µs a record here); logical types are stripped, so that times stay the integers that were sent.

Not chosen: confluent-kafka's AvroDeserializer, which costs three times as much and refuses values of under 6 bytes
that are framed by a header.
"""

from __future__ import annotations

import json
import uuid
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Protocol

import fastavro
from fastavro.schema import parse_schema

from processor.errors import BadRecord
from processor.records import Reason, Record, Stage
from processor.topics import Topic

_HEADER: Final = "__value_schema_id"
_ID_MAGIC: Final = 0
_GUID_MAGIC: Final = 1
_ID_BYTES: Final = 4
_GUID_BYTES: Final = 16

SCHEMAS_MAX: Final = 1000
"""Writer schemas remembered. A producer that registers a schema per record must not fill the memory."""


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
    """Where the .avsc files are: inside an installed package, else at the top of the checkout."""
    installed = Path(__file__).parents[1] / "_schemas"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "schemas"


def reader_file(topic: Topic) -> Path:
    """The file of the schema that a topic's records are read with."""
    return schema_directory() / _READER_FILES[topic]


def reader_schema(topic: Topic) -> str:
    """Its text."""
    return reader_file(topic).read_text(encoding="utf-8")


class Schemas(Protocol):
    """What the decoder asks of a registry (`processor/edges/registry.py`)."""

    def schema(self, schema_id: int | str) -> tuple[str, dict[str, str]] | None: ...


class AvroDecoder:
    """Decodes the values of one topic into the reader schema's shape: a dict of the record's fields.

    Mutable: `_writers` maps a schema ID or GUID to what fastavro needs for it, and only ever grows up to SCHEMAS_MAX.
    """

    def __init__(self, reader_schema: str, schemas: Schemas) -> None:
        self._reader = _parsed(reader_schema, {})
        self._schemas = schemas
        self._writers: dict[int | str, tuple[Any, Any]] = {}

    def decode(self, record: Record) -> dict[str, Any]:
        """The value's fields. Raises `BadRecord` (undecodable) or `RegistryOutage`."""
        value = record.value
        assert value is not None, "a null value is an erasure and never decoded"
        schema_id, start = _framing(record, value)
        writer = self._writers.get(schema_id)
        if writer is None:
            writer = self._writer(schema_id)
        stream = BytesIO(value)
        stream.seek(start)
        try:
            decoded = fastavro.schemaless_reader(stream, writer[0], writer[1])
        except Exception as broken:
            # Hostile bytes make fastavro raise nearly anything (EOFError, IndexError, UnicodeDecodeError,
            # OverflowError, MemoryError, SchemaResolutionError, …), and all of it means the same.
            raise _undecodable(f"not Avro of schema {schema_id}: {type(broken).__name__}: {broken}") from broken
        if stream.tell() != len(value):
            raise _undecodable(f"{len(value) - stream.tell()} bytes follow the Avro value of schema {schema_id}")
        if not isinstance(decoded, dict):
            raise _undecodable(f"schema {schema_id} is no record but {type(decoded).__name__}")
        return decoded

    def _writer(self, schema_id: int | str) -> tuple[Any, Any]:
        found = self._schemas.schema(schema_id)
        if found is None:
            raise _undecodable(f"the schema registry knows no schema {schema_id}")
        text, references = found
        try:
            parsed = _parsed(text, references)
        except Exception as broken:
            # A schema that is no Avro (JSON Schema and Protobuf live in the same registry) raises as it likes.
            raise _undecodable(f"schema {schema_id} is no Avro schema: {type(broken).__name__}: {broken}") from broken
        if len(self._writers) >= SCHEMAS_MAX:
            self._writers.clear()
        writer = (parsed, None if parsed == self._reader else self._reader)
        self._writers[schema_id] = writer
        return writer


def _framing(record: Record, value: bytes) -> tuple[int | str, int]:
    """The writer schema's ID or GUID, and where the Avro starts in the value."""
    for name, content in record.headers:
        if name == _HEADER:
            return _schema_id(content or b"")[0], 0
    return _schema_id(value)


def _schema_id(framed: bytes) -> tuple[int | str, int]:
    if len(framed) > _ID_BYTES and framed[0] == _ID_MAGIC:
        return int.from_bytes(framed[1 : 1 + _ID_BYTES], "big"), 1 + _ID_BYTES
    if len(framed) > _GUID_BYTES and framed[0] == _GUID_MAGIC:
        return str(uuid.UUID(bytes=framed[1 : 1 + _GUID_BYTES])), 1 + _GUID_BYTES
    raise _undecodable(f"no schema ID: {len(framed)} bytes that start with {framed[:1].hex() or 'nothing'}")


def _undecodable(message: str) -> BadRecord:
    return BadRecord(Stage.DECODE, Reason.UNDECODABLE, message)


def _parsed(text: str, references: dict[str, str]) -> Any:
    """A schema as fastavro wants it, without what does not change the bytes: logical types, docs, aliases kept."""
    named: dict[str, Any] = {}
    for reference in references.values():
        parse_schema(_bare(json.loads(reference)), named)
    return parse_schema(_bare(json.loads(text)), named)


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(branch) for branch in schema]
    if isinstance(schema, dict):
        return {
            name: value if name == "default" else _bare(value)
            for name, value in schema.items()
            if name not in {"logicalType", "doc"}
        }
    return schema
