"""What each record of an order became, and why, told from the records alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from processor.errors import BadRecord, RegistryOutage
from processor.letters.holds import Hold, encode_hold
from processor.letters.letter import Refusal, letter_headers
from processor.letters.resolutions import How, Resolution, encode_resolution, resolution_key
from processor.operate.order import story
from processor.operate.order.gather import Found
from processor.operate.order.lines import line
from processor.operate.order.story import Fields, Happening, Kind
from processor.records import (
    Address,
    Customer,
    EntryId,
    Headers,
    LineItem,
    LineItemsFulfilled,
    Movement,
    Order,
    OrderId,
    OrderPlaced,
    Pairing,
    Reason,
    Record,
    Stage,
    TopicPartition,
)
from processor.topics import ORDER_TOPICS, Topic
from processor.transform.order_state import LineTotals, OrderState, ParkedEvent, Standing, Unheard
from tests.support.json_output import printed

T = 1_800_000_000_000
ORDER = OrderId("ord-1")
CUSTOMER = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com", "phone": None}
PLACED = OrderPlaced(
    "e-placed",
    ORDER,
    T,
    "EUR",
    Customer("Ada", "Lovelace", "ada@example.com", None),
    Address("Musterstr 1", None, "Köln", "50667", "DE"),
    (LineItem("l1", 3, 100, "p1", "Kettle", "X", None),),
)


def record(
    topic: str, offset: int, value: bytes | None = b"{}", *, at_ms: int = T, headers: Headers | None = None
) -> Record:
    return Record(topic, 0, offset, at_ms, ORDER.encode(), value, headers or [])


def event(topic: Topic, offset: int, event_id: str, *, at_ms: int = T, headers: Headers | None = None) -> Record:
    return record(topic, offset, json.dumps({"event_id": event_id}).encode(), at_ms=at_ms, headers=headers)


def entry(offset: int, source: Record, *, entry_type: str = "order_placed", headers: Headers | None = None) -> Record:
    own: Headers = [
        ("entry-id", f"events/{source.position}".encode()),
        ("entry-type", entry_type.encode()),
        ("source", str(source.position).encode()),
    ]
    body = json.dumps({"type": entry_type, "payload": {"customer": CUSTOMER}}).encode()
    return record(Topic.OUTBOX, offset, body, headers=own + (headers or []))


def letter(topic: Topic, offset: int, of: Record, reason: str = Reason.QUANTITY_EXCEEDED) -> Record:
    said, wrong = "refund of 9, but 2 remain", ("customer.email 'ada@example.com' is invalid",)
    refusal = Refusal(
        stage=Stage.TRANSFORM, reason=reason, message=said, group="g", failed_ms=T + 5, validation_errors=wrong
    )
    return record(topic, offset, of.value, headers=letter_headers(of, refusal))


def resolved(of: Record, resolution: Resolution) -> Record:
    key = resolution_key(of.position)
    return Record(Topic.RESOLUTIONS, 0, 0, T, key, encode_resolution(resolution), [])


def decoded(value: Record) -> Mapping[str, Any]:
    assert value.value is not None
    fields: dict[str, Any] = json.loads(value.value)
    return fields


FIELDS = dict.fromkeys(ORDER_TOPICS, decoded)


def found(*, state: OrderState | None = None, committed: int = 100, **topics: list[Record]) -> Found:
    known = Found(ORDER.encode(), 0, state=state)
    known.records = {Topic[name]: records for name, records in topics.items()}
    known.committed = {TopicPartition(topic, 0): committed for topic in (*ORDER_TOPICS, Topic.OUTBOX)}
    if state is not None:
        known.changelog = record(Topic.CHANGELOG, 1)
    return known


def placed_state(*, cancelled_at_ms: int | None = None, event_keys: tuple[str, ...] = ()) -> OrderState:
    order = Order(PLACED, cancelled_at_ms=cancelled_at_ms)
    return OrderState(Standing.PLACED, T + 9, order, (LineTotals(1, 0, 0, 1, 0, 0),), event_keys, ())


def tell(known: Found, fields: Mapping[Topic, Fields] = FIELDS, *, personal: bool = False) -> list[Happening]:
    """The timeline, which is what the README says of its JSON, whatever is in it."""
    told = story.tell(known, fields, personal=personal)
    printed("order", json.dumps({"order_id": "ord-1", "timeline": [one.as_json() for one in told]}))
    return told


def facts(known: Found, kind: Kind = Kind.EVENT) -> list[Mapping[str, Any]]:
    return [one.facts for one in tell(known) if one.kind is kind]


def became(known: Found, kind: Kind = Kind.EVENT) -> list[tuple[str, str | None]]:
    return [(one["became"], one["why"]) for one in facts(known, kind)]


def test_an_event_with_an_entry_was_transformed() -> None:
    source = event(Topic.PLACED, 3, "e1")
    (told,) = facts(found(PLACED=[source], OUTBOX=[entry(7, source)]))
    assert (told["became"], told["entries"]) == ("transformed", ["events/orders.placed/0/3"])


def test_an_event_with_a_letter_says_why() -> None:
    source = event(Topic.REFUNDED, 3, "e1")
    known = found(REFUNDED=[source], ORDER_DEAD_LETTERS=[letter(Topic.ORDER_DEAD_LETTERS, 0, source)])
    assert became(known) == [("dead_lettered", "quantity_exceeded: refund of 9, but 2 remain")]


def test_a_record_that_was_replayed_and_refused_again_finds_its_own_letter() -> None:
    """The second letter keeps the first one's origin."""
    first = event(Topic.REFUNDED, 3, "e1")
    letters = [letter(Topic.ORDER_DEAD_LETTERS, 0, first)]
    again = event(Topic.REFUNDED, 9, "e1", headers=[*letters[0].headers, ("replay-id", b"r1"), ("replay-count", b"1")])
    letters.append(letter(Topic.ORDER_DEAD_LETTERS, 1, again, Reason.ORDER_UNKNOWN))
    known = found(REFUNDED=[first, again], ORDER_DEAD_LETTERS=letters)
    assert [why.partition(":")[0] for _, why in became(known) if why] == ["quantity_exceeded", "order_unknown"]


