"""How a writer's schema is read with ours: what is done to which field, and which is named where it cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processor.edges.avro import reader_schema
from processor.edges.avro_plan import judged, plan_of
from processor.edges.avro_reader import Refused, compiled
from processor.edges.avro_schema import parse
from processor.edges.avro_steps import Finding, Plan, ReadEnum, ReadRecord, Refuse, What
from processor.topics import ORDER_TOPICS, Topic
from tests.support.avro_writer import encoded


def schema(topic: Topic = Topic.FULFILLED) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(reader_schema(topic))
    return parsed


def refusal(writer: object, topic: Topic = Topic.FULFILLED) -> str:
    """Why nothing of this writer's can be read with our schema of the topic; nothing where it can."""
    return judged(reader_schema(topic), writer if isinstance(writer, str) else json.dumps(writer)).refusal or ""


@pytest.mark.parametrize("topic", ORDER_TOPICS)
def test_our_own_schemas_can_be_read(topic: Topic) -> None:
    assert not refusal(reader_schema(topic), topic)


def test_an_optional_field_more_can_be_read() -> None:
    writer = schema()
    writer["fields"].append({"name": "carrier", "type": ["null", "string"], "default": None})
    assert not refusal(writer)


def test_a_field_of_another_type_is_named() -> None:
    writer = schema()
    writer["fields"][0]["type"] = "int"
    assert "field event_id" in refusal(writer)


def test_a_field_that_is_gone_is_named_with_its_path() -> None:
    writer = schema()
    writer["fields"][2]["type"]["items"]["fields"].pop(1)
    assert "field items.quantity" in refusal(writer)


@pytest.mark.parametrize("text", ["", "{", "<html>", '{"type": "object"}', '"nothing"'])
def test_what_is_no_avro_schema_is_said_to_be_none(text: str) -> None:
    assert refusal(text).startswith("it is not an Avro schema")


def test_a_plan_of_what_is_no_avro_schema_refuses_as_a_whole() -> None:
    for plan in (judged(reader_schema(Topic.FULFILLED), "{"), judged("{", reader_schema(Topic.FULFILLED))):
        (finding,) = plan.findings
        assert plan == Plan(Refuse(finding.why), {}, (Finding("", What.REFUSED, finding.why),))
        assert finding.why.startswith("it is not an Avro schema")


def test_each_side_may_refer_to_schemas_of_its_own() -> None:
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "units", "type": "int"}]}
    wide = {"type": "record", "name": "Inner", "fields": [{"name": "units", "type": "long"}]}
    outer = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": "Inner"}]}
    whole = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": inner}]}
    ours, theirs = {"Inner": json.dumps(wide)}, {"Inner": json.dumps(inner)}
    assert judged(json.dumps(outer), json.dumps(outer), theirs, ours=ours).refusal is None
    assert judged(json.dumps(whole), json.dumps(outer), theirs).refusal is None
    narrowed = judged(json.dumps(outer), json.dumps(outer), ours, ours=theirs).refusal or ""
    assert "field inner.units" in narrowed
    unknown = judged(json.dumps(whole), json.dumps(outer)).refusal or ""
    assert unknown.startswith("it is not an Avro schema")


