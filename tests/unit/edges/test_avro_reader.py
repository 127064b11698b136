"""The generated reader: held to fastavro over pairs by chance, and to its bounds by hostile bytes."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pytest

from processor.edges.avro import AvroDecoder, reader_schema
from processor.edges.avro_plan import plan_of
from processor.edges.avro_reader import Reader, compiled
from processor.edges.avro_schema import NotAvro, parse
from processor.edges.avro_steps import Default
from processor.edges.avro_wire import SchemaId
from processor.errors import BadRecord
from processor.records import Record
from processor.topics import Topic
from tests.support.avro_fuzz import disagreement, hostile
from tests.support.avro_writer import encoded, varint
from tests.unit.edges.avro_pairs import NOT_AVRO, PAIRS, VALUES, Pair

CHUNKS, CHUNK = 20, 500
"""10,000 pairs in parts, so that a part that fails is found again in a second."""
MEMORY_BYTES_MAX = 2 * 1024 * 1024
VALUE_S_MAX = 0.002
"""CPU of one hostile value on average, watched by tracemalloc, which alone takes most of it: a value of a few hundred
bytes that told of items without end would take minutes."""


@pytest.mark.parametrize("part", range(CHUNKS))
def test_schemas_values_and_hostile_bytes_are_read_or_refused_as_fastavro_does(part: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(part * CHUNK, (part + 1) * CHUNK):
        assert (wrong := disagreement(seed, seen)) is None, wrong
    assert seen["read"] > CHUNK, seen
    assert seen["refused pairs"] > 10, seen


class One:
    """A registry of one schema."""

    def __init__(self, text: str) -> None:
        self._text = text

    def schema(self, _schema_id: SchemaId) -> tuple[str, dict[str, str]]:
        return self._text, {}


def decoder(pair: Pair) -> AvroDecoder:
    return AvroDecoder(json.dumps(pair.reader), One(json.dumps(pair.writer)))


def taken(made: AvroDecoder, body: bytes) -> object:
    """A value; anything but a `BadRecord` would end the process."""
    with suppress(BadRecord):
        return made.decode(Record("t", 0, 0, 0, b"k", b"\0\0\0\0\1" + body, []))
    return None


READABLE = [pair for pair in PAIRS if pair.read is not NOT_AVRO]


@pytest.mark.parametrize("pair", READABLE, ids=lambda pair: pair.name)
def test_hostile_bytes_under_every_writers_schema_are_a_value_or_a_bad_record(pair: Pair) -> None:
    chance, made = random.Random(pair.name), decoder(pair)
    sound = encoded(parse(json.dumps(pair.writer)), pair.written)
    began_s, tries = time.thread_time(), 120 + 5 * len(sound)
    tracemalloc.start()
    try:
        for _ in range(60):
            taken(made, hostile(sound, chance))
            taken(made, chance.randbytes(chance.randrange(200)))
        for at in range(len(sound)):
            for number in (2**62, -(2**62), -1, 2**31, -(2**31)):
                taken(made, sound[:at] + varint(number) + sound[at + 1 :])
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
        assert time.thread_time() - began_s < tries * VALUE_S_MAX
    finally:
        tracemalloc.stop()


def reader_of(ours: object, theirs: object) -> Reader:
    writer = parse(json.dumps(theirs))
    return compiled(plan_of(parse(json.dumps(ours)), writer), writer)


def record(*fields: Mapping[str, Any], name: str = "R") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields)}


KEY = {"name": "key", "type": "string"}


@pytest.mark.parametrize(
    "items", ["null", "double", "boolean", {"type": "fixed", "name": "F", "size": 0}, record(name="E")]
)
def test_items_without_end_cost_no_more_than_their_bytes_also_where_they_are_skipped(items: object) -> None:
    theirs = record({"name": "more", "type": {"type": "array", "items": items}}, KEY)
    read = reader_of(record(KEY), theirs)
    with suppress(ValueError, IndexError):
        assert read(varint(2**62) + b"\x00\x02a", 0) == {"key": "a"}, "items that take no byte may be as many"


def test_items_that_take_no_byte_are_refused_where_they_would_be_kept() -> None:
    kind = {"type": "array", "items": "null"}
    plan = plan_of(*(parse(json.dumps(record({"name": "more", "type": kind}))) for _ in range(2)))
    assert plan.refusal == "field more: an array of values that take no byte has no bound"


def test_records_within_records_end_where_the_stack_does() -> None:
    (pair,) = [one for one in PAIRS if one.name == "d6-recursive-extra"]
    made = decoder(pair)
    with pytest.raises(BadRecord, match="records within records without end"):
        made.decode(Record("t", 0, 0, 0, b"k", b"\0\0\0\0\1" + b"\x02" * 100_000, []))


def test_a_writers_words_do_not_stand_in_the_source() -> None:
    """Names of fields and symbols are a stranger's; they are told as constants, if at all."""
    odd = 'x"); raise SystemExit  #\n'
    theirs = record({"name": odd, "type": {"type": "enum", "name": odd, "symbols": [odd]}}, KEY)
    assert reader_of(record(KEY), theirs)(b"\x00\x02a", 0) == {"key": "a"}
    with pytest.raises(ValueError, match="read as string"):
        reader_of(record({"name": odd, "type": "string"}), record({"name": odd, "type": "int"}))(b"\x00", 0)


def test_a_schema_that_is_nested_too_deeply_is_none() -> None:
    schema: object = "string"
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(NotAvro, match="nested too deeply"):
        parse(json.dumps(schema))
    with pytest.raises(NotAvro):
        parse("[" * 100_000)


