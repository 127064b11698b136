"""The story of one order: its records as happenings in the order of time, each with its outcome and the reason. Pure.

    source record ─┬─► entry (its header `source` names the record) ─┬─► delivery (by the entry's ID)
                   │                                                 └─► dead letter (its origin is the entry's place)
                   ├─► dead letter (its origin is the record's place)
                   └─► the state alone, or nothing: parked, a duplicate, ignored; or not taken yet

Outcomes that no record holds are inferred from the state and from other records, in the order of `_became`; if that
shows nothing, the outcome is unknown, and not guessed.

A letter keeps its origin when it is replayed and refused again. So a replayed record finds its letter by its own origin
and the replay's ID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.errors import BadRecord, RegistryOutage
from processor.letters.families import Family, LetterFacts, letter_facts
from processor.letters.holds import decode_hold
from processor.letters.letter import letter_head
from processor.letters.masking import masked, masked_message
from processor.letters.resolutions import Resolution, decode_resolution, letter_of, may_be_of
from processor.moments import iso, meant_ms
from processor.operate.order.gather import Found
from processor.operate.replay.copies import replay_of
from processor.records import (
    KINDS,
    HeaderName,
    IgnoredReason,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    OrderCancelled,
    OrderEvent,
    OrderPlaced,
    Position,
    Record,
    TopicPartition,
)
from processor.topics import ORDER_TOPICS, REKEYED, Topic
from processor.transform.order_state import OrderState, Standing

Fields = Callable[[Record], Mapping[str, Any]]
"""Returns the fields of a source record's value. Raises `BadRecord` and `RegistryOutage`."""


class Kind(StrEnum):
    """The kind of a line of the timeline."""

    EVENT = "event"
    STATE = "state"
    ENTRY = "entry"
    DELIVERY = "delivery"
    DEAD_LETTER = "dead_letter"
    HOLD = "hold"
    RESOLUTION = "resolution"


_RANK: Final = {kind: number for number, kind in enumerate(Kind)}


class Became(StrEnum):
    """The outcome of a source record or of an entry."""

    TRANSFORMED = "transformed"
    PARKED = "parked"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    ERASED = "erased"
    DEAD_LETTERED = "dead_lettered"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    WAITING = "waiting"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line. `at_ms` is epoch ms, None if the time is unknown; `facts` are plain values, as JSON has them."""

    at_ms: int | None
    kind: Kind
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Returns the happening as commands print it."""
        return {"at": None if self.at_ms is None else iso(self.at_ms), "kind": self.kind.value, **self.facts}


_EVENTS: Final[Mapping[Topic, tuple[str, type[OrderEvent]]]] = {
    Topic.PLACED: ("order_placed", OrderPlaced),
    Topic.FULFILLED: ("line_items_fulfilled", LineItemsFulfilled),
    Topic.REFUNDED: ("line_items_refunded", LineItemsRefunded),
    Topic.LINE_ITEMS_CANCELLED: ("line_items_cancelled", LineItemsCancelled),
    Topic.CANCELLED: ("order_cancelled", OrderCancelled),
}


def in_time(happenings: Iterable[Happening]) -> list[Happening]:
    return sorted(happenings, key=lambda one: (one.at_ms is None, one.at_ms or 0, _RANK[one.kind]))


def tell(found: Found, fields: Mapping[Topic, Fields], *, personal: bool) -> list[Happening]:
    """Returns the timeline in the order of time. Customer data is hidden unless `personal`."""
    return _Telling(found, fields, personal).told()


