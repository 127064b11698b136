"""The API documents' examples, exactly, from the bytes of a record to the bytes of the request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.schema import parse_schema

from processor.config import load
from processor.edges.avro import reader_schema
from processor.edges.avro_wire import SchemaId
from processor.hakuna import Api
from processor.records import Record
from processor.run.transform import decoders
from processor.topics import Topic
from processor.transform.batch import Batch, Decider
from processor.transform.keyed_state import KeyedState
from tests.fakes.stores import DictStore
from tests.unit.order_events import NOW_MS
from tests.unit.transform.histories import plan, rules

EXAMPLES = Path(__file__).parents[1] / "hakuna" / "examples"
TOPICS = (Topic.PLACED, Topic.FULFILLED, Topic.REFUNDED, Topic.LINE_ITEMS_CANCELLED, Topic.CANCELLED)
MOVED_MS = 1_645_447_874_158


def line(line_item_id: str, product_id: str, title: str, brand: str, price: int, protection: object = None) -> object:
    product = {"product_id": product_id, "product_title": title, "product_brand": brand}
    return {"id": line_item_id, "quantity": 1, "price_amount": price, **product, "protection": protection}


def address(first: str, second: str | None) -> Mapping[str, Any]:
    town = {"city": "Musterstadt", "zip": "123456", "country": "DE"}
    return {"address_line_1": first, "address_line_2": second, **town}


MAX = {"first_name": "Max", "last_name": "Mustermann", "email": "max.mustermann@example.com", "phone": None}
INSURED = {"protects_line_item_id": "line-item-id-3311", "offer_id": None, "plan_id": None}
PLACED: Mapping[str, Any] = {
    "event_id": "e-placed",
    "order_id": "ord-123",
    "placed_at": 1_645_315_200_000,
    "currency": "EUR",
    "customer": MAX,
    "billing_address": address("Musterstrasse", "1"),
    "line_items": [
        line("line-item-id-3311", "prd-iphone14", "iPhone 14", "Apple", 89_900),
        line("line-item-id-3322", "protection-item-id-323", "Hakuna.care protection", "HAKUNA", 8_499, INSURED),
        line("line-item-id-4411", "prd-airpods-gen3", "Airpods 3rd Generation", "Apple", 25_500),
    ],
}


def moved(at: str, *line_item_ids: str, order_id: str = "ord-123", at_ms: int = MOVED_MS) -> dict[str, Any]:
    items = [{"line_item_id": name, "quantity": 1, at: at_ms} for name in line_item_ids]
    return {"event_id": f"e-{at}", "order_id": order_id, "items": items}


def cancelled(order_id: str, at_ms: int) -> dict[str, Any]:
    return {"event_id": "e-cancelled", "order_id": order_id, "cancelled_at": at_ms}


class OneSchemaATopic:
    """A registry whose schema IDs are the topics' places."""

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None:
        assert isinstance(schema_id, int)
        return reader_schema(TOPICS[schema_id]), {}


class Line:
    """A partition's records on their way to the outbox."""

    def __init__(self, api: Api, *, fulfil_protection: bool = True) -> None:
        self.state = KeyedState(0, DictStore({}), "id")
        self.batch = Batch(NOW_MS)
        self.offset = 0
        of_topics = decoders(load({}), OneSchemaATopic())
        self.decider = Decider(plan(of_topics, rules(api, fulfil_protection=fulfil_protection)))

    def take(self, topic: Topic, event: Mapping[str, Any]) -> bytes:
        """The body of the request that this event becomes."""
        out = BytesIO()
        out.write(b"\x00" + TOPICS.index(topic).to_bytes(4, "big"))
        fastavro.schemaless_writer(out, parse_schema(json.loads(reader_schema(topic))), event)
        key = event["order_id"].encode()
        self.decider.take(Record(topic, 0, self.offset, 0, key, out.getvalue(), []), self.state, self.batch)
        self.offset += 1
        written = self.batch.outgoing[-1]
        assert written.topic == "outbox", written.headers
        assert written.value is not None
        return written.value


def example(name: str) -> bytes:
    """An example as it stands in the documents, but for the white space."""
    return json.dumps(json.loads((EXAMPLES / name).read_text()), separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("topic", "event", "name"),
    [
        (Topic.FULFILLED, moved("fulfilled_at", "line-item-id-3311", "line-item-id-4411"), "order_fulfillment_added"),
        (Topic.REFUNDED, moved("refunded_at", *(one["id"] for one in PLACED["line_items"])), "order_refund_added"),
        (Topic.LINE_ITEMS_CANCELLED, moved("cancelled_at", "line-item-id-3311"), "order_line_items_cancelled"),
        (Topic.CANCELLED, cancelled("ord-123", 1_645_369_200_000), "order_cancelled"),
    ],
)
def test_the_events_apis_examples(topic: Topic, event: Mapping[str, Any], name: str) -> None:
    way = Line(Api.EVENTS, fulfil_protection=False)
    assert way.take(Topic.PLACED, PLACED) == example("order_placed.json")
    assert way.take(topic, event) == example(f"{name}.json")


FEED_INSURED = {"protects_line_item_id": "prd-1234", "offer_id": "off-12345", "plan_id": "pl-54132"}
FEED_EMAIL = json.loads((EXAMPLES / "feed_placed.json").read_text())[0]["customer"]["email"]
FEED_PLACED: Mapping[str, Any] = {
    **PLACED,
    "order_id": "ord-XYZ-123",
    "placed_at": 1_669_377_053_593,
    "customer": {**MAX, "email": FEED_EMAIL, "phone": "+491601234567"},
    "billing_address": address("Musterstrasse 1", None),
    "line_items": [
        line("prd-1234", "prd-1234", "Banana", "Frutta", 10_000),
        line("hak-ext-12", "hak-ext-12", "1 year of warranty extension", "hakuNa", 1_200, FEED_INSURED),
    ],
}


def fed(body: bytes) -> bytes:
    return b"[" + body + b"]"


def test_the_order_feeds_examples() -> None:
    way = Line(Api.FEED)
    ids = {"order_id": "ord-XYZ-123"}
    assert fed(way.take(Topic.PLACED, FEED_PLACED)) == example("feed_placed.json")
    shipped = moved("fulfilled_at", "prd-1234", at_ms=1_667_493_412_562, **ids)
    assert fed(way.take(Topic.FULFILLED, shipped)) == example("feed_fulfilled.json")
    refund = moved("refunded_at", "prd-1234", at_ms=1_667_493_419_345, **ids)
    assert fed(way.take(Topic.REFUNDED, refund)) == example("feed_refunded.json")


def test_the_order_feeds_example_of_a_cancelled_order() -> None:
    way = Line(Api.FEED)
    way.take(Topic.PLACED, FEED_PLACED)
    off = cancelled("ord-XYZ-123", 1_669_380_517_455)
    assert fed(way.take(Topic.CANCELLED, off)) == example("feed_cancelled.json")
