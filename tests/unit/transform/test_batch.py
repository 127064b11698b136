"""What each record becomes in a transaction, before anything is written."""

from __future__ import annotations

import msgspec
import pytest

from processor.errors import BadRecord, Fatal, RegistryOutage, StateCorrupt
from processor.letters.letter import EXCEPTION, MESSAGE, VALUE_LEFT_OUT, LetterHead, letter_head
from processor.records import (
    Headers,
    IgnoredReason,
    OrderEvent,
    OrderId,
    Outcome,
    Position,
    Reason,
    Record,
    Stage,
    TopicPartition,
)
from processor.sources.keys import mismatch
from processor.transform.batch import Batch, Decider
from processor.transform.book import BOOK_KEY, Here, encode_book, new_book
from processor.transform.keyed_state import KeyedState
from processor.transform.order_state import encode
from tests.fakes.stores import DictStore
from tests.unit.order_events import AT_MS, DAY_MS, NOW_MS, ORDER, fulfilled, placed, product, refunded
from tests.unit.transform.histories import BYTES_MAX, after, plan, rules

TOPIC = "orders.x"

BOOK = new_book(Here("cluster", "changelog", 4))
NO_ORDERS = msgspec.structs.replace(BOOK, orders=0)


class Desk:
    """A decider, a state and the batch that it fills. `events` are what records decode to, by value."""

    def __init__(self, letter_limit: int = BYTES_MAX) -> None:
        self.events: dict[bytes, OrderEvent | Exception] = {}
        self.store = DictStore({})
        self.state = KeyedState(3, self.store, "id")
        self.batch = Batch(NOW_MS)
        self.offset = 0
        self.plan = plan({TOPIC: self._decode}, rules(), letter_limit)
        self.decider = Decider(self.plan)

    def _decode(self, record: Record) -> OrderEvent:
        assert record.value is not None
        event = self.events[record.value]
        if isinstance(event, Exception):
            raise event
        return event

    def take(
        self,
        event: OrderEvent | Exception | None,
        *,
        key: bytes | None = ORDER.encode(),
        headers: Headers | None = None,
        size: int = 0,
    ) -> Record:
        value = None
        if event is not None:
            value = b"%d" % self.offset + b"." * size
            self.events[value] = event
        record = Record(TOPIC, 3, self.offset, AT_MS, key, value, headers or [])
        self.offset += 1
        self.decider.take(record, self.state, self.batch)
        return record

    def commit(self) -> None:
        """As the loop does after a transaction."""
        self.state.changes(BOOK)
        self.state.commit(self.offset, NOW_MS)
        self.batch = Batch(NOW_MS)

    def taken(self, event: OrderEvent) -> Record:
        """In a transaction of its own, which is over."""
        record = self.take(event)
        self.commit()
        return record

    @property
    def heads(self) -> list[LetterHead]:
        records = [
            Record(one.topic, one.partition, 0, 0, one.key, one.value, one.headers) for one in self.batch.outgoing
        ]
        return [head for head in map(letter_head, records) if head is not None]

    @property
    def letters(self) -> list[str]:
        return [head.reason for head in self.heads]

    @property
    def entries(self) -> int:
        return sum(one.topic == "outbox" for one in self.batch.outgoing)


def test_an_applied_event_is_an_outbox_record_a_state_and_an_offset() -> None:
    desk = Desk()
    record = desk.take(placed(product("l")))
    (entry,) = desk.batch.outgoing
    assert (entry.topic, entry.partition, entry.key) == ("outbox", 3, ORDER.encode())
    assert desk.batch.next_offsets == {TopicPartition(TOPIC, 3): 1}
    assert desk.batch.records == [record]
    assert desk.batch.touched == {3: desk.state}
    assert desk.batch.written.records == {(TOPIC, Outcome.TRANSFORMED): 1}
    assert desk.batch.dead == [False]


def test_a_parked_event_is_state_alone_and_counts_when_it_leaves() -> None:
    desk = Desk()
    desk.take(fulfilled(("l", 1)))
    assert desk.batch.outgoing == []
    assert desk.batch.dead == []
    assert not desk.batch.written.records
    desk.take(placed(product("l")))
    assert desk.entries == 2
    assert desk.batch.written.records == {(TOPIC, Outcome.TRANSFORMED): 2}
    assert desk.batch.dead == [False, False]


