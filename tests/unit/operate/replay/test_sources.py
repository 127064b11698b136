"""A letter that is sent again says what its source record said, or stays: a null is never written for it."""

from __future__ import annotations

import pytest

from processor.letters.families import letter_facts
from processor.letters.letter import Refusal, letter_headers, without_value
from processor.letters.patch import Unsendable
from processor.operate.replay import sources
from processor.operate.replay.copies import copy_of
from processor.operate.replay.sources import Sources, completed
from processor.records import Headers, Record, Stage, TopicPartition
from processor.topics import Topic
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.unit.letters import written_by_others as others
from tests.unit.operate.replay.world import reading_of


@pytest.fixture
def broker() -> FakeBroker:
    """Record 7 of orders.placed/1 is the one that every letter is of."""
    made = FakeBroker(FakeClock(others.REFUSED_MS))
    made.create(Topic.PLACED, partitions=2)
    other = Record(Topic.PLACED, 1, 0, others.WRITTEN_MS, b"other", b"other", [])
    for number in range(10):
        record = others.SOURCE if number == others.SOURCE.offset else other
        made.append(Topic.PLACED, 1, record.key, record.value, record.headers, record.timestamp_ms)
    return made


def sendable(broker: FakeBroker, letter: Record) -> Record | Unsendable:
    return completed(letter, letter_facts(letter), Sources(reading_of(broker, "sources")), Topic.OUTBOX)


def why(broker: FakeBroker, letter: Record) -> str:
    found = sendable(broker, letter)
    assert isinstance(found, Unsendable)
    return found.why


@pytest.mark.parametrize("letter", [others.SHARE_GROUP_BARE, *others.WHOLE.values()], ids=["bare", *others.WHOLE])
def test_what_is_written_for_another_tools_letter_is_its_source_record_again(
    broker: FakeBroker, letter: Record
) -> None:
    whole = sendable(broker, letter)
    assert isinstance(whole, Record)
    assert whole.position == letter.position
    copy = copy_of(whole, letter_facts(whole), TopicPartition(Topic.PLACED, 1), "r", whole.value)
    assert (copy.key, copy.value, copy.timestamp_ms) == (others.ORDER, others.VALUE, others.WRITTEN_MS)
    assert copy.headers[:-3] == others.ITS_OWN
    assert [name for name, _ in copy.headers[-3:]] == ["replay-id", "replay-count", "replay-of"]


def test_a_bare_letter_whose_source_record_is_gone_stays_and_one_with_a_copy_goes_as_it_is(broker: FakeBroker) -> None:
    broker.delete_before(Topic.PLACED, 1, 8)
    assert why(broker, others.SHARE_GROUP_BARE) == sources.GONE
    assert sendable(broker, others.SHARE_GROUP) == others.SHARE_GROUP


@pytest.mark.parametrize(("partition", "offset"), [(b"1", b"10"), (b"2", b"0"), (b"-1", b"0")])
def test_a_bare_letter_of_a_place_that_is_not_there_stays(broker: FakeBroker, partition: bytes, offset: bytes) -> None:
    moved = {"__dlq.errors.partition": partition, "__dlq.errors.offset": offset}
    letter = others.SHARE_GROUP_BARE
    headers = [(name, moved.get(name, value)) for name, value in letter.headers]
    found = why(broker, Record(letter.topic, 1, 0, letter.timestamp_ms, None, None, headers))
    assert found in (sources.GONE, sources.NOT_NAMED)


def test_a_bare_letter_that_does_not_name_its_record_stays(broker: FakeBroker) -> None:
    assert why(broker, Record("some.dlq", 0, 0, others.REFUSED_MS, None, None, [])) == sources.NOT_NAMED


def test_a_record_that_is_younger_than_the_letter_is_not_its_source(broker: FakeBroker) -> None:
    """The topic was deleted and made again since."""
    letter = others.SHARE_GROUP_BARE
    old_ms = others.WRITTEN_MS - sources.AHEAD_MS_MAX - 1
    assert why(broker, Record(letter.topic, 1, 0, old_ms, None, None, letter.headers)) == sources.ANOTHER


def test_a_copy_whose_place_has_another_record_now_takes_nothing_of_it(broker: FakeBroker) -> None:
    letter = others.SHARE_GROUP
    other = Record(letter.topic, 1, 1, letter.timestamp_ms, b"ord-8", letter.value, letter.headers)
    assert sendable(broker, other) == other


