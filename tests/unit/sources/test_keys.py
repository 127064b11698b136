"""Every key that a serialiser makes of an order ID is recognised, and nothing else is taken for one."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from processor.records import Headers, OrderId
from processor.sources.keys import ORDER_ID_SHOWN_MAX, KeyKind, mismatch, names_order, read_key, unreadable

MAGIC = b"\x00\x00\x00\x00\x07"
GUID = b"\x01" + bytes(range(16))


def avro(text: str, schema: object = "string") -> bytes:
    stream = BytesIO()
    schemaless_writer(stream, schema, text)  # type: ignore[arg-type]  # fastavro takes a bare name too
    return stream.getvalue()


KEYS = {
    b"ord-1": (KeyKind.PLAIN, "ord-1"),
    "Bestellung/7 ü".encode(): (KeyKind.PLAIN, "Bestellung/7 ü"),
    b"4711": (KeyKind.PLAIN, "4711"),
    b'"': (KeyKind.PLAIN, '"'),
    b'"ord-1': (KeyKind.PLAIN, '"ord-1'),
    b"{ord-1}": (KeyKind.PLAIN, "{ord-1}"),
    None: (KeyKind.NONE, None),
    b"": (KeyKind.EMPTY, None),
    MAGIC + avro("avk-1"): (KeyKind.AVRO_STRING, "avk-1"),
    MAGIC + avro("größe-1"): (KeyKind.AVRO_STRING, "größe-1"),
    MAGIC + avro("x" * 200): (KeyKind.AVRO_STRING, "x" * 200),
    MAGIC + avro("avk-1", ["null", "string"]): (KeyKind.AVRO_STRING, "avk-1"),
    MAGIC + avro("avk-1", ["string", "null"]): (KeyKind.AVRO_STRING, "avk-1"),
    GUID + avro("avk-1"): (KeyKind.AVRO_STRING, "avk-1"),
    MAGIC + avro("avk-1")[:-1]: (KeyKind.FRAMED, None),
    MAGIC + avro("avk-1") + b"x": (KeyKind.FRAMED, None),
    MAGIC + b"\x0aord\xff1": (KeyKind.FRAMED, None),
    MAGIC + b'"ord-1"': (KeyKind.FRAMED, "ord-1"),
    MAGIC + b"\x00\x0a\x05ord-1": (KeyKind.FRAMED, None),
    b'"ord-1"': (KeyKind.JSON_STRING, "ord-1"),
    b' "ord-1"\n': (KeyKind.JSON_STRING, "ord-1"),
    b'"gr\\u00f6\\u00dfe-1"': (KeyKind.JSON_STRING, "größe-1"),
    b'{"order_id": "ord-1"}': (KeyKind.JSON_OBJECT, "ord-1"),
    b'{"schema":{"type":"string"},"payload":"ord-1"}': (KeyKind.JSON_OBJECT, "ord-1"),
    b'{"id": 1}': (KeyKind.JSON_OBJECT, None),
    "ord-1".encode("utf-16"): (KeyKind.UTF_16, "ord-1"),
    "ord-1".encode("utf-16-le"): (KeyKind.UTF_16, "ord-1"),
    "ord-1".encode("utf-16-be"): (KeyKind.UTF_16, "ord-1"),
    "größe-1".encode("utf-16-le"): (KeyKind.UTF_16, "größe-1"),
    b"ord-1 ": (KeyKind.PADDED, "ord-1"),
    b"\xef\xbb\xbford-1": (KeyKind.PADDED, "ord-1"),
    b"ord-1\x00": (KeyKind.PADDED, "ord-1"),
    b"\xac\xed\x00\x05t\x00\x05ord-1": (KeyKind.JAVA_OBJECT, "ord-1"),
    (4711).to_bytes(8, "big"): (KeyKind.BINARY, None),
    (4711).to_bytes(4, "big"): (KeyKind.BINARY, None),
    b"\xff\xfe\xfd": (KeyKind.BINARY, None),
    b"   ": (KeyKind.BINARY, None),
    b"x" * 5_000: (KeyKind.BINARY, None),
}


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_what_a_key_is_and_the_order_in_it(key: bytes | None) -> None:
    read = read_key(key)
    assert (read.kind, read.order_id) == KEYS[key]


@pytest.mark.parametrize("order_id", ["ord-1", "ord-42-0000000001", "6f1b1d2e-0000-4000-8000-000000000001", "x" * 80])
@pytest.mark.parametrize("header", ["__key_schema_id", "apicurio.key.globalId", "apicurio.key.contentId"])
def test_a_key_whose_schema_a_header_names_is_avro_alone(order_id: str, header: str) -> None:
    """Its first byte, the length, is most often a letter like others: `H6f1b1d2e-…` would be taken for plain text."""
    headers: Headers = [("apicurio.value.contentId", bytes(8)), (header, bytes(8))]
    for key in (avro(order_id), avro(order_id, ["null", "string"])):
        read = read_key(key, headers)
        assert (read.kind, read.order_id, read.detail) == (
            KeyKind.AVRO_STRING,
            order_id,
            f"an Avro string (by the header {header})",
        )
        assert f"the header {header}), order {order_id}; it has to be" in mismatch(key, OrderId(order_id), headers)
    assert read_key(order_id.encode(), headers).kind is KeyKind.PLAIN, "rekey hands headers on, and writes plain keys"
    assert read_key(avro(order_id), headers[:1]).kind is not KeyKind.AVRO_STRING


@given(st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), min_size=1, max_size=80))
def test_an_order_id_is_read_out_of_each_framing_that_is_trusted(order_id: str) -> None:
    for key, kind in (
        (MAGIC + avro(order_id), KeyKind.AVRO_STRING),
        (json.dumps(order_id).encode(), KeyKind.JSON_STRING),
        (json.dumps(order_id, ensure_ascii=False).encode(), KeyKind.JSON_STRING),
    ):
        read = read_key(key)
        assert (read.kind, read.order_id) == (kind, order_id)
        assert read.is_trusted


@given(st.binary(max_size=40))
def test_every_key_is_of_some_kind_and_says_what_to_do(key: bytes) -> None:
    read = read_key(key)
    assert read.what
    assert read.remedy
    assert not read.is_trusted or read.order_id


def test_what_is_said_of_a_key_names_its_kind_its_order_and_what_to_set() -> None:
    assert read_key(MAGIC + avro("avk-1")).what == "a Confluent Avro string of schema 7, order avk-1"
    said = unreadable(read_key(MAGIC + avro("avk-1")))
    assert said.startswith("the record's key is a Confluent Avro string of schema 7, order avk-1; it has to be ")
    assert "key.serializer=StringSerializer" in said
    assert mismatch(MAGIC + avro("avk-1"), OrderId("avk-1")) == said


def test_what_cannot_be_seen_by_the_key_alone_is_seen_beside_its_value() -> None:
    assert "in other letters of upper and lower case, order ord-1" in mismatch(b"ORD-1", OrderId("ord-1"))
    assert "the value's order_id" in mismatch(b"ord-2", OrderId("ord-1"))
    assert "a Confluent Avro string of schema 7 that is not the order ID of its value" in mismatch(
        MAGIC + avro("customer-1"), OrderId("ord-1")
    )
    assert "no key at all; its value is of order ord-1" in mismatch(None, OrderId("ord-1"))


@pytest.mark.parametrize(
    "key", [b"someone@example.org", MAGIC + avro("someone@example.org"), b'"someone@example.org"'], ids=repr
)
def test_a_key_that_is_something_else_is_not_shown(key: bytes) -> None:
    """It may be the customer's e-mail."""
    assert "someone" not in mismatch(key, OrderId("ord-1"))


