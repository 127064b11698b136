"""The nouns of the data path: what a stage gets and what it hands on.

Every package imports them; nothing here does I/O, reads a clock or knows a stage. Values are frozen msgspec structs,
made by the million; the keyed state stores `Order` and `Record`. An `array_like` struct is the smallest and quickest.

    Record ──decode──► OrderEvent ──apply──► Order (state) ──► OutboxEntry ──send──► verdict

Fields of an `array_like` struct are stored by position: append with a default, never reorder or remove
(`processor/transform/order_state.py` holds the version; a test reads the version before).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple, NewType

import msgspec

OrderId = NewType("OrderId", str)
EntryId = NewType("EntryId", str)

Header = tuple[str, bytes | None]
Headers = list[Header]
"""Kafka record headers in their order; a name may stand twice. confluent-kafka refuses anything but tuples."""


class TopicPartition(NamedTuple):
    """One partition of one topic. The topic's name is whole, with the installation's prefix."""

    topic: str
    partition: int


class Position(NamedTuple):
    """A place in a partition: the offset of a record, or the next offset where the field says `next`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One Kafka record as it was read. `timestamp_ms` is the epoch in milliseconds, -1 where the record has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def position(self) -> Position:
        return Position(self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        """The last header of that name, as Kafka's `lastHeader` has it; None if it is missing, or its value is null."""
        for known, value in reversed(self.headers):
            if known == name:
                return value
        return None

    def header_text(self, name: str) -> str | None:
        """The same, decoded; what is not UTF-8 in it is replaced."""
        value = self.header(name)
        return None if value is None else value.decode("utf-8", "replace")


class NewRecord(NamedTuple):
    """A record to be produced. `timestamp_ms` is the epoch in milliseconds; 0 means now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int = 0


RECORD_OVERHEAD_BYTES: Final = 128
"""The batch around a single record (61 bytes) and the record's own varints, rounded up."""


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Returns an upper bound of the size that a topic's `max.message.bytes` is compared with."""
    of_headers = sum(len(name.encode()) + len(content or b"") + 10 for name, content in headers)
    return len(key or b"") + len(value or b"") + of_headers + RECORD_OVERHEAD_BYTES


class Customer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who ordered; a field is None if the shop does not know it."""

    first_name: str | None
    last_name: str | None
    email: str | None
    phone: str | None


class Address(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where the invoice goes. Only `country` is always known (ISO 3166 alpha-2, any case)."""

    address_line_1: str | None
    address_line_2: str | None
    city: str | None
    zip: str | None
    country: str


class Protection(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Says that a line item is insurance for another line item of the same order."""

    protects_line_item_id: str
    offer_id: str | None
    plan_id: str | None


class LineItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line of an order. `price_amount` is in minor units of the order's currency."""

    id: str
    quantity: int
    price_amount: int
    product_id: str
    product_title: str
    product_brand: str
    protection: Protection | None


class Movement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`quantity` units of a line item fulfilled, refunded or cancelled at `at_ms` (epoch milliseconds)."""

    line_item_id: str
    quantity: int
    at_ms: int


class OrderPlaced(msgspec.Struct, frozen=True, array_like=True, tag="p", gc=False):
    """An order was placed (`orders.placed`)."""

    event_id: str
    order_id: OrderId
    placed_at_ms: int
    currency: str
    customer: Customer
    billing_address: Address
    line_items: tuple[LineItem, ...]


class LineItemsFulfilled(msgspec.Struct, frozen=True, array_like=True, tag="f", gc=False):
    """Units of an order were shipped (`orders.fulfilled`)."""

    event_id: str
    order_id: OrderId
    items: tuple[Movement, ...]


class LineItemsRefunded(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False):
    """Units of an order were paid back (`orders.refunded`)."""

    event_id: str
    order_id: OrderId
    items: tuple[Movement, ...]


class LineItemsCancelled(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False):
    """Units of an order will not be shipped (`orders.line-items-cancelled`)."""

    event_id: str
    order_id: OrderId
    items: tuple[Movement, ...]


class OrderCancelled(msgspec.Struct, frozen=True, array_like=True, tag="c", gc=False):
    """The whole order was cancelled (`orders.cancelled`)."""

    event_id: str
    order_id: OrderId
    cancelled_at_ms: int


OrderEvent = OrderPlaced | LineItemsFulfilled | LineItemsRefunded | LineItemsCancelled | OrderCancelled


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
"""The struct of each Avro record: `edges/avro.py` calls it with the fields in the schema's order, its own."""


class Pairing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What pairing changed about an event (`event_key`): `absorbed` are movements that Hakuna knew already and that are
    not sent again, `added` are sent although the shop did not name them."""

    event: str
    absorbed: tuple[Movement, ...]
    added: tuple[Movement, ...]


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of an order: what was placed, and every movement that its shop has reported since, in the order in
    which transform took them. `pairings` are the events that Hakuna got in another form than the shop sent them."""

    placed: OrderPlaced
    fulfilments: tuple[Movement, ...] = ()
    refunds: tuple[Movement, ...] = ()
    cancellations: tuple[Movement, ...] = ()
    cancelled_at_ms: int | None = None
    pairings: tuple[Pairing, ...] = ()


KINDS: Final[dict[type[OrderEvent], str]] = {
    OrderPlaced: "p",
    LineItemsFulfilled: "f",
    LineItemsRefunded: "r",
    LineItemsCancelled: "l",
    OrderCancelled: "c",
}
"""The first character of an event's key, by kind of event."""


def event_key(event: OrderEvent) -> str:
    """Returns an event's kind and ID: a shop may use one ID for a refund and a cancellation."""
    return KINDS[type(event)] + event.event_id


class Placed(msgspec.Struct, frozen=True, gc=False):
    """The order is new, or (order feed) the shop has corrected it."""

    placed: OrderPlaced


class Fulfilled(msgspec.Struct, frozen=True, gc=False):
    """Units were shipped: the items that Hakuna does not know yet, then the protection that goes with them."""

    items: tuple[Movement, ...]


class Refunded(msgspec.Struct, frozen=True, gc=False):
    """Units were paid back: the items that Hakuna does not know yet, then the protection that goes with them."""

    items: tuple[Movement, ...]


class LinesCancelled(msgspec.Struct, frozen=True, gc=False):
    """Units will not be shipped: the items that Hakuna does not know yet, then their protection."""

    items: tuple[Movement, ...]


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """The whole order was cancelled."""

    at_ms: int


Change = Placed | Fulfilled | Refunded | LinesCancelled | Cancelled


class EntryType(StrEnum):
    """The `entry-type` header: the Events API's own event types, and `order` for a snapshot of the feed."""

    ORDER_PLACED = "order_placed"
    ORDER_FULFILLMENT_ADDED = "order_fulfillment_added"
    ORDER_REFUND_ADDED = "order_refund_added"
    ORDER_LINE_ITEMS_CANCELLED = "order_line_items_cancelled"
    ORDER_CANCELLED = "order_cancelled"
    ORDER = "order"


class OutboxEntry(msgspec.Struct, frozen=True, gc=False):
    """An intended request, durable in the outbox until it is answered.

    `body` is the JSON that goes out, `occurred_at_ms` the source record's timestamp, `headers` every header of the
    outbox record as it stands there.
    """

    order_id: OrderId
    entry_id: EntryId
    entry_type: EntryType
    body: bytes
    occurred_at_ms: int
    headers: Headers


class HeaderName(StrEnum):
    """Headers that this project writes (contract: schemas/README.md). All values are UTF-8."""

    ENTRY_ID = "entry-id"
    ENTRY_TYPE = "entry-type"
    SOURCE = "source"
    OCCURRED_AT = "occurred-at"
    TRACEPARENT = "traceparent"
    REPLAY_ID = "replay-id"
    REPLAY_COUNT = "replay-count"
    REPLAY_OF = "replay-of"


class Stage(StrEnum):
    """Where a dead letter was refused (`__dlq.errors.stage`)."""

    DECODE = "decode"
    TRANSFORM = "transform"
    SEND = "send"


class Outcome(StrEnum):
    """How a source record ended (`processor_records_total`); each record is counted once."""

    TRANSFORMED = "transformed"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    HELD = "held"
    DEAD_LETTERED = "dead_lettered"


class IgnoredReason(StrEnum):
    """Why a record changed nothing (`processor_ignored_total`)."""

    DUPLICATE = "duplicate"
    ORDER_CANCELLED = "order_cancelled"
    UNPROTECTED = "unprotected"
    NOTHING_MOVED = "nothing_moved"
    TOLD_BY_PAIRING = "told_by_pairing"
    ERASED = "erased"
    ERASURE_UNKNOWN = "erasure_unknown"
    STALE = "stale"


class Reason(StrEnum):
    """Why a record is a dead letter. The set is closed, except for `http_<status>` (`http_reason`)."""

    UNDECODABLE = "undecodable"
    KEY_MISMATCH = "key_mismatch"
    ORDER_UNKNOWN = "order_unknown"
    PARKED_TOO_MANY = "parked_too_many"
    LINE_ITEM_DUPLICATE = "line_item_duplicate"
    LINE_ITEM_UNKNOWN = "line_item_unknown"
    QUANTITY_EXCEEDED = "quantity_exceeded"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_EXISTS = "order_exists"
    PROTECTION_DANGLING = "protection_dangling"
    TIME_IMPLAUSIBLE = "time_implausible"
    INVALID_REQUEST_PARAMETERS = "invalid_request_parameters"
    PRODUCT_UNSUPPORTED = "product_unsupported"
    LOCATION_UNSUPPORTED = "location_unsupported"
    CANCEL_DECLINE = "cancel_decline"
    HELD = "held"
    SERVER_ERROR = "server_error"
    TOO_LARGE = "too_large"


def http_reason(status: int) -> str:
    """`http_<status>`: the reason of a refusal that names no error code of the reference."""
    assert 100 <= status <= 599, f"no HTTP status: {status}"
    return f"http_{status}"