class _Telling:
    """One order's records, found by their references to each other. Mutable: `_unread` is why values cannot be shown,
    once that is known."""

    def __init__(self, found: Found, fields: Mapping[Topic, Fields], personal: bool) -> None:
        records = found.records
        self._found = found
        self._fields = fields
        self._personal = personal
        self._entries = records.get(Topic.OUTBOX, [])
        self._deliveries = [(record, json_of(record)) for record in records.get(Topic.DELIVERIES, [])]
        letters = [*records.get(Topic.ORDER_DEAD_LETTERS, []), *records.get(Topic.HAKUNA_DEAD_LETTERS, [])]
        self._letters = [(record, letter_facts(record)) for record in letters]
        self._resolved: dict[Position, Resolution] = {
            letter: resolution
            for record in found.resolutions
            if (letter := letter_of(record.key)) is not None
            and (resolution := decode_resolution(record.value or b"")) is not None
        }
        self._sources = sorted(
            ((topic, record) for topic in ORDER_TOPICS for record in records.get(topic, [])),
            key=lambda one: (meant_ms(one[1].timestamp_ms), ORDER_TOPICS.index(one[0]), one[1].offset),
        )
        self._unread: str | None = None

    def told(self) -> list[Happening]:
        happenings = [
            *self._events(),
            *(self._entry(record) for record in self._entries),
            *(self._delivery(record, value) for record, value in self._deliveries),
            *(self._letter(record, facts) for record, facts in self._letters),
            *(self._resolution(letter, resolution) for letter, resolution in self._resolved.items()),
            *self._hold(),
            *self._state(),
        ]
        if self._unread is not None:
            self._found.notes.append(f"what the source records say cannot be shown: {self._unread}")
        return in_time(happenings)

    def _events(self) -> Iterable[Happening]:
        seen: dict[tuple[Topic, str], Position] = {}
        for topic, record in self._sources:
            value = self._value(topic, record)
            event_id = None if value is None else value.get("event_id")
            became, why = self._became(topic, record, value or {}, seen)
            if isinstance(event_id, str) and became is not Became.DEAD_LETTERED:
                seen.setdefault((topic, event_id), record.position)
            facts: dict[str, Any] = {
                "event": "erasure" if record.value is None else _EVENTS[topic][0],
                "event_id": event_id,
                **place_of(record),
                "became": became.value,
                "why": why,
                "entries": [entry.header_text(HeaderName.ENTRY_ID) for entry in self._entries_of(record)],
                **_replay(record),
            }
            if value is not None:
                facts["said"] = self._shown(
                    {name: value[name] for name in value if name not in ("event_id", "order_id")}
                )
            yield Happening(self._written_ms(record), Kind.EVENT, facts)

    def _value(self, topic: Topic, record: Record) -> Mapping[str, Any] | None:
        if record.value is None or topic not in self._fields or self._unread is not None:
            return None
        try:
            return self._fields[topic](record)
        except BadRecord:
            return None
        except RegistryOutage as outage:
            self._unread = str(outage)
            return None

    def _became(
        self, topic: Topic, record: Record, said: Mapping[str, Any], seen: Mapping[tuple[Topic, str], Position]
    ) -> tuple[Became, str | None]:
        event_id = said.get("event_id")
        state = self._found.state
        committed = self._found.committed.get(TopicPartition(record.topic, record.partition))
        if self._entries_of(record):
            return Became.TRANSFORMED, None
        if (facts := self._letter_of(record)) is not None:
            return Became.DEAD_LETTERED, f"{facts.reason}: {self._message(facts)}"
        if committed is not None and record.offset >= committed:
            reader = "rekey" if self._found.sources else "transform"
            return Became.WAITING, self._waits(record, f"{reader} has not taken it yet")
        if record.value is None:
            elsewhere = not self._found.sources and record.partition != self._found.partition
            if elsewhere and state is not None and state.order is not None:
                its_place = f"its order is in {self._found.partition}"
                return Became.IGNORED, f"{IgnoredReason.ERASURE_UNKNOWN.value}: {its_place}"
            if self._found_no_order(record):
                return Became.IGNORED, f"{IgnoredReason.ERASURE_UNKNOWN.value}: nothing shows of the order before it"
            return Became.ERASED, IgnoredReason.ERASED.value
        states = [one for _, one in self._found.states if one is not None]
        if any(_is(record, parked.origin.position, parked.origin) for one in states for parked in one.parked):
            return Became.PARKED, "it waits for its order to be placed"
        if isinstance(event_id, str) and (topic, event_id) in seen:
            return Became.DUPLICATE, f"event_id was seen at {seen[topic, event_id]}"
        if state is not None and state.standing is Standing.UNPROTECTED:
            return Became.IGNORED, IgnoredReason.UNPROTECTED.value
        if _moves_nothing(said):
            return Became.IGNORED, IgnoredReason.NOTHING_MOVED.value
        closing = topic in (Topic.REFUNDED, Topic.CANCELLED)
        if closing and state is not None and state.order is not None and state.order.cancelled_at_ms is not None:
            return Became.IGNORED, IgnoredReason.ORDER_CANCELLED.value
        key = KINDS[_EVENTS[topic][1]] + event_id if isinstance(event_id, str) else ""
        if state is not None and _is_absorbed(state, key, said):
            return Became.IGNORED, IgnoredReason.TOLD_BY_PAIRING.value
        if state is not None and key in state.event_keys:
            why = "it was taken, and what it became is not kept any more or was written at another time"
            return Became.UNKNOWN, why
        return Became.UNKNOWN, "no entry and no dead letter of it is kept, or they were written at another time"

    def _found_no_order(self, erasure: Record) -> bool:
        """Returns true if nothing of the order shows before this erasure, or nothing since another one."""
        for _, before in reversed(self._sources[: [one for _, one in self._sources].index(erasure)]):
            if self._letter_of(before) is None:
                return before.value is None
        tombstone = any(record.value is None for record, _ in self._found.states)
        return self._found.complete and not tombstone and not self._entries and not self._deliveries

    def _entries_of(self, record: Record) -> list[Record]:
        source = str(record.position)
        rekeyed = _rekeyed(record.topic)
        at = str(record.timestamp_ms)
        return [
            entry
            for entry in self._entries
            if (told := entry.header_text(HeaderName.SOURCE) or "") == source
            or (told.startswith(f"{rekeyed}/") and entry.header_text(HeaderName.OCCURRED_AT) == at)
        ]

    def _entry(self, record: Record) -> Happening:
        became, why = self._answered(record)
        facts: dict[str, Any] = {
            "entry_id": record.header_text(HeaderName.ENTRY_ID),
            "entry_type": record.header_text(HeaderName.ENTRY_TYPE),
            **place_of(record),
            "source": record.header_text(HeaderName.SOURCE),
            "became": became.value,
            "why": why,
            **_replay(record),
            "body": self._shown(json_of(record)),
        }
        return Happening(self._written_ms(record), Kind.ENTRY, facts)

    def _written_ms(self, record: Record) -> int | None:
        """Returns when a record was written. A copy that a replay made has its original's time, and was written at the
        time of its resolution."""
        of = replay_of(record)
        resolution = None if of is None else self._resolved.get(of)
        written_ms = time_of(record)
        return written_ms if resolution is None else max(written_ms or 0, resolution.at_ms)

    def _answered(self, record: Record) -> tuple[Became, str | None]:
        if (facts := self._letter_of(record)) is not None:
            return Became.DEAD_LETTERED, facts.reason
        entry_id = record.header_text(HeaderName.ENTRY_ID)
        if entry_id is not None and any(value.get("entry_id") == entry_id for _, value in self._deliveries):
            return Became.DELIVERED, None
        committed = self._found.committed.get(TopicPartition(record.topic, record.partition))
        if committed is None:
            return Became.WAITING, "nothing says that it was sent"
        if record.offset >= committed:
            return Became.WAITING, self._waits(record, "send is not done with it")
        newer = any(other.offset > record.offset for other in self._entries)
        if newer and record.header_text(HeaderName.ENTRY_TYPE) == "order":
            return Became.SUPERSEDED, "a newer snapshot of the order took its place"
        nothing = "neither a receipt nor a dead letter of it is kept, or they were written at another time"
        return Became.UNKNOWN, f"send is done with it, but {nothing}"

    def _waits(self, record: Record, what: str) -> str:
        why = self._found.waits.get(TopicPartition(record.topic, record.partition))
        return what if why is None else f"{what}: {why}"

    def _delivery(self, record: Record, value: Mapping[str, Any]) -> Happening:
        at_ms = value.get("delivered_at")
        names = ("entry_id", "entry_type", "status", "attempts", "event_id", "latency_ms")
        facts = {**place_of(record), **{name: value.get(name) for name in names}}
        return Happening(at_ms if isinstance(at_ms, int) else time_of(record), Kind.DELIVERY, facts)

    def _letter(self, record: Record, facts: LetterFacts) -> Happening:
        resolution = self._resolved.get(record.position)
        if resolution is not None and not may_be_of(resolution.at_ms, facts.last_failed_ms):
            resolution = None
        return Happening(
            facts.last_failed_ms or time_of(record),
            Kind.DEAD_LETTER,
            {
                **place_of(record),
                "origin": None if facts.origin is None else str(facts.origin),
                "stage": facts.stage or None,
                "reason": facts.reason,
                "message": self._message(facts),
                "http_status": facts.http_status,
                "error_code": facts.error_code,
                "validation_errors": [
                    error if self._personal else masked_message(error) for error in facts.validation_errors
                ],
                "delivery_count": facts.delivery_count,
                "first_failed_at": iso(facts.first_failed_ms),
                "resolution": "open" if resolution is None else resolution.how.value,
                **_replay(record),
            },
        )

    def _letter_of(self, record: Record) -> LetterFacts | None:
        """Returns the letter of a source record or an entry."""
        before = letter_head(record)  # its own headers, if it is a replayed letter
        replay_id = record.header_text(HeaderName.REPLAY_ID)
        for letter, facts in self._letters:
            if facts.origin is not None and _is(record, facts.origin, letter):
                return facts
            again = before is not None and facts.origin == before.origin
            if again and replay_id is not None and letter.header_text(HeaderName.REPLAY_ID) == replay_id:
                return facts
        return None

    def _resolution(self, letter: Position, resolution: Resolution) -> Happening:
        facts = {
            "letter": str(letter),
            "how": resolution.how.value,
            "by": resolution.by,
            "reason": resolution.reason or None,
            "replay_id": resolution.replay_id or None,
            "replay_count": resolution.replay_count,
            "entry_id": resolution.entry_id or None,
            "edit": None if resolution.edit is None else self._shown(resolution.edit),
        }
        return Happening(resolution.at_ms, Kind.RESOLUTION, facts)

    def _hold(self) -> Iterable[Happening]:
        record = self._found.hold
        hold = None if record is None else decode_hold(record.value or b"")
        if record is not None and hold is not None:
            facts = {**place_of(record), "entry_id": hold.entry_id, "reason": hold.reason, "replay_id": hold.replay_id}
            yield Happening(hold.since_ms, Kind.HOLD, facts)

    def _state(self) -> Iterable[Happening]:
        for record, state in self._found.states:
            if state is None:
                standing = "erased" if record.value is None else "unreadable"
                yield Happening(time_of(record), Kind.STATE, {**place_of(record), "standing": standing})
            else:
                yield Happening(state.touched_at_ms, Kind.STATE, {**place_of(record), **_standing(state, self._shown)})

    def _shown(self, value: Any) -> Any:
        return value if self._personal else masked(value)

    def _message(self, facts: LetterFacts) -> str:
        """A message of ours holds no customer data; a foreign one may quote the value."""
        ours = facts.family is Family.PROCESSOR
        return facts.message if ours or self._personal else masked_message(facts.message)


