"""What shops write, and what is made of it: writers' schemas beside ours, each with a value.

`t` times of events, `h` what is for Hako, `p q s` amounts, quantities and texts, `n` names of records, `u` unions,
`d` shapes, `f` schemas that one library or another refuses, `g a b` small pairs beyond our own eight schemas.
Each ends in one of four ways: the value as it is read; `REFUSED` by the judge, with the field that it names; `LETTER`,
where other values of the same schema are read; `NOT_AVRO`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from processor.edges.avro import reader_schema
from processor.topics import Topic
from tests.support.avro_writer import Branch

T: Final = 1_795_255_200_123  # 2026-11-21T10:00:00.123Z
DAY: Final = 20_778
MS: Final = {"type": "long", "logicalType": "timestamp-millis"}
Json = Any


class Ends(Enum):
    """How a value ends that is not read."""

    REFUSED = "refused"
    LETTER = "letter"
    NOT_AVRO = "not Avro"


REFUSED, LETTER, NOT_AVRO = Ends.REFUSED, Ends.LETTER, Ends.NOT_AVRO


@dataclass(frozen=True)
class Pair:
    """`field` is the path that a refusal or a note names."""

    name: str
    reader: Json
    writer: Json
    written: Json
    read: Json
    field: str = ""


def logical(name: str, kind: str = "long") -> Json:
    return {"type": kind, "logicalType": name}


def connect(name: str, kind: str = "long", **more: Json) -> Json:
    return {"type": kind, "connect.version": 1, "connect.name": name, **more}


PAIRS: list[Pair] = []
_TOWN: Final = {"city": "Berlin", "zip": "10115", "country": "DE"}
_TV: Final = {"product_id": "p", "product_title": "TV", "product_brand": "X"}
_LINE: Final[Json] = {"id": "l1", "quantity": 2, "price_amount": 89900} | _TV
VALUES: Final[dict[Topic, Json]] = {
    Topic.CANCELLED: {"event_id": "e1", "order_id": "o1", "cancelled_at": T},
    Topic.ITEMS: {"sku": "s", "name": "n", "expires": T, "price": 89900},
    Topic.LEVELS: {"sku": "s", "warehouse_id": "w", "quantity": 5, "occurred_at": T},
    Topic.PLACED: {
        "event_id": "e1",
        "order_id": "o1",
        "placed_at": T,
        "currency": "EUR",
        "customer": {"first_name": "Max", "last_name": None, "email": "m@example.org", "phone": None},
        "billing_address": {"address_line_1": "Weg", "address_line_2": None} | _TOWN,
        "line_items": [_LINE | {"protection": {"protects_line_item_id": "l0", "offer_id": None, "plan_id": "pl"}}],
    },
}
ORDER: Final = VALUES[Topic.PLACED]


def ours(topic: Topic) -> Json:
    return json.loads(reader_schema(topic))


def has(name: str, kind: Json = "int", **properties: Json) -> Json:
    return {"name": name, "type": kind, **properties}


def record_at(schema: Json, path: list[str]) -> Json:
    """The record in which the last field of a path stands."""
    for name in path[:-1]:
        schema = next(one for one in schema["fields"] if one["name"] == name)["type"]
        if isinstance(schema, list):
            schema = next(one for one in schema if isinstance(one, dict) and one["type"] == "record")
        if schema["type"] == "array":
            schema = schema["items"]
    return schema


def field_at(schema: Json, path: str) -> Json:
    parts = path.split(".")
    return next(one for one in record_at(schema, parts)["fields"] if one["name"] == parts[-1])


def put(value: Json, path: str, new: Json) -> Json:
    value = copy.deepcopy(value)
    at = value
    *within, last = path.split(".")
    for name in within:
        at = at[name][0] if isinstance(at[name], list) else at[name]
    at[last] = new
    return value


def pair(
    name: str, topic: Topic, path: str, kind: Json, written: Json = ..., read: Json = ..., **properties: Json
) -> None:
    """The writer's type of one field of ours is another, and so may be its value. `read` is what we make of it, by
    default the value of ours."""
    writer = ours(topic)
    one = field_at(writer, path)
    one["type"] = kind
    one.pop("default", None)
    one |= properties
    value = VALUES[topic] if written is ... else put(VALUES[topic], path, written)
    end = read if isinstance(read, Ends) else VALUES[topic] if read is ... else put(VALUES[topic], path, read)
    PAIRS.append(Pair(name, ours(topic), writer, value, end, path))


def changed(name: str, change: Callable[[Json], None], written: Json = ..., read: Json = ..., at: str = "") -> None:
    """`OrderPlaced` of a shop that writes it otherwise."""
    writer = ours(Topic.PLACED)
    change(writer)
    value = ORDER
    PAIRS.append(
        Pair(name, ours(Topic.PLACED), writer, value if written is ... else written, value if read is ... else read, at)
    )


def both(name: str, sides: list[Json], written: Json, read: Json) -> None:
    """A pair of whole records, the reader's first."""
    small(name, sides[0], sides[1], written, read)


