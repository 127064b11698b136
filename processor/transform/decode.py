"""decode: an Avro record's fields become an order event; what cannot be one is a `BadRecord` at stage decode.

Pure. The Avro itself is read at the edge (`processor/edges/avro.py`); here the fields get their types, by hand and by
position, since this runs once per record (1-2 µs; `msgspec.convert` from the dict costs three times that).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from processor.errors import BadRecord
from processor.hakuna.events import is_writable_time
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
    OrderPlaced,
    Protection,
    Reason,
    Stage,
)
from processor.topics import Topic


def order_placed(fields: Mapping[str, Any]) -> OrderPlaced:
    customer = fields["customer"]
    address = fields["billing_address"]
    return OrderPlaced(
        fields["event_id"],
        fields["order_id"],
        _time(fields["placed_at"], "placed_at"),
        fields["currency"],
        Customer(customer["first_name"], customer["last_name"], customer["email"], customer["phone"]),
        Address(
            address["address_line_1"],
            address["address_line_2"],
            address["city"],
            address["zip"],
            address["country"],
        ),
        tuple([_line_item(item) for item in fields["line_items"]]),
    )


def line_items_fulfilled(fields: Mapping[str, Any]) -> LineItemsFulfilled:
    return LineItemsFulfilled(fields["event_id"], fields["order_id"], _movements(fields["items"], "fulfilled_at"))


def line_items_refunded(fields: Mapping[str, Any]) -> LineItemsRefunded:
    return LineItemsRefunded(fields["event_id"], fields["order_id"], _movements(fields["items"], "refunded_at"))


def line_items_cancelled(fields: Mapping[str, Any]) -> LineItemsCancelled:
    return LineItemsCancelled(fields["event_id"], fields["order_id"], _movements(fields["items"], "cancelled_at"))


def order_cancelled(fields: Mapping[str, Any]) -> OrderCancelled:
    return OrderCancelled(fields["event_id"], fields["order_id"], _time(fields["cancelled_at"], "cancelled_at"))


ORDER_EVENT: Final[Mapping[Topic, Callable[[Mapping[str, Any]], OrderEvent]]] = {
    Topic.PLACED: order_placed,
    Topic.FULFILLED: line_items_fulfilled,
    Topic.REFUNDED: line_items_refunded,
    Topic.LINE_ITEMS_CANCELLED: line_items_cancelled,
    Topic.CANCELLED: order_cancelled,
}


def _line_item(fields: Mapping[str, Any]) -> LineItem:
    protection = fields["protection"]
    return LineItem(
        fields["id"],
        fields["quantity"],
        fields["price_amount"],
        fields["product_id"],
        fields["product_title"],
        fields["product_brand"],
        None
        if protection is None
        else Protection(protection["protects_line_item_id"], protection["offer_id"], protection["plan_id"]),
    )


def _movements(items: list[Mapping[str, Any]], at: str) -> tuple[Movement, ...]:
    return tuple([Movement(item["line_item_id"], item["quantity"], _time(item[at], at)) for item in items])


def _time(at_ms: int, name: str) -> int:
    if is_writable_time(at_ms):
        return at_ms
    raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, f"{name} is {at_ms} ms, outside the years 1 to 9999")
