"""Values of events as a small shop writes them: one line `l` of one unit an order."""

from __future__ import annotations

from typing import Any

from processor.topics import Topic


def placed(order_id: str, at_ms: int) -> dict[str, Any]:
    line = dict.fromkeys(("product_id", "product_title", "product_brand"), "x")
    return {
        "event_id": f"p-{order_id}",
        "order_id": order_id,
        "placed_at": at_ms,
        "currency": "EUR",
        "customer": {"first_name": "Max", "last_name": "M", "email": f"{order_id}@example.org", "phone": None},
        "billing_address": {"address_line_1": None, "address_line_2": None, "city": None, "zip": None, "country": "DE"},
        "line_items": [{**line, "id": "l", "quantity": 1, "price_amount": 100, "protection": None}],
    }


def moved(topic: Topic, order_id: str, at_ms: int) -> dict[str, Any]:
    """Fulfilled or refunded."""
    at = "fulfilled_at" if topic is Topic.FULFILLED else "refunded_at"
    items = [{"line_item_id": "l", "quantity": 1, at: at_ms}]
    return {"event_id": f"{topic}-{order_id}", "order_id": order_id, "items": items}