def test_another_tools_letter_of_an_erasure_is_no_erasure(broker: FakeBroker) -> None:
    broker.append(Topic.PLACED, 1, b"ord-9", None, [], others.WRITTEN_MS)
    headers = [(name, b"10" if name.endswith(".offset") else value) for name, value in others.WHOLE["connect"].headers]
    letter = Record("warehouse.dlq", 0, 0, others.WRITTEN_MS, b"ord-9", None, headers)
    assert why(broker, letter) == sources.NULL


def ours(source: Record) -> Record:
    refusal = Refusal(stage=Stage.TRANSFORM, reason="key_mismatch", message="", group="g", failed_ms=1)
    return Record("dead-letters", 1, 0, source.timestamp_ms, source.key, source.value, letter_headers(source, refusal))


def test_our_own_letter_of_an_erasure_goes_back_as_one(broker: FakeBroker) -> None:
    erasure = ours(Record(Topic.PLACED, 1, 3, others.WRITTEN_MS, b'"ord-9"', None, []))
    assert sendable(broker, erasure) == erasure


def test_our_own_letter_without_a_key_and_a_value_stays(broker: FakeBroker) -> None:
    broker.append(Topic.PLACED, 1, None, None, [], others.WRITTEN_MS)
    keyless = ours(Record(Topic.PLACED, 1, 10, others.WRITTEN_MS, None, None, []))
    assert why(broker, keyless) == sources.NULL


def test_no_null_goes_to_the_outbox(broker: FakeBroker) -> None:
    assert why(broker, ours(Record(Topic.OUTBOX, 1, 3, others.WRITTEN_MS, b"ord-9", None, []))) == sources.NULL


def test_a_bare_letter_that_was_replayed_before_keeps_its_count(broker: FakeBroker) -> None:
    headers = [*others.ITS_OWN, ("replay-id", b"r"), ("replay-count", b"2"), ("__dlq.errors.reason", b"held")]
    broker.append(Topic.PLACED, 1, others.ORDER, others.VALUE, headers, others.WRITTEN_MS)
    letter = others.SHARE_GROUP_BARE
    again = [(name, b"10" if name.endswith(".offset") else value) for name, value in letter.headers]
    whole = sendable(broker, Record(letter.topic, 1, 0, letter.timestamp_ms, None, None, again))
    assert isinstance(whole, Record)
    copy = copy_of(whole, letter_facts(whole), TopicPartition(Topic.PLACED, 1), "r", whole.value)
    assert dict(copy.headers)["replay-count"] == b"3"
    assert "__dlq.errors.reason" not in dict(copy.headers)


def of_ours(record: Record, value_left_out: bool) -> Record:
    refusal = Refusal(stage=Stage.SEND, reason="product_unsupported", message="no", group="g", failed_ms=5)
    headers = letter_headers(record, refusal)
    if value_left_out:
        headers = without_value(headers, record.value, Topic.HAKUNA_DEAD_LETTERS, 3000)
    value = None if value_left_out else record.value
    return Record(Topic.HAKUNA_DEAD_LETTERS, record.partition, 0, record.timestamp_ms, record.key, value, headers)


def test_a_letter_of_ours_that_did_not_fit_goes_again_with_the_value_of_its_source(broker: FakeBroker) -> None:
    broker.create(Topic.OUTBOX)
    own: Headers = [("entry-id", b"e1"), ("entry-type", b"order_placed")]
    offset = broker.append(Topic.OUTBOX, 0, b"o1", b"{}", own)
    entry = Record(Topic.OUTBOX, 0, offset, 5, b"o1", b"{}", own)
    whole = sendable(broker, of_ours(entry, value_left_out=True))
    assert isinstance(whole, Record)
    assert (whole.key, whole.value, whole.headers[:2]) == (b"o1", b"{}", own)
    assert sendable(broker, of_ours(entry, value_left_out=False)) == of_ours(entry, value_left_out=False)
    another = Record(Topic.OUTBOX, 0, offset, 5, b"o1", b"{}", [("entry-id", b"e2")])
    assert why(broker, of_ours(another, value_left_out=True)) == sources.ANOTHER
    broker.delete_before(Topic.OUTBOX, 0, 1)
    assert why(broker, of_ours(entry, value_left_out=True)) == sources.GONE
