"""Whether what producers write can be read with our schema: Apache Avro's own rules of resolution.

Asked at start and by `schemas check`, never per record: fastavro resolves those, and a record that does not resolve is
a dead letter; a subject whose newest schema does not resolve would make dead letters of everything from now on, so the
worker refuses to start instead.
"""

from __future__ import annotations

import json
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException


def unreadable(reader: str, writer: str) -> str | None:
    """Why records of `writer` cannot be read with `reader`, the fields named; None where they can."""
    try:
        parsed = avro.schema.parse(writer)
    except (AvroException, ValueError) as broken:
        return f"it is no Avro schema: {broken}"
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro types most but not this
    result = checker.get_compatibility(avro.schema.parse(reader), parsed)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return None
    named = {_field(json.loads(reader), location) for location in result.locations}
    fields = ", ".join(sorted(named - {""}))
    return f"{'field ' + fields + ': ' if fields else ''}{'; '.join(sorted(result.messages))}"


def _field(schema: Any, location: str) -> str:
    """`/fields/2/type/items/fields/1` as a person says it: `items.quantity`. Empty for the whole record."""
    names: list[str] = []
    for part in filter(None, location.split("/")):
        schema = schema[int(part)] if isinstance(schema, list) else schema.get(part)
        if schema is None:
            break
        if isinstance(schema, dict) and part.isdigit() and "name" in schema and "type" in schema:
            names.append(schema["name"])
    return ".".join(names)
