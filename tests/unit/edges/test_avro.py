"""Avro: framing, resolution of writers' schemas to ours, and bytes that are none of it."""

from __future__ import annotations

import copy
import json
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processor.edges import avro
from processor.edges.avro import AvroDecoder, reader_schema
from processor.edges.avro_wire import SchemaId
from processor.errors import BadRecord, RegistryOutage
from processor.records import SHAPES, Headers, Reason, Record, Stage
from processor.topics import ORDER_TOPICS, Topic
from tests.unit.edges import avro_pairs

GUID = uuid.UUID("0b9e5a3e-2d6f-4c22-8f68-9d3c54a4a1b2")
HEADER = "__value_schema_id"


class Registry:
    """Schemas by ID or GUID; counts how often it is asked."""

    def __init__(self) -> None:
        self.schemas: dict[SchemaId, str] = {}
        self.references: dict[str, str] = {}
        self.asked = 0
        self.down = False

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None:
        self.asked += 1
        if self.down:
            raise RegistryOutage("down")
        found = self.schemas.get(schema_id)
        return None if found is None else (found, self.references)


def schema_of(topic: Topic) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(reader_schema(topic))
    return parsed


def encoded(schema: object, value: object) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, parse_schema(copy.deepcopy(schema)), value)  # type: ignore[arg-type]
    return out.getvalue()


def record(value: bytes, headers: Headers | None = None) -> Record:
    return Record("t", 0, 0, 0, b"k", value, headers or [])


def decoder(topic: Topic, schema: object = None, schema_id: int | str = 1) -> tuple[AvroDecoder, Registry]:
    registry = Registry()
    registry.schemas[schema_id] = reader_schema(topic) if schema is None else json.dumps(schema)
    return AvroDecoder(reader_schema(topic), registry), registry


CANCELLED = {"event_id": "e", "order_id": "o", "cancelled_at": 1_645_369_200_000}
BODY = encoded(schema_of(Topic.CANCELLED), CANCELLED)
SHIPPED = {"line_item_id": "l", "quantity": 2, "fulfilled_at": 5}
FULFILLED: dict[str, Any] = {"event_id": "e", "order_id": "o", "items": [SHIPPED]}
PLACED = avro_pairs.VALUES[Topic.PLACED]
VALUES = {
    Topic.CANCELLED: CANCELLED,
    Topic.FULFILLED: FULFILLED,
    Topic.PLACED: PLACED | {"line_items": PLACED["line_items"] * 3},
}
PREFIX = b"\x00\x00\x00\x00\x01"


def refused(made: AvroDecoder, of: Record) -> str:
    with pytest.raises(BadRecord) as bad:
        made.decode(of)
    assert (bad.value.stage, bad.value.reason) == (Stage.DECODE, Reason.UNDECODABLE)
    return str(bad.value)


def test_the_schema_id_stands_before_the_value() -> None:
    made, _ = decoder(Topic.CANCELLED)
    assert made.decode(record(PREFIX + BODY)) == CANCELLED


def test_a_guid_stands_before_the_value() -> None:
    made, _ = decoder(Topic.CANCELLED, schema_id=str(GUID))
    assert made.decode(record(b"\x01" + GUID.bytes + BODY)) == CANCELLED


@pytest.mark.parametrize(("schema_id", "header"), [(1, PREFIX), (str(GUID), b"\x01" + GUID.bytes)], ids=["id", "guid"])
def test_the_schema_stands_in_a_header_and_the_value_is_avro_alone(schema_id: int | str, header: bytes) -> None:
    made, _ = decoder(Topic.CANCELLED, schema_id=schema_id)
    assert made.decode(record(BODY, [("trace", b"x"), (HEADER, header)])) == CANCELLED


def test_of_two_headers_the_last_names_the_schema() -> None:
    """Serialisers add theirs behind those of a record that is handed on."""
    made, _ = decoder(Topic.CANCELLED, schema_id=str(GUID))
    before, own = (HEADER, b"\x01" + bytes(16)), (HEADER, b"\x01" + GUID.bytes)
    assert made.decode(record(BODY, [before, ("trace", b"x"), own])) == CANCELLED
    assert "knows no schema" in refused(made, record(BODY, [own, before]))


