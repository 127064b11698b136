"""A reader for one writer's schema: Python code, generated from its plan, that makes our structs directly.

    plan (avro_plan.py) ──source──► def read(d, p): ... ──exec──► read(bytes, start) -> value

Owned by the decoder, which makes one for each schema; equal plans share one. A schema as Java writes it, with
properties, defaults and namespaces of its own, gives the same plan as ours, and so costs the same.

It covers all of Avro, so no other library is needed to read. Invariants, for any bytes:
- A position never goes back: lengths and counts below zero are refused. A text or a skip beyond the end fails at the
  next
  missing byte, or at the end of the value, where the position must be the length.
- Every value of an array takes a byte (the plan refuses others), so a count costs no more than its bytes.
- Records within themselves nest as far as Python's stack reaches; a deeper one is a bad record.
- No text of a writer is in the source: our names are literals in it, and messages are constants beside it.

Not chosen: fastavro here. It takes twice as long to make a dict, from which structs must be made, resolves schemas anew
for each record, and converts no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any, Final, assert_never

from processor.edges import avro_schema as avro
from processor.edges import avro_steps as plans

Reader = Callable[[bytes, int], Any]
"""Returns a value from bytes, from a position to their end. Raises `Unreadable`; hostile bytes raise IndexError,
ValueError, RecursionError, struct.error."""
Shapes = Mapping[str, Callable[..., Any]]
"""The constructor of a record, by its full name: called with the values of its fields in order."""


class Unreadable(ValueError):
    """Bytes that are not a value of their schema, or not a value that we can read."""


class Refused(Unreadable):
    """A valid value that our schema has no place for."""


_VARINT_BYTES_MAX: Final = 10
_SIX_BYTES: Final = sum(0x80 << shift for shift in range(0, 35, 7))
"""The sum of the continuation bits in the first five bytes of six."""
_INLINE_DEPTH_MAX: Final = 6
"""Nested blocks before a step becomes a function of its own: Python allows 20 at most."""


def compiled(plan: plans.Plan, writer: avro.Schema, shapes: Shapes | None = None) -> Reader:
    """Returns the reader of a plan. Records become dicts; with `shapes`, what it makes of them, and arrays become
    tuples."""
    source = _Source(plan, writer, shapes or {})
    read: Reader = _code(source.text(), tuple(source.constants))(*source.constants.values())
    return read


@lru_cache(maxsize=256)
def _code(text: str, names: tuple[str, ...]) -> Callable[..., Reader]:
    """Returns a function that takes the constants by these names and returns a reader. Like schemas share its code."""
    module: dict[str, Any] = {
        "varint": _varint,
        "long": _long,
        "length": _length,
        "zoned": _zoned,
        "beyond": _beyond,
        "Unreadable": Unreadable,
        "Refused": Refused,
        "single": _SINGLE,
        "double": _DOUBLE,
    }
    body = "\n".join(f"    {line}" for line in text.splitlines())
    exec(f"def make({', '.join(names)}):\n{body}\n    return read\n", module)
    made: Callable[..., Reader] = module["make"]
    return made


_SINGLE: Final = Struct("<f").unpack_from
_DOUBLE: Final = Struct("<d").unpack_from
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Returns a number whose first byte, before `position`, announces more, and its end. Its sign is not decoded."""
    second = data[position]
    if second < 128:
        return data[position - 1] + (second << 7) - 0x80, position + 1
    third = data[position + 1]
    if third < 128:
        return data[position - 1] + (second << 7) + (third << 14) - 0x4080, position + 2
    raw = (data[position - 1] & 0x7F) | (second & 0x7F) << 7 | (third & 0x7F) << 14
    shift = 21
    for at in range(position + 2, position + _VARINT_BYTES_MAX - 1):
        byte = data[at]
        raw |= (byte & 0x7F) << shift
        if byte < 0x80 and not raw >> 64:
            return raw, at + 1
        shift += 7
    raise Unreadable("a number of more than 64 bits")


def _long(data: bytes, position: int) -> tuple[int, int]:
    """Does the same for a long, which is most often a time in milliseconds: six bytes, until 2039."""
    if position + 5 <= len(data):
        second, third, fourth, fifth, sixth = data[position : position + 5]
        if second & third & fourth & fifth >= 128 > sixth:
            raw = data[position - 1] + (second << 7) + (third << 14) + (fourth << 21) + (fifth << 28) + (sixth << 35)
            return raw - _SIX_BYTES, position + 5
    return _varint(data, position)


