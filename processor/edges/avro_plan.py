"""Decides whether and how values of a writer's schema are read with ours: one plan a schema. Pure.

`check`, `schemas check`, the start of a worker and the reader itself use the same plan, so they agree on what can be
read. A plan has the source of every field (`steps`) and, for people, what is done to it (`findings`):

    a field of the same name, or of an alias      read; promoted as Avro allows; a time converted to milliseconds
    a field of ours that is not written           its default
    a field that is not ours                      skipped
    a union of the writer's                       branch by branch: a value of an unfit branch is a dead letter
    anything else                                 refused, with the field's path

The plan departs from Avro's own rules of resolution because shops' schemas do:
- Fields decide about records, names do not (Kafka Connect calls a record ConnectDefault). Only in a union with several
  records do names decide, because another event may have the same fields.
- A writer's logical type of time is converted; a type that is no instant (`local-*`, `date`, `time-*`) is refused.
  Debezium's and Kafka Connect's own markers have the same meaning as logical types. A long without any is milliseconds.
- If a writer may write null and we need a value, all other values are read. A time of which only null could be read is
  refused as a whole: Kafka Connect writes each optional `date` so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from processor.edges import avro_schema as avro
from processor.edges import avro_steps as plans
from processor.letters.letter import shortened


def plan_of(reader: avro.Schema, writer: avro.Schema) -> plans.Plan:
    """Returns the plan to read values of `writer` with `reader`."""
    planning = _Planning(reader, writer)
    found: list[plans.Finding] = []
    top = planning.step(writer.top, reader.top, "", found)
    return plans.Plan(top, planning.records, tuple(found))


def judged(
    reader: str, writer: str, references: Mapping[str, str] | None = None, *, ours: Mapping[str, str] | None = None
) -> plans.Plan:
    """Returns the plan for the texts of a reader and a writer. `references` are the schemas that the writer's refers
    to, by name, `ours` those of the reader's. A text that is not an Avro schema makes a plan that refuses."""
    try:
        return plan_of(avro.parse(reader, ours), avro.parse(writer, references))
    except (avro.NotAvro, RecursionError) as broken:
        why = shortened(f"it is not an Avro schema: {broken}")
        return plans.Plan(plans.Refuse(why), {}, (plans.Finding("", plans.What.REFUSED, why),))


_PROMOTIONS: Final[Mapping[tuple[str, str], plans.Conversion]] = {
    ("int", "long"): plans.Conversion.NONE,
    ("int", "float"): plans.Conversion.FLOAT,
    ("int", "double"): plans.Conversion.FLOAT,
    ("long", "float"): plans.Conversion.FLOAT,
    ("long", "double"): plans.Conversion.FLOAT,
    ("float", "double"): plans.Conversion.NONE,
    ("string", "bytes"): plans.Conversion.ENCODE,
    ("bytes", "string"): plans.Conversion.DECODE,
}

_TIME: Final = "timestamp-millis"
_TIMES: Final[Mapping[str, plans.Conversion]] = {
    _TIME: plans.Conversion.NONE,
    "timestamp-micros": plans.Conversion.MICROS,
    "timestamp-nanos": plans.Conversion.NANOS,
    "io.debezium.time.Timestamp": plans.Conversion.NONE,
    "io.debezium.time.MicroTimestamp": plans.Conversion.MICROS,
    "io.debezium.time.NanoTimestamp": plans.Conversion.NANOS,
    "org.apache.kafka.connect.data.Timestamp": plans.Conversion.NONE,
}
_NO_INSTANT: Final = frozenset({
    "date", "time-millis", "time-micros", "duration",
    "local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos",
    "org.apache.kafka.connect.data.Date", "org.apache.kafka.connect.data.Time",
})  # fmt: skip
"""Integers that are no instant: a day, a time of day, a local time."""
_DEBEZIUM: Final = "io.debezium.time."
_ZONED: Final = "io.debezium.time.ZonedTimestamp"