def test_a_value_of_under_six_bytes_can_be_framed_by_a_header() -> None:
    made, _ = decoder(Topic.CANCELLED, schema_id=str(GUID))
    small = encoded(schema_of(Topic.CANCELLED), {"event_id": "", "order_id": "", "cancelled_at": 0})
    assert len(small) == 3
    header: Headers = [(HEADER, b"\x01" + GUID.bytes)]
    assert made.decode(record(small, header)) == {"event_id": "", "order_id": "", "cancelled_at": 0}
    assert "not Avro" in refused(made, record(b"", header))


@pytest.mark.parametrize(
    "value",
    [b"", b"\x00", PREFIX[:4], PREFIX, b"\x01" + GUID.bytes[:15], b"\x02" + PREFIX[1:] + BODY, b'{"json": true}'],
)
def test_a_value_without_framing_is_undecodable(value: bytes) -> None:
    made, _ = decoder(Topic.CANCELLED)
    refused(made, record(value))


@pytest.mark.parametrize("header", [None, b"", b"\x00\x00", b"\x07" + bytes(16)])
def test_a_header_that_names_no_schema_is_undecodable(header: bytes | None) -> None:
    made, _ = decoder(Topic.CANCELLED)
    assert "no schema ID" in refused(made, record(PREFIX + BODY, [(HEADER, header)]))


def test_bytes_that_are_left_over_make_a_record_undecodable() -> None:
    made, _ = decoder(Topic.CANCELLED)
    assert "2 bytes follow" in refused(made, record(PREFIX + BODY + b"\0\0"))


def test_a_schema_is_asked_for_once() -> None:
    made, registry = decoder(Topic.CANCELLED)
    for _ in range(3):
        made.decode(record(PREFIX + BODY))
    assert registry.asked == 1


def test_an_unknown_schema_is_the_records_fault() -> None:
    made, _ = decoder(Topic.CANCELLED)
    assert "knows no schema 9" in refused(made, record(b"\x00\x00\x00\x00\x09" + BODY))


def test_an_outage_is_nobodys_fault_and_is_forgotten() -> None:
    made, registry = decoder(Topic.CANCELLED)
    registry.down = True
    with pytest.raises(RegistryOutage):
        made.decode(record(PREFIX + BODY))
    registry.down = False
    assert made.decode(record(PREFIX + BODY)) == CANCELLED


@pytest.mark.parametrize("text", ["no JSON", '"no_such_type"', "{}", '{"type": "record"}', "[]", "42"])
def test_a_schema_that_is_no_avro_makes_its_records_undecodable(text: str) -> None:
    made, registry = decoder(Topic.CANCELLED)
    registry.schemas[1] = text
    refused(made, record(PREFIX + BODY))


def test_a_schema_that_is_no_record_makes_its_records_undecodable() -> None:
    made, registry = decoder(Topic.CANCELLED)
    registry.schemas[1] = '"string"'
    refused(made, record(PREFIX + b"\x02a"))


def test_a_schema_that_refers_to_another_is_read() -> None:
    schema = schema_of(Topic.FULFILLED)
    items = next(field for field in schema["fields"] if field["name"] == "items")
    item, items["type"]["items"] = items["type"]["items"], "orders.v1." + items["type"]["items"]["name"]
    item["namespace"] = "orders.v1"
    made, registry = decoder(Topic.FULFILLED, schema)
    registry.references = {"item": json.dumps(item)}
    assert made.decode(record(PREFIX + encoded(schema_of(Topic.FULFILLED), FULFILLED))) == FULFILLED


def test_schemas_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avro, "SCHEMAS_MAX", 5)
    made, registry = decoder(Topic.CANCELLED)
    for number in range(12):
        registry.schemas[number] = reader_schema(Topic.CANCELLED)
        made.decode(record(b"\x00" + number.to_bytes(4, "big") + BODY))
    assert len(made._readers) <= 5


Change = Callable[[dict[str, Any]], object]


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in schema["fields"] if one["name"] == name)
    return found


def resolved(writer: dict[str, Any], value: dict[str, Any], topic: Topic = Topic.FULFILLED) -> dict[str, Any]:
    made, _ = decoder(topic, writer)
    return made.decode(record(PREFIX + encoded(writer, value)))


