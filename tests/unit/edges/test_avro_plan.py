"""How a writer's schema is read with ours: what is done to which field, and which is named where it cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processor.edges.avro import reader_schema
from processor.edges.avro_plan import judged
from processor.topics import ORDER_TOPICS, Topic


def schema() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(reader_schema(Topic.FULFILLED))
    return parsed


@pytest.mark.parametrize("topic", ORDER_TOPICS)
def test_our_own_schemas_can_be_read(topic: Topic) -> None:
    assert judged(reader_schema(topic), reader_schema(topic)).refusal is None


def test_an_optional_field_more_can_be_read() -> None:
    writer = schema()
    writer["fields"].append({"name": "carrier", "type": ["null", "string"], "default": None})
    assert judged(reader_schema(Topic.FULFILLED), json.dumps(writer)).refusal is None


def test_a_field_of_another_type_is_named() -> None:
    writer = schema()
    writer["fields"][0]["type"] = "int"
    why = judged(reader_schema(Topic.FULFILLED), json.dumps(writer)).refusal
    assert why is not None
    assert "field event_id" in why


def test_a_field_that_is_gone_is_named_with_its_path() -> None:
    writer = schema()
    writer["fields"][2]["type"]["items"]["fields"].pop(1)
    why = judged(reader_schema(Topic.FULFILLED), json.dumps(writer)).refusal
    assert why is not None
    assert "field items.quantity" in why


@pytest.mark.parametrize("text", ["", "{", "<html>", '{"type": "object"}', '"nothing"'])
def test_what_is_no_avro_schema_is_said_to_be_none(text: str) -> None:
    why = judged(reader_schema(Topic.FULFILLED), text).refusal
    assert why is not None
    assert why.startswith("it is no Avro schema")
