"""contents: what of a letter is sent. Its own bytes, a payload rebuilt today, or an edited one.

Owned by one command, one thread. What cannot be made says why, and then nothing is sent in its place.

patch: JSON merge patch (RFC 7386), and the edit of a JSON payload. Pure.

An object in the patch is merged into the one in the target, a null deletes the field, anything else replaces it whole,
arrays too. What comes out is judged before anything is sent, by the code that knows the schema.

Not chosen: a library for the ten lines that the RFC itself prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from processor.errors import BadRecord, StateCorrupt, StateTooNew
from processor.interfaces import Clock, Reader
from processor.letters.families import Family, LetterFacts, letter_facts
from processor.letters.patch import Unsendable, merged
from processor.operate.replay.database import Going, OrderKey
from processor.operate.replay.plan import Plan
from processor.operate.replay.reading import Step, read_offsets
from processor.operate.replay.rebuild import needs_source, rebuilt
from processor.operate.replay.selection import parse_letter
from processor.operate.replay.sources import Sources
from processor.records import EntryType, HeaderName, OrderEvent, Record, TopicPartition
from processor.transform import order_state


def parse_patch(text: bytes) -> dict[str, Any]:
    """A patch that can be applied to an event. Raises ValueError in the words of a complaint."""
    try:
        patch = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise ValueError(f"no JSON: {broken}") from broken
    if not isinstance(patch, dict):
        raise ValueError("a JSON merge patch for an object is an object itself")
    if not patch:
        raise ValueError("the patch changes nothing: it is an empty object")
    return patch


def edited_json(value: bytes | None, patch: dict[str, Any]) -> bytes | Unsendable:
    """A JSON payload with the patch applied."""
    try:
        content = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unsendable("it is not JSON, so nothing can be edited in it")
    if not isinstance(content, dict):
        return Unsendable("it is not a JSON object, so nothing can be edited in it")
    return msgspec.json.encode(merged(content, patch))


Decode = Callable[[Record], OrderEvent]
"""Raises `BadRecord`, or `RegistryOutage`."""
Fault = Callable[[EntryType, bytes], str | None]
"""What is wrong with a payload, by the API's own rules; None where nothing is."""
EncodeAvro = Callable[[Record, dict[str, Any]], bytes | Unsendable]
"""A record's Avro with this merge patch applied, in the schema that it was written with."""

SOURCE_GONE: Final = "its source record is gone: send it --as-sent, or discard it"


def as_sent(letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None:
    """The stored bytes."""
    return letter.value


class Rebuild:
    """The payload from today's state and by today's code."""

    def __init__(self, sources: Sources, decoders: Mapping[str, Decode], *, fulfil_protection: bool) -> None:
        self._sources = sources
        self._decoders = decoders
        self._fulfil_protection = fulfil_protection

    def __call__(self, letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None:
        if going.followed:
            return letter.value  # made some moments ago, by the code and from the state that there are
        entry_type = letter.header_text(HeaderName.ENTRY_TYPE)
        if entry_type is None or entry_type not in frozenset(EntryType):
            return Unsendable("it is not an entry, so nothing can be made of it: send it --as-sent, or discard it")
        kept = plan.known.kept_state(OrderKey(letter.partition, letter.key or b""))
        event: OrderEvent | None = None
        if needs_source(EntryType(entry_type)):
            found = self._event(letter)
            if isinstance(found, Unsendable):
                return found
            event = found
        try:
            order = None if kept is None else order_state.decode(kept).order
        except (StateCorrupt, StateTooNew) as corrupt:
            return Unsendable(f"the state of its order cannot be read: {corrupt}")
        return rebuilt(EntryType(entry_type), order, event, fulfil_protection=self._fulfil_protection)

    def _event(self, letter: Record) -> OrderEvent | Unsendable:
        try:
            source = parse_letter(letter.header_text(HeaderName.SOURCE) or "")
        except ValueError:
            return Unsendable("it does not name its source record")
        decode = self._decoders.get(source.topic)
        record = None if decode is None else self._sources.at(source)
        if decode is None or record is None or record.value is None:
            return Unsendable(SOURCE_GONE)
        try:
            return decode(record)
        except BadRecord as bad:
            return Unsendable(f"its source record cannot be read any more: {bad}")


class Edit:
    """The stored bytes with a merge patch applied, for the letters that were asked for; what only goes along goes as it
    is. `decoders` and `fault` judge the result as transform and the API would."""

    def __init__(
        self, patch: dict[str, Any], encode_avro: EncodeAvro, decoders: Mapping[str, Decode], fault: Fault
    ) -> None:
        self._patch = patch
        self._encode_avro = encode_avro
        self._decoders = decoders
        self._fault = fault

    def __call__(self, letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None:
        if not going.selected:
            return letter.value
        if letter.value is None:
            return Unsendable("it has no value, so nothing can be edited in it")
        entry_type = letter.header_text(HeaderName.ENTRY_TYPE)
        if entry_type is not None and entry_type in frozenset(EntryType):
            return self._entry(letter, EntryType(entry_type))
        facts = letter_facts(letter)
        origin = "" if facts.origin is None else facts.origin.topic
        decode = self._decoders.get(origin)
        if decode is not None and facts.family is Family.PROCESSOR:
            return self._event(letter, decode)
        return edited_json(letter.value, self._patch)

    def _entry(self, letter: Record, entry_type: EntryType) -> bytes | Unsendable:
        edited = edited_json(letter.value, self._patch)
        if isinstance(edited, Unsendable):
            return edited
        fault = self._fault(entry_type, edited)
        return edited if fault is None else Unsendable(f"with the patch it is no {entry_type.value}: {fault}")

    def _event(self, letter: Record, decode: Decode) -> bytes | Unsendable:
        edited = self._encode_avro(letter, self._patch)
        if isinstance(edited, Unsendable):
            return edited
        copy = Record(
            letter.topic, letter.partition, letter.offset, letter.timestamp_ms, letter.key, edited, letter.headers
        )
        try:
            event = decode(copy)
        except BadRecord as bad:
            return Unsendable(f"with the patch it cannot be read: {bad}")
        if event.order_id.encode() != letter.key:
            return Unsendable("with the patch its order ID is not its key: that would be another order's event")
        return edited


def prepare(
    plan: Plan,
    content: Callable[[Record, Going, Plan], bytes | Unsendable | None],
    sendable: Callable[[Record, LetterFacts], Record | Unsendable],
    letters: str,
    reader: Reader,
    clock: Clock,
    step: Step,
) -> int:
    """Makes every letter's content once, before anything is sent. Letters of which none can be made stay, and what
    waits behind them. Returns how many cannot be made."""
    faults = 0
    for partition in plan.overview.partitions():
        bad: list[tuple[int, str]] = []
        for goings in _batches(plan, partition):
            by_offset = {going.offset: going for going in goings}
            where = TopicPartition(letters, partition)
            for record in read_offsets(reader, clock, where, list(by_offset), step):
                whole = sendable(record, letter_facts(record))
                made = whole if isinstance(whole, Unsendable) else content(whole, by_offset[record.offset], plan)
                if isinstance(made, Unsendable):
                    bad.append((record.offset, made.why))
        for offset, why in bad:
            plan.stay(partition, offset, why)
        faults += len(bad)
    return faults


def _batches(plan: Plan, partition: int, size: int = 1_000) -> Iterator[list[Going]]:
    batch: list[Going] = []
    for going in plan.going(partition):
        batch.append(going)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
