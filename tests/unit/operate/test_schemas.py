"""A schema is registered where it goes together with what is there, in the directions that the level asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from processor.edges.registry import Version
from processor.operate.schemas import SchemaAction, schema_step

STRING = {"name": "id", "type": "string"}
ADDED = {"name": "size", "type": "int"}
DEFAULTED = ADDED | {"default": 0}


def avro(*fields: Mapping[str, object]) -> str:
    return json.dumps({"type": "record", "name": "Thing", "fields": list(fields)})


def step(ours: str, level: str, *there: str) -> tuple[SchemaAction, str]:
    known = [Version(number, number, schema, {}) for number, schema in enumerate(there, start=1)]
    planned = schema_step("things-value", ours, known, level)
    return planned.action, planned.why


def test_the_first_schema_of_a_subject_is_registered() -> None:
    assert step(avro(STRING), "BACKWARD")[0] is SchemaAction.REGISTER


def test_the_same_schema_is_left_whatever_its_spacing() -> None:
    assert step(avro(STRING), "FULL", json.dumps(json.loads(avro(STRING)), indent=2))[0] is SchemaAction.LEAVE


@pytest.mark.parametrize("level", ["BACKWARD", "FULL", "NONE"])
def test_what_we_could_not_read_is_refused_and_the_field_named(level: str) -> None:
    action, why = step(avro(STRING, ADDED), level, avro(STRING))
    assert action is SchemaAction.REFUSE
    assert "size" in why


def test_forward_asks_whether_the_old_reader_can_go_on() -> None:
    dropped = avro(STRING)
    assert step(dropped, "BACKWARD", avro(STRING, ADDED))[0] is SchemaAction.REGISTER
    action, why = step(dropped, "FORWARD", avro(STRING, ADDED))
    assert action is SchemaAction.REFUSE
    assert "version 1" in why
    assert "size" in why


def test_transitive_asks_every_version() -> None:
    old, latest, ours = avro(STRING), avro(STRING, DEFAULTED), avro(STRING, ADDED)
    assert step(ours, "BACKWARD", old, latest)[0] is SchemaAction.REGISTER
    action, why = step(ours, "BACKWARD_TRANSITIVE", old, latest)
    assert action is SchemaAction.REFUSE
    assert "version 1" in why
