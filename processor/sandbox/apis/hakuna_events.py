"""Hakuna's Events API: checks the shape of each of the five events, and that it fits the order so far.

The shapes are closed (unknown fields are refused) and follow the reference exactly. An event must also fit the events
that were accepted of its order: it may name only line items that exist and units that remain, and a protection may
keep no more units than its product has left. An order has its line items from `order_placed` on and forgets nothing.

    (none) ──order_placed──► PLACED ──order_cancelled──► CANCELLED
                                │                            └─ fulfilments, refunds and line item cancellations
                                │                               from before that may still come in
                                └─ fulfilled whole: a cancellation is declined

`Code`, `Refusal` and `WellFormed` are shared with the feed (`hakuna_feed.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from processor.sandbox.apis.record import Recent
from processor.sandbox.apis.script import Script

BRAND: Final = "Hakuna"

Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z\Z")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")]
Country = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}\Z")]
Identity = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[int, msgspec.Meta(ge=1)]


class Code(StrEnum):
    """The error codes of the reference, all of them."""

    INVALID_REQUEST_PARAMETERS = "invalid_request_parameters"
    PRODUCT_UNSUPPORTED = "product_unsupported"
    LOCATION_UNSUPPORTED = "location_unsupported"
    CANCEL_DECLINE = "cancel_decline"


class Refusal(NamedTuple):
    """`problems` are sentences for people; they name fields by their path."""

    status: int
    code: Code
    problems: tuple[str, ...]


class WellFormed(NamedTuple):
    """A request of the right shape. `entries` are order IDs, each with the bytes about that order. `take` judges the
    request by what is known of these orders; it stores the request if it returns None."""

    entries: tuple[tuple[str, bytes], ...]
    take: Callable[[], Refusal | None]


def invalid(*problems: str) -> Refusal:
    return Refusal(400, Code.INVALID_REQUEST_PARAMETERS, problems)


def unsupported(script: Script, where: str, country: str, products: list[str]) -> Refusal | None:
    """Returns a refusal if the script refuses orders to `country` or with one of `products`."""
    if country in script.refused_countries:
        return Refusal(422, Code.LOCATION_UNSUPPORTED, (f"{where}: no protection is sold in {country}",))
    for product in products:
        if product in script.refused_products:
            return Refusal(422, Code.PRODUCT_UNSUPPORTED, (f"{where}: {product} cannot be protected",))
    return None


class _Customer(Struct, frozen=True, forbid_unknown_fields=True):
    first_name: str
    last_name: str
    email: str


class BillingAddress(Struct, frozen=True, forbid_unknown_fields=True):
    """The address of a customer, in both APIs."""

    address_line_1: str
    address_line_2: str
    city: str
    country: Country
    zip: str


class _CustomProperties(Struct, frozen=True, forbid_unknown_fields=True):
    product_reference: Identity
    offer_id: Identity | UnsetType = UNSET
    plan_id: Identity | UnsetType = UNSET


class _LineItem(Struct, frozen=True, forbid_unknown_fields=True):
    id: Identity
    quantity: Quantity
    price_amount: int
    product_id: Identity
    product_title: str
    product_brand: str
    custom_properties: _CustomProperties | UnsetType = UNSET


class _OrderPlaced(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    placed_at: Time
    order_currency: Currency
    customer: _Customer
    customer_billing_address: BillingAddress
    line_items: Annotated[list[_LineItem], msgspec.Meta(min_length=1)]


class _OrderCancelled(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    cancelled_at: Time


class _Movement(NamedTuple):
    """An event that moves units: the names of its array and of the time in each item, and the count of a line."""

    items: str
    at: str
    road: str

    def shape(self) -> type[Struct]:
        item = msgspec.defstruct(
            "_Item",
            [("line_item_id", Identity), ("quantity", Quantity), ("at", Time)],
            rename={"at": self.at},
            forbid_unknown_fields=True,
        )
        items = Annotated[list[item], msgspec.Meta(min_length=1)]  # type: ignore[valid-type] # made at run time
        fields = [("order_id", Identity), ("items", items)]
        return msgspec.defstruct("_Moved", fields, rename={"items": self.items}, forbid_unknown_fields=True)


_MOVEMENTS: Final = {
    "order_fulfillment_added": _Movement("fulfillment_items", "fulfilled_at", "fulfilled"),
    "order_refund_added": _Movement("refund_items", "refunded_at", "refunded"),
    "order_line_items_cancelled": _Movement("cancelled_line_items", "cancelled_at", "cancelled"),
}
_SHAPES: Final[dict[str, Any]] = {
    "order_placed": _OrderPlaced,
    **{name: movement.shape() for name, movement in _MOVEMENTS.items()},
    "order_cancelled": _OrderCancelled,
}


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    payload: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_DECODERS = {name: msgspec.json.Decoder(payload) for name, payload in _SHAPES.items()}
_ROOT = re.compile(r"`\$(?=[.`])")


@dataclass(slots=True)
class _Line:
    """Mutable: units moved so far."""

    ordered: int
    product_id: str
    protects: str | None
    fulfilled: int = 0
    refunded: int = 0
    cancelled: int = 0

    @property
    def refundable(self) -> int:
        return self.ordered - self.refunded - self.cancelled

    def remaining(self, road: str) -> int:
        """Returns the units that may still be fulfilled, refunded or cancelled. A protection that was fulfilled by
        itself may still be cancelled with its product."""
        if road == "refunded" or (road == "cancelled" and self.protects is not None):
            return self.refundable
        moved = self.fulfilled if road == "fulfilled" else max(self.fulfilled, self.refunded)
        return self.ordered - moved - self.cancelled


@dataclass(slots=True)
class _Order:
    """Mutable: `lines` move, `cancelled_at` is set once, `accepted` counts events."""

    lines: dict[str, _Line]
    cancelled_at: str | None = None
    accepted: int = 1

    @property
    def fulfilled(self) -> bool:
        """True if something was shipped and no product is left to ship. Protections do not count."""
        products = [line for line in self.lines.values() if line.protects is None]
        return any(line.fulfilled for line in products) and all(
            line.fulfilled + line.cancelled >= line.ordered for line in products
        )


class Events:
    """Mutable: `_orders` are the orders that were placed, by ID."""

    def __init__(self) -> None:
        self._orders: Recent[_Order] = Recent()

    def read(self, body: bytes, script: Script) -> WellFormed | Refusal:
        """Decodes the event in `body`. Returns a refusal if its shape is wrong."""
        try:
            envelope = _ENVELOPE.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return invalid(str(wrong))
        decoder = _DECODERS.get(envelope.type)
        if decoder is None:
            return invalid(f"type: {envelope.type!r}, must be one of {', '.join(_SHAPES)}")
        try:
            payload = decoder.decode(envelope.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return invalid(_ROOT.sub("`$.payload", str(wrong)))
        times = [time for time in _times(payload) if not _is_time(time)]
        if times:
            return invalid(*(f"{time} is no time" for time in times))
        take = partial(self._take, payload, _MOVEMENTS.get(envelope.type), script)
        return WellFormed(((payload.order_id, body),), take)

    def contents(self) -> dict[str, dict[str, object]]:
        """Returns the orders by ID, each with the units that moved of each line."""
        return {
            order_id: {
                "cancelled_at": order.cancelled_at,
                "events": order.accepted,
                "line_items": {
                    name: {road: getattr(line, road) for road in ("ordered", "fulfilled", "refunded", "cancelled")}
                    for name, line in order.lines.items()
                },
            }
            for order_id, order in list(self._orders.items())
        }

    def _take(self, payload: Any, movement: _Movement | None, script: Script) -> Refusal | None:
        order = self._orders.get(payload.order_id)
        if isinstance(payload, _OrderPlaced):
            if order is not None:
                return invalid(f"order_id: {payload.order_id} was placed before")
            return self._place(payload, script)
        if order is None:
            return Refusal(404, Code.INVALID_REQUEST_PARAMETERS, (f"order_id: there is no order {payload.order_id}",))
        refusal = _cancel(order, payload) if movement is None else _move(order, payload.items, movement)
        if refusal is None:
            order.accepted += 1
        return refusal

    def _place(self, payload: _OrderPlaced, script: Script) -> Refusal | None:
        problems = _placed_problems(payload)
        if problems:
            return invalid(*problems)
        refusal = unsupported(
            script,
            payload.order_id,
            payload.customer_billing_address.country,
            [item.product_id for item in payload.line_items],
        )
        if refusal is not None:
            return refusal
        self._orders[payload.order_id] = _Order(
            {
                item.id: _Line(
                    item.quantity,
                    item.product_id,
                    item.custom_properties.product_reference if item.custom_properties else None,
                )
                for item in payload.line_items
            }
        )
        return None


def _placed_problems(payload: _OrderPlaced) -> list[str]:
    problems = []
    products = {item.product_id for item in payload.line_items if not item.custom_properties}
    for name, count in Counter(item.id for item in payload.line_items).items():
        if count > 1:
            problems.append(f"line_items: {count} of them have the id {name}")
    for at, item in enumerate(payload.line_items):
        where = f"line_items[{at}]"
        if not item.custom_properties:
            if item.product_brand.casefold() == BRAND.casefold():
                problems.append(f"{where}.custom_properties: a protection needs a product_reference")
            continue
        if item.product_brand != BRAND:
            problems.append(f"{where}.product_brand: {item.product_brand!r}, a protection's is {BRAND!r}")
        reference = item.custom_properties.product_reference
        if reference not in products:
            problems.append(f"{where}.custom_properties.product_reference: {reference} is no product of this order")
    return problems


def _cancel(order: _Order, payload: _OrderCancelled) -> Refusal | None:
    if order.cancelled_at is not None or order.fulfilled:
        already = "cancelled" if order.cancelled_at is not None else "fulfilled"
        return Refusal(422, Code.CANCEL_DECLINE, (f"{payload.order_id} is {already} already",))
    order.cancelled_at = payload.cancelled_at
    return None


def _move(order: _Order, items: list[Any], movement: _Movement) -> Refusal | None:
    """Moves all units or none. Only a fulfilment may leave a protection without its product."""
    where = movement.items
    problems = [
        f"{where}[{at}].line_item_id: {item.line_item_id} is no line item of this order"
        for at, item in enumerate(items)
        if item.line_item_id not in order.lines
    ]
    if problems:
        return invalid(*problems)
    for at, item in enumerate(items):
        if order.cancelled_at is not None and item.at > order.cancelled_at:
            problems.append(f"{where}[{at}]: the order was cancelled at {order.cancelled_at}")
    wanted: Counter[str] = Counter()
    for item in items:
        wanted[item.line_item_id] += item.quantity
    for name, units in wanted.items():
        left = order.lines[name].remaining(movement.road)
        if units > left:
            problems.append(f"{where}: {units} of {name} are more than the {left} that remain")
    if movement.road != "fulfilled":
        problems += _unpaired(where, order, wanted)
    if problems:
        return invalid(*problems)
    for name, units in wanted.items():
        line = order.lines[name]
        setattr(line, movement.road, getattr(line, movement.road) + units)
    return None


def _unpaired(where: str, order: _Order, wanted: Counter[str]) -> list[str]:
    """Returns a problem for each protection that would keep more units than its product has left.

    The reference links a protection to a product, not to a line: if two lines have the same product, nobody knows
    which of them is protected, and this check is left out.
    """
    left = {name: line.refundable - wanted[name] for name, line in order.lines.items()}
    problems = []
    for name in wanted:
        product = order.lines[name]
        if product.protects is not None:
            continue
        twins = [
            line for line in order.lines.values() if line.protects is None and line.product_id == product.product_id
        ]
        if len(twins) > 1:
            continue
        problems += [
            f"{where}: {name} without its protection {other}, of which {left[other]} are left, and of it {left[name]}"
            for other, line in order.lines.items()
            if line.protects == product.product_id and left[other] > left[name]
        ]
    return problems


def _times(payload: Any) -> list[str]:
    match payload:
        case _OrderPlaced():
            return [payload.placed_at]
        case _OrderCancelled():
            return [payload.cancelled_at]
    return [item.at for item in payload.items]


def _is_time(text: str) -> bool:
    """True if the date exists. The shape's pattern has checked its form."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