def small(name: str, reader: Json, writer: Json, written: Json, read: Json, at: str = "x") -> None:
    """A pair of one field each, unless they are whole records."""
    whole = [
        one
        if isinstance(one, dict) and one.get("type") == "record"
        else {"type": "record", "name": "R", "fields": [{"name": "x", "type": one}]}
        for one in (reader, writer)
    ]
    fields = [{"x": one} if whole[1] is not writer and not isinstance(one, Ends) else one for one in (written, read)]
    PAIRS.append(Pair(name, whole[0], whole[1], fields[0], fields[1], at))


def walked(schema: Json, visit: Callable[[Json], None]) -> None:
    if isinstance(schema, list):
        for one in schema:
            walked(one, visit)
    elif isinstance(schema, dict):
        visit(schema)
        for name in ("fields", "items", "type"):
            walked(schema.get(name), visit)


def named(schema: Json, old: str, **properties: Json) -> None:
    """Other properties of the record of this name."""

    def visit(one: Json) -> None:
        if one.get("name") == old and one.get("type") == "record":
            one |= properties

    walked(schema, visit)


_ZONED: Final = connect("io.debezium.time.ZonedTimestamp", "string")
for _name, _kind, _value, _read in (
    ("t0-millis", MS, T, T),
    ("t1-plain-long-ms", "long", T, T),
    ("t2-timestamp-micros", logical("timestamp-micros"), T * 1000 + 456, T),
    ("t3-timestamp-nanos", logical("timestamp-nanos"), T * 1_000_000 + 456_789, T),
    ("t4-local-timestamp-millis", logical("local-timestamp-millis"), T + 3_600_000, REFUSED),
    ("t5-local-timestamp-micros", logical("local-timestamp-micros"), T * 1000, REFUSED),
    ("t6-long-seconds", "long", T // 1000, T // 1000),
    ("t7-int-seconds", "int", T // 1000, T // 1000),
    ("t8-date", logical("date", "int"), DAY, REFUSED),
    ("t9-iso-string", "string", "2026-11-21T10:00:00.123Z", REFUSED),
    ("t10-double-seconds", "double", T / 1000, REFUSED),
    ("t11-nullable-millis", ["null", MS], T, T),
    ("t12-nullable-null", ["null", MS], None, LETTER),
    ("t13-nullable-micros", ["null", logical("timestamp-micros")], T * 1000, T),
    ("t14-time-millis", logical("time-millis", "int"), 36_000_123, REFUSED),
    ("t15-connect-timestamp", connect("org.apache.kafka.connect.data.Timestamp", logicalType="timestamp-millis"), T, T),
    ("t16-debezium-MicroTimestamp", connect("io.debezium.time.MicroTimestamp"), T * 1000, T),
    ("t17-debezium-ZonedTimestamp", _ZONED, "2026-11-21T11:00:00.123456+01:00", T),
):
    pair(_name, Topic.CANCELLED, "cancelled_at", _kind, _value, _read)

pair("h1-expires-micros", Topic.ITEMS, "expires", logical("timestamp-micros"), T * 1000, T)
pair("h2-expires-date", Topic.ITEMS, "expires", logical("date", "int"), DAY, REFUSED)
pair("h3-expires-seconds", Topic.ITEMS, "expires", "long", T // 1000, T // 1000)
pair("h4-occurred_at-micros", Topic.LEVELS, "occurred_at", logical("timestamp-micros"), T * 1000, T)
pair("h5-occurred_at-nanos", Topic.LEVELS, "occurred_at", logical("timestamp-nanos"), T * 1_000_000, T)
pair("h6-occurred_at-seconds", Topic.LEVELS, "occurred_at", "long", T // 1000, T // 1000)
_DECIMAL: Final = logical("decimal", "bytes") | {"precision": 10, "scale": 2}
pair("h7-price-decimal", Topic.ITEMS, "price", _DECIMAL, b"\x57\x9c", REFUSED)
pair("h8-price-double", Topic.ITEMS, "price", "double", 899.0, REFUSED)
pair("h9-price-int", Topic.ITEMS, "price", "int")
pair("h10-quantity-double", Topic.LEVELS, "quantity", "double", 5.0, REFUSED)

pair("t20-placed_at-micros", Topic.PLACED, "placed_at", logical("timestamp-micros"), T * 1000, T)
pair("t21-placed_at-seconds", Topic.PLACED, "placed_at", "long", T // 1000, T // 1000)

_PRICE, _QUANTITY, _TITLE = (f"line_items.{name}" for name in ("price_amount", "quantity", "product_title"))
_ZIP: Final = "billing_address.zip"
pair("p1-decimal-bytes", Topic.PLACED, _PRICE, _DECIMAL, b"\x01", REFUSED)
_FIXED: Final = {"type": "fixed", "name": "Money", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 2}
pair("p2-decimal-fixed", Topic.PLACED, _PRICE, _FIXED, bytes(8), REFUSED)
pair("p3-double", Topic.PLACED, _PRICE, "double", 899.0, REFUSED)
pair("p4-float", Topic.PLACED, _PRICE, "float", 899.0, REFUSED)
pair("p5-int", Topic.PLACED, _PRICE, "int")
_ON_LONG: Final = logical("decimal") | {"precision": 18, "scale": 4}
pair("p6-decimal-on-long", Topic.PLACED, _PRICE, _ON_LONG, 8_990_000, 8_990_000)
pair("p7-string", Topic.PLACED, _PRICE, "string", "899.00", REFUSED)
pair("p8-nullable-long", Topic.PLACED, _PRICE, ["null", "long"])
pair("p9-long-whole-euros", Topic.PLACED, _PRICE, "long", 899, 899)
pair("q1-quantity-long", Topic.PLACED, _QUANTITY, "long", 2, REFUSED)
pair("q2-quantity-double", Topic.PLACED, _QUANTITY, "double", 2.0, REFUSED)
pair("q3-quantity-string", Topic.PLACED, _QUANTITY, "string", "2", REFUSED)
pair("s1-title-bytes", Topic.PLACED, _TITLE, "bytes", b"TV", "TV")
pair("s2-title-bytes-latin1", Topic.PLACED, _TITLE, "bytes", b"K\xfchlschrank", LETTER)
pair("s3-id-uuid-fixed", Topic.PLACED, "line_items.id", {"type": "fixed", "name": "U", "size": 16}, bytes(16), REFUSED)
_UUID: Final = "6f1b1d2e-0000-4000-8000-000000000001"
pair("s4-id-uuid-string", Topic.PLACED, "line_items.id", logical("uuid", "string"), _UUID, _UUID)
pair("s5-order_id-long", Topic.PLACED, "order_id", "long", 1, REFUSED)
_CURRENCY: Final = {"type": "enum", "name": "Currency", "symbols": ["EUR", "USD"]}
pair("s6-currency-enum", Topic.PLACED, "currency", _CURRENCY, "EUR", REFUSED)

_RECORDS: Final = ("OrderPlaced", "Customer", "Address", "LineItem", "Protection")


def _all_named(schema: Json, names: Callable[[str], dict[str, Json]]) -> None:
    for one in _RECORDS:
        named(schema, one, **names(one))


changed("n1-com.shop.OrderPlaced", lambda schema: schema.update(namespace="com.shop"))
changed("n2-no-namespace", lambda schema: schema.pop("namespace"))
changed("n3-PlacedOrder", lambda schema: schema.update(name="PlacedOrder"))
changed("n4-OrderLine-in-array", lambda schema: named(schema, "LineItem", name="OrderLine"))
changed("n5-Buyer-for-Customer", lambda schema: named(schema, "Customer", name="Buyer"))
changed("n6-Insurance-in-union", lambda schema: named(schema, "Protection", name="Insurance"))
changed("n7-com.shop.Protection-in-union", lambda schema: named(schema, "Protection", namespace="com.shop"))
changed("n8-all-com.shop", lambda schema: _all_named(schema, lambda _: {"namespace": "com.shop"}))
changed("n9-each-own-namespace", lambda schema: _all_named(schema, lambda one: {"namespace": f"shop.{one.lower()}"}))


def _connects_own(one: str) -> dict[str, Json]:
    return {"namespace": "io.confluent.connect.avro", "name": f"ConnectDefault{_RECORDS.index(one) or ''}"}


changed("n10-ConnectDefault", lambda schema: _all_named(schema, _connects_own))
_WARRANTY: Final = {
    "type": "record",
    "name": "Warranty",
    "fields": field_at(ours(Topic.PLACED), "line_items.protection")["type"][1]["fields"],
}


def _two_records(schema: Json) -> None:
    one = field_at(schema, "line_items.protection")
    one["type"].insert(1, _WARRANTY)


_PROTECTION: Final = ORDER["line_items"][0]["protection"]
_AT: Final = "line_items.protection"
changed("n11-union-of-two-records", _two_records, put(ORDER, _AT, Branch((2, _PROTECTION))))
changed("n12-union-other-record", _two_records, put(ORDER, _AT, Branch((1, _PROTECTION))), LETTER, _AT)

pair("u1-zip-string", Topic.PLACED, _ZIP, "string")
pair("u2-zip-reversed-union", Topic.PLACED, _ZIP, ["string", "null"])
pair("u3-zip-int", Topic.PLACED, _ZIP, "int", 10115, REFUSED)
pair("u4-zip-union-int-string-value-string", Topic.PLACED, _ZIP, ["null", "int", "string"])
pair("u5-zip-union-int-string-value-int", Topic.PLACED, _ZIP, ["null", "int", "string"], 10115, LETTER)
_BRAND: Final = "line_items.product_brand"
pair("u6-brand-nullable-value", Topic.PLACED, _BRAND, ["null", "string"])
pair("u7-brand-nullable-null", Topic.PLACED, _BRAND, ["null", "string"], None, LETTER)
pair("u8-zip-bytes", Topic.PLACED, _ZIP, "bytes", b"10115", "10115")


def _nullable(path: str) -> Callable[[Json], None]:
    def change(schema: Json) -> None:
        one = field_at(schema, path)
        one["type"] = ["null", one["type"]]

    return change


def _null_items(schema: Json) -> None:
    one = field_at(schema, "line_items")
    one["type"]["items"] = ["null", one["type"]["items"]]


changed("u9-customer-nullable-null", _nullable("customer"), put(ORDER, "customer", None), LETTER, "customer")
changed("u10-customer-nullable-value", _nullable("customer"))
changed("u11-line_items-nullable-value", _nullable("line_items"))
changed("u12-array-of-nullable", _null_items)


def _without(path: str) -> Callable[[Json], None]:
    def change(schema: Json) -> None:
        record = record_at(schema, path.split("."))
        record["fields"] = [one for one in record["fields"] if one["name"] != path.rpartition(".")[2]]

    return change


def _extra_fields(schema: Json) -> None:
    extra = {"type": "record", "name": "Extra", "fields": [has("a", "double"), has("b", "float")]}
    schema["fields"].insert(1, {"name": "extra", "type": {"type": "map", "values": ["null", extra]}})
    field_at(schema, "line_items")["type"]["items"]["fields"].insert(2, {"name": "more", "type": ["boolean", "Extra"]})


_EXTRA: Final = put(ORDER | {"extra": {"k": None, "q": {"a": 1.0, "b": 2.0}}}, "line_items.more", True)


def _recursive_extra(schema: Json) -> None:
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "kids", "type": {"type": "array", "items": "Tree"}}]}
    schema["fields"].insert(0, {"name": "tree", "type": tree})


changed("d1-phone-missing-default", _without("customer.phone"))
changed("d2-brand-missing-no-default", _without(_BRAND), read=REFUSED, at=_BRAND)
changed("d3-protection-missing-default", _without(_AT), read=put(ORDER, _AT, None))
changed("d4-extra-fields", _extra_fields, _EXTRA)
changed("d5-field-order", lambda schema: walked(schema, lambda one: one.get("fields", []).reverse()))
changed("d6-recursive-extra", _recursive_extra, ORDER | {"tree": {"kids": [{"kids": []}, {"kids": []}]}})

_EVENTS: Final = [ours(Topic.CANCELLED), ours(Topic.CANCELLED) | {"name": "OrderRestored"}]
_writer: Json
_end: Json
for _name, _writer, _whole, _end in (
    ("d7-top-union-null", ["null", ours(Topic.CANCELLED)], VALUES[Topic.CANCELLED], VALUES[Topic.CANCELLED]),
    ("d8-top-union-events", _EVENTS, Branch((0, VALUES[Topic.CANCELLED])), VALUES[Topic.CANCELLED]),
    ("d9-top-union-other", _EVENTS, Branch((1, VALUES[Topic.CANCELLED])), LETTER),
):
    PAIRS.append(Pair(_name, ours(Topic.CANCELLED), _writer, _whole, _end))


def _java_strings(schema: Json) -> None:
    def visit(one: Json) -> None:
        java = {"type": "string", "avro.java.string": "String"}
        if "name" in one and one.get("type") == "string":
            one["type"] = java
        if isinstance(one.get("type"), list):
            one["type"] = [java if kind == "string" else kind for kind in one["type"]]

    walked(schema, visit)


changed("d10-avro.java.string", _java_strings)
changed("d11-props", lambda schema: _all_named(schema, lambda one: {"connect.name": one, "owner": {"team": 5}}))
changed("d12-error-type", lambda schema: schema.update(type="error"))
_TWO_LINES: Final = put(ORDER, "line_items", ORDER["line_items"] * 2)
changed("d13-array-blocks", lambda _: None, _TWO_LINES, _TWO_LINES)


def _line_map(schema: Json) -> None:
    one = field_at(schema, "line_items")
    one["type"] = {"type": "map", "values": one["type"]["items"]}


changed("d14-line_items-map", _line_map, put(ORDER, "line_items", {}), REFUSED, "line_items")


def enum(*symbols: str, name: str = "E", **properties: Json) -> Json:
    return {"type": "enum", "name": name, "symbols": list(symbols), **properties}


def fixed(size: int, name: str = "F") -> Json:
    return {"type": "fixed", "name": name, "size": size}


small("g1-int-to-nullable-long", ["null", "long"], "int", 7, 7)
small("g2-long-to-int", "int", "long", 7, REFUSED)
small("g3-long-to-nullable-int", ["null", "int"], "long", 7, REFUSED)
small("g4-string-to-bytes", "bytes", "string", "ü", "ü".encode())
small("g5-int-to-double-or-long", ["double", "long"], "int", 7, 7.0)
small("g6-int-to-float-or-long", ["string", "float", "long"], "int", 16_777_217, 16_777_217.0)
small("g7-nullable-int-to-nullable-long", ["null", "long"], ["null", "int"], 7, 7)
small("g8-enum-unknown-with-default", enum("A", "B", default="A"), enum("A", "B", "C"), "C", "A")
small("g9-enum-unknown-no-default", enum("A", "B"), enum("A", "B", "C"), "C", LETTER)
small("g10-enum-other-name", enum("A", "B"), enum("A", "B", name="Z"), "B", REFUSED)
small("g11-enum-other-namespace", enum("A", "B"), enum("A", "B", namespace="z"), "B", "B")
small("g12-fixed-size", fixed(4), fixed(5), bytes(5), REFUSED)
small("g13-fixed-other-name", fixed(4), fixed(4, "Z"), b"abcd", REFUSED)
_SCALE_4: Final = logical("decimal", "bytes") | {"precision": 10, "scale": 4}
small("g14-decimal-scale", _SCALE_4, _DECIMAL, b"09", b"09")
small("g15-decimal-to-bytes", "bytes", _DECIMAL, b"09", b"09")
small("g16-micros-to-millis", MS, logical("timestamp-micros"), T * 1000, T)
small("g17-nanos-to-millis", MS, logical("timestamp-nanos"), T * 1_000_000, T)
small("g18-millis-to-plain-long", "long", MS, T, T)
small("g19-date-to-timestamp-millis", MS, logical("date", "int"), 20_000, REFUSED)
small("g20-int-to-timestamp-millis", MS, "int", 1_763_719_200, 1_763_719_200)


def record(*fields: Json, name: str = "R", **properties: Json) -> Json:
    return {"type": "record", "name": name, "namespace": "n", "fields": list(fields), **properties}


_NEW, _OLD = has("new", aliases=["old"]), has("old")
small("a1-field-alias", record(_NEW), record(_OLD), {"old": 5}, {"new": 5})
_IN_ARRAY: Json = [record(has("rows", {"type": "array", "items": record(one, name="Row")})) for one in (_NEW, _OLD)]
both("a2-field-alias-in-array", _IN_ARRAY, {"rows": [{"old": 5}]}, {"rows": [{"new": 5}]})
small(
    "a3-record-alias-top", record(has("x"), name="N", aliases=["n.O"]), record(has("x"), name="O"), {"x": 5}, {"x": 5}
)
_LINES: Json = [
    record(has("rows", {"type": "array", "items": record(has("x"), **one)}))
    for one in ({"name": "Row", "aliases": ["Line"]}, {"name": "Line"})
]
both("a4-record-alias-in-array", _LINES, {"rows": [{"x": 5}]}, {"rows": [{"x": 5}]})
_MAYBE: Json = [
    record(has("row", ["null", record(has("x"), **one)]))
    for one in ({"name": "Row", "aliases": ["Line"]}, {"name": "Line"})
]
both("a5-record-alias-in-union", _MAYBE, {"row": {"x": 5}}, {"row": {"x": 5}})
small("a6-two-aliases", record(has("new", aliases=["older", "old"])), record(_OLD), {"old": 5}, {"new": 5})
_ENUMS: Json = [record(has("x", enum("A", "B", **one))) for one in ({"name": "E", "aliases": ["Old"]}, {"name": "Old"})]
both("a7-enum-alias", _ENUMS, {"x": "B"}, {"x": "B"})
small("a8-alias-and-name-both-written", record(_NEW), record(_OLD, has("new")), {"old": 5, "new": 6}, {"new": 6})
small("a9-alias-with-default", record(_NEW | {"default": 0}), record(_OLD), {"old": 5}, {"new": 5})
_DEEP: Json = [record(has("row", ["null", record(one, name="Row")])) for one in (_NEW | {"default": 0}, _OLD)]
both("a10-field-alias-in-union-record", _DEEP, {"row": {"old": 5}}, {"row": {"new": 5}})
_TWICE: Json = [
    record(has("one", record(inner, name="Row")), has("two", "n.Row")) for inner in (_NEW | {"default": 0}, _OLD)
]
both(
    "a11-second-field-is-ref-to-record-with-alias",
    _TWICE,
    {"one": {"old": 5}, "two": {"old": 6}},
    {"one": {"new": 5}, "two": {"new": 6}},
)

_Z = has("z")
small("b1-bytes-default", record(has("x", "bytes", default="\u00ff"), _Z), record(_Z), {"z": 1}, {"x": b"\xff", "z": 1})
_INNER = record(has("p"), has("q", "string", default="qq"), name="I")
small(
    "b2-record-default",
    record(has("x", _INNER, default={"p": 3}), _Z),
    record(_Z),
    {"z": 1},
    {"x": {"p": 3, "q": "qq"}, "z": 1},
)
_SECOND = has("x", ["null", "string"], default="z")
small("b3-union-default-second-branch", record(_SECOND, _Z), record(_Z), {"z": 1}, {"x": "z", "z": 1})
_P, _Q = record(has("x"), name="P"), record(has("x"), has("z", "string"), name="Q")
small(
    "b4-union-record-same-shape-other-name",
    record(has("x", ["null", _P])),
    record(has("x", ["null", _P | {"name": "S"}])),
    {"x": {"x": 5}},
    {"x": {"x": 5}},
)
small(
    "b5-union-two-readers-structural",
    record(has("x", [_P, _Q])),
    record(has("x", _Q | {"namespace": "other"})),
    {"x": {"x": 5, "z": "q"}},
    {"x": {"x": 5, "z": "q"}},
)
small(
    "b6-names-differ-deep",
    record(has("x", _P)),
    record(has("x", _P | {"name": "S"}), name="W"),
    {"x": {"x": 5}},
    {"x": {"x": 5}},
)

pair("f1-default-null-second-branch", Topic.PLACED, _ZIP, ["string", "null"], default=None)
pair("f2-default-text-null", Topic.PLACED, _ZIP, ["null", "string"], default="null")
pair("f3-default-text-of-long", Topic.PLACED, _PRICE, "long", default="0")


def _beside(name: str, kind: Json, value: Json, **properties: Json) -> None:
    """A field of the writer's that is not ours."""

    def change(schema: Json) -> None:
        schema["fields"].insert(3, has(name, kind, **properties))

    changed(_CASE, change, ORDER | {name: value})


_CASE = "f4-default-int-of-double"
_beside("tax", "double", 0.19, default=0)
pair("f5-default-null-of-string", Topic.PLACED, _TITLE, "string", default=None)
_CASE = "f6-default-empty-object-of-record"
_beside("more", record(has("a", default=1), name="More"), {"a": 1}, default={})
pair("f7-default-in-type-object", Topic.PLACED, _ZIP, ["null", {"type": "string", "default": "x"}])
pair("f8-default-float-of-long", Topic.PLACED, _PRICE, "long", default=0.0)
_CASE = "f9-default-enum-not-symbol"
_beside("kind", enum("A", "B"), "B", default="C")
changed("f10-alias-collides", lambda schema: field_at(schema, "order_id").update(aliases=["event_id"]))


def _defined_twice(schema: Json) -> None:
    schema["fields"].append(has("delivery_address", copy.deepcopy(field_at(schema, "billing_address")["type"])))


_DELIVERED: Final = ORDER | {"delivery_address": ORDER["billing_address"]}
changed("f11-same-record-defined-twice", _defined_twice, _DELIVERED)
changed(
    "f12-same-record-by-name", lambda schema: schema["fields"].append(has("delivery_address", "Address")), _DELIVERED
)
changed(
    "f13-same-record-by-full-name",
    lambda schema: schema["fields"].append(has("delivery_address", ["null", "orders.v1.Address"])),
    _DELIVERED,
)


def _dotted(schema: Json) -> None:
    del schema["namespace"]
    schema["name"] = "orders.v1.OrderPlaced"


changed("f14-name-with-dots", _dotted)
changed("f15-namespace-with-dash", lambda schema: schema.update(namespace="com.my-shop"))
_CASE = "f16-field-name-with-dash"
_beside("tax-rate", "double", 0.19)
_CASE = "f17-field-name-unicode"
_beside("straße", "string", "x")
_CASE = "f18-enum-symbol-dash"
_beside("kind", enum("A-B", "C"), "C")
_CASE = "f19-unknown-logical-type"
_beside("sent", logical("moment-of-sending"), 5)
_CASE = "f20-decimal-without-precision"
_beside("rate", logical("decimal", "bytes"), b"1")
pair("f21-type-in-type", Topic.PLACED, "order_id", {"type": {"type": "string"}}, read=NOT_AVRO)
pair(
    "f22-logicalType-beside-type",
    Topic.CANCELLED,
    "cancelled_at",
    "long",
    T * 1000,
    T * 1000,
    logicalType="timestamp-micros",
)

assert len({one.name for one in PAIRS}) == len(PAIRS) == 145, len(PAIRS)