def test_what_was_parked_before_the_topics_grew_goes_where_its_order_is_now() -> None:
    """Else an order's entries would stand in two partitions of the outbox, in no order."""
    before, desk = Desk(), Desk()
    before.state = KeyedState(1, before.store, "id")
    for event in (fulfilled(("l", 1), event_id="f1"), fulfilled(("l", 9), event_id="f2")):
        value = event.event_id.encode()
        before.events[value] = event
        record = Record(TOPIC, 1, 0, AT_MS, ORDER.encode(), value, [])
        before.decider.take(record, before.state, before.batch)
    desk.state.stage(ORDER, before.state.get(ORDER))  # `topics grow` has moved it
    desk.commit()
    desk.take(placed(product("l")))
    assert [(one.topic, one.partition) for one in desk.batch.outgoing] == [("outbox", 3), ("outbox", 3), ("dead", 3)]
    (origin,) = [head.origin for head in desk.heads]
    assert (origin.topic, origin.partition) == (TOPIC, 1)


def test_what_names_no_unit_is_counted_where_the_rest_is_taken() -> None:
    desk = Desk()
    desk.take(refunded(("l", 1), ("x", 0), ("y", 0)))
    assert not desk.batch.written.left_out, "it waits"
    desk.take(placed(product("l"), product("gone", 0)))
    assert desk.batch.written.left_out == {TOPIC: 3}
    desk.take(fulfilled(("l", 0)))
    desk.take(fulfilled(("l", 9), ("l", 0), event_id="bad"))
    assert desk.batch.written.left_out == {TOPIC: 3}, "ignored and refused as a whole"


def test_a_duplicate_is_counted_and_changes_nothing() -> None:
    desk = Desk()
    desk.taken(placed(product("l")))
    desk.take(placed(product("l")))
    assert desk.batch.written.records == {(TOPIC, Outcome.DUPLICATE): 1}
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.DUPLICATE): 1}
    assert (desk.batch.outgoing, desk.batch.touched) == ([], {})


def test_a_record_that_cannot_be_decoded_is_a_dead_letter_with_its_bytes() -> None:
    desk = Desk()
    bad = BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro")
    bad.__cause__ = EOFError()
    record = desk.take(bad, headers=[("trace", b"\xff"), ("trace", None)])
    (letter,) = desk.batch.outgoing
    assert (letter.topic, letter.partition, letter.key, letter.value) == ("dead", 3, record.key, record.value)
    assert letter.timestamp_ms == AT_MS
    assert letter.headers[:2] == record.headers
    (head,) = desk.heads
    assert (head.origin, head.stage, head.reason) == (record.position, "decode", "undecodable")
    assert (head.exception, head.message, head.group) == ("EOFError", "no Avro", "g")
    assert desk.batch.written.dead_letters == {(TOPIC, Stage.DECODE, Reason.UNDECODABLE): 1}
    assert desk.batch.dead == [True]


@pytest.mark.parametrize("key", [None, b"", b"ord-2", b"\xff"])
def test_a_key_that_is_not_the_order_id_is_a_mismatch(key: bytes | None) -> None:
    desk = Desk()
    desk.take(placed(product("l")), key=key)
    assert desk.letters == [Reason.KEY_MISMATCH]
    assert not desk.batch.touched
    (head,) = desk.heads
    assert head.message == mismatch(key, ORDER)


@pytest.mark.parametrize("field", ["event_id", "order_id"])
def test_an_event_without_identity_is_undecodable_and_the_field_is_named(field: str) -> None:
    """Two events without an ID would be one event, and an order without one would be everybody's."""
    desk = Desk()
    desk.take(msgspec.structs.replace(fulfilled(("l", 1)), **{field: ""}), key=b"" if field == "order_id" else b"ord-1")
    (head,) = desk.heads
    assert (head.stage, head.reason) == (Stage.DECODE, Reason.UNDECODABLE)
    assert head.message.startswith(f"{field} is empty")
    assert not desk.batch.touched


def test_an_outage_of_the_registry_leaves_no_trace_of_its_record() -> None:
    desk = Desk()
    with pytest.raises(RegistryOutage):
        desk.take(RegistryOutage("down"))
    assert not desk.batch
    assert not desk.batch.next_offsets


def test_a_corrupt_store_leaves_no_trace_of_its_record() -> None:
    desk = Desk()
    desk.store.contents[b"o" + ORDER.encode()] = b"rubbish"
    with pytest.raises(StateCorrupt):
        desk.take(placed(product("l")))
    assert not desk.batch


def test_a_null_value_erases_the_order_and_sends_nothing() -> None:
    desk = Desk()
    desk.taken(placed(product("l")))
    desk.take(None)
    assert list(desk.state.changes(BOOK)) == [(ORDER.encode(), None), (BOOK_KEY, encode_book(NO_ORDERS))]
    assert desk.batch.outgoing == []
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.ERASED): 1}


def test_an_erasure_lets_parked_events_go_with_the_order() -> None:
    desk = Desk()
    desk.taken(fulfilled(("l", 1)))
    desk.take(None)
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.ERASED): 2}
    assert desk.state.get(ORDER) is None


