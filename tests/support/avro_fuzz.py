"""Pairs of schemas, values and hostile bytes by chance, and what two readers make of them.

`disagreement(seed)` is one pair: ours against fastavro. It is the same for the same seed, on any machine.
`python -m tests.support.avro_fuzz 1000000` tries as many, and prints how many were read and refused.
"""

from __future__ import annotations

import copy
import json
import struct
import sys
from collections import Counter
from io import BytesIO
from random import Random
from typing import Any, Final

import fastavro
from fastavro.schema import parse_schema

from processor.edges.avro_plan import plan_of
from processor.edges.avro_reader import Reader, Refused, compiled
from processor.edges.avro_schema import parse

Json = Any

STRICTER: Final = frozenset(
    {
        "a number of more than 64 bits",
        "a length below zero",
        "not a branch of its union",
        "not a symbol of its enum",
        "it ends in the middle of a value",
    }
)
"""What we refuse of hostile bytes and fastavro reads: it wraps numbers around, counts branches and symbols back from
the end, and skips what is not there."""
LEAST: Final = b"\xff" * 9 + b"\x01"
"""−2⁶³, whose opposite does not fit into 64 bits: a block of so many items is none to fastavro."""
_VALUES: Final = 2
_HOSTILE: Final = 4
_DOWN: Final[dict[str, tuple[str, ...]]] = {
    "long": ("int",),
    "float": ("int", "long"),
    "double": ("int", "long", "float"),
    "string": ("bytes",),
    "bytes": ("string",),
}
_PRIMITIVES: Final = ("string", "string", "long", "int", "boolean", "bytes", "double", "float")
_TEXTS: Final = ("", "a", "Zoë", "x" * 70, "👩‍🚀")
_WHOLES: Final = (0, 1, -1, 63, 64, -65, 8191, 2**31 - 1, -(2**31))


class Schemas:
    """Makes schemas by chance. Mutable: every named type gets a name of its own."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._names = 0

    def record(self, depth: int) -> Json:
        fields = [self._field(f"f{index}", depth) for index in range(self._chance.randint(1, 4))]
        return {"type": "record", "name": self._name("R"), "fields": fields}

    def _name(self, letter: str) -> str:
        self._names += 1
        return f"{letter}{self._names}"

    def _field(self, name: str, depth: int) -> Json:
        kind = self.any(depth)
        field = {"name": name, "type": kind}
        if self._chance.random() < 0.4:
            default = _default(kind)
            if default is not ...:
                field["default"] = default
        if self._chance.random() < 0.2:
            field["aliases"] = [f"old_{name}"]
        return field

    def any(self, depth: int) -> Json:
        throw = self._chance.random()
        if depth <= 0 or throw < 0.5:
            return self._chance.choice(_PRIMITIVES)
        if throw < 0.6:
            return self.record(depth - 1)
        if throw < 0.7:
            return {"type": "array", "items": self.any(depth - 1)}
        if throw < 0.75:
            return {"type": "map", "values": self.any(depth - 1)}
        if throw < 0.8:
            symbols = ["A", "B", "C"][: self._chance.randint(1, 3)]
            default = {"default": "A"} if self._chance.random() < 0.5 else {}
            return {"type": "enum", "name": self._name("E"), "symbols": symbols, **default}
        if throw < 0.83:
            return {"type": "fixed", "name": self._name("F"), "size": self._chance.randint(1, 9)}
        branch = self.any(depth - 1)
        if isinstance(branch, list):
            return branch
        return ["null", branch] if self._chance.random() < 0.7 else [branch, "null"]

    def written(self, reader: Json) -> Json:
        """The same as another writes it: older, newer, in another order, wrong."""
        chance = self._chance
        if isinstance(reader, list):
            if chance.random() < 0.2:
                return self.written(next(one for one in reader if one != "null"))
            branches = [one if one == "null" else self.written(one) for one in reader]
            if any(isinstance(one, list) for one in branches):
                return reader
            chance.shuffle(branches)
            return branches
        if chance.random() < 0.02:  # another record is read by its fields here, and not at all there
            return chance.choice(_PRIMITIVES)
        if chance.random() < 0.06:
            inner = self.written(reader)
            return inner if isinstance(inner, list) else ["null", inner]
        if isinstance(reader, str):
            return chance.choice(_DOWN[reader]) if reader in _DOWN and chance.random() < 0.15 else reader
        made = dict(reader)
        match reader["type"]:
            case "record":
                made["fields"] = self._written_fields(reader["fields"])
            case "array":
                made["items"] = self.written(reader["items"])
            case "map":
                made["values"] = self.written(reader["values"])
            case "enum" if chance.random() < 0.3:
                made["symbols"] = [*reader["symbols"], "Z"]
                made.pop("default", None)
        return made

    def _written_fields(self, fields: Json) -> Json:
        chance = self._chance
        made = []
        for one in fields:
            if chance.random() < (0.25 if "default" in one else 0.02):
                continue
            field = {"name": one["name"], "type": self.written(one["type"])}
            if "aliases" in one and chance.random() < 0.5:
                field["name"] = one["aliases"][0]
            made.append(field)
        if chance.random() < 0.3:
            made.insert(chance.randint(0, len(made)), {"name": "more", "type": self.any(2)})
        if chance.random() < 0.2:
            chance.shuffle(made)
        return made or [{"name": "more", "type": "int"}]


def _default(kind: Json) -> Json:
    match kind:
        case "string":
            return "d"
        case "int" | "long":
            return 7
        case "boolean":
            return True
        case "float" | "double":
            return 1.5
        case ["null", _]:
            return None
        case {"type": "array"}:
            return []
        case {"type": "map"}:
            return {}
        case {"type": "enum", "symbols": [first, *_]}:
            return first
    return ...


def value_of(schema: Json, chance: Random) -> Json:
    """One of a schema's values; no array and no map is empty."""
    match schema:
        case list():
            return value_of(chance.choice(schema), chance)
        case "null":
            return None
        case "boolean":
            return chance.random() < 0.5
        case "int":
            return chance.choice(_WHOLES)
        case "long":
            return chance.choice((*_WHOLES, 2**62, -(2**63), 2**63 - 1))
        case "float" | "double":
            return chance.choice((0.0, 1.5, -2.25, 1024.0))
        case "string":
            return chance.choice(_TEXTS)
        case "bytes":
            return chance.choice(_TEXTS).encode()
        case {"type": "record"}:
            return {one["name"]: value_of(one["type"], chance) for one in schema["fields"]}
        case {"type": "array"}:
            return [value_of(schema["items"], chance) for _ in range(chance.randint(1, 3))]
        case {"type": "map"}:
            return {key: value_of(schema["values"], chance) for key in "ab"[: chance.randint(1, 2)]}
        case {"type": "enum"}:
            return chance.choice(schema["symbols"])
        case {"type": "fixed"}:
            return chance.randbytes(schema["size"])
    raise AssertionError(schema)


