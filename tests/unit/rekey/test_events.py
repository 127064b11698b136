"""Which events were written: bounded, forgotten in order, told to others and read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.rekey import events
from processor.rekey.events import EventsTopic, KnownEvents, mark, packed, place, unpacked
from tests.fakes.broker import FakeBroker
from tests.fakes.kafka import FakeReader

TOPIC = "hakuna.rekeyed-events"
NUMBERS = st.integers(0, 2**64 - 1)


@given(st.dictionaries(NUMBERS, NUMBERS))
def test_what_is_packed_is_unpacked(some: dict[int, int]) -> None:
    assert unpacked(packed(some)) == some


@pytest.mark.parametrize("value", [None, b"x", b"123456789"])
def test_what_is_no_list_of_events_is_refused(value: bytes | None) -> None:
    with pytest.raises(ValueError, match="no list"):
        unpacked(value)


def test_the_first_place_stays_and_another_one_is_a_repeat() -> None:
    known = KnownEvents()
    known.add({1: 10})
    known.add({1: 20})
    assert not known.is_repeat(1, 10)
    assert known.is_repeat(1, 20)
    assert not known.is_repeat(2, 20)


def test_the_newest_are_remembered_and_no_more_than_two_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "REMEMBERED_MAX", 10)
    known = KnownEvents()
    for number in range(1000):
        known.add({number: number})
        assert len(known) <= 20
        assert known.is_repeat(max(0, number - 9), -1), "the last ten are always there"
    assert not known.is_repeat(0, -1)


def test_a_mark_says_how_far_a_source_partition_was_taken_and_is_no_event() -> None:
    known = KnownEvents()
    assert known.taken_to(1, 7) is None
    known.add({5: place(1, 7, 90), **dict([mark(1, 7, 91)])})
    known.add(dict([mark(1, 7, 40), mark(4, 131_071, 0)]))
    assert (known.taken_to(1, 7), known.taken_to(4, 131_071), known.taken_to(0, 7)) == (91, 0, None)
    assert len(known) == 1
    assert known.is_repeat(5, -1)


def test_a_digest_that_looks_like_a_mark_is_none_of_a_partition_that_its_event_is_not_in() -> None:
    known = KnownEvents()
    digest, _ = mark(1, 7, 0)
    known.add({digest: place(1, 8, 5)})
    assert known.is_repeat(digest, -1)
    assert known.taken_to(1, 7) is None


def side(count: int) -> tuple[FakeBroker, KnownEvents, EventsTopic]:
    """A broker with so many events told, and a worker that has read none of them."""
    broker, known = FakeBroker(), KnownEvents()
    broker.create(TOPIC, partitions=2)
    for number in range(count):
        broker.append(TOPIC, number % 2, None, packed({number: number}))
    return broker, known, EventsTopic(TOPIC, 2, FakeReader(broker, client_id="a"), broker.clock, known)


def test_a_worker_waits_until_it_has_read_what_was_there_and_then_goes_on_reading() -> None:
    broker, known, topic = side(5)
    assert not topic.read(), "nothing is known before it was asked for"
    topic.catch_up()
    while not topic.read():
        pass
    assert all(known.is_repeat(number, -1) for number in range(5))
    broker.append(TOPIC, 0, None, packed({77: 1}))
    assert topic.read(), "what comes later is waited for by nobody"
    assert known.is_repeat(77, -1)


def test_what_cannot_be_read_in_time_is_gone_on_without() -> None:
    broker, _, topic = side(1)
    broker.denied.add(TOPIC)
    topic.catch_up()
    assert not topic.read()
    broker.clock.advance(events.CATCH_UP_S_MAX)
    assert topic.read()


def test_what_was_deleted_before_it_was_read_is_passed_over() -> None:
    broker, known, topic = side(6)
    topic.catch_up()
    broker.delete_before(TOPIC, 0, 2)
    for _ in range(10):
        topic.read()
    assert topic.read()
    assert known.is_repeat(4, -1)


def test_a_record_of_somebody_else_is_left_out() -> None:
    broker, known, topic = side(0)
    broker.append(TOPIC, 0, None, b"not ours")
    broker.append(TOPIC, 0, None, packed({1: 1}))
    topic.catch_up()
    while not topic.read():
        pass
    assert known.is_repeat(1, -1)