def test_an_event_beyond_the_committed_offset_waits() -> None:
    known = found(PLACED=[event(Topic.PLACED, 3, "e1")], committed=3)
    assert became(known) == [("waiting", "transform has not taken it yet")]


def test_an_event_that_was_seen_before_is_a_duplicate_of_that_one() -> None:
    records = [event(Topic.FULFILLED, 1, "e1"), event(Topic.FULFILLED, 2, "e1", at_ms=T + 1)]
    known = found(FULFILLED=records, OUTBOX=[entry(0, records[0])])
    assert became(known)[1] == ("duplicate", "event_id was seen at orders.fulfilled/0/1")


def test_a_refused_event_is_not_seen_and_its_repetition_no_duplicate() -> None:
    records = [event(Topic.FULFILLED, 1, "e1"), event(Topic.FULFILLED, 2, "e1", at_ms=T + 1)]
    known = found(
        FULFILLED=records,
        OUTBOX=[entry(0, records[1])],
        ORDER_DEAD_LETTERS=[letter(Topic.ORDER_DEAD_LETTERS, 0, records[0])],
    )
    assert [one for one, _ in became(known)] == ["dead_lettered", "transformed"]


def test_the_events_of_an_order_are_counted() -> None:
    (state,) = facts(found(state=placed_state(event_keys=("fe2", "re3"))), Kind.STATE)
    assert state["events_taken"] == 3, "its placement, and two"


def test_a_parked_event_is_found_in_the_state() -> None:
    source = event(Topic.FULFILLED, 1, "e1")
    parked = ParkedEvent(LineItemsFulfilled("e1", ORDER, (Movement("l1", 1, T),)), source, T)
    state = OrderState(Standing.WAITING, T, None, (), (), (parked,))
    assert became(found(FULFILLED=[source], state=state)) == [("parked", "it waits for its order to be placed")]