def item_field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return field(field(schema, "items")["type"]["items"], name)


CHANGES: dict[str, Change] = {
    "add with default": lambda schema: schema["fields"].append(
        {"name": "carrier", "type": ["null", "string"], "default": None}
    ),
    "add without default": lambda schema: schema["fields"].append({"name": "carrier", "type": "string"}),
    "remove": lambda schema: schema["fields"].remove(field(schema, "event_id")),
    "rename": lambda schema: field(schema, "event_id").update(name="id"),
    "rename with alias": lambda schema: field(schema, "event_id").update(name="id", aliases=["event_id"]),
    "rename record with alias": lambda schema: schema.update(name="Shipped", aliases=["orders.v1.LineItemsFulfilled"]),
    "quantity long": lambda schema: item_field(schema, "quantity").update(type="long"),
    "quantity text": lambda schema: item_field(schema, "quantity").update(type="string"),
    "time int": lambda schema: item_field(schema, "fulfilled_at").update(type="int"),
    "optional": lambda schema: field(schema, "event_id").update(type=["null", "string"]),
    "doc": lambda schema: [one.update(doc="another text") for one in (schema, field(schema, "event_id"))],
    "order": lambda schema: schema["fields"].reverse(),
}


def changed(change: str) -> dict[str, Any]:
    """The schema of what is fulfilled, with one of the changes."""
    schema = schema_of(Topic.FULFILLED)
    CHANGES[change](schema)
    return schema


def with_reader(change: str) -> dict[str, Any]:
    """Today's producers read with a changed reader schema of ours."""
    registry = Registry()
    registry.schemas[1] = reader_schema(Topic.FULFILLED)
    made = AvroDecoder(json.dumps(changed(change)), registry)
    return made.decode(record(PREFIX + encoded(schema_of(Topic.FULFILLED), FULFILLED)))


AS_IT_WAS = FULFILLED.items()
MAY_CHANGE = {
    "add with default": FULFILLED | {"carrier": None},
    "remove": {name: value for name, value in AS_IT_WAS if name != "event_id"},
    "rename with alias": {{"event_id": "id"}.get(name, name): value for name, value in AS_IT_WAS},
    **dict.fromkeys(("rename record with alias", "quantity long", "optional", "doc", "order"), FULFILLED),
}


@pytest.mark.parametrize("change", MAY_CHANGE)
def test_what_our_schema_may_change_while_producers_write_the_old_one(change: str) -> None:
    assert with_reader(change) == MAY_CHANGE[change]


@pytest.mark.parametrize("change", ["add without default", "rename", "quantity text", "time int"])
def test_what_our_schema_may_not_change(change: str) -> None:
    with pytest.raises(BadRecord, match="field "):
        with_reader(change)


def test_a_producer_may_add_a_field_that_is_not_here() -> None:
    writer = schema_of(Topic.FULFILLED)
    writer["fields"].insert(0, {"name": "warehouse", "type": {"type": "array", "items": ["null", "double"]}})
    assert resolved(writer, {**FULFILLED, "warehouse": [1.5, None]}) == FULFILLED


def test_a_producer_may_leave_out_a_field_that_has_a_default_here() -> None:
    writer = schema_of(Topic.PLACED)
    customer = field(writer, "customer")["type"]
    customer["fields"].remove(field(customer, "phone"))
    value = PLACED | {"customer": {"first_name": "Max", "last_name": None, "email": None}}
    assert resolved(writer, value, Topic.PLACED)["customer"]["phone"] is None


def test_a_producer_may_write_a_smaller_type_that_promotes() -> None:
    assert resolved(changed("time int"), FULFILLED) == FULFILLED


def test_a_producer_may_make_an_optional_field_required() -> None:
    writer = schema_of(Topic.PLACED)
    customer = field(writer, "customer")["type"]
    field(customer, "phone").update(type="string")
    del field(customer, "phone")["default"]
    value = PLACED | {"customer": {"phone": "+49"}}
    assert resolved(writer, value, Topic.PLACED)["customer"]["phone"] == "+49"


