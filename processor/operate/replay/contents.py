"""The value that is sent for a letter: its own bytes, a payload that is rebuilt today, or an edited one.

If a value cannot be made, the letter says why, and nothing is sent for it. Owned by one command in one thread.

An edit is a JSON merge patch (RFC 7386): an object in the patch is merged into the one in the target, a null deletes
the field, anything else (an array, too) replaces it. The code that knows the schema judges the result before anything
is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from processor.errors import BadRecord, StateCorrupt, StateTooNew
from processor.letters.families import Family, letter_facts
from processor.letters.patch import Unsendable, merged
from processor.operate.replay.database import Going, OrderKey
from processor.operate.replay.plan import Plan
from processor.operate.replay.rebuild import needs_source, rebuilt
from processor.operate.replay.selection import parse_letter
from processor.operate.replay.sources import Sources
from processor.records import EntryType, HeaderName, OrderEvent, Record
from processor.transform import order_state


def parse_patch(text: bytes) -> dict[str, Any]:
    """Returns a patch that can be applied to an event. Raises ValueError with what is wrong."""
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
    """Returns a JSON payload with the patch applied."""
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
"""Returns how a payload breaks the API's rules; None if it breaks none."""
EncodeAvro = Callable[[Record, dict[str, Any]], bytes | Unsendable]
"""Returns a record's Avro with this merge patch applied, in the schema that it was written with."""

SOURCE_GONE: Final = "its source record is gone: send it --as-sent, or discard it"


def as_sent(letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None:
    """The stored bytes."""
    return letter.value


class Rebuild:
    """Makes the payload from today's state, by today's code."""

    def __init__(self, sources: Sources, decoders: Mapping[str, Decode], *, fulfil_protection: bool) -> None:
        self._sources = sources
        self._decoders = decoders
        self._fulfil_protection = fulfil_protection

    def __call__(self, letter: Record, going: Going, plan: Plan) -> bytes | Unsendable | None:
        if going.followed:
            return letter.value  # made moments ago, by this code and from this state
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
    """Applies a merge patch to the stored bytes of the selected letters; letters that only go with them are sent as
    they are. `decoders` and `fault` judge the result as transform and the API would."""

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
        try:
            event = decode(replace(letter, value=edited))
        except BadRecord as bad:
            return Unsendable(f"with the patch it cannot be read: {bad}")
        if event.order_id.encode() != letter.key:
            return Unsendable("with the patch its order ID is not its key: that would be another order's event")
        return edited