def test_what_is_ignored_follows_from_the_state() -> None:
    unprotected = OrderState(Standing.UNPROTECTED, T, None, (), ("pe1",), (), Unheard((), (), None, ()))
    assert became(found(PLACED=[event(Topic.PLACED, 1, "e1")], state=unprotected)) == [("ignored", "unprotected")]
    cancelled = placed_state(cancelled_at_ms=T + 1)
    assert became(found(REFUNDED=[event(Topic.REFUNDED, 1, "e2")], state=cancelled)) == [("ignored", "order_cancelled")]


def test_what_moves_nothing_or_was_told_by_pairing_is_said_so() -> None:
    def refund(event_id: str, *quantities: int) -> Record:
        items = [{"line_item_id": "p", "quantity": quantity, "refunded_at": T} for quantity in quantities]
        value = json.dumps({"event_id": event_id, "items": items}).encode()
        return record(Topic.REFUNDED, 1, value)

    order = Order(PLACED, pairings=(Pairing("re1", (Movement("p", 2, T),), ()),))
    state = OrderState(Standing.PLACED, T, order, (LineTotals(),), ("re1", "re2"), ())
    assert became(found(REFUNDED=[refund("e1", 2, 0)], state=state)) == [("ignored", "told_by_pairing")]
    assert became(found(REFUNDED=[refund("e1", 3)], state=state))[0][0] == "unknown"
    for nothing in (refund("e2"), refund("e2", 0, 0)):
        assert became(found(REFUNDED=[nothing], state=state)) == [("ignored", "nothing_moved")]


def test_one_id_of_two_kinds_of_events_is_no_repetition() -> None:
    known = found(REFUNDED=[event(Topic.REFUNDED, 1, "e1")], CANCELLED=[event(Topic.CANCELLED, 2, "e1")])
    assert "duplicate" not in [one for one, _ in became(known)]


def test_a_null_value_is_an_erasure() -> None:
    placed, null = event(Topic.PLACED, 0, "e1"), record(Topic.PLACED, 1, None, at_ms=T + 1)
    assert became(found(PLACED=[placed, null]))[1] == ("erased", "erased")
    only_the_state_tells = found(PLACED=[null])
    only_the_state_tells.changelog = record(Topic.CHANGELOG, 1, None)
    assert became(only_the_state_tells) == [("erased", "erased")]
    assert became(found(PLACED=[null], OUTBOX=[entry(0, placed)])) == [("erased", "erased")]


UNKNOWN = ("ignored", "erasure_unknown: nothing shows of the order before it")


def test_a_null_value_that_found_no_order_is_not_said_to_have_erased_one() -> None:
    null = record(Topic.PLACED, 1, None, at_ms=T + 1)
    assert became(found(PLACED=[null])) == [UNKNOWN]
    later = event(Topic.FULFILLED, 1, "e2", at_ms=T + 2)
    assert became(found(PLACED=[null], FULFILLED=[later]))[0] == UNKNOWN
    placed, again = event(Topic.PLACED, 0, "e1"), record(Topic.CANCELLED, 1, None, at_ms=T + 2)
    assert became(found(PLACED=[placed, null], CANCELLED=[again]))[1:] == [("erased", "erased"), UNKNOWN]
    refused = found(PLACED=[placed, null], ORDER_DEAD_LETTERS=[letter(Topic.ORDER_DEAD_LETTERS, 0, placed)])
    assert became(refused)[1] == UNKNOWN


def test_where_not_all_was_searched_an_erasure_is_not_said_to_have_found_nothing() -> None:
    known = found(PLACED=[record(Topic.PLACED, 1, None)])
    known.complete = False
    assert became(known) == [("erased", "erased")]


def test_what_nothing_is_left_of_is_unknown_and_not_guessed() -> None:
    for event_id, keys, says in (("e1", ("pe1",), "it was taken"), ("e9", (), "no entry and no dead letter")):
        known = found(PLACED=[event(Topic.PLACED, 1, event_id)], state=placed_state(event_keys=keys))
        ((one, why),) = became(known)
        assert (one, (why or "").startswith(says)) == ("unknown", True), why