def hostile(value: bytes, chance: Random) -> bytes:
    """A value with some of its bytes wrong."""
    body = bytearray(value)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(5):
            case 0:
                body[at : at + 1] = bytes([chance.choice((0, 1, 2, 3, 0x7F, 0x80, 0xFF, chance.randrange(256)))])
            case 1:
                del body[at : at + chance.randint(1, 20)]
            case 2:
                body[at:at] = chance.randbytes(chance.randint(1, 10))
            case 3:
                body[at:at] = body[:40]
            case 4:
                body[at:at] = b"\xff" * chance.randint(1, 12)
    return bytes(body)


def disagreement(seed: int, seen: Counter[str]) -> str | None:
    """What differs between the two readers over one pair; None where nothing does. `seen` counts what came of it."""
    chance = Random(seed)
    schemas = Schemas(chance)
    ours = schemas.record(3)
    theirs = schemas.written(copy.deepcopy(ours)) if chance.random() < 0.9 else copy.deepcopy(ours)
    writer = parse(json.dumps(theirs))
    plan = plan_of(parse(json.dumps(ours)), writer)
    read = compiled(plan, writer)
    peer_writer, peer_reader = parse_schema(theirs), parse_schema(ours)
    for _ in range(_VALUES):
        out = BytesIO()
        value = value_of(theirs, chance)
        fastavro.schemaless_writer(out, peer_writer, value)
        tries = [out.getvalue(), *(hostile(out.getvalue(), chance) for _ in range(0 if plan.refusal else _HOSTILE))]
        for index, body in enumerate(tries):
            mine = _mine(read, body)
            seen["refused" if isinstance(mine, Exception) else "read"] += 1
            if index and (isinstance(mine, IndexError | struct.error) or str(mine) in STRICTER or LEAST in body):
                continue  # nor is the peer asked, which skips for hours what is not there
            peer = _peer(peer_writer, peer_reader, body)
            if isinstance(mine, Exception) and isinstance(peer, Exception):
                continue
            if index and isinstance(mine, Refused) and _hollow(peer):
                continue
            if isinstance(mine, Exception) or isinstance(peer, Exception) or _shown(mine) != _shown(peer):
                both = f"{json.dumps(theirs)}\n{json.dumps(ours)}"
                return f"seed {seed}: {body.hex()}: {mine!r} here, {peer!r} there\n{both}"
    seen["refused pairs" if plan.refusal else "read pairs"] += 1
    return None


def _hollow(value: Json) -> bool:
    """Whether an array or a map in it is empty: one whose items cannot be read is refused as a whole here, and by the
    peer at its first item alone."""
    if isinstance(value, dict | list):
        return not value or any(map(_hollow, value.values() if isinstance(value, dict) else value))
    return False


def _shown(value: Json) -> str:
    """A value with the types of its parts; the sequence of a record's fields is no matter, and NaN is itself."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(value[key])}' for key in sorted(value))}}}"
    return f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else repr(value)


def _mine(read: Reader, body: bytes) -> Json:
    try:
        return read(body, 0)
    except Exception as refused:
        return refused


def _peer(writer: Json, reader: Json, body: bytes) -> Json:
    stream = BytesIO(body)
    try:
        value = fastavro.schemaless_reader(stream, writer, reader)
    except Exception as refused:
        return refused
    return value if stream.tell() == len(body) else ValueError("bytes follow")


def main(pairs: int, first: int = 0) -> int:
    seen: Counter[str] = Counter()
    for seed in range(first, first + pairs):
        if (wrong := disagreement(seed, seen)) is not None:
            sys.stdout.write(f"{wrong}\n")
            return 1
    sys.stdout.write(f"{pairs} pairs: {dict(seen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
