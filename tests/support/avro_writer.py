"""Writes Avro of any schema that the processor parses, also of those that a strict library refuses to write with."""

from __future__ import annotations

import struct
from typing import Any, Final

from processor.edges.avro_schema import Array, Enum, Fixed, Map, Node, Primitive, Record, Schema, Union

_WHOLE: Final = {"int", "long"}


class Branch(tuple[int, Any]):
    """A value of a union, and the index of its branch, where the value alone does not say which."""


def encoded(schema: Schema, value: Any) -> bytes:
    out = bytearray()
    _write(out, schema, schema.top, value)
    return bytes(out)


def varint(number: int) -> bytes:
    raw = (number << 1) ^ (number >> 63)
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def _write(out: bytearray, schema: Schema, node: Node, value: Any) -> None:
    whole = schema.at(node)
    match whole:
        case Union(branches=branches):
            index, inner = value if isinstance(value, Branch) else (_branch(schema, branches, value), value)
            out += varint(index)
            _write(out, schema, branches[index], inner)
        case Record(fields=fields):
            for one in fields:
                _write(out, schema, one.type, value[one.name])
        case Array(items=items):
            for one in value:
                out += varint(1)
                _write(out, schema, items, one)
            out += varint(0)
        case Map(values=values):
            for key, one in value.items():
                out += varint(1)
                _text(out, key.encode())
                _write(out, schema, values, one)
            out += varint(0)
        case Enum(symbols=symbols):
            out += varint(symbols.index(value))
        case Fixed():
            out += value
        case Primitive(name=name):
            _primitive(out, name, value)


def _primitive(out: bytearray, name: str, value: Any) -> None:
    match name:
        case "boolean":
            out.append(value)
        case "int" | "long":
            out += varint(value)
        case "float":
            out += struct.pack("<f", value)
        case "double":
            out += struct.pack("<d", value)
        case "bytes":
            _text(out, value)
        case "string":
            _text(out, value.encode())


def _text(out: bytearray, content: bytes) -> None:
    out += varint(len(content))
    out += content


def _branch(schema: Schema, branches: tuple[Node, ...], value: Any) -> int:
    return next(index for index, branch in enumerate(branches) if _is_of(schema.at(branch), value))


def _is_of(node: Node, value: Any) -> bool:
    match node:
        case Primitive(name=name):
            kinds: dict[type, set[str]] = {
                type(None): {"null"},
                bool: {"boolean"},
                int: _WHOLE,
                float: {"float", "double"},
                str: {"string"},
                bytes: {"bytes"},
            }
            return name in kinds.get(type(value), set())
        case Record(fields=fields):
            return isinstance(value, dict) and all(one.name in value for one in fields)
        case Array():
            return isinstance(value, list)
        case Map():
            return isinstance(value, dict)
        case Enum(symbols=symbols):
            return value in symbols
        case Fixed(size=size):
            return isinstance(value, bytes) and len(value) == size
    return False
