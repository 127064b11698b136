"""What the commands print as JSON, held against `schemas/command-output.schema.json`."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its types are a package of their own

from tests.support.children import REPOSITORY


def printed(command: str, out: str) -> Any:
    """What `command` printed, parsed; fails the test where it is not what the schema says."""
    told = json.loads(out)
    wrong = [f"{one.json_path}: {one.message}" for one in validator(command).iter_errors(told)]
    assert not wrong, wrong[:5]
    return told


@cache
def validator(command: str) -> Draft202012Validator:
    schema = json.loads((REPOSITORY / "schemas" / "command-output.schema.json").read_text(encoding="utf-8"))
    assert command in schema["$defs"], f"there is no schema of {command}"
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator({**schema, "$ref": f"#/$defs/{command}"})