BAD_KEYS = {
    "no key at all": None,
    "a key of no bytes": b"",
    "a Confluent Avro string of schema 7, order ord-1": b"\x00\x00\x00\x00\x07\x0aord-1",
    "a JSON string, order ord-1": b'"ord-1"',
    "a JSON object, order ord-1": b'{"order_id":"ord-1"}',
    "UTF-16 text, order ord-1": "ord-1".encode("utf-16"),
    "text with blanks or marks around it, order ord-1": b"ord-1 ",
    "3 bytes that are no UTF-8": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("what", BAD_KEYS)
def test_an_erasure_under_a_key_that_is_no_order_id_is_a_letter_and_erases_nothing(what: str) -> None:
    """Its order, with name and e-mail, stays where it is: somebody has to hear of that."""
    desk = Desk()
    desk.state.stage(ORDER, after(placed(product("l"))))
    desk.commit()
    desk.take(None, key=BAD_KEYS[what])
    (letter,) = desk.batch.outgoing
    assert (letter.key, letter.value) == (BAD_KEYS[what], None)
    (head,) = desk.heads
    assert (head.stage, head.reason) == ("transform", "key_mismatch")
    assert head.message.startswith(f"the record's key is {what}; it has to be the order ID as plain UTF-8: ")
    assert not desk.batch.written.ignored
    assert not desk.batch.touched


def test_an_erasure_under_a_key_that_a_header_calls_avro_is_no_erasure_of_another_order() -> None:
    """`Hord-…` is text, and no order's."""
    desk = Desk()
    record = desk.take(None, key=b"\x22" + b"ord-42-0000000001", headers=[("apicurio.key.globalId", bytes(8))])
    assert record.key == b'"ord-42-0000000001', "a length that is a quotation mark"
    assert len(desk.batch.outgoing) == 1
    (head,) = desk.heads
    assert head.reason == "key_mismatch"
    assert "order ord-42-0000000001; it has to be the order ID as plain UTF-8" in head.message
    assert not desk.batch.written.ignored


def test_an_erasure_that_finds_parked_events_where_the_order_does_not_live_has_not_found_it() -> None:
    desk = Desk()
    desk.decider = Decider(desk.plan, lambda key, number: True)
    desk.taken(fulfilled(("l", 1)))
    record = desk.take(None)
    assert desk.state.get(ORDER) is None
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.ERASED): 1, (TOPIC, IgnoredReason.ERASURE_UNKNOWN): 1}
    assert desk.batch.astray == [record.position]
    assert desk.batch.written.astray == {TOPIC: 1}
    desk.commit()
    desk.take(placed(product("l")))
    desk.take(None)
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.ERASED): 1}, "the order was here after all"
    assert desk.batch.astray == []


def test_an_order_whose_id_looks_like_json_is_erased_by_just_that_key() -> None:
    desk = Desk()
    desk.state.stage(OrderId('"ord-1"'), after(placed(product("l"))))
    desk.commit()
    desk.take(None, key=b'"ord-1"')
    assert desk.batch.outgoing == []
    assert list(desk.state.changes(BOOK)) == [(b'"ord-1"', None), (BOOK_KEY, encode_book(NO_ORDERS))]


@pytest.mark.parametrize("key", [b"ord-2", b"ORD-1"])
def test_an_erasure_that_finds_no_order_is_only_counted_as_such(key: bytes) -> None:
    desk = Desk()
    for order_id in ("", "\ufffd"):
        desk.state.stage(OrderId(order_id), after(placed(product("l"))))
    desk.commit()
    desk.take(None, key=key)
    assert desk.batch.written.ignored == {(TOPIC, IgnoredReason.ERASURE_UNKNOWN): 1}
    assert not desk.batch.touched


def test_an_event_parked_for_too_long_is_a_dead_letter_of_its_own_record() -> None:
    desk = Desk()
    record = desk.taken(fulfilled(("l", 1)))
    desk.batch.now_ms = NOW_MS + DAY_MS + 1
    desk.decider.expire(ORDER, desk.state, desk.batch)
    (letter,) = desk.batch.outgoing
    (head,) = desk.heads
    assert (head.reason, head.origin) == (Reason.ORDER_UNKNOWN, record.position)
    assert (letter.key, letter.value) == (record.key, record.value)
    assert desk.batch.records == [], "it was consumed when it was parked"
    assert desk.state.get(ORDER) is None


