#!/usr/bin/env bash
# fastavro 1.13.1: a field that the writer does not have gets its default as the JSON has it, not as the type wants it.
#   bytes, default "\u00ff"                                          the str 'ÿ' and not b'\xff'
#   a record, default {"p": 3}, whose field q has a default of its own    {'p': 3}, without q
# The specification (1.12, "Complex Types", default) has bytes of code points 0-255 and the inner field's own default; the
# Java implementation gives both.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check fastavro==1.13.1
"$place/venv/bin/python" - <<'PYTHON'
from io import BytesIO

import fastavro

writer = fastavro.parse_schema({"type": "record", "name": "R", "fields": [{"name": "id", "type": "int"}]})
inner = {
    "type": "record",
    "name": "Inner",
    "fields": [{"name": "p", "type": "int"}, {"name": "q", "type": "string", "default": "own"}],
}
reader = fastavro.parse_schema(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "id", "type": "int"},
            {"name": "raw", "type": "bytes", "default": "\u00ff"},
            {"name": "nested", "type": inner, "default": {"p": 3}},
        ],
    }
)
out = BytesIO()
fastavro.schemaless_writer(out, writer, {"id": 1})
read = fastavro.schemaless_reader(BytesIO(out.getvalue()), writer, reader)
print("fastavro", fastavro.__version__, read)
assert read["raw"] == "\u00ff" and isinstance(read["raw"], str), read["raw"]
assert read["nested"] == {"p": 3}, read["nested"]
PYTHON
echo "seen as described"