@dataclass(slots=True)
class _Planning:
    """Mutable while a plan is made: `records` by the names of both sides, each planned once."""

    reader: avro.Schema
    writer: avro.Schema
    records: dict[tuple[str, str], plans.ReadRecord | plans.Refuse] = field(default_factory=dict)

    def step(
        self, written: avro.Node, wanted: avro.Node, path: str, found: list[plans.Finding], *, by_name: bool = False
    ) -> plans.Step:
        """Returns how a value is read. Adds the reasons of a `Refuse` to `found`."""
        written, wanted = self.writer.at(written), self.reader.at(wanted)
        if isinstance(written, avro.Union):
            return self._written_union(written, wanted, path, found)
        if isinstance(wanted, avro.Union):
            branch = self._branch(written, wanted, by_name=by_name)
            if branch is None:
                return self._refuse(path, self._mismatch(written, wanted), found)
            return self.step(written, branch, path, found, by_name=by_name)
        match written, wanted:
            case avro.Record(), avro.Record():
                return self._record(written, wanted, path, found, by_name=by_name)
            case avro.Array(items=items), avro.Array(items=wanted_items):
                if self.writer.takes_no_byte(items):
                    return self._refuse(path, "an array of values that take no byte has no bound", found)
                step = self.step(items, wanted_items, path, found)
                return step if isinstance(step, plans.Refuse) else plans.ReadArray(step)
            case avro.Map(values=values), avro.Map(values=wanted_values):
                step = self.step(values, wanted_values, path, found)
                return step if isinstance(step, plans.Refuse) else plans.ReadMap(step)
            case avro.Enum(), avro.Enum() if _is_named_alike(written, wanted):
                return self._enum(written, wanted, path, found)
            case avro.Fixed(), avro.Fixed() if _is_named_alike(written, wanted) and written.size == wanted.size:
                return plans.ReadFixed(written.size)
            case avro.Primitive(), avro.Primitive():
                return self._primitive(written, wanted, path, found)
        return self._refuse(path, self._mismatch(written, wanted), found)

    def _refuse(self, path: str, why: str, found: list[plans.Finding]) -> plans.Refuse:
        found.append(plans.Finding(path, plans.What.REFUSED, why))
        return plans.Refuse(shortened(str(found[-1])))

    def _mismatch(self, written: avro.Node, wanted: avro.Node) -> str:
        return f"written as {self._said(self.writer, written)}, read as {self._said(self.reader, wanted)}"

    def _primitive(
        self, written: avro.Primitive, wanted: avro.Primitive, path: str, found: list[plans.Finding]
    ) -> plans.Step:
        if wanted.name == "long" and wanted.logical == _TIME:
            return self._time(written, wanted, path, found)
        if written.name == wanted.name:
            return plans.Read(written.name)
        conversion = _PROMOTIONS.get((written.name, wanted.name))
        if conversion is None or (conversion is plans.Conversion.DECODE and written.logical):
            return self._refuse(path, self._mismatch(written, wanted), found)
        found.append(plans.Finding(path, plans.What.CONVERTED, f"{written.name} to {wanted.name}"))
        return plans.Read(written.name, conversion)

    def _time(
        self, written: avro.Primitive, wanted: avro.Primitive, path: str, found: list[plans.Finding]
    ) -> plans.Step:
        if written.name == "string" and written.connect == _ZONED:
            found.append(plans.Finding(path, plans.What.CONVERTED, f"{_ZONED} to {_TIME}"))
            return plans.Read(written.name, plans.Conversion.ZONED)
        if written.name not in {"int", "long"}:
            return self._refuse(path, self._mismatch(written, wanted), found)
        marker = next((one for one in (written.connect, written.logical) if one in _TIMES or _is_no_instant(one)), "")
        if _is_no_instant(marker):
            why = f"{self._mismatch(written, wanted)}: {marker} names no instant; write {_TIME}, in UTC"
            return self._refuse(path, why, found)
        if written.name == "int" and marker:
            return self._refuse(path, f"{self._mismatch(written, wanted)}: {marker} needs a long", found)
        conversion = _TIMES.get(marker, plans.Conversion.NONE)
        if conversion is not plans.Conversion.NONE:
            cut = ", cut to milliseconds" if conversion is plans.Conversion.NANOS else ""
            found.append(plans.Finding(path, plans.What.CONVERTED, f"{marker} to {_TIME}{cut}"))
        return plans.Read(written.name, conversion)

    def _enum(self, written: avro.Enum, wanted: avro.Enum, path: str, found: list[plans.Finding]) -> plans.Step:
        known = set(wanted.symbols)
        symbols = tuple(symbol if symbol in known else wanted.default for symbol in written.symbols)
        for symbol, read in zip(written.symbols, symbols, strict=True):
            if read is None:
                why = f"the symbol {symbol} becomes a dead letter: ours has no such one"
                found.append(plans.Finding(path, plans.What.PARTLY, why))
            elif read != symbol:
                found.append(plans.Finding(path, plans.What.CONVERTED, f"the symbol {symbol} is read as {read}"))
        if not any(symbols):
            return self._refuse(path, self._mismatch(written, wanted), found)
        return plans.ReadEnum(symbols)

    def _record(
        self, written: avro.Record, wanted: avro.Record, path: str, found: list[plans.Finding], *, by_name: bool
    ) -> plans.Step:
        alike = _is_named_alike(written, wanted)
        if by_name and not alike:
            why = f"{self._mismatch(written, wanted)}, and among several records of a union names decide"
            return self._refuse(path, why, found)
        key = (written.name, wanted.name)
        if key in self.records:
            return plans.ReadNamed(key)
        names = tuple(one.name for one in wanted.fields)
        self.records[key] = plans.ReadRecord(wanted.name, names, (), ())  # for a record within itself
        sources = _sources(written, wanted)
        mine: list[plans.Finding] = []
        if not alike:
            mine.append(
                plans.Finding(path, plans.What.NAMED, f"record {written.name} is read by its fields, as {wanted.name}")
            )
            if wanted.fields and not sources:
                self._refuse(path, f"{self._mismatch(written, wanted)}, and it has none of its fields", mine)
        places = {source.name: place for place, source in sources.items()}
        steps = [self._written_field(one, wanted, places.get(one.name), path, mine) for one in written.fields]
        defaults = self._defaults(wanted, sources, path, mine)
        found.extend(mine)
        refusals = [str(finding) for finding in mine if finding.what is plans.What.REFUSED]
        if refusals:
            self.records[key] = refused = plans.Refuse(shortened("; ".join(refusals)))
            return refused
        self.records[key] = plans.ReadRecord(wanted.name, names, tuple(steps), tuple(defaults))
        return plans.ReadNamed(key)

    def _written_field(
        self, written: avro.Field, wanted: avro.Record, place: int | None, path: str, found: list[plans.Finding]
    ) -> tuple[int, plans.Step]:
        if place is None:
            found.append(plans.Finding(_path(path, written.name), plans.What.DROPPED, "written, and not ours"))
            return -1, plans.Skip(written.type)
        ours = wanted.fields[place]
        where = _path(path, ours.name)
        if written.name != ours.name:
            found.append(plans.Finding(where, plans.What.CONVERTED, f"written as {written.name}, which is its alias"))
        if written.beside:
            why = f"the logicalType {written.beside} stands beside the type, where Avro ignores it"
            found.append(plans.Finding(where, plans.What.CONVERTED, why))
        return place, self.step(written.type, ours.type, where, found)

    def _defaults(
        self, wanted: avro.Record, sources: Mapping[int, avro.Field], path: str, found: list[plans.Finding]
    ) -> list[tuple[int, plans.Default]]:
        defaults: list[tuple[int, plans.Default]] = []
        for place, one in enumerate(wanted.fields):
            if place in sources:
                continue
            where = _path(path, one.name)
            if not one.default:
                self._refuse(where, "it is not written, and it has no default", found)
                continue
            value = _default(self.reader, one.type, one.default[0])
            if value is None:
                self._refuse(where, "it is not written, and its default does not fit its type", found)
                continue
            found.append(plans.Finding(where, plans.What.DEFAULTED, f"not written: {_shown(one.default[0])}"))
            defaults.append((place, value))
        return defaults

    def _written_union(
        self, written: avro.Union, wanted: avro.Node, path: str, found: list[plans.Finding]
    ) -> plans.Step:
        branches = [self.writer.at(branch) for branch in written.branches]
        by_name = sum(isinstance(branch, avro.Record) for branch in branches) > 1
        steps: list[plans.Step] = []
        mine: list[plans.Finding] = []
        inner: list[list[plans.Finding]] = []
        for branch in branches:
            of_branch: list[plans.Finding] = []
            step = self.step(branch, wanted, path, of_branch, by_name=by_name)
            steps.append(step)
            if isinstance(step, plans.Refuse):
                name = self._said(self.writer, branch)
                mine.append(
                    plans.Finding(path, plans.What.PARTLY, f"a value of {name} becomes a dead letter: {step.why}")
                )
                if branch != avro.Primitive("null"):
                    inner.append([finding for finding in of_branch if finding.what is plans.What.REFUSED])
            else:
                mine.extend(of_branch)
        read = [branch for branch, step in zip(branches, steps, strict=True) if not isinstance(step, plans.Refuse)]
        # A nullable time of which only null could be read is useless: it is refused.
        if not read or (
            inner and self._holds_a_time(wanted) and all(branch == avro.Primitive("null") for branch in read)
        ):
            if len(inner) == 1:  # a nullable type: its other branch has the best reason
                found.extend(inner[0])
                return plans.Refuse(shortened("; ".join(str(finding) for finding in inner[0])))
            return self._refuse(path, self._mismatch(written, wanted), found)
        found.extend(mine)
        return plans.ReadUnion(tuple(steps))

    def _holds_a_time(self, wanted: avro.Node) -> bool:
        branches = wanted.branches if isinstance(wanted, avro.Union) else (wanted,)
        return any(isinstance(one, avro.Primitive) and one.logical == _TIME for one in map(self.reader.at, branches))

    def _branch(self, written: avro.Node, wanted: avro.Union, *, by_name: bool) -> avro.Node | None:
        """Returns our branch for a value of this type: the first that fits, or the record of its name."""
        branches = [self.reader.at(branch) for branch in wanted.branches]
        if isinstance(written, avro.Record):
            records = [branch for branch in branches if isinstance(branch, avro.Record)]
            exact = [branch for branch in records if branch.name == written.name]
            by_alias = [branch for branch in records if _is_named_alike(written, branch)]
            structural = records if len(records) == 1 and not by_name else []
            return next(iter(exact + by_alias + structural), None)
        alike = [branch for branch in branches if _kind(branch) == _kind(written)]
        # Its own type first. If none fits, that branch has the best reason, or the time that a number may be.
        times = [
            one
            for one in branches
            if isinstance(written, avro.Primitive) and written.logical and self._holds_a_time(one)
        ]
        said = next(iter(alike + times), None)
        return next((one for one in (*alike, *branches) if self._fits(written, one)), said)

    def _fits(self, written: avro.Node, wanted: avro.Node) -> bool:
        """True if a type fits our branch. The contents of an array or a map are checked later."""
        if isinstance(written, avro.Array | avro.Map):
            return type(written) is type(wanted)
        return not isinstance(self.step(written, wanted, "", []), plans.Refuse)

    def _said(self, schema: avro.Schema, node: avro.Node) -> str:
        match schema.at(node):
            case avro.Primitive(name=name, logical=logical, connect=connect):
                return f"{name} ({connect or logical})" if connect or logical else name
            case avro.Union(branches=branches):
                text = " or ".join(self._said(schema, branch) for branch in branches[:4])
                return text if len(branches) <= 4 else f"{text} or others"
            case avro.Array(items=items):
                return f"array of {self._said(schema, items)}"
            case avro.Map(values=values):
                return f"map of {self._said(schema, values)}"
            case avro.Fixed(name=name, size=size):
                return f"fixed {avro.simple(name)} of {size} bytes"
            case avro.Record(name=name):
                return f"record {avro.simple(name)}"
            case avro.Enum(name=name):
                return f"enum {avro.simple(name)}"
        raise AssertionError("a name is looked up first")