@pytest.mark.parametrize("then", [None, placed(product("l"))], ids=["erased", "placed"])
def test_an_order_that_left_in_this_very_batch_is_not_expired_once_more(then: OrderEvent | None) -> None:
    desk = Desk()
    desk.taken(fulfilled(("l", 1)))
    desk.take(then)
    written = list(desk.batch.outgoing)
    desk.batch.now_ms = NOW_MS + DAY_MS + 1
    desk.decider.expire(ORDER, desk.state, desk.batch)
    assert desk.batch.outgoing == written


def test_an_order_whose_retention_is_over_is_forgotten() -> None:
    desk = Desk()
    desk.taken(placed(product("l")))
    assert desk.state.stale(2**62, b"", 10)[0] == [ORDER]
    desk.decider.forget(ORDER, desk.state, desk.batch)
    assert bool(desk.batch)
    assert list(desk.state.changes(BOOK)) == [(ORDER.encode(), None), (BOOK_KEY, encode_book(NO_ORDERS))]


def large_order(size: int) -> OrderEvent:
    return placed(product("l" * size))


def test_an_event_whose_request_cannot_be_written_is_too_large() -> None:
    desk = Desk()
    desk.take(large_order(BYTES_MAX), size=BYTES_MAX // 2)
    assert desk.letters == [Reason.TOO_LARGE]
    assert not desk.batch.touched


def test_headers_count_as_much_as_the_value() -> None:
    """They go onto the outbox record, and into the state of a parked event."""
    for event in (placed(product("l")), fulfilled(("l", 1))):
        desk = Desk(letter_limit=1 << 30)
        desk.take(event, headers=[("blob", b"x" * BYTES_MAX)])
        assert desk.letters == [Reason.TOO_LARGE]


def test_an_event_too_large_to_be_parked_safely_is_refused_while_it_is_alone() -> None:
    desk = Desk()
    desk.take(fulfilled(("l" * 60_000, 1)), size=BYTES_MAX // 16)
    assert desk.letters == [Reason.TOO_LARGE]


def test_an_order_that_grows_event_by_event_stays_writable() -> None:
    """No event of it is large. Were the last ones taken, no transaction with this order could ever be written."""
    desk = Desk()
    ident = "l" * 10_000
    desk.take(placed(product(ident, 1000)), size=10_000)
    for number in range(300):
        desk.take(fulfilled((ident, 1), event_id=f"e{number}"), size=10_000)
        if number % 50 == 49:
            assert all(len(value or b"") <= BYTES_MAX for _, value in desk.state.changes(BOOK))
            desk.commit()
    known = desk.state.get(ORDER)
    assert known is not None
    assert known.order is not None
    assert 60 < len(known.order.fulfilments) < 110
    desk.take(fulfilled((ident, 1), event_id="once more"), size=10_000)
    assert desk.letters == [Reason.TOO_LARGE]
    assert len(encode(known)) <= BYTES_MAX


def test_a_dead_letter_that_its_topic_does_not_take_goes_without_its_value() -> None:
    desk = Desk(letter_limit=10_000)
    record = desk.take(BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro"), size=10_000)
    assert desk.letters == [Reason.TOO_LARGE]
    (letter,) = desk.batch.outgoing
    said = dict(letter.headers)
    assert (letter.key, letter.value, said[EXCEPTION]) == (record.key, None, VALUE_LEFT_OUT.encode())
    message = (said[MESSAGE] or b"").decode()
    assert message.startswith("undecodable: no Avro")
    assert "max.message.bytes is 10000" in message


def test_a_dead_letter_that_no_topic_takes_ends_the_process() -> None:
    desk = Desk(letter_limit=10_000)
    with pytest.raises(Fatal, match=r"raise its max\.message\.bytes"):
        desk.take(BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro"), headers=[("blob", b"x" * 10_000)])


def test_a_batch_knows_about_how_large_it_is() -> None:
    desk = Desk()
    desk.take(placed(product("l" * 5_000)), size=1_000)
    assert 6_000 < desk.batch.bytes < 13_000
    desk.take(BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro"), size=50_000)
    assert desk.batch.bytes > 106_000


def test_a_replayed_record_that_is_refused_again_does_not_count_as_a_flood() -> None:
    desk = Desk()
    desk.take(BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro"), headers=[("replay-id", b"r")])
    assert desk.letters == [Reason.UNDECODABLE]
    assert desk.batch.dead == []
    assert sum(desk.batch.written.replayed.values()) == 1


def test_a_letter_keeps_where_it_came_from_first() -> None:
    """A dead letter that is replayed as it was and refused again."""
    desk = Desk()
    bad = BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro")
    desk.take(bad)
    headers = desk.batch.outgoing[0].headers
    desk.take(bad, headers=headers)
    _, head = desk.heads
    assert head.origin == Position(TOPIC, 3, 0)