def _standing(state: OrderState, shown: Callable[[Any], Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "standing": state.standing.name.lower(),
        "events_taken": len(state.event_keys) + len(state.event_ids) + (state.order is not None),
        "parked": [str(parked.origin.position) for parked in state.parked],
    }
    order = state.order
    if order is None:
        return facts
    placed = order.placed
    customer, address = placed.customer, placed.billing_address
    return facts | {
        "placed_at": iso(placed.placed_at_ms),
        "cancelled_at": None if order.cancelled_at_ms is None else iso(order.cancelled_at_ms),
        "currency": placed.currency,
        "customer": shown({name: getattr(customer, name) for name in customer.__struct_fields__}),
        "billing_address": shown({name: getattr(address, name) for name in address.__struct_fields__}),
        "line_items": [
            {
                "id": line.id,
                "product_title": line.product_title,
                "ordered": line.quantity,
                "fulfilled": totals.told_fulfilled,
                "refunded": totals.told_refunded,
                "cancelled": totals.told_cancelled,
                "protects": None if line.protection is None else line.protection.protects_line_item_id,
            }
            for line, totals in zip(placed.line_items, state.totals, strict=True)
        ],
    }


def _moves_nothing(said: Mapping[str, Any]) -> bool:
    items = said.get("items")
    return isinstance(items, list) and not any(item["quantity"] for item in items)


def _is_absorbed(state: OrderState, key: str, said: Mapping[str, Any]) -> bool:
    """Returns true if an event made no entry because pairing had reported all of it."""
    pairings = () if state.order is None else state.order.pairings
    of = next((one for one in pairings if one.event == key), None)
    if of is None or of.added:
        return False
    said_units: int = sum(item["quantity"] for item in said.get("items", ()))
    return said_units == sum(one.quantity for one in of.absorbed)


def place_of(record: Record) -> dict[str, Any]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _replay(record: Record) -> dict[str, Any]:
    replay_id = record.header_text(HeaderName.REPLAY_ID)
    if replay_id is None:
        return {}
    count = record.header_text(HeaderName.REPLAY_COUNT) or ""
    return {"replay_id": replay_id, "replay_count": int(count) if count.isdecimal() else None}


def time_of(record: Record) -> int | None:
    return meant_ms(record.timestamp_ms) if record.timestamp_ms >= 0 else None


def json_of(record: Record) -> dict[str, Any]:
    """Returns a value of ours; empty if it is foreign."""
    try:
        found = msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _rekeyed(topic: str) -> str:
    """Returns the topic that rekey writes a shop's topic to, whole names; the same name if it writes to none."""
    for source, rekeyed in REKEYED.items():
        if topic.endswith(source):
            return topic.removesuffix(source) + rekeyed
    return topic


def _is(record: Record, origin: Position, copy: Record) -> bool:
    """Returns true if a copy is of this record, by its origin, or as rekey wrote it, which keeps value and time."""
    if origin == record.position:
        return True
    same = (copy.value, copy.timestamp_ms) == (record.value, record.timestamp_ms)
    return _rekeyed(record.topic) == origin.topic != record.topic and same