def _path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _kind(node: avro.Node) -> str:
    return node.name if isinstance(node, avro.Primitive) else type(node).__name__


def _is_named_alike(
    written: avro.Record | avro.Enum | avro.Fixed, wanted: avro.Record | avro.Enum | avro.Fixed
) -> bool:
    """Compares simple names and our aliases; namespaces do not matter."""
    name = avro.simple(written.name)
    return name == avro.simple(wanted.name) or any(name == avro.simple(alias) for alias in wanted.aliases)


def _is_no_instant(marker: str) -> bool:
    return marker in _NO_INSTANT or (marker.startswith(_DEBEZIUM) and marker not in _TIMES)


def _sources(written: avro.Record, wanted: avro.Record) -> dict[int, avro.Field]:
    """Returns, by place of our field, the writer's field that fills it: of its name, else of its first alias that is
    written. No field fills two."""
    free = {one.name: one for one in written.fields}
    sources = {place: free.pop(one.name) for place, one in enumerate(wanted.fields) if one.name in free}
    for place, one in enumerate(wanted.fields):
        alias = next((alias for alias in one.aliases if alias in free), None)
        if place not in sources and alias is not None:
            sources[place] = free.pop(alias)
    return sources


def _default(schema: avro.Schema, wanted: avro.Node, value: Any) -> plans.Default | None:
    """Returns a default as a value of its type. Returns None if it does not fit."""
    node = schema.at(wanted)
    match node:
        case avro.Union(branches=branches):
            fits = (_default(schema, branch, value) for branch in branches)
            return next((default for default in fits if default is not None), None)
        case avro.Record(name=name, fields=fields) if isinstance(value, dict):
            made = []
            for one in fields:
                if one.name not in value and not one.default:
                    return None
                given = _default(schema, one.type, value.get(one.name, one.default[0] if one.default else None))
                if given is None:
                    return None
                made.append(given)
            names = tuple(one.name for one in fields)
            return plans.Default(record=name, fields=tuple(made), keys=names)
        case avro.Array(items=items) if isinstance(value, list):
            values = [_default(schema, items, one) for one in value]
            return None if None in values else plans.Default(items=tuple(one for one in values if one is not None))
        case avro.Map(values=inner) if isinstance(value, dict):
            values = [_default(schema, inner, one) for one in value.values()]
            known = tuple(one for one in values if one is not None)
            return plans.Default(items=known, keys=tuple(value)) if len(known) == len(value) else None
        case avro.Primitive(name=name):
            return _primitive_default(name, value)
        case avro.Fixed(size=size) if isinstance(value, str):
            made_bytes = _latin1(value)
            return plans.Default(made_bytes) if made_bytes is not None and len(made_bytes) == size else None
        case avro.Enum(symbols=symbols) if value in symbols:
            return plans.Default(value)
    return None


def _primitive_default(name: str, value: Any) -> plans.Default | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    match name:
        case "null":
            return plans.Default(None) if value is None else None
        case "boolean":
            return plans.Default(value) if isinstance(value, bool) else None
        case "int" | "long":
            return plans.Default(value) if is_whole else None
        case "float" | "double":
            return plans.Default(float(value)) if is_whole or isinstance(value, float) else None
        case "string":
            return plans.Default(value) if isinstance(value, str) else None
    made = _latin1(value) if isinstance(value, str) else None
    return None if made is None else plans.Default(made)


def _latin1(text: str) -> bytes | None:
    """Returns the bytes of a schema's text, in which each character stands for the byte of its number."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return None
