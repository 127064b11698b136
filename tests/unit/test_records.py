"""Avro's fields become order events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from processor.edges.avro import reader_schema
from processor.edges.avro_schema import Record, parse
from processor.records import (
    SHAPES,
    Address,
    Customer,
    LineItem,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    Movement,
    OrderCancelled,
    OrderEvent,
    OrderId,
    OrderPlaced,
    Protection,
)
from processor.topics import ORDER_TOPICS, Topic
from tests.support.order_events import order_event

LINE = {"id": "l", "quantity": 2, "price_amount": 9, "product_id": "p", "product_title": "t", "product_brand": "b"}
PLAN = LINE | {"id": "i", "price_amount": 1, "product_id": "q", "product_title": "u", "product_brand": "Hakuna"}
PLACED: Mapping[str, Any] = {
    "event_id": "e",
    "order_id": "o",
    "placed_at": 5,
    "currency": "EUR",
    "customer": {"first_name": "Max", "last_name": None, "email": "m@example.com", "phone": None},
    "billing_address": {"address_line_1": "a", "address_line_2": None, "city": None, "zip": "1", "country": "DE"},
    "line_items": [
        LINE | {"protection": None},
        PLAN | {"protection": {"protects_line_item_id": "l", "offer_id": "of", "plan_id": None}},
    ],
}
O_ID = OrderId("o")
MAX, ADDRESS = Customer("Max", None, "m@example.com", None), Address("a", None, None, "1", "DE")
LINES = (LineItem("l", 2, 9, "p", "t", "b", None), LineItem("i", 2, 1, "q", "u", "Hakuna", Protection("l", "of", None)))
MOVED = (Movement("l", 1, 1), Movement("l", 1, 2))


def movements(at: str, *at_ms: int) -> Mapping[str, Any]:
    items = [{"line_item_id": "l", "quantity": 1, at: ms} for ms in at_ms]
    return {"event_id": "e", "order_id": "o", "items": items}


@pytest.mark.parametrize(
    ("topic", "fields", "event"),
    [
        (Topic.PLACED, PLACED, OrderPlaced("e", O_ID, 5, "EUR", MAX, ADDRESS, LINES)),
        (Topic.FULFILLED, movements("fulfilled_at", 1, 2), LineItemsFulfilled("e", O_ID, MOVED)),
        (Topic.REFUNDED, movements("refunded_at", 1, 2), LineItemsRefunded("e", O_ID, MOVED)),
        (Topic.LINE_ITEMS_CANCELLED, movements("cancelled_at", 1, 2), LineItemsCancelled("e", O_ID, MOVED)),
        (Topic.CANCELLED, {"event_id": "e", "order_id": "o", "cancelled_at": -3}, OrderCancelled("e", O_ID, -3)),
    ],
)
def test_every_topic_has_its_event(topic: Topic, fields: Mapping[str, Any], event: OrderEvent) -> None:
    assert order_event(topic, fields) == event


@pytest.mark.parametrize("topic", ORDER_TOPICS)
def test_every_record_of_a_schema_has_a_struct_with_its_fields_in_its_order(topic: Topic) -> None:
    """`placed_at` is `placed_at_ms`, and whatever moves is moved `at_ms`: the names of times alone differ."""
    records = [one for one in parse(reader_schema(topic)).named.values() if isinstance(one, Record)]
    assert records
    for record in records:
        shape: Any = SHAPES[record.name]
        times = {"fulfilled_at": "at_ms", "refunded_at": "at_ms", "cancelled_at": "at_ms"} if shape is Movement else {}
        names = [times.get(one.name, one.name.replace("_at", "_at_ms")) for one in record.fields]
        assert names == list(shape.__struct_fields__)
