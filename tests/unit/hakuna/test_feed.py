"""The Order feed's snapshots: the documents' examples exactly, and what the documents leave open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from processor.hakuna.feed import array, snapshot
from processor.records import Address, Customer, LineItem, Movement, Order, OrderId, OrderPlaced, Protection
from tests.unit.order_events import movements, placed, product, protection

EXAMPLES = Path(__file__).parent / "examples"

PLACED = OrderPlaced(
    "evt-1",
    OrderId("ord-XYZ-123"),
    1_669_377_053_593,
    "EUR",
    # The documents' own address: whoever published them hid it like this.
    Customer("Max", "Mustermann", "[email protected]", "+491601234567"),
    Address("Musterstrasse 1", None, "Musterstadt", "123456", "DE"),
    (
        LineItem("prd-1234", 1, 10_000, "prd-1234", "Banana", "Frutta", None),
        LineItem(
            "hak-ext-12",
            1,
            1_200,
            "hak-ext-12",
            "1 year of warranty extension",
            "Hakuna",
            Protection("prd-1234", "off-12345", "pl-54132"),
        ),
    ),
)
OUT_MS = 1_667_493_412_562
BACK_MS = 1_667_493_419_345
OUT = (Movement("prd-1234", 1, OUT_MS), Movement("hak-ext-12", 1, OUT_MS))
BACK = (Movement("prd-1234", 1, BACK_MS), Movement("hak-ext-12", 1, BACK_MS))


@pytest.mark.parametrize(
    ("order", "example"),
    [
        (Order(PLACED), "feed_placed"),
        (Order(PLACED, cancelled_at_ms=1_669_380_517_455), "feed_cancelled"),
        (Order(PLACED, fulfilments=OUT), "feed_fulfilled"),
        (Order(PLACED, fulfilments=OUT, refunds=BACK), "feed_refunded"),
        (Order(PLACED, fulfilments=OUT, cancellations=BACK), "feed_refunded"),
    ],
    ids=["placed", "cancelled", "fulfilled", "refunded", "a cancelled unit is a refunded one"],
)
def test_the_documents_examples_come_out_exactly(order: Order, example: str) -> None:
    """In the same sequence of fields, too; only the white space between them is left out."""
    expected = json.loads((EXAMPLES / f"{example}.json").read_text())
    body = json.dumps(expected, separators=(",", ":"), ensure_ascii=False).encode()
    assert array([snapshot(order)]) == body


def line_items(order: Order) -> dict[str, dict[str, Any]]:
    return {line["id"]: line for line in json.loads(snapshot(order))["line_items"]}


def test_missing_fields_of_customer_and_address_are_empty_strings() -> None:
    order = msgspec.structs.replace(
        placed(product("a")),
        customer=Customer(None, None, None, None),
        billing_address=Address(None, None, None, None, "AT"),
    )
    written = json.loads(snapshot(Order(order)))
    assert written["customer"] == {"first_name": "", "last_name": "", "email": "", "phone": ""}
    assert written["customer_billing_address"] == {
        "address_line_1": "",
        "address_line_2": "",
        "city": "",
        "country": "at",
        "zip": "",
    }


def test_a_product_names_the_first_of_its_protections() -> None:
    lines = line_items(Order(placed(protection("q", "a"), product("a"), protection("p", "a"))))
    assert lines["a"]["custom_properties"] == {"protection_line_item_id": "q"}


def test_protection_carries_offer_and_plan_where_known() -> None:
    lines = line_items(Order(placed(product("a"), protection("p", "a", plan_id="pl-1"))))
    assert lines["p"]["custom_properties"] == {"plan_id": "pl-1"}


def test_empty_custom_properties_are_left_out() -> None:
    lines = line_items(Order(placed(product("a"), product("b"), protection("p", "a"))))
    assert "custom_properties" not in lines["b"]
    assert "custom_properties" not in lines["p"]


def test_protection_has_the_brand_in_lowercase_and_other_brands_stay() -> None:
    lines = line_items(Order(placed(product("a"), protection("p", "a"))))
    assert lines["a"]["product_data"]["brand"] == "Apple"
    assert lines["p"]["product_data"]["brand"] == "hakuna"


def test_every_movement_stands_with_its_line_item_in_the_order_of_time() -> None:
    order = Order(
        placed(product("a", 9), product("b", 9)),
        fulfilments=movements([("a", 1, 30), ("b", 2, 20), ("a", 3, 10)]),
        refunds=movements([("a", 1, 50), ("a", 2, 40)]),
        cancellations=movements([("a", 3, 45)]),
    )
    lines = line_items(order)
    assert lines["a"]["fulfillments"] == [{"quantity": 3, "fulfilled_at": 10}, {"quantity": 1, "fulfilled_at": 30}]
    assert lines["a"]["refunds"] == [
        {"quantity": 2, "refunded_at": 40},
        {"quantity": 3, "refunded_at": 45},
        {"quantity": 1, "refunded_at": 50},
    ]
    assert lines["b"]["fulfillments"] == [{"quantity": 2, "fulfilled_at": 20}]
    assert lines["b"]["refunds"] == []


def test_an_order_that_is_cancelled_refunds_no_unit_by_that() -> None:
    written = json.loads(snapshot(Order(placed(product("a")), cancelled_at_ms=7)))
    assert (written["status"], written["cancelled_at"]) == ("cancelled", 7)
    assert written["line_items"][0]["refunds"] == []


def test_an_array_holds_the_snapshots_as_they_are() -> None:
    assert array([b'{"a": 1}', b"{}"]) == b'[{"a": 1},{}]'


def test_a_request_without_an_order_is_never_made() -> None:
    with pytest.raises(AssertionError):
        array([])
