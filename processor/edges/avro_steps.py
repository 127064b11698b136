"""The nouns of a plan: the steps by which values of a writer's schema are read with ours, and its findings. Pure.

`avro_plan.py` makes a plan, `avro_reader.py` carries it out; `check` and `schemas check` show the findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from processor.edges.avro_schema import Node
from processor.letters.letter import shortened


class What(StrEnum):
    """The kind of a finding."""

    CONVERTED = "converted"
    DEFAULTED = "defaulted"
    DROPPED = "dropped"
    NAMED = "named"
    """A record of another name is read as ours."""
    PARTLY = "partly"
    """Values of one branch of the writer's union become dead letters; others are read."""
    REFUSED = "refused"


class Finding(NamedTuple):
    """`path` is a field's, such as `line_items.quantity`; empty for the whole value."""

    path: str
    what: What
    why: str

    def __str__(self) -> str:
        return f"field {self.path}: {self.why}" if self.path else self.why


class Conversion(StrEnum):
    """The conversion of a primitive value after it is read."""

    NONE = ""
    FLOAT = "float"
    ENCODE = "encode"
    DECODE = "decode"
    MICROS = "micros"
    NANOS = "nanos"
    ZONED = "zoned"


class Read(msgspec.Struct, frozen=True):
    """A primitive of the written type, and its conversion."""

    written: str
    conversion: Conversion = Conversion.NONE


class ReadFixed(msgspec.Struct, frozen=True):
    """A fixed number of bytes."""

    size: int


class ReadEnum(msgspec.Struct, frozen=True):
    """The symbol to read, by index of the written one; None if the value becomes a dead letter."""

    symbols: tuple[str | None, ...]


class ReadArray(msgspec.Struct, frozen=True):
    """An array of one type."""

    items: Step


class ReadMap(msgspec.Struct, frozen=True):
    """A map of one type."""

    values: Step


class ReadUnion(msgspec.Struct, frozen=True):
    """A step for each branch of the writer's union, by its index."""

    branches: tuple[Step, ...]


class Skip(msgspec.Struct, frozen=True):
    """A written value that our schema does not have."""

    written: Node


class Refuse(msgspec.Struct, frozen=True):
    """A value that cannot be read, and the reason."""

    why: str


class Default(msgspec.Struct, frozen=True):
    """A default. `value` is a primitive, `fields` are those of a record, `items` the values of an array or, with
    `keys`, of a map."""

    value: bool | int | float | str | bytes | None = None
    record: str = ""
    fields: tuple[Default, ...] = ()
    items: tuple[Default, ...] | None = None
    keys: tuple[str, ...] | None = None


class ReadRecord(msgspec.Struct, frozen=True):
    """`written` are the writer's fields in order, each with the place of our field that it fills (-1: none); `defaults`
    fill the others. `names` are all our fields, in order, `name` is the record's."""

    name: str
    names: tuple[str, ...]
    written: tuple[tuple[int, Step], ...]
    defaults: tuple[tuple[int, Default], ...]


class ReadNamed(msgspec.Struct, frozen=True):
    """A record of the plan's `records`, by the full names of writer and reader."""

    key: tuple[str, str]


Step = Read | ReadFixed | ReadEnum | ReadArray | ReadMap | ReadUnion | Skip | Refuse | ReadNamed


class Plan(msgspec.Struct, frozen=True):
    """`top` reads a value and refers to `records`; `findings` are in the order of the writer's fields."""

    top: Step
    records: Mapping[tuple[str, str], ReadRecord | Refuse]
    findings: tuple[Finding, ...]

    @property
    def refusal(self) -> str | None:
        """Returns why no value can be read; None if some can. At most as long as a letter's message."""
        refused = [str(finding) for finding in self.findings if finding.what is What.REFUSED]
        return shortened("; ".join(refused)) if refused else None

    @property
    def strict_refusal(self) -> str | None:
        """Returns why a registry with Avro's rules only would call it unreadable; None if it would not."""
        refused = [str(finding) for finding in self.findings if finding.what in {What.REFUSED, What.PARTLY, What.NAMED}]
        return shortened("; ".join(refused)) if refused else None
