"""The Events API's requests: the documents' examples exactly, and what the documents leave open."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processor.hakuna.events import entry, iso_time
from processor.records import (
    Address,
    Cancelled,
    Change,
    Customer,
    EntryType,
    Fulfilled,
    LineItem,
    LinesCancelled,
    Movement,
    Order,
    OrderId,
    OrderPlaced,
    Placed,
    Protection,
    Refunded,
)
from tests.unit.order_events import AT_MS, placed, product, protection

EXAMPLES = Path(__file__).parent / "examples"
"""The documents' examples as they stand there, but for the cancelled items: one has no quantity and the other a
`refunded_at`, and both are written whole here."""

ORDER = Order(
    OrderPlaced(
        "evt-1",
        OrderId("ord-123"),
        1_645_315_200_000,
        "EUR",
        Customer("Max", "Mustermann", "max.mustermann@example.com", "+491601234567"),
        Address("Musterstrasse", "1", "Musterstadt", "123456", "DE"),
        (
            LineItem("line-item-id-3311", 1, 89_900, "prd-iphone14", "iPhone 14", "Apple", None),
            LineItem(
                "line-item-id-3322",
                1,
                8_499,
                "protection-item-id-323",
                "Hakuna.care protection",
                "hakuna",
                Protection("line-item-id-3311", None, None),
            ),
            LineItem("line-item-id-4411", 1, 25_500, "prd-airpods-gen3", "Airpods 3rd Generation", "Apple", None),
        ),
    )
)
MOVED_MS = 1_645_447_874_158
PHONE = Movement("line-item-id-3311", 1, MOVED_MS)
CARE = Movement("line-item-id-3322", 1, MOVED_MS)
AIRPODS = Movement("line-item-id-4411", 1, MOVED_MS)


@pytest.mark.parametrize(
    ("change", "entry_type"),
    [
        (Placed(ORDER.placed), EntryType.ORDER_PLACED),
        (Fulfilled((PHONE, AIRPODS)), EntryType.ORDER_FULFILLMENT_ADDED),
        (Refunded((PHONE, CARE, AIRPODS)), EntryType.ORDER_REFUND_ADDED),
        (LinesCancelled((PHONE, CARE)), EntryType.ORDER_LINE_ITEMS_CANCELLED),
        (Cancelled(1_645_369_200_000), EntryType.ORDER_CANCELLED),
    ],
    ids=lambda value: str(value) if isinstance(value, EntryType) else "",
)
def test_the_documents_examples_come_out_exactly(change: Change, entry_type: EntryType) -> None:
    """In the same sequence of fields, too; only the white space between them is left out."""
    told_as, body = entry(change, ORDER)
    assert told_as is entry_type
    example = json.loads((EXAMPLES / f"{entry_type.value}.json").read_text())
    assert body == json.dumps(example, separators=(",", ":"), ensure_ascii=False).encode()


def payload(order: OrderPlaced) -> dict[str, object]:
    _, body = entry(Placed(order), Order(order))
    decoded = json.loads(body)["payload"]
    assert isinstance(decoded, dict)
    return decoded


def test_missing_fields_of_customer_and_address_are_empty_strings() -> None:
    order = msgspec.structs.replace(
        placed(product("a")),
        customer=Customer(None, None, None, None),
        billing_address=Address(None, None, None, None, "AT"),
    )
    assert payload(order)["customer"] == {"first_name": "", "last_name": "", "email": ""}
    assert payload(order)["customer_billing_address"] == {
        "address_line_1": "",
        "address_line_2": "",
        "city": "",
        "country": "at",
        "zip": "",
    }


def test_protection_names_the_product_that_it_protects_and_its_offer_and_plan_where_known() -> None:
    order = placed(
        protection("p", "a", offer_id="off-1", plan_id="pl-1"),
        protection("q", "a", plan_id="pl-2"),
        protection("r", "a"),
        product("a"),
    )
    lines = payload(order)["line_items"]
    assert isinstance(lines, list)
    assert [line.get("custom_properties") for line in lines] == [
        {"product_reference": "product-a", "offer_id": "off-1", "plan_id": "pl-1"},
        {"product_reference": "product-a", "plan_id": "pl-2"},
        {"product_reference": "product-a"},
        None,
    ]
    assert "custom_properties" not in lines[3]


def test_protection_has_the_brand_that_hakuna_knows_and_other_brands_stay() -> None:
    lines = payload(placed(product("a"), protection("p", "a")))["line_items"]
    assert isinstance(lines, list)
    assert [line["product_brand"] for line in lines] == ["Apple", "Hakuna"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=60)
def test_any_name_is_written_as_it_is(name: str) -> None:
    order = msgspec.structs.replace(placed(product("a")), customer=Customer(name, name, name, None))
    assert payload(order)["customer"] == {"first_name": name, "last_name": name, "email": name}


@pytest.mark.parametrize("amount", [2**63 - 1, -(2**63), 0])
def test_any_amount_is_written_as_it_is(amount: int) -> None:
    line = msgspec.structs.replace(product("a", 2**31 - 1), price_amount=amount)
    lines = payload(placed(line))["line_items"]
    assert isinstance(lines, list)
    written = lines[0]
    assert (written["quantity"], written["price_amount"]) == (2**31 - 1, amount)


FIRST_MS = -62_135_596_800_000
LAST_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("epoch_ms", "written"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (-60_000, "1969-12-31T23:59:00.000Z"),
        (1_645_447_874_158, "2022-02-21T12:51:14.158Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (FIRST_MS, "0001-01-01T00:00:00.000Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_iso_8601_in_utc_with_milliseconds(epoch_ms: int, written: str) -> None:
    assert iso_time(epoch_ms) == written


@given(st.integers(FIRST_MS, LAST_MS))
@settings(max_examples=150)
def test_every_writable_time_is_written_as_datetime_writes_it(epoch_ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)
    assert iso_time(epoch_ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("epoch_ms", [FIRST_MS - 1, LAST_MS + 1, 2**63 - 1, -(2**63)])
def test_a_time_outside_the_years_1_to_9999_cannot_be_written(epoch_ms: int) -> None:
    with pytest.raises(AssertionError):
        iso_time(epoch_ms)


def test_a_cancelled_item_is_line_item_quantity_and_time() -> None:
    _, body = entry(LinesCancelled((Movement("a", 2, AT_MS),)), Order(placed(product("a", 2))))
    assert json.loads(body)["payload"]["cancelled_line_items"] == [
        {"line_item_id": "a", "quantity": 2, "cancelled_at": "2023-11-13T22:13:20.000Z"}
    ]
