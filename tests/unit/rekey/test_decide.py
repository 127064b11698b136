"""What one source record becomes: under its order ID, as it is, a repeat, or a dead letter."""

from __future__ import annotations

import pytest

from processor.errors import BadRecord, Fatal, RegistryOutage
from processor.letters.letter import letter_head
from processor.records import Headers, Outcome, Reason, Record, Stage
from processor.rekey.decide import Batch, Decider, Plan, Source
from processor.rekey.events import KnownEvents, place
from processor.sources.placements import by_murmur2

PLACED, FULFILLED = "orders.placed", "orders.fulfilled"
PARTITIONS = 7


def read(record: Record) -> tuple[str, bytes]:
    """A value is an order ID, a colon and the event."""
    value = record.value or b""
    if value == b"outage":
        raise RegistryOutage("down")
    order_id, colon, _ = value.partition(b":")
    if not colon:
        raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no event")
    return order_id.decode(), value


def plan(record_bytes_max: int = 1 << 20, letter_bytes_max: int = 1 << 20) -> Plan:
    return Plan(
        group="hakuna-processor.rekey",
        sources={PLACED: Source(0, f"r.{PLACED}", read), FULFILLED: Source(1, f"r.{FULFILLED}", read)},
        partitions=PARTITIONS,
        dead_letters="orders.dead-letters",
        record_bytes_max=record_bytes_max,
        letter_bytes_max=letter_bytes_max,
    )


def record(
    value: bytes | None,
    key: bytes | None = b"any",
    *,
    topic: str = PLACED,
    partition: int = 11,
    offset: int = 5,
    headers: Headers | None = None,
) -> Record:
    return Record(topic, partition, offset, 1_700_000_000_123, key, value, headers or [("shop", b"1")])


def decided(*records: Record, known: KnownEvents | None = None, of: Plan | None = None) -> Batch:
    batch = Batch(42)
    decider = Decider(of or plan(), known or KnownEvents())
    for one in records:
        decider.take(one, batch)
    return batch


def test_value_headers_and_time_stay_and_the_key_is_the_order_id_of_the_value() -> None:
    batch = decided(record(b"ord-1:placed"))
    (out,) = batch.outgoing
    assert (out.topic, out.partition, out.key) == (f"r.{PLACED}", by_murmur2(b"ord-1", PARTITIONS), b"ord-1")
    assert (out.value, out.headers, out.timestamp_ms) == (b"ord-1:placed", [("shop", b"1")], 1_700_000_000_123)
    assert batch.written.records == {(PLACED, Outcome.TRANSFORMED): 1}
    assert batch.next_offsets == {(PLACED, 11): 6}


@pytest.mark.parametrize("key", [b"ord-1", b'"ord-1"', b"\x00\x00\x00\x00\x07\x0aord-1"])
def test_an_erasure_goes_where_its_order_is_by_any_key_that_is_recognised(key: bytes) -> None:
    (out,) = decided(record(None, key)).outgoing
    assert (out.key, out.value, out.partition) == (b"ord-1", None, by_murmur2(b"ord-1", PARTITIONS))


def test_an_erasure_whose_key_is_avro_by_a_header_goes_where_its_order_is() -> None:
    (out,) = decided(record(None, b'"ord-42-0000000001', headers=[("__key_schema_id", bytes(17))])).outgoing
    assert out.key == b"ord-42-0000000001"


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe\xfd", b" ord-1 "])
def test_an_erasure_by_any_other_key_is_a_letter_without_a_value(key: bytes | None) -> None:
    batch = decided(record(None, key))
    (out,) = batch.outgoing
    assert (out.topic, out.partition, out.key, out.value) == ("orders.dead-letters", 11 % PARTITIONS, key, None)
    head = letter_head(Record(out.topic, out.partition, 0, out.timestamp_ms, out.key, out.value, out.headers))
    assert head is not None
    assert (head.stage, head.reason, head.origin) == (Stage.TRANSFORM, Reason.KEY_MISMATCH, (PLACED, 11, 5))
    assert batch.dead == [True]


@pytest.mark.parametrize(("key", "partition"), [(b"old", by_murmur2(b"old", PARTITIONS)), (None, 4), (b"", 4)])
@pytest.mark.parametrize("value", [b"no event", b":without an order ID"])
def test_what_has_no_order_id_goes_on_as_it_is(value: bytes, key: bytes | None, partition: int) -> None:
    (out,) = decided(record(value, key)).outgoing
    assert (out.topic, out.key, out.value, out.partition) == (f"r.{PLACED}", key, value, partition)


def test_the_same_event_from_another_place_is_a_repeat_in_a_batch_and_after_it() -> None:
    first, again = record(b"ord-1:placed"), record(b"ord-1:placed", partition=2, offset=0)
    batch = decided(first, again)
    assert len(batch.outgoing) == 1
    assert batch.written.records == {(PLACED, Outcome.TRANSFORMED): 1, (PLACED, Outcome.DUPLICATE): 1}
    assert batch.consumed[PLACED, 2] == 1, "a repeat is consumed"
    known = KnownEvents()
    known.add(batch.events)
    assert not decided(again, known=known).outgoing


def test_the_same_bytes_of_another_topic_or_from_the_same_place_are_no_repeat() -> None:
    known = KnownEvents()
    known.add(decided(record(b"ord-1:x")).events)
    assert decided(record(b"ord-1:x", topic=FULFILLED), known=known).outgoing
    assert decided(record(b"ord-1:x"), known=known).outgoing, "the group was set back"


def test_other_bytes_under_the_same_event_id_are_transforms_to_judge() -> None:
    assert len(decided(record(b"ord-1:e1 v1"), record(b"ord-1:e1 v2", offset=6)).outgoing) == 2


def test_a_replayed_record_passes_whatever_is_known() -> None:
    known = KnownEvents()
    known.add(decided(record(b"ord-1:x")).events)
    assert decided(record(b"ord-1:x", offset=9, headers=[("replay-id", b"r")]), known=known).outgoing


def test_what_is_too_large_to_be_written_is_a_letter_if_need_be_without_its_value() -> None:
    large = record(b"ord-1:" + b"x" * 4000)
    (out,) = decided(large, of=plan(record_bytes_max=2000)).outgoing
    assert out.topic == "orders.dead-letters"
    assert out.value == large.value
    (out,) = decided(large, of=plan(record_bytes_max=2000, letter_bytes_max=2000)).outgoing
    assert (out.topic, out.key, out.value) == ("orders.dead-letters", large.key, None)
    large = record(b"ord-1:x", headers=[("blob", b"x" * 4000)])
    with pytest.raises(Fatal, match=r"raise its max\.message\.bytes"):
        decided(large, of=plan(record_bytes_max=2000, letter_bytes_max=2000))


def test_an_outage_of_the_registry_decides_nothing() -> None:
    batch = Batch(42)
    with pytest.raises(RegistryOutage):
        Decider(plan(), KnownEvents()).take(record(b"outage"), batch)
    assert not batch.records
    assert not batch.consumed


def test_places_are_told_apart() -> None:
    places = {place(rank, number, offset) for rank in range(5) for number in (0, 1, 99) for offset in (0, 1)}
    assert len(places) == 30
