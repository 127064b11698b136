"""`dead-letters show`: one letter, decoded, with what was done about it and everything known of its order.

Personal data is hidden unless an option asks for it. A foreign payload is hidden as a whole, because it is not known
which of its texts are personal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import structlog

from processor.cli.dead_letters.counts import walk
from processor.cli.dead_letters.desk import Desk
from processor.cli.output import console, print_json, printable, table
from processor.cli.settings import fields_of
from processor.errors import BadRecord, BrokerOutage, Fatal, RegistryOutage, StateCorrupt, Unusable
from processor.letters.families import Family, LetterFacts, letter_facts
from processor.letters.masking import HIDDEN, masked, masked_message, masked_whole
from processor.letters.patch import Unsendable
from processor.letters.resolutions import Resolution, decode_resolution, may_be_of, resolution_key
from processor.moments import iso
from processor.operate.replay.noted import home, how_of, with_resolved
from processor.operate.replay.reading import Reading
from processor.operate.replay.selection import Selection, order_of, parse_letter
from processor.operate.replay.sources import Sources, completed
from processor.records import HeaderName, Position, Record, TopicPartition
from processor.topics import ORDER_TOPICS, STOCK_TOPICS, Topic

_AVRO_MAGIC: Final = (b"\x00", b"\x01")
_SCHEMA_HEADER: Final = "__value_schema_id"
_PLAIN_HEADERS: Final = frozenset({*(name.value for name in HeaderName), _SCHEMA_HEADER})
_RAW_BYTES_MAX: Final = 2_000
LETTERS_MAX: Final = 1_000
"""The most letters of one order that are shown."""


def find_letter(desk: Desk, topics: list[str], selection: Selection) -> Record | None:
    """Returns the letter that is named, resolved or not; otherwise the first open one that is selected. Raises
    `BrokerOutage`."""
    reading = desk.reading()
    for place in map(parse_letter, selection.letters):
        where = TopicPartition(place.topic, place.partition)
        if where not in reading.partitions(place.topic):
            continue
        is_there = desk.offsets.beginnings([where])[where] <= place.offset < desk.offsets.ends([where])[where]
        for record in reading.at(where, [place.offset] if is_there else []):
            if selection.takes(record, letter_facts(record)):
                return record
    for where in (one for topic in topics for one in reading.partitions(topic) if not selection.letters):
        beginnings, ends = desk.offsets.beginnings([where]), desk.offsets.ends([where])
        ((_, resolved),) = with_resolved(reading, desk.resolutions, beginnings, ends)
        for records in reading.part(where, beginnings[where], ends[where]):
            for record in records:
                if selection.takes(record, letter_facts(record)) and how_of(resolved, record.offset) is None:
                    return record
    return None


def find_letters(desk: Desk, topics: list[str], selection: Selection) -> list[Record]:
    """Returns the selected letters, resolved or not; at most LETTERS_MAX."""
    found: list[Record] = []
    for records, _ in walk(desk, topics):
        found += [record for record in records if selection.takes(record, letter_facts(record))]
        if len(found) >= LETTERS_MAX:
            break
    return found[:LETTERS_MAX]


def order_view(desk: Desk, letters: list[Record], *, plain: bool, timeline: bool) -> dict[str, Any]:
    """Returns the letters of an order as JSON has them, with one timeline."""
    views = [letter_view(desk, letter, plain=plain, timeline=False) for letter in letters]
    view: dict[str, Any] = {"order_id": views[0]["order_id"], "letters": views}
    if timeline:
        view["timeline"], view["notes"] = _timeline(desk, letters[0], plain)
    return view


def resolution_of(desk: Desk, reading: Reading, letter: Position) -> Resolution | None:
    """Returns what was done about a letter; None if it is open."""
    found: Resolution | None = None
    homes = desk.offsets.partitions(desk.resolutions)
    if homes is None:
        return None
    for records in reading.whole(TopicPartition(desk.resolutions, home(letter.partition, homes))):
        for record in records:
            if record.key == resolution_key(letter):
                found = None if record.value is None else decode_resolution(record.value)
    where = TopicPartition(letter.topic, letter.partition)
    if found is None or where not in reading.partitions(letter.topic):
        return found
    begun = reading.begun_ms(desk.offsets.beginnings([where]), desk.offsets.ends([where]))
    return found if may_be_of(found.at_ms, begun.get(where, 0)) else None


def letter_view(desk: Desk, letter: Record, *, plain: bool, timeline: bool) -> dict[str, Any]:
    """Returns the letter as JSON has it."""
    facts = letter_facts(letter)
    resolution = resolution_of(desk, desk.reading(), letter.position)
    whole = completed(letter, facts, Sources(desk.reading()), desk.settings.topic(Topic.OUTBOX))
    bare = whole.why if isinstance(whole, Unsendable) else ""
    letter = letter if isinstance(whole, Unsendable) else whole
    view: dict[str, Any] = {
        "letter": str(letter.position),
        "order_id": order_of(letter),
        "status": "open" if resolution is None else resolution.how.value,
        "resolution": resolution,
        "family": facts.family.value,
        "from": None if facts.origin is None else str(facts.origin),
        "timestamp": letter.timestamp_ms,
        **_why(facts, plain),
        "headers": _headers(letter, plain),
        "value": {"format": bare, "content": None} if bare else _value(desk, letter, facts, plain),
    }
    if timeline:
        view["timeline"], view["notes"] = _timeline(desk, letter, plain)
    return view


def _print_letter(view: Mapping[str, Any]) -> None:
    resolution: Resolution | None = view["resolution"]
    facts = [
        (name, printable(str(view[name])))
        for name in (
            "letter", "order_id", "status", "family", "from", "stage", "reason", "message", "group", "delivery_count",
            "http_status", "error_code",
        )
        if view.get(name) not in (None, "")
    ]  # fmt: skip
    facts += [("validation error", printable(error)) for error in view["validation_errors"]]
    facts += [("first failed", iso(view["first_failed_at"])), ("last failed", iso(view["last_failed_at"]))]
    if resolution is not None:
        facts.append(
            ("resolved", f"{resolution.how} by {resolution.by} at {iso(resolution.at_ms)} {resolution.reason}")
        )
    out = console()
    out.print(table(["", ""], facts))
    value = view["value"]
    out.print(f"\n{value['format']}{': ' + printable(value['problem']) if value.get('problem') else ''}")
    if value.get("content") is not None:
        out.print(msgspec.json.format(msgspec.json.encode(value["content"]), indent=2).decode())
    if view["headers"]:
        out.print()
        out.print(table(["header", "value"], [(one["name"], one["value"] or "") for one in view["headers"]]))


def print_view(view: Mapping[str, Any], output: str, prefix: str) -> None:
    """Prints a letter, or the letters of an order, and the timeline if it was read."""
    if output == "json":
        timeline = {"timeline": [one.as_json() for one in view["timeline"]]} if "timeline" in view else {}
        print_json({**view, **timeline})
        return
    for letter in view.get("letters", ()):
        _print_letter(letter)
        console().print()
    if "letters" not in view:
        _print_letter(view)
    if view.get("timeline"):
        from processor.operate.order.lines import line

        console().print()
        console().print(table(["at", "what", ""], [line(happening, prefix) for happening in view["timeline"]]))
    for note in view.get("notes", ()):
        console().print(f"note: {note}")


def _why(facts: LetterFacts, plain: bool) -> dict[str, Any]:
    def shown(text: str) -> str:
        return text if plain else masked_message(text)

    return {
        "stage": facts.stage,
        "reason": facts.reason,
        "message": shown(facts.message),
        "exception": facts.exception,
        "group": facts.group,
        "delivery_count": facts.delivery_count,
        "first_failed_at": facts.first_failed_ms,
        "last_failed_at": facts.last_failed_ms,
        "http_status": facts.http_status,
        "error_code": facts.error_code,
        "validation_errors": [shown(error) for error in facts.validation_errors],
    }


def _headers(letter: Record, plain: bool) -> list[dict[str, str | None]]:
    """Masks headers that may quote a payload, and foreign headers."""
    shown: list[dict[str, str | None]] = []
    for name, content in letter.headers:
        text = None if content is None else _text(content)
        if text is not None and not plain and name not in _PLAIN_HEADERS:
            text = masked_message(text) if name.startswith(("__", "kafka_")) else HIDDEN
        shown.append({"name": name, "value": text})
    return shown


def _value(desk: Desk, letter: Record, facts: LetterFacts, plain: bool) -> dict[str, Any]:
    if letter.value is None:
        of_stock = facts.origin is not None and facts.origin.topic in map(desk.settings.topic, STOCK_TOPICS)
        return {"format": f"no value: it {'deletes its object' if of_stock else 'erases its order'}", "content": None}
    ours = facts.family is Family.PROCESSOR or _is_of_ours(desk, facts)
    framed = letter.value[:1] in _AVRO_MAGIC or letter.header(_SCHEMA_HEADER) is not None
    problem = ""
    if framed:
        decoded, problem = _avro(desk, letter)
        if decoded is not None:
            shown_fields = decoded if plain else masked(decoded) if ours else masked_whole(decoded)
            return {"format": "avro", "content": shown_fields}
    try:
        content = msgspec.json.decode(letter.value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        shown = _text(letter.value[:_RAW_BYTES_MAX]) if plain else HIDDEN
        return {"format": f"{len(letter.value)} bytes", "content": shown, "problem": problem}
    return {"format": "json", "content": content if plain else masked(content) if ours else masked_whole(content)}


def _is_of_ours(desk: Desk, facts: LetterFacts) -> bool:
    """True if another tool's letter holds a record of a topic whose fields are known."""
    known = {desk.settings.topic(topic) for topic in (*ORDER_TOPICS, *STOCK_TOPICS, Topic.OUTBOX)}
    return facts.origin is not None and facts.origin.topic in known


