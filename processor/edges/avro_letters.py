"""Edits the Avro of dead letters: decodes it with its writer's schema, and encodes it again with the same schema.

Owned by the `dead-letters` commands. The framing stays byte for byte, so an edited record names the schema that its
producer registered. Whether it is a valid event, transform's own decoder decides.

Not chosen: the reader schema (it would have to be registered, and would drop the fields of newer producers).
"""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
from fastavro.schema import parse_schema
from fastavro.validation import ValidationError, validate

from processor.edges.avro import AvroDecoder, Schemas
from processor.edges.avro_schema import NotAvro
from processor.edges.avro_wire import SchemaId, framing, undecodable, unknown
from processor.errors import BadRecord
from processor.letters.patch import Unsendable, merged
from processor.records import Record


class _Written:
    """A writer's schema and the schemas that it refers to, as a registry with this schema only."""

    def __init__(self, schema_id: SchemaId, text: str, references: dict[str, str]) -> None:
        self._found = text, references
        try:
            self.decoder = AvroDecoder(text, self, references=references)
        except NotAvro as broken:
            raise undecodable(f"schema {schema_id} is not an Avro schema: {broken}") from broken

    def schema(self, _schema_id: SchemaId) -> tuple[str, dict[str, str]]:
        return self._found

    def for_writing(self) -> Any:
        """Returns the schema for fastavro: without logical types, so that values stay as they are read."""
        text, references = self._found
        named: dict[str, Any] = {}
        for reference in references.values():
            parse_schema(_bare(json.loads(reference)), named)
        return parse_schema(_bare(json.loads(text)), named)


class AvroLetters:
    """Mutable: `_known` are the schemas so far; there are as many as producers register."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._known: dict[SchemaId, _Written] = {}

    def fields(self, letter: Record) -> dict[str, Any]:
        """Returns the fields of a letter, in its writer's schema. Raises `BadRecord`, `RegistryOutage`."""
        fields = self._written(letter).decoder.decode(letter)
        if not isinstance(fields, dict):
            raise undecodable("it is Avro, but not a record")
        return fields

    def _written(self, letter: Record) -> _Written:
        schema_id, _ = framing(letter, letter.value or b"")
        known = self._known.get(schema_id)
        if known is None:
            found = self._schemas.schema(schema_id)
            if found is None:
                raise unknown(schema_id)
            known = self._known[schema_id] = _Written(schema_id, *found)
        return known

    def edited(self, letter: Record, patch: dict[str, Any]) -> bytes | Unsendable:
        """Returns a letter's Avro after a merge patch. A field that the patch deletes takes its default, or null."""
        try:
            fields = self.fields(letter)
        except BadRecord as bad:
            return Unsendable(f"it cannot be read, so nothing can be edited in it: {bad}")
        value = letter.value or b""
        _, start = framing(letter, value)
        after = merged(fields, patch)
        try:
            schema = self._written(letter).for_writing()
            validate(after, schema, raise_errors=True)
            out = BytesIO()
            fastavro.schemaless_writer(out, schema, after)
        except ValidationError as invalid:
            return Unsendable(f"the patch does not fit its schema: {_first(invalid)}")
        except Exception as broken:
            # fastavro raises anything for a value of another shape than its schema (TypeError, KeyError, …).
            return Unsendable(f"the patch does not fit its schema: {type(broken).__name__}: {broken}")
        edited = value[:start] + out.getvalue()
        copy = Record(letter.topic, letter.partition, letter.offset, letter.timestamp_ms, None, edited, letter.headers)
        written = self.fields(copy)
        if merged(written, _set(patch)) != written:
            return Unsendable("the patch names a field that its schema does not have")
        return edited


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


def _set(patch: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that a patch sets, without those that it deletes."""
    return {
        name: _set(value) if isinstance(value, dict) else value for name, value in patch.items() if value is not None
    }


def _first(invalid: ValidationError) -> str:
    """Returns the first complaint, without the value."""
    for error in invalid.errors:
        return f"field {error.field} must be of type {error.schema if isinstance(error.schema, str) else 'another'}"
    return "it is of another shape"
