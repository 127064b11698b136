"""Order events for tests, with everything that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Sequence

from processor.records import (
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
    Record,
)

ORDER = OrderId("ord-1")
DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
"""The wall clock of most tests."""
AT_MS = NOW_MS - DAY_MS
"""When most things happened to an order."""

MAX = Customer("Max", "Mustermann", "max.mustermann@example.com", "+491601234567")
MUSTERSTADT = Address("Musterstrasse", "1", "Musterstadt", "123456", "DE")

Item = tuple[str, int] | tuple[str, int, int]
"""Line item, quantity and, if not `AT_MS`, when."""


def product(line_item_id: str, quantity: int = 1) -> LineItem:
    return LineItem(line_item_id, quantity, 89_900, f"product-{line_item_id}", "A product", "Apple", None)


def protection(
    line_item_id: str, protects: str, quantity: int = 1, offer_id: str | None = None, plan_id: str | None = None
) -> LineItem:
    insured = Protection(protects, offer_id, plan_id)
    return LineItem(line_item_id, quantity, 8_499, f"product-{line_item_id}", "Care", "HaKuNa", insured)


def placed(*lines: LineItem, event_id: str = "placed", placed_at_ms: int = AT_MS) -> OrderPlaced:
    return OrderPlaced(event_id, ORDER, placed_at_ms, "EUR", MAX, MUSTERSTADT, lines)


def fulfilled(*items: Item, event_id: str = "fulfilled") -> LineItemsFulfilled:
    return LineItemsFulfilled(event_id, ORDER, movements(items))


def refunded(*items: Item, event_id: str = "refunded") -> LineItemsRefunded:
    return LineItemsRefunded(event_id, ORDER, movements(items))


def lines_cancelled(*items: Item, event_id: str = "lines-cancelled") -> LineItemsCancelled:
    return LineItemsCancelled(event_id, ORDER, movements(items))


def cancelled(at_ms: int = AT_MS, event_id: str = "cancelled") -> OrderCancelled:
    return OrderCancelled(event_id, ORDER, at_ms)


def movements(items: Sequence[Item]) -> tuple[Movement, ...]:
    return tuple(Movement(item[0], item[1], item[2] if len(item) == 3 else AT_MS) for item in items)


def record(event: OrderEvent, offset: int = 0) -> Record:
    """A record that the event may have come in; its value is not Avro, since nobody here reads it."""
    return Record(
        topic=f"orders.{type(event).__name__}",
        partition=3,
        offset=offset,
        timestamp_ms=AT_MS,
        key=event.order_id.encode(),
        value=b"\x00\xff" + event.event_id.encode(),
        headers=[("traceparent", b"00-1-2-01"), ("traceparent", None)],
    )
