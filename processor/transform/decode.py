"""decode: what each record of the reader schemas becomes: an order event, or a part of one.

Pure. The Avro itself is read at the edge (`processor/edges/avro.py`), straight into these structs: each is called with
its record's fields in the schema's order, which is the struct's own (a test holds the two together).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from processor.records import (
    Address,
    Customer,
    LineItem,
    LineItemsCancelled,
    LineItemsFulfilled,
    LineItemsRefunded,
    Movement,
    OrderCancelled,
    OrderPlaced,
    Protection,
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
