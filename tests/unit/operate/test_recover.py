"""What is done by hand after a disaster: where a group is set back to, and which snapshots are sent again."""

from __future__ import annotations

import re

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.errors import BrokerOutage
from processor.interfaces import Committed
from processor.operate.recover import Move, Writes, moved_books, moves, snapshots, touched
from processor.records import HeaderName, Record, TopicPartition
from processor.send.kafka_thread.beginnings import LATE_MS, Book, Gap, decode_book, encode_book
from processor.topics import Topic
from processor.transform import order_state
from processor.transform.order_state import OrderState, Standing, Unheard
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.kafka import FakeReader
from tests.unit.order_events import NOW_MS, ORDER, placed, product
from tests.unit.transform.histories import after

WHERE = TopicPartition("t", 0)


def moved(was: int | None, begin: int, end: int, target: int | None) -> tuple[int, int]:
    (move,) = moves([WHERE], {WHERE: Committed(was, "")}, {WHERE: begin}, {WHERE: end}, {WHERE: target})
    return move.to, move.again


def test_a_group_is_set_back_and_says_how_much_it_reads_again() -> None:
    assert moved(was=100, begin=10, end=200, target=40) == (40, 60)


def test_a_group_is_never_set_forward() -> None:
    assert moved(was=100, begin=10, end=200, target=150) == (100, 0)
    assert moved(was=100, begin=10, end=200, target=None) == (100, 0)


def test_a_group_without_an_offset_is_set_where_it_was_asked_for() -> None:
    assert moved(was=None, begin=10, end=200, target=40) == (40, 0)
    assert moved(was=None, begin=10, end=200, target=None) == (200, 0)


def test_what_was_committed_of_a_topic_that_was_made_anew_counts_for_nothing() -> None:
    assert moved(was=5000, begin=0, end=3, target=0) == (0, 5000)
    assert moved(was=5000, begin=0, end=3, target=2) == (2, 4998)


@given(st.none() | st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.none() | st.integers(0, 50))
def test_the_offset_is_in_the_log_and_nothing_is_left_out(
    was: int | None, begin: int, size: int, target: int | None
) -> None:
    end = begin + size
    to, _ = moved(was, begin, end, target)
    assert begin <= to <= end
    if was is not None and begin <= was <= end:
        assert to <= was


def state(offset: int, key: bytes, value: OrderState | None) -> Record:
    return Record("changelog", 3, offset, NOW_MS, key, None if value is None else order_state.encode(value), [])


PLACED = after(placed(product("l", 2)))


def test_a_snapshot_is_the_feeds_of_today_under_an_id_of_its_bytes() -> None:
    (first,) = snapshots({b"ord-1": state(7, b"ord-1", PLACED)}, "outbox")
    assert orjson.loads(first.value or b"")["id"] == ORDER
    headers = dict(first.headers)
    assert headers[HeaderName.ENTRY_TYPE] == b"order"
    assert re.fullmatch(rb"feed/[0-9a-f]{32}~[0-9a-f]{12}", headers[HeaderName.ENTRY_ID] or b"")
    (elsewhere,) = snapshots({b"ord-1": state(9, b"ord-1", PLACED)}, "outbox")
    assert dict(elsewhere.headers)[HeaderName.ENTRY_ID] == headers[HeaderName.ENTRY_ID], "no place is in it"
    assert [first] == list(snapshots({b"ord-1": state(7, b"ord-1", PLACED)}, "outbox")), "the same again is the same"


def test_an_order_that_hakuna_is_not_told_of_is_left_out() -> None:
    unprotected = OrderState(Standing.UNPROTECTED, NOW_MS, None, (), ("pe",), (), Unheard((), (), None, ()))
    assert list(snapshots({b"ord-1": state(7, b"ord-1", unprotected)}, "outbox")) == []


def test_the_newest_state_counts_and_one_that_was_erased_or_is_too_old_does_not() -> None:
    broker = FakeBroker(FakeClock(NOW_MS))
    broker.create("changelog")
    where = TopicPartition("changelog", 0)

    def write(key: bytes, touched_ms: int | None) -> None:
        of_order = None if touched_ms is None else msgspec.structs.replace(PLACED, touched_at_ms=touched_ms)
        broker.append("changelog", 0, key, None if of_order is None else order_state.encode(of_order))

    write(b"old", NOW_MS - 1)
    write(b"moved", NOW_MS - 1)
    write(b"erased", NOW_MS)
    write(b"moved", NOW_MS)
    write(b"moved", NOW_MS + 1)
    write(b"erased", None)
    found = touched(FakeReader(broker, client_id="c"), broker.clock, where, 0, broker.ends([where])[where], NOW_MS)
    assert {key: record.offset for key, record in found.items()} == {b"moved": 4}


def test_what_was_not_acknowledged_is_an_outage_that_says_to_try_again() -> None:
    writes = Writes()
    writes.answer(None, 1)
    writes.answer("_MSG_TIMED_OUT: late", -1)
    says = "1 of 2 snapshots were written: _MSG_TIMED_OUT: late; give the command again"
    with pytest.raises(BrokerOutage, match=says):
        writes.all_there(2, lambda _seconds: 0)
    with pytest.raises(BrokerOutage, match="1 were not acknowledged"):
        Writes().all_there(1, lambda _seconds: 1)


def test_a_rewind_keeps_what_the_newest_book_says_and_not_what_one_says_that_arrived_after_it() -> None:
    """A worker that stood still for a session writes its book after its heir's."""
    gap = Gap(50_000, 4, 9)
    heirs, late = encode_book("here", "holds-2", 90, [], gap), encode_book("here", "holds-1", 50, [])
    records = [
        Record(Topic.SEND_OFFSETS, 3, 0, 60_000, b"3", heirs, []),
        Record(Topic.SEND_OFFSETS, 3, 1, 60_000 - LATE_MS - 1, b"3", late, []),
    ]
    moved = [Move(Topic.OUTBOX, number, 90, 10, 80) for number in (3, 4)]
    third, fourth = moved_books(Topic.SEND_OFFSETS, moved, {Topic.OUTBOX: "there"}, records)
    assert (third.topic, third.partition, third.key) == (Topic.SEND_OFFSETS, 3, b"3")
    assert decode_book(third.value or b"") == Book("there", "holds-2", 10, [], gap)
    assert decode_book(fourth.value or b"") == Book("there", None, 10, [], None), "it had no book"
