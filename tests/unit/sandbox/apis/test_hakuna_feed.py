"""The stand-in for the Order feed takes what the reference shows and names what is wrong with everything else."""

from __future__ import annotations

import orjson
import pytest

from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.script import Script
from tests.unit.sandbox.apis.reference import FEED_ORDER, Json, cancelled, fulfilled, put, refunded, without
from tests.unit.sandbox.apis.test_hakuna_events import post, problems

PATH = "/feeds/order"


def moved(at: str, quantity: int) -> list[Json]:
    return [{"quantity": quantity, at: 1667493419345}]


@pytest.mark.parametrize(
    "order",
    [FEED_ORDER, cancelled(FEED_ORDER), fulfilled(FEED_ORDER), refunded(fulfilled(FEED_ORDER))],
    ids=["placed", "cancelled", "fulfilled", "refunded"],
)
@pytest.mark.parametrize("prefix", ["", "/sandbox"])
def test_each_example_of_the_reference_is_taken(order: Json, prefix: str) -> None:
    answer = post(HakunaApi(), [order], path=prefix + PATH)
    assert (answer.status, answer.body) == (202, b"")
    assert [(name, orjson.loads(body)) for name, body in answer.accepted] == [("ord-XYZ-123", order)]


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("status", "open", "`$[0].status`"),
        ("placed_at", "2022-02-20T00:00:00.000Z", "`$[0].placed_at`"),
        ("placed_at", 1669377053, "`$[0].placed_at`"),
        ("cancelled_at", 1669380517455, "cancelled_at: 1669380517455 with status placed"),
        ("status", "cancelled", "cancelled_at: None with status cancelled"),
        ("customer.phone", None, "`$[0].customer.phone`"),
        ("customer_billing_address.country", "", "`$[0].customer_billing_address.country`"),
        ("line_items.0.quantity", 0, "`$[0].line_items[0].quantity`"),
        ("line_items.0.product_data.price.currency", "EUR", "`$[0].line_items[0].product_data.price.currency`"),
        ("line_items.0.product_data.price.currency", "chf", "more than one currency"),
        ("line_items.1.product_data.brand", "Hakuna", "line_items[1].product_data.brand: 'Hakuna'"),
        ("line_items.1.id", "prd-1234", "an id stands twice"),
        ("line_items.0.custom_properties.protection_line_item_id", "x", "no line item of this order"),
        ("line_items.0.custom_properties.offer_id", "off-1", "offer_id and plan_id are a protection's"),
        ("line_items.0.custom_properties", {}, "custom_properties: empty, leave it out"),
        ("line_items.1.custom_properties.protection_line_item_id", "prd-1234", "of a protection"),
        ("line_items.0.refunds", moved("refunded_at", 2), "line_items[0].refunds: 2 of 1"),
        ("line_items.0.refunds", moved("refunded_at", 1), "refunds: without its protection hak-ext-12"),
        ("line_items.0.fulfillments", moved("fulfilled_at", 1), "fulfillments: without its protection hak-ext-12"),
        ("updated_at", 1669377053593, "unknown field `updated_at`"),
    ],
)
def test_what_is_wrong_with_an_order_is_named(path: str, value: object, says: str) -> None:
    assert says in problems(post(HakunaApi(), [put(FEED_ORDER, path, value)], path=PATH))


@pytest.mark.parametrize("path", ["cancelled_at", "line_items", "customer.phone"])
def test_nothing_may_be_missing(path: str) -> None:
    assert "missing required field" in problems(post(HakunaApi(), [without(FEED_ORDER, path)], path=PATH))


@pytest.mark.parametrize("body", [[], FEED_ORDER, [FEED_ORDER, FEED_ORDER], [1], b"[", b""])
def test_an_array_of_different_orders_is_needed(body: object) -> None:
    assert problems(post(HakunaApi(), body, path=PATH))


def test_one_refused_order_refuses_the_whole_array() -> None:
    api = HakunaApi()
    other = put(put(FEED_ORDER, "id", "ord-2"), "customer_billing_address.country", "li")
    answer = post(api, [FEED_ORDER, other], Script(refused_countries=frozenset({"li"})), PATH)
    assert (answer.status, answer.error_code) == (422, "location_unsupported")
    assert orjson.loads(answer.body)["error"]["validation_errors"] == ["[1] ord-2: no protection is sold in li"]
    assert api.feed.contents() == {"orders": {}, "stale": {}}


def test_a_snapshot_that_knows_less_than_the_last_is_noted_as_stale() -> None:
    api = HakunaApi()
    for order in (FEED_ORDER, fulfilled(FEED_ORDER), FEED_ORDER):
        assert post(api, [order], path=PATH).succeeded
    assert api.feed.stale == {"ord-XYZ-123": 1}