def _avro(desk: Desk, letter: Record) -> tuple[dict[str, Any] | None, str]:
    if not desk.settings.registry_url:
        return None, "SCHEMA_REGISTRY_URL is not set, so its Avro cannot be read"
    from processor.edges.avro_letters import AvroLetters
    from processor.edges.registry import Registry

    try:
        return AvroLetters(Registry.at(desk.settings)).fields(letter), ""
    except (BadRecord, RegistryOutage) as bad:
        return None, str(bad)


def _timeline(desk: Desk, letter: Record, plain: bool) -> tuple[list[Any], list[str]]:
    """Returns the timeline of the letter's order, and notes about what could not be read."""
    from processor.operate.order.gather import Asked, gather
    from processor.operate.order.story import tell

    if letter.key is None:
        return [], ["the letter has no key, so it belongs to no order"]
    try:
        found = gather(desk.settings, letter.key, Asked(), structlog.get_logger(__name__))
        return tell(found, fields_of(desk.settings, ORDER_TOPICS), personal=plain), list(found.notes)
    except (BrokerOutage, Fatal, Unusable, StateCorrupt) as trouble:
        return [], [f"the order's timeline cannot be read: {trouble}"]


def _text(content: bytes) -> str:
    """A header or a value as far as it is a text; otherwise its bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "0x" + content.hex()