def test_a_message_is_a_header_and_stays_short_and_printable() -> None:
    long = read_key(MAGIC + avro("x" * 3_000)).what
    assert len(long) < ORDER_ID_SHOWN_MAX + 100
    assert "\u202e" not in read_key(MAGIC + avro("ord\u202e-1")).what


@given(st.text(min_size=1, max_size=40), st.text(max_size=40), st.text(max_size=20))
def test_a_record_is_found_by_the_order_id_in_its_value(order_id: str, event_id: str, other: str) -> None:
    try:
        assert (order_id + event_id + other).encode() is not None
    except UnicodeEncodeError:
        return  # no text that Avro could hold
    value = MAGIC + avro(event_id) + avro(order_id) + b"rest"
    assert names_order(None, value, order_id)
    assert names_order(order_id.encode(), None, order_id)
    if len(other.encode()) < 8 and other != order_id:
        assert not names_order(None, value, other)


def test_a_record_is_found_by_what_is_in_its_key() -> None:
    for key in (MAGIC + avro("avk-1"), b'"avk-1"', "avk-1".encode("utf-16"), b"avk-1 "):
        assert names_order(key, None, "avk-1")
        assert not names_order(key, None, "avk-2")


def test_a_record_is_found_by_what_its_headers_say_of_its_key() -> None:
    key = avro("ord-42-0000000001")
    assert names_order(key, None, "ord-42-0000000001", [("__key_schema_id", bytes(17))])
    assert not names_order(key, None, "ord-42-0000000001")


def test_a_record_is_found_in_another_writers_order_of_fields() -> None:
    value = MAGIC + avro("x") + avro("y") + avro("ord-42-000001")
    assert names_order(b"k", value, "ord-42-000001")
    assert not names_order(b"k", value, "ord-42-00000")
    assert not names_order(b"k", b"ord-42-000001", "ord-42-000001")