@pytest.mark.parametrize("change", ["remove", "rename", "quantity long", "quantity text"])
def test_what_a_producer_may_not_change_before_we_have(change: str) -> None:
    """Left out without a default here, renamed without an alias here, wider than here, another type."""
    value = copy.deepcopy(FULFILLED) | {"id": "e"}
    if change == "quantity text":
        value["items"][0]["quantity"] = "2"
    with pytest.raises(BadRecord, match="field "):
        resolved(changed(change), value)


def test_a_null_in_a_field_that_is_required_here_is_undecodable_and_a_value_is_not() -> None:
    writer = changed("optional")
    assert resolved(writer, FULFILLED) == FULFILLED
    with pytest.raises(BadRecord):
        resolved(writer, {**FULFILLED, "event_id": None})


TEXTS = ["", "Zoë", "\0", "👩‍🚀" * 50, "'; DROP TABLE", "\u202e", "a" * 10_000]


@pytest.mark.parametrize("text", TEXTS)
def test_any_unicode_is_kept(text: str) -> None:
    made, _ = decoder(Topic.CANCELLED)
    value = {**CANCELLED, "event_id": text}
    assert made.decode(record(PREFIX + encoded(schema_of(Topic.CANCELLED), value))) == value


@pytest.mark.parametrize("lone", [b"\xed\xa0\x80", b"\xff", b"\xc3"])
def test_a_lone_surrogate_or_half_a_character_is_undecodable(lone: bytes) -> None:
    made, _ = decoder(Topic.CANCELLED)
    text = bytes([2 * len(lone)]) + lone
    refused(made, record(PREFIX + text + b"\x02o\x02"))


@pytest.mark.parametrize("quantity", [-(2**31), -1, 0, 2**31 - 1])
def test_quantities_at_the_limits_are_values_for_the_rules_to_judge(quantity: int) -> None:
    made, _ = decoder(Topic.FULFILLED)
    value = copy.deepcopy(FULFILLED)
    value["items"][0]["quantity"] = quantity
    assert made.decode(record(PREFIX + encoded(schema_of(Topic.FULFILLED), value))) == value


@cache
def decoder_of(topic: Topic) -> AvroDecoder:
    """One for all examples: parsing a schema takes longer than reading a thousand records."""
    registry = Registry()
    registry.schemas[1] = reader_schema(topic)
    return AvroDecoder(reader_schema(topic), registry, SHAPES)


@cache
def encoded_value(topic: Topic) -> bytes:
    return PREFIX + encoded(schema_of(topic), VALUES[topic])


def event_or_refusal(topic: Topic, made: AvroDecoder, of: Record) -> None:
    """What the loop does with a record: anything but an event or a `BadRecord` would end the process."""
    with suppress(BadRecord):
        made.read(of).order_id.encode()


@pytest.mark.parametrize("topic", ORDER_TOPICS)
@settings(max_examples=60)
@given(body=st.binary(max_size=200), header=st.none() | st.binary(max_size=20))
@example(body=PREFIX + b"\xff" * 12, header=None)
@example(body=PREFIX + b"\x01", header=None)  # a string of length -1
@example(body=PREFIX + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", header=None)  # one of 2^62 bytes
def test_random_bytes_are_an_event_or_a_refusal(topic: Topic, body: bytes, header: bytes | None) -> None:
    made = decoder_of(topic)
    event_or_refusal(topic, made, record(body))
    event_or_refusal(topic, made, record(PREFIX + body))
    event_or_refusal(topic, made, record(body, [(HEADER, PREFIX if header is None else header)]))


@pytest.mark.parametrize("topic", VALUES)
@settings(max_examples=100)
@given(seed=st.integers(0, 2**32))
def test_mutated_records_are_an_event_or_a_refusal(topic: Topic, seed: int) -> None:
    chance = random.Random(seed)
    made, whole = decoder_of(topic), encoded_value(topic)
    body = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(5, len(body))
        match chance.randrange(4):
            case 0:
                body[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 1:
                del body[at : at + chance.randint(1, 20)]
            case 2:
                body[at:at] = chance.randbytes(chance.randint(1, 10))
            case 3:
                body[at:at] = body[5 : 5 + chance.randint(1, 40)]
        if len(body) <= 6:
            break
    event_or_refusal(topic, made, record(bytes(body)))