def enum(*symbols: str, **more: str) -> str:
    """The schema of a record with the one field `kind`."""
    field = {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": symbols, **more}}
    return json.dumps({"type": "record", "name": "R", "fields": [field]})


@pytest.mark.parametrize(
    ("symbols", "default", "read", "findings"),
    [
        (["A", "B"], None, ("A", "B"), []),
        (["A", "C"], None, ("A", None), [(What.PARTLY, "the symbol C becomes a dead letter: ours has no such one")]),
        (["A", "C"], "B", ("A", "B"), [(What.CONVERTED, "the symbol C is read as B")]),
        (["C"], "B", ("B",), [(What.CONVERTED, "the symbol C is read as B")]),
    ],
)
def test_a_symbol_that_ours_has_not_is_its_default_or_a_dead_letter(
    symbols: list[str], default: str | None, read: tuple[str | None, ...], findings: list[tuple[What, str]]
) -> None:
    ours = enum("A", "B") if default is None else enum("A", "B", default=default)
    plan = judged(ours, enum(*symbols))
    assert plan.findings == tuple(Finding("kind", what, why) for what, why in findings)
    (record,) = plan.records.values()
    assert isinstance(record, ReadRecord)
    assert ReadEnum(read) in [step for _, step in record.written]


def test_an_enum_of_which_ours_has_no_symbol_is_refused_with_its_path() -> None:
    assert judged(enum("A"), enum("C")).refusal == "field kind: written as enum Kind, read as enum Kind"


def test_what_is_refused_is_told_with_its_path_both_types_and_within_500_characters() -> None:
    writer = schema(Topic.PLACED)
    writer["fields"][2]["type"] = {"type": "long", "logicalType": "local-timestamp-millis"}
    line = writer["fields"][6]["type"]["items"]
    for one in line["fields"][:6]:
        one["type"] = {"type": "array", "items": {"type": "enum", "name": one["name"], "symbols": ["A" * 300]}}
    why = refusal(writer, Topic.PLACED)
    assert why.startswith(
        "field placed_at: written as long (local-timestamp-millis), read as long (timestamp-millis): "
        "local-timestamp-millis names no instant"
    )
    assert "field line_items.id: written as array of enum id, read as string" in why
    assert len(why) <= 500


@pytest.mark.parametrize("unit", ["millis", "micros", "nanos"])
def test_a_timestamp_that_is_not_adjusted_to_utc_is_a_local_one(unit: str) -> None:
    """As Iceberg writes one without a zone."""
    writer = schema()
    field = writer["fields"][2]["type"]["items"]["fields"][2]
    field["type"] = {"type": "long", "logicalType": f"timestamp-{unit}", "adjust-to-utc": False}
    assert f"local-timestamp-{unit} names no instant" in refusal(writer)
    field["type"]["adjust-to-utc"] = True
    assert not refusal(writer)


@pytest.mark.parametrize(
    ("kind", "logical"), [("int", "date"), ("int", "time-millis"), ("long", "local-timestamp-micros"), ("string", "")]
)
@pytest.mark.parametrize("null_first", [True, False])
def test_a_time_that_may_be_null_is_refused_as_it_is_without_the_null(
    kind: str, logical: str, null_first: bool
) -> None:
    """Kafka Connect writes whatever is optional so, and a field of which only the null can be read is of no use."""
    of_value: dict[str, str] = {"type": kind, "logicalType": logical} if logical else {"type": kind}
    reasons = set()
    for written in (of_value, ["null", of_value] if null_first else [of_value, "null"]):
        items = schema(Topic.ITEMS)
        (expires,) = [one for one in items["fields"] if one["name"] == "expires"]
        expires["type"] = written
        expires.pop("default", None)
        writer = parse(json.dumps(items))
        reasons.add(refusal(items, Topic.ITEMS))
        read = compiled(plan_of(parse(reader_schema(Topic.ITEMS)), writer), writer)
        value = encoded(writer, {"sku": "s", "name": None, "expires": "x" if kind == "string" else 7, "price": None})
        with pytest.raises(Refused, match="field expires: "):
            read(value, 0)
    assert len(reasons) == 1
    assert reasons.pop().startswith(f"field expires: written as {kind}")


def test_a_registry_goes_by_avros_own_rules_and_we_read_more() -> None:
    writer = schema()
    writer["name"] = "Shipped"
    writer["fields"][0]["type"] = ["null", "string"]
    plan = judged(reader_schema(Topic.FULFILLED), json.dumps(writer))
    assert plan.refusal is None
    assert plan.strict_refusal is not None
    assert "record orders.v1.Shipped is read by its fields" in plan.strict_refusal
    assert "field event_id: a value of null becomes a dead letter" in plan.strict_refusal


def test_each_field_says_what_is_done_to_it() -> None:
    writer = schema()
    fields = writer["fields"][2]["type"]["items"]["fields"]
    fields[2]["type"] = {"type": "long", "logicalType": "timestamp-nanos"}
    writer["fields"].append({"name": "carrier", "type": "string"})
    reader = schema()
    reader["fields"].append({"name": "parcel", "type": ["null", "string"], "default": None})
    found = judged(json.dumps(reader), json.dumps(writer)).findings
    assert [(one.path, one.what, one.why) for one in found] == [
        ("items.fulfilled_at", What.CONVERTED, "timestamp-nanos to timestamp-millis, cut to milliseconds"),
        ("carrier", What.DROPPED, "written, and not ours"),
        ("parcel", What.DEFAULTED, "not written: null"),
    ]