def test_a_value_that_cannot_be_decoded_is_told_without_it() -> None:
    def undecodable(_: Record) -> Mapping[str, Any]:
        raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no schema ID")

    source = record(Topic.PLACED, 1, b"garbage")
    (told,) = tell(found(PLACED=[source]), {Topic.PLACED: undecodable})
    assert told.facts["event_id"] is None
    assert "said" not in told.facts


def test_a_registry_that_does_not_answer_is_asked_once_and_noted() -> None:
    asked: list[Record] = []

    def silent(one: Record) -> Mapping[str, Any]:
        asked.append(one)
        raise RegistryOutage("the schema registry does not answer")

    known = found(PLACED=[event(Topic.PLACED, 1, "e1"), event(Topic.PLACED, 2, "e2")])
    assert len(tell(known, {Topic.PLACED: silent})) == 2
    assert len(asked) == 1
    assert known.notes == ["what the source records say cannot be shown: the schema registry does not answer"]


def receipt(offset: int, of: Record) -> Record:
    entry_id = dict(of.headers)["entry-id"] or b""
    value = {"entry_id": entry_id.decode(), "status": 201, "attempts": 2, "delivered_at": T + 50, "latency_ms": 50}
    return record(Topic.DELIVERIES, offset, json.dumps(value).encode())


def test_how_an_entry_ended() -> None:
    sources = [event(Topic.PLACED, number, f"e{number}") for number in range(4)]
    entries = [entry(number, source) for number, source in enumerate(sources)]
    known = found(
        OUTBOX=entries,
        DELIVERIES=[receipt(0, entries[0])],
        HAKUNA_DEAD_LETTERS=[letter(Topic.HAKUNA_DEAD_LETTERS, 0, entries[1], Reason.HELD)],
        committed=3,
    )
    assert [one for one, _ in became(known, Kind.ENTRY)] == ["delivered", "dead_lettered", "unknown", "waiting"]


def test_what_waits_says_why_as_far_as_anybody_knows() -> None:
    known = found(PLACED=[event(Topic.PLACED, 3, "e1")], OUTBOX=[entry(4, event(Topic.PLACED, 1, "e0"))], committed=3)
    why = "the quota, 30 a minute, since 2027-01-15T08:00:00.000Z"
    known.waits[TopicPartition(Topic.OUTBOX, 0)] = why
    assert became(known, Kind.ENTRY) == [("waiting", f"send is not done with it: {why}")]
    assert became(known) == [("waiting", "transform has not taken it yet")]


def test_a_snapshot_that_a_newer_one_replaced_is_superseded() -> None:
    sources = [event(Topic.PLACED, 0, "e0"), event(Topic.FULFILLED, 0, "e1")]
    entries = [entry(number, source, entry_type="order") for number, source in enumerate(sources)]
    known = found(OUTBOX=entries, DELIVERIES=[receipt(0, entries[1])])
    assert [one for one, _ in became(known, Kind.ENTRY)] == ["superseded", "delivered"]


def test_a_copy_that_was_replayed_has_an_end_of_its_own() -> None:
    source = event(Topic.PLACED, 0, "e0")
    refused, copy = entry(0, source), entry(5, source, headers=[("replay-id", b"r1"), ("replay-count", b"1")])
    known = found(
        OUTBOX=[refused, copy],
        DELIVERIES=[receipt(0, copy)],
        HAKUNA_DEAD_LETTERS=[letter(Topic.HAKUNA_DEAD_LETTERS, 0, refused)],
    )
    assert [one for one, _ in became(known, Kind.ENTRY)] == ["dead_lettered", "delivered"]