def _length(data: bytes, position: int) -> tuple[int, int]:
    """Does the same for a length."""
    raw, at = _varint(data, position) if data[position - 1] > 127 else (data[position - 1], position)
    if raw & 1:
        raise Unreadable("a length below zero")
    return raw, at


def _zoned(text: str) -> int:
    """Returns epoch ms of a time with a zone, such as `2026-11-21T11:00:00.123456+01:00`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("a time with a zone is not ISO 8601") from None
    if moment.tzinfo is None:
        raise Unreadable("a time that needs a zone has none")
    return (moment - _EPOCH) // _MILLISECOND


def _beyond(data: bytes, position: int) -> Unreadable:
    """Returns the fault of a value that does not end with its bytes."""
    if position > len(data):
        return Unreadable("it ends in the middle of a value")
    return Unreadable(f"{len(data) - position} bytes follow the value")


_CONVERTED: Final[Mapping[plans.Conversion, str]] = {
    plans.Conversion.NONE: "{}",
    plans.Conversion.FLOAT: "float({})",
    plans.Conversion.ENCODE: "{}.encode()",
    plans.Conversion.DECODE: "{}.decode()",
    plans.Conversion.MICROS: "({}) // 1000",
    plans.Conversion.NANOS: "({}) // 1000000",
    plans.Conversion.ZONED: "zoned({})",
}
_WIDTHS: Final[Mapping[str, int]] = {"boolean": 1, "float": 4, "double": 8}


class _Source:
    """Mutable while a reader is written: its lines at their depth, the constants that they use, and the functions that
    are still to be written. In the lines `d` is the bytes, `p` the position, `b` a number as it was read, `n` a
    count."""

    def __init__(self, plan: plans.Plan, writer: avro.Schema, shapes: Shapes) -> None:
        self.constants: dict[str, Any] = {}
        self._plan = plan
        self._writer = writer
        self._shapes = shapes
        self._lines: list[str] = []
        self._depth = 0
        self._count = 0
        self._functions: dict[Any, str] = {}
        self._waiting: list[Callable[[], None]] = []
        self._shared = _shared(plan)

    def text(self) -> str:
        self._line("def read(d, p):")
        self._depth = 1
        value = self._step(self._plan.top)
        self._line("if p != len(d): raise beyond(d, p)")
        self._line(f"return {value}")
        while self._waiting:
            self._depth = 0
            self._waiting.pop()()
        return "\n".join(self._lines)

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _constant(self, value: object) -> str:
        name = next((name for name, known in self.constants.items() if known is value or known == value), None)
        if name is None:
            name = f"c{len(self.constants)}"
            self.constants[name] = value
        return name

    def _raise(self, why: str) -> None:
        self._line(f"raise Refused({self._constant(why)})")

    def _function(self, key: object, write: Callable[[], None]) -> str:
        """Returns the name of a function, which is written once, later."""
        name = self._functions.get(key)
        if name is None:
            name = self._functions[key] = f"f{len(self._functions)}"
            self._waiting.append(lambda: self._written(name, write))
        return name

    def _written(self, name: str, write: Callable[[], None]) -> None:
        self._line(f"def {name}(d, p):")
        self._depth = 1
        write()

    def _raw(self, rest: str = "varint") -> None:
        self._line("b = d[p]; p += 1")
        self._line(f"if b > 127: b, p = {rest}(d, p)")

    def _length(self) -> None:
        self._line("b = d[p]; p += 1")
        self._line("if b & 129: b, p = length(d, p)")

    def _step(self, step: plans.Step) -> str:
        """Writes how a value is read. Returns the expression of the value, to be used once."""
        if self._depth > _INLINE_DEPTH_MAX and not isinstance(step, plans.Read | plans.Skip | plans.Refuse):
            return self._called(id(step), lambda: self._returned(self._step_inline(step)))
        return self._step_inline(step)

    def _called(self, key: object, write: Callable[[], None]) -> str:
        value = self._name()
        self._line(f"{value}, p = {self._function(key, write)}(d, p)")
        return value

    def _returned(self, value: str) -> None:
        self._line(f"return {value}, p")

    def _step_inline(self, step: plans.Step) -> str:
        match step:
            case plans.Read(written=written, conversion=conversion):
                return self._kept(_CONVERTED[conversion].format(self._primitive(written)))
            case plans.ReadFixed(size=size):
                self._line(f"p += {size}")
                self._line("if p > len(d): raise beyond(d, p)")
                return self._kept(f"d[p - {size}:p]")
            case plans.ReadEnum(symbols=symbols):
                return self._enum(symbols)
            case plans.ReadArray(items=items):
                value = self._kept("[]")
                self._blocks(lambda: self._line(f"{value}.append({self._step(items)})"))
                return f"tuple({value})" if self._shapes else value
            case plans.ReadMap(values=values):
                value = self._kept("{}")
                self._blocks(lambda: self._entry(value, values))
                return value
            case plans.ReadUnion(branches=branches):
                return self._union(branches)
            case plans.Skip(written=written):
                self._skip(written)
                return "None"
            case plans.Refuse(why=why):
                self._raise(why)
                return "None"
            case plans.ReadNamed(key=key):
                record = self._plan.records[key]
                if key in self._shared:
                    return self._called(key, lambda: self._returned(self._record(record)))
                return self._record(record)
        assert_never(step)

    def _kept(self, expression: str) -> str:
        value = self._name()
        self._line(f"{value} = {expression}")
        return value

    def _primitive(self, written: str) -> str:
        match written:
            case "null":
                return "None"
            case "boolean":
                self._line("p += 1")
                return "d[p - 1] != 0"
            case "int" | "long":
                self._raw("long" if written == "long" else "varint")
                return "(b >> 1) ^ -(b & 1)"
            case "float" | "double":
                self._line(f"p += {_WIDTHS[written]}")
                return f"{'single' if written == 'float' else 'double'}(d, p - {_WIDTHS[written]})[0]"
        self._line("b = d[p]; e = p + 1")
        self._line("if b & 129: b, e = length(d, e)")
        self._line("p = e + (b >> 1)")
        return "d[e:p].decode()" if written == "string" else "d[e:p]"

    def _enum(self, symbols: tuple[str | None, ...]) -> str:
        self._raw()
        self._line(f'if b & 1 or b > {2 * len(symbols) - 2}: raise Unreadable("not a symbol of its enum")')
        value = self._kept(f"{self._constant(symbols)}[b >> 1]")
        if None in symbols:
            self._line(f'if {value} is None: raise Refused("a symbol that our schema does not have")')
        return value

    def _union(self, branches: tuple[plans.Step, ...]) -> str:
        value = self._name()
        self._chosen(len(branches), lambda index: self._line(f"{value} = {self._step(branches[index])}"))
        return value

    def _chosen(self, branches: int, write: Callable[[int], None]) -> None:
        """Writes the choice of a union's branch."""
        self._raw()
        # The last first: null is the first branch, and most values are not null.
        for index in reversed(range(branches)):
            self._line(f"{'if' if index == branches - 1 else 'elif'} b == {2 * index}:")
            self._depth += 1
            write(index)
            self._depth -= 1
        self._line('else: raise Unreadable("not a branch of its union")')

    def _blocks(self, item: Callable[[], None]) -> None:
        """Writes the items of an array or map, block by block. A size, which follows a negative count, is not
        needed."""
        self._raw()
        self._line("while b:")
        self._depth += 1
        self._line("n = (b >> 1) ^ -(b & 1)")
        self._line("if n < 0:")
        self._depth += 1
        self._line("n = -n")
        self._raw()
        self._depth -= 1
        self._items(item)
        self._depth -= 1

    def _items(self, item: Callable[[], None]) -> None:
        """Writes the items of one block, and the count of the next."""
        self._line("for _ in range(n):")
        self._depth += 1
        item()
        self._line("if p > len(d): raise beyond(d, p)")
        self._depth -= 1
        self._raw()

    def _entry(self, value: str, values: plans.Step) -> None:
        key = self._kept(self._primitive("string"))
        self._line(f"{value}[{key}] = {self._step(values)}")

    def _record(self, record: plans.ReadRecord | plans.Refuse) -> str:
        if isinstance(record, plans.Refuse):
            self._raise(record.why)
            return "None"
        fields: dict[int, str] = {}
        for place, step in record.written:
            value = self._step(step)
            if place >= 0:
                fields[place] = value
        for place, default in record.defaults:
            fields[place] = self._default(default)
        values = [fields[place] for place in range(len(record.names))]
        return self._made(record.name, record.names, values)

    def _made(self, name: str, names: tuple[str, ...], values: list[str]) -> str:
        if name in self._shapes:
            return f"{self._constant(self._shapes[name])}({', '.join(values)})"
        return "{" + ", ".join(f"{name!r}: {value}" for name, value in zip(names, values, strict=True)) + "}"

    def _default(self, default: plans.Default) -> str:
        if default.record:
            assert default.keys is not None, "a record's default without its names"
            return self._made(default.record, default.keys, [self._default(one) for one in default.fields])
        if default.items is None:
            return self._constant(default.value) if isinstance(default.value, float) else repr(default.value)
        values = [self._default(one) for one in default.items]
        if default.keys is not None:
            return "{" + ", ".join(f"{key!r}: {value}" for key, value in zip(default.keys, values, strict=True)) + "}"
        return f"[{', '.join(values)}]" if not self._shapes else f"({''.join(value + ', ' for value in values)})"

    def _skip(self, node: avro.Node) -> None:
        """Writes how a value is skipped, in at least one line."""
        whole = self._writer.at(node)
        if self._writer.takes_no_byte(whole):
            self._line("pass")
        elif isinstance(whole, avro.Record) or self._depth > _INLINE_DEPTH_MAX:
            self._line(f"p = {self._function(id(whole), lambda: self._skipping(whole))}(d, p)")
        else:
            self._skip_inline(whole)

    def _skipping(self, node: avro.Node) -> None:
        if isinstance(node, avro.Record):
            for one in node.fields:
                self._skip(one.type)
        else:
            self._skip_inline(node)
        self._line("return p")

    def _skip_inline(self, node: avro.Node) -> None:
        match node:
            case avro.Primitive(name="int" | "long") | avro.Enum():
                self._line("while d[p] > 127: p += 1")
                self._line("p += 1")
            case avro.Primitive(name="bytes" | "string"):
                self._skip_text()
            case avro.Primitive(name=name):
                self._line(f"p += {_WIDTHS[name]}")
            case avro.Fixed(size=size):
                self._line(f"p += {size}")
            case avro.Array(items=items):
                self._skip_blocks(None if self._writer.takes_no_byte(items) else lambda: self._skip(items))
            case avro.Map(values=values):
                self._skip_blocks(lambda: self._skip_entry(values))
            case avro.Union(branches=branches):
                self._chosen(len(branches), lambda index: self._skip(branches[index]))
            case avro.Record() | avro.Ref():
                raise AssertionError("a record has a function of its own, a name is looked up first")

    def _skip_blocks(self, item: Callable[[], None] | None) -> None:
        """Skips items block by block; a block with a size at once. Without `item` the items take no byte."""
        self._raw()
        self._line("while b:")
        self._depth += 1
        self._line("if b & 1:")
        self._depth += 1
        self._skip_text()
        self._line("n = 0")
        self._depth -= 1
        self._line("else: n = b >> 1")
        if item is None:
            self._raw()
        else:
            self._items(item)
        self._depth -= 1

    def _skip_text(self) -> None:
        self._length()
        self._line("p += b >> 1")

    def _skip_entry(self, values: avro.Node) -> None:
        self._skip_text()
        self._skip(values)


def _shared(plan: plans.Plan) -> frozenset[tuple[str, str]]:
    """Returns the records that are used more than once, so also within themselves: each becomes a function."""
    uses: Counter[tuple[str, str]] = Counter()
    waiting: list[plans.Step] = [plan.top]
    while waiting:
        match waiting.pop():
            case plans.ReadNamed(key=key):
                uses[key] += 1
                record = plan.records[key]
                if uses[key] == 1 and isinstance(record, plans.ReadRecord):
                    waiting.extend(step for _, step in record.written)
            case plans.ReadArray(items=inner) | plans.ReadMap(values=inner):
                waiting.append(inner)
            case plans.ReadUnion(branches=branches):
                waiting.extend(branches)
            case _:
                pass
    return frozenset(key for key, count in uses.items() if count > 1)