def test_arrays_within_arrays_are_read_however_deep_a_schema_may_be() -> None:
    schema: object = "string"
    value: object = "a"
    for _ in range(30):
        schema, value = {"type": "array", "items": schema}, [value, value] if isinstance(value, str) else [value]
    ours = record({"name": "deep", "type": schema})
    whole = parse(json.dumps(ours))
    assert reader_of(ours, ours)(encoded(whole, {"deep": value}), 0) == {"deep": value}
    theirs = record({"name": "deep", "type": schema}, KEY)
    assert reader_of(record(KEY), theirs)(encoded(parse(json.dumps(theirs)), {"deep": value, "key": "a"}), 0) == {
        "key": "a"
    }


def test_a_record_within_itself_is_read() -> None:
    tree = record({"name": "kids", "type": {"type": "array", "items": "R"}}, KEY)
    value = {"kids": [{"kids": [], "key": "b"}, {"kids": [{"kids": [], "key": "d"}], "key": "c"}], "key": "a"}
    assert reader_of(tree, tree)(encoded(parse(json.dumps(tree)), value), 0) == value


def test_a_schema_that_is_too_large_to_be_read_is_its_producers_fault() -> None:
    """Anything but a `BadRecord` would end the process."""
    branches = [{"type": "fixed", "name": f"F{number}", "size": 1} for number in range(257)]
    too_many, many = (record({"name": "more", "type": union}, KEY) for union in (branches, branches[1:]))
    with pytest.raises(NotAvro, match="257 branches"):
        parse(json.dumps(too_many))
    assert taken(AvroDecoder(json.dumps(record(KEY)), One(json.dumps(too_many))), b"\x00x\x02a") is None
    assert reader_of(record(KEY), many)(b"\x00x\x02a", 0) == {"key": "a"}
    assert reader_of(many, many)(b"\x00x\x02a", 0) == {"more": b"x", "key": "a"}


def test_no_field_of_a_writer_fills_two_of_ours() -> None:
    old = {"name": "old", "type": "string"}
    new = [{"name": name, "type": "string", "aliases": ["old"], "default": "d"} for name in ("a", "b")]
    assert reader_of(record(*new), record(old))(b"\x02x", 0) == {"a": "x", "b": "d"}
    assert reader_of(record(*new, old), record(old))(b"\x02x", 0) == {"a": "d", "b": "d", "old": "x"}


def test_diamonds_of_records_make_no_source_that_doubles_with_each() -> None:
    """Each is met twice in the one above it: 2^30 times, were it written out."""
    schema: object = record({"name": "x", "type": "int"}, name="R0")
    for depth in range(1, 31):
        schema = record({"name": "a", "type": schema}, {"name": "b", "type": f"R{depth - 1}"}, name=f"R{depth}")
    reader_of(schema, schema)
    reader_of(record(KEY), record({"name": "more", "type": schema}, KEY))


@pytest.mark.parametrize("topic", [Topic.CANCELLED, Topic.PLACED])
def test_schemas_that_read_alike_share_their_code(topic: Topic) -> None:
    """What Java's generator adds, a doc, an alias or a default changes no byte, and costs nothing."""
    ours = json.loads(reader_schema(topic))
    java = json.loads(json.dumps(ours).replace('"string"', '{"type": "string", "avro.java.string": "String"}'))
    assert java != ours
    java |= {"namespace": "com.shop", "aliases": ["Gone"], "owner": "team"}
    assert reader_of(ours, java).__code__ is reader_of(ours, ours).__code__
    value = encoded(parse(json.dumps(java)), VALUES[topic])
    assert reader_of(ours, java)(value, 0) == VALUES[topic]


def test_a_default_of_every_kind_is_what_its_schema_says() -> None:
    kinds = {
        "null": ("null", None),
        "boolean": ("boolean", True),
        "number": ("double", 2),
        "bytes": ("bytes", "\u00ff"),
        "fixed": ({"type": "fixed", "name": "F", "size": 2}, "\u0000\u0001"),
        "enum": ({"type": "enum", "name": "E", "symbols": ["A"]}, "A"),
        "array": ({"type": "array", "items": "int"}, [1, 2]),
        "map": ({"type": "map", "values": "long"}, {"a": 1}),
        "record": (
            record({"name": "x", "type": "int"}, {"name": "y", "type": "string", "default": "d"}, name="I"),
            {"x": 1},
        ),
        "union": (["null", "string"], "text"),
    }
    ours = record(*({"name": name, "type": kind, "default": value} for name, (kind, value) in kinds.items()), KEY)
    read = reader_of(ours, record(KEY))(b"\x02a", 0)
    assert read == {
        "null": None,
        "boolean": True,
        "number": 2.0,
        "bytes": b"\xff",
        "fixed": b"\x00\x01",
        "enum": "A",
        "array": [1, 2],
        "map": {"a": 1},
        "record": {"x": 1, "y": "d"},
        "union": "text",
        "key": "a",
    }
    assert isinstance(read["number"], float)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("int", "0"),
        ("string", None),
        ("long", 0.5),
        (["null", "int"], "x"),
        (record(KEY, name="I"), {}),
        ("bytes", "€"),
    ],
)
def test_a_default_of_ours_that_does_not_fit_is_no_default(kind: object, default: object) -> None:
    ours = record({"name": "x", "type": kind, "default": default}, KEY)
    plan = plan_of(parse(json.dumps(ours)), parse(json.dumps(record(KEY))))
    assert plan.refusal == "field x: it is not written, and its default does not fit its type"
    assert Default() == Default(None)