def test_a_replayed_entry_stands_after_its_refusal_and_an_edit_with_its_patch() -> None:
    """Its record bears the time of the one that was refused."""
    source = event(Topic.PLACED, 0, "e0")
    refused = entry(0, source)
    its_letter = letter(Topic.HAKUNA_DEAD_LETTERS, 0, refused)
    replayed: Headers = [("replay-id", b"r1"), ("replay-of", str(its_letter.position).encode())]
    copy = entry(5, source, headers=replayed)
    known = found(OUTBOX=[refused, copy], HAKUNA_DEAD_LETTERS=[its_letter])
    patch = {"payload": {"billing_address": {"country": "at", "city": "Wien"}}}
    resolution = Resolution(how=How.REPLAYED, at_ms=T + 30, by="ada", replay_id="r1", edit=patch)
    known.resolutions = [resolved(its_letter, resolution)]
    told = tell(known)
    assert [one.kind for one in told] == [Kind.ENTRY, Kind.DEAD_LETTER, Kind.ENTRY, Kind.RESOLUTION]
    _, _, words = line(told[-1], "")
    assert 'by ada; edited: {"payload": {"billing_address": {"country": "at", "city": "•••"}}}' in words
    assert "Wien" in line(tell(known, personal=True)[-1], "")[2]


def whole() -> Found:
    """An order with a line of every kind."""
    source = event(Topic.PLACED, 0, "e0")
    made = entry(0, source)
    refused = letter(Topic.HAKUNA_DEAD_LETTERS, 4, made)
    ends: dict[str, Any] = {"DELIVERIES": [receipt(0, made)], "HAKUNA_DEAD_LETTERS": [refused]}
    known = found(PLACED=[source], OUTBOX=[made], state=placed_state(), **ends)
    hold = Hold(ORDER, EntryId("events/orders.placed/0/0"), "product_unsupported", T + 6)
    known.hold = record(Topic.HOLDS, 0, encode_hold(hold))
    resolution = Resolution(how=How.DISCARDED, at_ms=T + 60, by="ada", reason="test order")
    known.resolutions = [resolved(refused, resolution)]
    return known


def test_the_timeline_is_in_time_and_holds_every_kind() -> None:
    told = tell(whole())
    assert {one.kind for one in told} == set(Kind)
    times = [one.at_ms for one in told]
    assert times == sorted(times, key=lambda at_ms: at_ms or 0)
    (refused,) = [one for one in told if one.kind is Kind.DEAD_LETTER]
    assert refused.facts["resolution"] == "discarded"


def test_every_happening_is_json_and_has_a_line() -> None:
    for one in tell(whole()):
        json.dumps(dict(one.facts))
        assert all(line(one, "")), line(one, "")


PERSONAL = ("Ada", "Lovelace", "ada@example.com", "Musterstr", "Köln", "50667")


def text_of(told: list[Happening]) -> str:
    return json.dumps([dict(one.facts) for one in told], ensure_ascii=False) + repr([line(one, "") for one in told])


def test_nothing_personal_is_shown_unless_it_is_asked_for() -> None:
    hidden = text_of(tell(whole()))
    assert not [text for text in PERSONAL if text in hidden]
    shown = text_of(tell(whole(), personal=True))
    assert not [text for text in PERSONAL if text not in shown]


def test_foreign_records_on_our_topics_are_no_crash() -> None:
    known = found(
        PLACED=[record(Topic.PLACED, 0, b"\xff", at_ms=-1)],
        OUTBOX=[record(Topic.OUTBOX, 0, b"[]"), record(Topic.OUTBOX, 1, None)],
        DELIVERIES=[record(Topic.DELIVERIES, 0, b"null"), record(Topic.DELIVERIES, 1, b"{")],
        HAKUNA_DEAD_LETTERS=[record(Topic.HAKUNA_DEAD_LETTERS, 0, b"x")],
    )
    known.hold = record(Topic.HOLDS, 0, b"no hold")
    known.resolutions = [record(Topic.RESOLUTIONS, 0, b"no resolution")]
    told = tell(known, {})
    assert len(told) == 6
    for one in told:
        json.dumps(dict(one.facts))
        line(one, "")
