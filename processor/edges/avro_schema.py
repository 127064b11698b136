"""An Avro schema as a tree: the parts that matter for reading, with full names. Pure.

`parse` accepts what registries hold and writers register, even where a strict library refuses it though every writer's
own library has written with it: a namespace with a dash, a default that does not fit its type, `"type": "error"`, one
record defined twice alike. None of these changes a byte. A fault that does is refused with `NotAvro`.

    text ──json──► Record(fields) · Array · Map · Union · Enum · Fixed · Primitive      Ref is a name, to be looked up

Not chosen: fastavro's `parse_schema` and Apache's `avro.schema`, which refuse those and keep no logical type beside a
property of Kafka Connect's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

PRIMITIVES: Final = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_DEPTH_MAX: Final = 64
"""Types within types. No shop's schema is deeper, and its reader would be as deep."""
_BRANCHES_MAX: Final = 256
"""Branches of a union. A plan costs their square, and Python would not compile a reader of more."""


class NotAvro(ValueError):
    """A text is not an Avro schema."""


class Primitive(msgspec.Struct, frozen=True):
    """`logical` is its logical type, `connect` the name by Kafka Connect or Debezium; both may be empty."""

    name: str
    logical: str = ""
    connect: str = ""


class Fixed(msgspec.Struct, frozen=True):
    """`name` and `aliases` are full names."""

    name: str
    aliases: tuple[str, ...]
    size: int


class Enum(msgspec.Struct, frozen=True):
    """`default` is the symbol in place of an unknown one."""

    name: str
    aliases: tuple[str, ...]
    symbols: tuple[str, ...]
    default: str | None


class Array(msgspec.Struct, frozen=True):
    """Values of one type."""

    items: Node


class Map(msgspec.Struct, frozen=True):
    """Values of one type, by string."""

    values: Node


class Union(msgspec.Struct, frozen=True):
    """A value of one of several types."""

    branches: tuple[Node, ...]


class Field(msgspec.Struct, frozen=True):
    """`default` is JSON in a tuple of one; empty without a default. `beside` is a logical type beside the type, where
    Avro ignores it."""

    name: str
    aliases: tuple[str, ...]
    type: Node
    default: tuple[Any, ...]
    beside: str


class Record(msgspec.Struct, frozen=True):
    """`name` and `aliases` are full names."""

    name: str
    aliases: tuple[str, ...]
    fields: tuple[Field, ...]


class Ref(msgspec.Struct, frozen=True):
    """A type that is defined elsewhere, by its full name."""

    name: str


Named = Record | Enum | Fixed
Node = Primitive | Fixed | Enum | Array | Map | Union | Record | Ref


class Schema(msgspec.Struct, frozen=True):
    """A schema, with every named type that it or its references define."""

    top: Node
    named: Mapping[str, Named]

    def at(self, node: Node) -> Node:
        """Returns the type itself if `node` is its name."""
        return self.named[node.name] if isinstance(node, Ref) else node

    def takes_no_byte(self, node: Node) -> bool:
        """True if its values take no bytes, so that there may be any number of them."""
        return self._takes_no_byte(node, {})

    def _takes_no_byte(self, node: Node, known: dict[str, bool]) -> bool:
        match self.at(node):
            case Primitive(name="null") | Fixed(size=0):
                return True
            case Record(name=name, fields=fields):
                if name not in known:
                    known[name] = True  # within itself: its other fields decide
                    known[name] = all(self._takes_no_byte(one.type, known) for one in fields)
                return known[name]
        return False


def parse(text: str, references: Mapping[str, str] | None = None) -> Schema:
    """Returns the schema of a text. `references` are the schemas that it refers to, by name. Raises `NotAvro`."""
    reading = _Reading()
    try:
        for reference in (references or {}).values():
            reading.node(json.loads(reference), "", 0)
        top = reading.node(json.loads(text), "", 0)
    except RecursionError:
        raise NotAvro("it is nested too deeply") from None
    except json.JSONDecodeError as broken:
        raise NotAvro(f"it is not JSON: {broken}") from None
    for name in reading.referred:
        if name not in reading.named:
            raise NotAvro(f"it refers to {name}, which nothing defines")
    return Schema(top, reading.named)


def simple(name: str) -> str:
    """Returns a name without its namespace."""
    return name.rpartition(".")[2]


