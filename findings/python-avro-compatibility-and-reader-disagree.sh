#!/usr/bin/env bash
# avro (Python) 1.12.2: its compatibility module says "compatible" of five pairs of schemas, of which its own DatumReader
# refuses four (another namespace, bytes read as string, an alias, an enum's default) and reads the fifth wrong: a field
# that is found by its alias and has a default is that default, 0, where 5 was written.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check avro==1.12.2
"$place/venv/bin/python" - <<'PYTHON'
import json
from io import BytesIO

import avro.io
import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker


def record(*fields, namespace="shop"):
    return avro.schema.parse(json.dumps({"type": "record", "name": "Order", "namespace": namespace, "fields": fields}))


def field(name, kind, **more):
    return {"name": name, "type": kind, **more}


def enum(*symbols, **more):
    return {"type": "enum", "name": "Status", "symbols": symbols, **more}


PAIRS = {
    "namespace": (record(field("id", "string")), record(field("id", "string"), namespace="orders"), {"id": "a"}, None),
    "promotion": (record(field("id", "bytes")), record(field("id", "string")), {"id": b"a"}, None),
    "alias": (record(field("qty", "int")), record(field("quantity", "int", aliases=["qty"])), {"qty": 5}, None),
    "alias and default": (
        record(field("qty", "int")),
        record(field("quantity", "int", aliases=["qty"], default=0)),
        {"qty": 5},
        {"quantity": 0},
    ),
    "enum default": (
        record(field("status", enum("PAID", "SENT", "LOST"))),
        record(field("status", enum("PAID", "SENT", default="PAID"))),
        {"status": "LOST"},
        None,
    ),
}
for name, (writer, reader, value, expected) in PAIRS.items():
    said = ReaderWriterCompatibilityChecker().get_compatibility(reader=reader, writer=writer).compatibility.name
    out = BytesIO()
    avro.io.DatumWriter(writer).write(value, avro.io.BinaryEncoder(out))
    decoder = avro.io.BinaryDecoder(BytesIO(out.getvalue()))
    try:
        read = avro.io.DatumReader(writer, reader).read(decoder)
    except avro.errors.SchemaResolutionException:
        read = None
    print(f"{name}: said {said}, read {'refused' if read is None else read}")
    assert said == "compatible", said
    assert read == expected, read
PYTHON
echo "seen as described"
