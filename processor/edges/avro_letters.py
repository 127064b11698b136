"""Avro of dead letters: read in the schema it was written with, edited, and written again in that same schema.

Owned by the `dead-letters` commands. The framing stays byte for byte, so an edited record names the schema that its
producer registered; whether it still is an event of ours is for transform's own decoder to say.

Not chosen: the reader schema (it would have to be registered, and drop what newer producers write).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
from fastavro.validation import ValidationError, validate

from processor.edges.avro import AvroDecoder, Schemas, _framing, _parsed
from processor.errors import BadRecord
from processor.letters.patch import Unsendable, merged
from processor.records import Record


class AvroLetters:
    """Mutable: `_writers` and `_decoders` by schema, as they are met; there are as many as producers register."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._decoders: dict[int | str, AvroDecoder] = {}
        self._writers: dict[int | str, Any] = {}

    def fields(self, letter: Record) -> dict[str, Any]:
        """What a letter holds, in its writer's schema. Raises `BadRecord`, `RegistryOutage`."""
        schema_id, _ = _framing(letter, letter.value or b"")
        decoder = self._decoders.get(schema_id)
        if decoder is None:
            found = self._schemas.schema(schema_id)
            text = found[0] if found is not None else '"null"'  # the decoder says that there is none
            self._writers[schema_id] = _parsed(text, {} if found is None else found[1])
            decoder = self._decoders[schema_id] = AvroDecoder(text, self._schemas)
        return decoder.decode(letter)

    def edited(self, letter: Record, patch: dict[str, Any]) -> bytes | Unsendable:
        """A letter's Avro with a merge patch applied. A field that the patch deletes takes its default, or null."""
        try:
            fields = self.fields(letter)
        except BadRecord as bad:
            return Unsendable(f"it cannot be read, so nothing can be edited in it: {bad}")
        value = letter.value or b""
        schema_id, start = _framing(letter, value)
        schema = self._writers[schema_id]
        after = merged(fields, patch)
        try:
            validate(after, schema, raise_errors=True)
            out = BytesIO()
            fastavro.schemaless_writer(out, schema, after)
        except ValidationError as invalid:
            return Unsendable(f"the patch does not fit its schema: {_first(invalid)}")
        except Exception as broken:
            # fastavro raises as it likes where a value has another shape than its schema (TypeError, KeyError, …).
            return Unsendable(f"the patch does not fit its schema: {type(broken).__name__}: {broken}")
        edited = value[:start] + out.getvalue()
        copy = Record(letter.topic, letter.partition, letter.offset, letter.timestamp_ms, None, edited, letter.headers)
        written = self.fields(copy)
        if merged(written, _set(patch)) != written:
            return Unsendable("the patch names a field that its schema does not have")
        return edited


def _set(patch: dict[str, Any]) -> dict[str, Any]:
    """What a patch sets, without what it deletes."""
    return {
        name: _set(value) if isinstance(value, dict) else value for name, value in patch.items() if value is not None
    }


def _first(invalid: ValidationError) -> str:
    """The first of its complaints, without the value that it complains of."""
    for error in invalid.errors:
        return f"field {error.field} must be of type {error.schema if isinstance(error.schema, str) else 'another'}"
    return "it is of another shape"
