"""The example requests of Hakuna's documentation, field for field, with the corrections that the project
decided on.

Two of them: in the feed's examples the e-mail address was made unreadable by the site they were published on,
and the second item of the line item cancellation has `quantity` and `cancelled_at` like the first.
"""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]

HEADERS = {
    "authorization": "Bearer sk_test_sandbox",
    "content-type": "application/json",
    "hakuna-version": "v1.2",
    "idempotency-key": '"3f2c1d"',
    "user-agent": "hakuna-processor/test",
}

PLACED: Json = {
    "type": "order_placed",
    "payload": {
        "order_id": "ord-123",
        "placed_at": "2022-02-20T00:00:00.000Z",
        "order_currency": "eur",
        "customer": {"first_name": "Max", "last_name": "Mustermann", "email": "max.mustermann@example.com"},
        "customer_billing_address": {
            "address_line_1": "Musterstrasse",
            "address_line_2": "1",
            "city": "Musterstadt",
            "country": "de",
            "zip": "123456",
        },
        "line_items": [
            {
                "id": "line-item-id-3311",
                "quantity": 1,
                "price_amount": 89900,
                "product_id": "prd-iphone14",
                "product_title": "iPhone 14",
                "product_brand": "Apple",
            },
            {
                "id": "line-item-id-3322",
                "quantity": 1,
                "price_amount": 8499,
                "product_id": "protection-item-id-323",
                "product_title": "Hakuna.care protection",
                "product_brand": "Hakuna",
                "custom_properties": {"product_reference": "prd-iphone14"},
            },
            {
                "id": "line-item-id-4411",
                "quantity": 1,
                "price_amount": 25500,
                "product_id": "prd-airpods-gen3",
                "product_title": "Airpods 3rd Generation",
                "product_brand": "Apple",
            },
        ],
    },
}


def _moved(at: str, *line_item_ids: str) -> list[Json]:
    return [{"line_item_id": one, "quantity": 1, at: "2022-02-21T12:51:14.158Z"} for one in line_item_ids]


FULFILLED: Json = {
    "type": "order_fulfillment_added",
    "payload": {
        "order_id": "ord-123",
        "fulfillment_items": _moved("fulfilled_at", "line-item-id-3311", "line-item-id-4411"),
    },
}

REFUNDED: Json = {
    "type": "order_refund_added",
    "payload": {
        "order_id": "ord-123",
        "refund_items": _moved("refunded_at", "line-item-id-3311", "line-item-id-3322", "line-item-id-4411"),
    },
}

ITEMS_CANCELLED: Json = {
    "type": "order_line_items_cancelled",
    "payload": {
        "order_id": "ord-123",
        "cancelled_line_items": _moved("cancelled_at", "line-item-id-3311", "line-item-id-3322"),
    },
}

CANCELLED: Json = {
    "type": "order_cancelled",
    "payload": {"order_id": "ord-123", "cancelled_at": "2022-02-20T15:00:00.000Z"},
}

FEED_ORDER: Json = {
    "id": "ord-XYZ-123",
    "status": "placed",
    "placed_at": 1669377053593,
    "cancelled_at": None,
    "customer": {
        "first_name": "Max",
        "last_name": "Mustermann",
        "email": "max.mustermann@example.com",
        "phone": "+491601234567",
    },
    "customer_billing_address": {
        "address_line_1": "Musterstrasse 1",
        "address_line_2": "",
        "city": "Musterstadt",
        "country": "de",
        "zip": "123456",
    },
    "line_items": [
        {
            "id": "prd-1234",
            "quantity": 1,
            "product_data": {
                "id": "prd-1234",
                "price": {"amount": 10000, "currency": "eur"},
                "brand": "Frutta",
                "title": "Banana",
            },
            "custom_properties": {"protection_line_item_id": "hak-ext-12"},
            "fulfillments": [],
            "refunds": [],
        },
        {
            "id": "hak-ext-12",
            "quantity": 1,
            "product_data": {
                "id": "hak-ext-12",
                "price": {"amount": 1200, "currency": "eur"},
                "brand": "hakuna",
                "title": "1 year of warranty extension",
            },
            "custom_properties": {"offer_id": "off-12345", "plan_id": "pl-54132"},
            "fulfillments": [],
            "refunds": [],
        },
    ],
}


def fulfilled(order: Json) -> Json:
    return _with(order, "fulfillments", {"quantity": 1, "fulfilled_at": 1667493412562})


def refunded(order: Json) -> Json:
    return _with(order, "refunds", {"quantity": 1, "refunded_at": 1667493419345})


def cancelled(order: Json) -> Json:
    return order | {"status": "cancelled", "cancelled_at": 1669380517455}


def _with(order: Json, kind: str, movement: Json) -> Json:
    moved = copy.deepcopy(order)
    for item in moved["line_items"]:
        item[kind].append(movement)
    return moved


def at(value: Any, path: str) -> Any:
    """The part of `value` at a dotted path such as `payload.line_items.0`."""
    for name in path.split(".") if path else ():
        value = value[int(name) if isinstance(value, list) else name]
    return value


def put(value: Json, path: str, new: Any) -> Json:
    """A copy of `value` with `new` at `path`."""
    changed = copy.deepcopy(value)
    where, _, name = path.rpartition(".")
    parent = at(changed, where)
    parent[int(name) if isinstance(parent, list) else name] = new
    return changed


def without(value: Json, path: str) -> Json:
    """A copy of `value` that lacks what is at `path`."""
    changed = copy.deepcopy(value)
    where, _, name = path.rpartition(".")
    del at(changed, where)[name]
    return changed
