"""A letter goes back under its order ID, to the partition in which orders.placed has that order."""

from __future__ import annotations

import pytest

from processor.errors import BadRecord
from processor.letters.families import letter_facts
from processor.letters.letter import Refusal, letter_headers
from processor.letters.patch import Unsendable
from processor.operate.replay.rekeying import Home, Rekey
from processor.records import OrderEvent, Reason, Record, Stage
from processor.sources.placements import FAMILIES, Placement, explain
from tests.unit.order_events import ORDER, fulfilled

TOPIC = "orders.fulfilled"
KEYS = [b"ord-%05d" % number for number in range(200)]
OF = {family.name: family.of for family in FAMILIES}
JAVAS = explain([(key, OF["murmur2"](key, 12)) for key in KEYS], 12)
AVRO_KEY = b"\x00\x00\x00\x00\x07\x0aord-1"


def decode(record: Record) -> OrderEvent:
    assert record.topic == TOPIC
    if record.value == b"broken":
        raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, "no Avro")
    return fulfilled(("l", 1))


def home(
    key: bytes | None, value: bytes | None, reason: Reason = Reason.KEY_MISMATCH, placed: Placement = JAVAS
) -> Home | Unsendable | None:
    record = Record(TOPIC, 5, 9, 1, key, value, [])
    refusal = Refusal(stage=Stage.TRANSFORM, reason=reason, message="", group="g", failed_ms=1)
    letter = Record("orders.dead-letters", 5, 0, 1, key, value, letter_headers(record, refusal))
    return Rekey({TOPIC: decode}, placed).home(letter, letter_facts(letter))


LIVES = Home(ORDER.encode(), OF["murmur2"](ORDER.encode(), 12))


@pytest.mark.parametrize("key", [None, b"", AVRO_KEY, b"ORD-1", b"someone@example.org", b"\xff"])
def test_an_event_goes_under_the_order_id_of_its_value_to_where_the_order_lives(key: bytes | None) -> None:
    assert home(key, b"event") == LIVES


@pytest.mark.parametrize("reason", [Reason.ORDER_UNKNOWN, Reason.PARKED_TOO_MANY])
def test_a_misplaced_event_goes_to_where_its_order_lives(reason: Reason) -> None:
    assert home(ORDER.encode(), b"event", reason) == LIVES


def test_an_order_lives_where_the_producers_of_orders_placed_put_it() -> None:
    crc32 = explain([(key, OF["crc32"](key, 12)) for key in KEYS], 12)
    assert home(AVRO_KEY, b"event", placed=crc32) == Home(ORDER.encode(), OF["crc32"](ORDER.encode(), 12))
    assert home(AVRO_KEY, b"event", placed=explain([], 12)) == LIVES, "nobody has placed an order: as Java's would"


def test_where_nobody_knows_where_orders_live_the_letter_stays() -> None:
    unknown = explain([(key, sum(key) * 7 % 12) for key in KEYS], 12)
    stays = home(AVRO_KEY, b"event", placed=unknown)
    assert isinstance(stays, Unsendable)
    assert "of orders.placed, 200 keys are placed by a partitioner that is not known" in stays.why


@pytest.mark.parametrize("key", [AVRO_KEY, b'"ord-1"', b"ord-1"])
def test_an_erasure_goes_under_the_order_that_its_key_can_only_mean(key: bytes) -> None:
    assert home(key, None) == LIVES


@pytest.mark.parametrize("key", [None, b"", "ord-1".encode("utf-16"), b"\xff"])
def test_an_erasure_whose_key_means_no_one_order_stays_and_says_so(key: bytes | None) -> None:
    stays = home(key, None)
    assert isinstance(stays, Unsendable)
    assert "it has to be the order ID" in stays.why


def test_a_letter_of_another_reason_goes_back_to_where_it_came_from() -> None:
    assert home(b"ord-1", b"event", Reason.QUANTITY_EXCEEDED) is None
    assert home(AVRO_KEY, b"broken", Reason.UNDECODABLE) is None


def test_a_letter_that_cannot_be_read_stays() -> None:
    stays = home(AVRO_KEY, b"broken")
    assert isinstance(stays, Unsendable)
    assert "no Avro" in stays.why
