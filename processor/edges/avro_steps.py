"""A plan's nouns: how values of a writer's schema are read with ours, step by step, and what is said of it. Pure.

Made by `avro_plan.py`, carried out by `avro_reader.py`; `check` and `schemas check` show the findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from processor.edges.avro_schema import Node
from processor.letters.letter import shortened


class What(StrEnum):
    """What is done to a field."""

    CONVERTED = "converted"
    DEFAULTED = "defaulted"
    DROPPED = "dropped"
    NAMED = "named"
    """A record or an enum of another name is taken for ours."""
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
    """What is done to a primitive value once it is read."""

    NONE = ""
    FLOAT = "float"
    ENCODE = "encode"
    DECODE = "decode"
    MICROS = "micros"
    NANOS = "nanos"
    ZONED = "zoned"


@dataclass(frozen=True, slots=True)
class Read:
    """A primitive as it is written, and what becomes of it."""

    written: str
    conversion: Conversion = Conversion.NONE


@dataclass(frozen=True, slots=True)
class ReadFixed:
    """So many bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class ReadEnum:
    """What each symbol is read as, by its index; None where it is a dead letter."""

    symbols: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ReadArray:
    """Values of one kind."""

    items: Step


@dataclass(frozen=True, slots=True)
class ReadMap:
    """Values of one kind, by text."""

    values: Step


@dataclass(frozen=True, slots=True)
class ReadUnion:
    """A step for each branch of the writer's, by its index."""

    branches: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Skip:
    """A value that is written, and is not ours."""

    written: Node


@dataclass(frozen=True, slots=True)
class Refuse:
    """A value that cannot be read, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Default:
    """A default, whole: `value` holds no record, `fields` are those of a record, `items` the values of an array or,
    with `keys`, of a map."""

    value: bool | int | float | str | bytes | None = None
    record: str = ""
    fields: tuple[Default, ...] = ()
    items: tuple[Default, ...] | None = None
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """`written` are the fields as the writer has them, each with the place among ours that it fills (-1: none);
    `defaults` fills the others. `names` are all of ours, in their order, `name` is the record's."""

    name: str
    names: tuple[str, ...]
    written: tuple[tuple[int, Step], ...]
    defaults: tuple[tuple[int, Default], ...]


@dataclass(frozen=True, slots=True)
class ReadNamed:
    """A record that is found in the plan's `records` by this: the writer's and the reader's whole name."""

    key: tuple[str, str]


Step = Read | ReadFixed | ReadEnum | ReadArray | ReadMap | ReadUnion | Skip | Refuse | ReadNamed


@dataclass(frozen=True, slots=True)
class Plan:
    """`top` is read with `records` at hand; `findings` stand in the order of the writer's fields."""

    top: Step
    records: Mapping[tuple[str, str], ReadRecord | Refuse]
    findings: tuple[Finding, ...]

    @property
    def refusal(self) -> str | None:
        """Why no value can be read; None where some can. As long as a letter's message at most."""
        refused = [str(finding) for finding in self.findings if finding.what is What.REFUSED]
        return shortened("; ".join(refused)) if refused else None

    @property
    def strict_refusal(self) -> str | None:
        """Why a registry that goes by Avro's rules alone would say that it cannot be read; None where it would not."""
        refused = [str(finding) for finding in self.findings if finding.what in {What.REFUSED, What.PARTLY, What.NAMED}]
        return shortened("; ".join(refused)) if refused else None
