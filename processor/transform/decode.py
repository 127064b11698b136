"""decode: what each record of the reader schemas becomes: an order event, or a part of one.

Pure. The Avro itself is read at the edge (`processor/edges/avro.py`), straight into these structs: each is called with
its record's fields in the schema's order, which is the struct's own (a test holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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

SHAPES: Final[Mapping[str, Callable[..., Any]]] = {
    "orders.v1.OrderPlaced": OrderPlaced,
    "orders.v1.Customer": Customer,
    "orders.v1.Address": Address,
    "orders.v1.LineItem": LineItem,
    "orders.v1.Protection": Protection,
    "orders.v1.LineItemsFulfilled": LineItemsFulfilled,
    "orders.v1.FulfilledItem": Movement,
    "orders.v1.LineItemsRefunded": LineItemsRefunded,
    "orders.v1.RefundedItem": Movement,
    "orders.v1.LineItemsCancelled": LineItemsCancelled,
    "orders.v1.CancelledItem": Movement,
    "orders.v1.OrderCancelled": OrderCancelled,
}


def dated(event: OrderEvent) -> OrderEvent:
    """The event, if a calendar has its times. Raises `BadRecord`."""
    for at_ms in _times(event):
        if not is_writable_time(at_ms):
            raise BadRecord(Stage.DECODE, Reason.UNDECODABLE, f"a time is {at_ms} ms, outside the years 1 to 9999")
    return event


def _times(event: OrderEvent) -> Iterable[int]:
    match event:
        case OrderPlaced(placed_at_ms=at_ms) | OrderCancelled(cancelled_at_ms=at_ms):
            return (at_ms,)
        case _:
            return [item.at_ms for item in event.items]
