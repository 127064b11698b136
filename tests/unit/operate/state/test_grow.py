"""Where keys are once topics have more partitions, and who placed them. On a real Kafka: tests/chaos."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from processor.errors import Unusable
from processor.letters.resolutions import How, Resolution, encode_resolution, letter_of, resolution_key
from processor.operate.state.grow import Grower, Growth, family_of
from processor.operate.state.writing import Writing
from processor.records import Position, TopicPartition
from processor.sources.placements import JAVA, by_murmur2
from processor.transform.book import BOOK_KEY
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import Crash
from tests.fakes.kafka import FakeConsumer, FakeReader, FakeTransaction

KEYS = [f"order-{number}".encode() for number in range(200)]


def test_keys_go_where_their_producer_puts_them_and_stay_there() -> None:
    growth = Growth(2, 5, JAVA)
    for key in KEYS:
        home = growth.home(key, by_murmur2(key, 2))
        assert home == by_murmur2(key, 5)
        assert growth.home(key, home) == home, "given again, the command finds it at its place"


def test_a_key_that_was_not_where_its_producer_puts_keys_stays() -> None:
    growth = Growth(2, 5, JAVA)
    astray = [(key, 1 - by_murmur2(key, 2)) for key in KEYS if by_murmur2(key, 5) > 1]
    assert astray
    assert all(growth.home(key, at) == at for key, at in astray)


def test_who_places_keys_is_told_from_the_old_places_and_from_those_since_somebody_has_grown_the_topics() -> None:
    old = [(key, by_murmur2(key, 2)) for key in KEYS]
    both = old + [(key, by_murmur2(key, 5)) for key in KEYS[:50]]
    assert family_of(old, 2, 2) is JAVA
    assert family_of(both, 2, 5) is JAVA
    assert family_of([], 2, 2) is JAVA
    with pytest.raises(Unusable, match="not where one partitioner puts them"):
        family_of([(key, number % 7) for number, key in enumerate(KEYS)], 7, 7)


WAS, TO = 2, 5
CHANGELOG, HOLDS, LETTERS, RESOLUTIONS = "changelog", "holds", "letters", "resolutions"


def installation() -> FakeBroker:
    """Topics that have grown already: states, holds, and letters of which every third is resolved."""
    broker = FakeBroker(FakeClock())
    for topic in (CHANGELOG, HOLDS, LETTERS, RESOLUTIONS):
        broker.create(topic, partitions=TO)
    for number, key in enumerate(KEYS[:40]):
        at = by_murmur2(key, WAS)
        broker.append(CHANGELOG, at, key, b"an older state")
        broker.append(CHANGELOG, at, key, b"state %d" % number)
        if number % 2:
            broker.append(HOLDS, at, key, b"hold %d" % number)
        offset = broker.append(LETTERS, at, key, b"letter %d" % number, [("why", b"x")], timestamp_ms=1000 + number)
        if number % 3 == 0:
            end = encode_resolution(Resolution(how=How.DISCARDED, at_ms=1, by="somebody", reason="no"))
            broker.append(RESOLUTIONS, at, resolution_key(Position(LETTERS, at, offset)), end)
    for number in range(WAS):
        broker.append(CHANGELOG, number, BOOK_KEY, b"book")
    return broker


def grower_of(broker: FakeBroker, client_id: str) -> Grower:
    consumer = FakeConsumer(broker, group="nobody", client_id=client_id)
    transaction = FakeTransaction(broker, transactional_id="state", consumer=consumer)
    return Grower(FakeReader(broker, client_id=client_id), Writing(transaction, broker.clock), broker.clock, "test")


def grow(broker: FakeBroker, life: int) -> None:
    """One life of the command, as `steps.py` orders its steps; a crash ends it."""
    grower = grower_of(broker, f"life-{life}")
    growth = Growth(WAS, TO, JAVA)
    grower.states(CHANGELOG, growth)
    grower.keyed(HOLDS, growth)
    grower.letters(LETTERS, RESOLUTIONS, growth)
    assert grower.misplaced([CHANGELOG, HOLDS], growth) == []


def newest(broker: FakeBroker, topic: str) -> dict[tuple[bytes | None, int], bytes]:
    """By key and partition, what is left once the topic is compacted."""
    found: dict[tuple[bytes | None, int], bytes] = {}
    for record in broker.records(topic):
        found.pop((record.key, record.partition), None)
        if record.value is not None:
            found[record.key, record.partition] = record.value
    return found


def outcome(broker: FakeBroker) -> Any:
    """What an installation has after a growth, wherever its records stand within their partitions."""
    resolved = {letter_of(record.key or b"") for record in broker.records(RESOLUTIONS)}
    letters = sorted(
        (one.partition, one.key, one.value, one.timestamp_ms, tuple(one.headers))
        for one in broker.records(LETTERS)
        if one.position not in resolved
    )
    return newest(broker, CHANGELOG), newest(broker, HOLDS), letters


def test_whatever_the_call_it_is_killed_at_given_again_it_ends_as_if_it_had_not_been(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("processor.operate.state.writing._RECORDS_MAX", 7)  # many transactions
    unhurt = installation()
    grow(unhurt, 0)
    states, holds, letters = wanted = outcome(unhurt)
    assert {at for (key, at) in states if key != BOOK_KEY} == set(range(TO))
    assert all(at == by_murmur2(key or b"", TO) for key, at in states if key != BOOK_KEY)
    assert len(holds) == 20
    assert len(letters) == 26
    calls = unhurt.points.reached
    assert calls > 100
    for at in range(1, calls + 1):
        broker = installation()
        broker.points.crash(at)
        with pytest.raises(Crash):
            grow(broker, 1)
        if at % 2:  # and a second time, a little later
            broker.points.crash(at // 2 + 1)
            with suppress(Crash):
                grow(broker, 2)
        broker.points.spare()
        grow(broker, 3)
        assert outcome(broker) == wanted, f"killed at call {at}"


def test_what_is_unread_keeps_the_order_of_its_topic_whatever_its_stamps_are() -> None:
    """Transform takes a topic by its offsets: of two placements of an order the later one in the topic counts."""
    broker = FakeBroker(FakeClock())
    broker.create("placed", partitions=TO)
    key = next(key for key in KEYS if by_murmur2(key, TO) != by_murmur2(key, WAS))
    at, to = by_murmur2(key, WAS), by_murmur2(key, TO)
    for value, stamp in ((b"first", 1_790_000_060_000), (b"second", 1_790_000_000_000), (b"third", 1_790_000_090)):
        broker.append("placed", at, key, value, timestamp_ms=stamp)
    grower = grower_of(broker, "one")
    where = TopicPartition("placed", at)
    assert grower.unread(["placed"], at, Growth(WAS, TO, JAVA), {where: 0}, {where: 3}) == 3
    assert [one.value for one in broker.records("placed", to)] == [b"first", b"second", b"third"]