@dataclass(slots=True)
class _Reading:
    """Mutable while a schema is read: the types that are defined and the names that are used so far."""

    named: dict[str, Named] = field(default_factory=dict)
    referred: set[str] = field(default_factory=set)

    def node(self, schema: Any, space: str, depth: int) -> Node:
        if depth > _DEPTH_MAX:
            raise NotAvro("it is nested too deeply")
        match schema:
            case str():
                return self._by_name(schema, space)
            case list() if len(schema) > _BRANCHES_MAX:
                raise NotAvro(f"a union has {len(schema)} branches, and {_BRANCHES_MAX} are read at most")
            case list():
                branches = tuple(self.node(branch, space, depth + 1) for branch in schema)
                if not branches or any(isinstance(branch, Union) for branch in branches):
                    raise NotAvro("a union must have branches, and none of them may be a union")
                return Union(branches)
            case {"type": str(kind)}:
                return self._of(kind, schema, space, depth)
        raise NotAvro(f"{_shown(schema)} is not a type")

    def _of(self, kind: str, schema: dict[str, Any], space: str, depth: int) -> Node:
        match kind:
            case "record" | "error":
                return self._record(schema, space, depth)
            case "enum":
                name, aliases, _ = _names(schema, space)
                symbols, default = schema.get("symbols"), schema.get("default")
                if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
                    raise NotAvro(f"enum {name} has no symbols")
                known = isinstance(default, str) and default in symbols
                return self._define(Enum(name, aliases, tuple(symbols), default if known else None))
            case "fixed":
                name, aliases, _ = _names(schema, space)
                size = schema.get("size")
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    raise NotAvro(f"fixed {name} has no size")
                return self._define(Fixed(name, aliases, size))
            case "array":
                return Array(self.node(schema.get("items"), space, depth + 1))
            case "map":
                return Map(self.node(schema.get("values"), space, depth + 1))
        if kind in PRIMITIVES:
            return Primitive(kind, _logical(schema), _text(schema, "connect.name"))
        return self._by_name(kind, space)

    def _by_name(self, name: str, space: str) -> Node:
        if name in PRIMITIVES:
            return Primitive(name)
        whole = _whole(name, space)
        if whole not in self.named and name in self.named:
            whole = name  # a type without a namespace, named from within one
        self.referred.add(whole)
        return Ref(whole)

    def _record(self, schema: dict[str, Any], space: str, depth: int) -> Node:
        name, aliases, within = _names(schema, space)
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise NotAvro(f"record {name} has no fields")
        made = tuple(self._field(one, name, within, depth + 1) for one in fields)
        if len({one.name for one in made}) < len(made):
            raise NotAvro(f"record {name} has two fields of one name")
        return self._define(Record(name, aliases, made))

    def _field(self, schema: Any, record: str, space: str, depth: int) -> Field:
        if not isinstance(schema, dict) or not isinstance(schema.get("name"), str) or "type" not in schema:
            raise NotAvro(f"record {record} has a field without a name or a type")
        aliases = schema.get("aliases") or []
        return Field(
            schema["name"],
            tuple(alias for alias in aliases if isinstance(alias, str)) if isinstance(aliases, list) else (),
            self.node(schema["type"], space, depth),
            (schema["default"],) if "default" in schema else (),
            _text(schema, "logicalType"),
        )

    def _define(self, node: Named) -> Node:
        before = self.named.setdefault(node.name, node)
        if before != node:
            raise NotAvro(f"{node.name} is defined twice, differently")
        return Ref(node.name)


def _names(schema: dict[str, Any], space: str) -> tuple[str, tuple[str, ...], str]:
    """Returns the full name of a named type, its full aliases, and the namespace of its fields."""
    name, own = schema.get("name"), schema.get("namespace")
    if not isinstance(name, str) or not name:
        raise NotAvro(f"a {schema['type']} has no name")
    whole = _whole(name, own if isinstance(own, str) else space)
    within = whole.rpartition(".")[0]
    aliases = schema.get("aliases") or []
    known = [alias for alias in aliases if isinstance(alias, str)] if isinstance(aliases, list) else []
    return whole, tuple(_whole(alias, within) for alias in known), within


def _whole(name: str, space: str) -> str:
    return name if "." in name or not space else f"{space}.{name}"


def _logical(schema: dict[str, Any]) -> str:
    """Returns the logical type. Iceberg marks a local timestamp by a property of its own, where Avro has `local-*`."""
    logical = _text(schema, "logicalType")
    is_local = schema.get("adjust-to-utc") is False and logical.startswith("timestamp-")
    return f"local-{logical}" if is_local else logical


def _text(schema: dict[str, Any], name: str) -> str:
    value = schema.get(name)
    return value if isinstance(value, str) else ""


def _shown(schema: Any) -> str:
    text = json.dumps(schema, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:60]}…"
