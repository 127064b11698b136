"""Hakuna's Events API: what each of the five events must look like, and what it may say of an order by then.

The shapes are closed (unknown fields are refused) and exact to the reference. Beyond the shapes, an event
must fit what was told of its order before: line items that exist, units that remain, no more of a protection than
its product has left. An order knows its lines from `order_placed` on and forgets nothing.

    (none) ──order_placed──► PLACED ──order_cancelled──► CANCELLED
                                │                            └─ fulfilments, refunds and line item cancellations
                                before the │                               from before that may still come in
                                └─ fulfilled whole: a cancellation is declined
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from processor.sandbox.apis.hakuna_told import Code, Refusal, Told, invalid, unsupported
from processor.sandbox.apis.record import Recent
from processor.sandbox.apis.script import Script

BRAND: Final = "Hakuna"

Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z\Z")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")]
Country = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}\Z")]
Identity = Annotated[str, msgspec.Meta(min_length=1)]
Quantity = Annotated[int, msgspec.Meta(ge=1)]


class _Customer(Struct, frozen=True, forbid_unknown_fields=True):
    first_name: str
    last_name: str
    email: str


class _BillingAddress(Struct, frozen=True, forbid_unknown_fields=True):
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
    customer_billing_address: _BillingAddress
    line_items: Annotated[list[_LineItem], msgspec.Meta(min_length=1)]


class _FulfillmentItem(Struct, frozen=True, forbid_unknown_fields=True):
    line_item_id: Identity
    quantity: Quantity
    fulfilled_at: Time


class _RefundItem(Struct, frozen=True, forbid_unknown_fields=True):
    line_item_id: Identity
    quantity: Quantity
    refunded_at: Time


class _CancelledItem(Struct, frozen=True, forbid_unknown_fields=True):
    line_item_id: Identity
    quantity: Quantity
    cancelled_at: Time


class _FulfillmentAdded(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    fulfillment_items: Annotated[list[_FulfillmentItem], msgspec.Meta(min_length=1)]


class _RefundAdded(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    refund_items: Annotated[list[_RefundItem], msgspec.Meta(min_length=1)]


class _LineItemsCancelled(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    cancelled_line_items: Annotated[list[_CancelledItem], msgspec.Meta(min_length=1)]


class _OrderCancelled(Struct, frozen=True, forbid_unknown_fields=True):
    order_id: Identity
    cancelled_at: Time


_Payload = _OrderPlaced | _FulfillmentAdded | _RefundAdded | _LineItemsCancelled | _OrderCancelled

PAYLOADS: Final[dict[str, type[_Payload]]] = {
    "order_placed": _OrderPlaced,
    "order_fulfillment_added": _FulfillmentAdded,
    "order_refund_added": _RefundAdded,
    "order_line_items_cancelled": _LineItemsCancelled,
    "order_cancelled": _OrderCancelled,
}


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    payload: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_DECODERS = {name: msgspec.json.Decoder(payload) for name, payload in PAYLOADS.items()}
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
        """Units that may still be fulfilled, refunded or cancelled. A protection may be cancelled with its product
        though it was fulfilled by itself."""
        if road == "refunded" or (road == "cancelled" and self.protects is not None):
            return self.refundable
        moved = self.fulfilled if road == "fulfilled" else max(self.fulfilled, self.refunded)
        return self.ordered - moved - self.cancelled


@dataclass(slots=True)
class _Order:
    """Mutable: `lines` move, `cancelled_at` is set once."""

    lines: dict[str, _Line]
    cancelled_at: str | None = None
    told: int = field(default=1)

    @property
    def fulfilled(self) -> bool:
        """Whether something was shipped and nothing is left to ship. Protection need not be."""
        products = [line for line in self.lines.values() if line.protects is None]
        return any(line.fulfilled for line in products) and all(
            line.fulfilled + line.cancelled >= line.ordered for line in products
        )


class Events:
    """Mutable: the orders that were told of, by ID."""

    def __init__(self) -> None:
        self._orders: Recent[_Order] = Recent()

    def read(self, body: bytes, script: Script) -> Told | Refusal:
        """The event in `body`, if it has the right shape."""
        try:
            envelope = _ENVELOPE.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return invalid(str(wrong))
        decoder = _DECODERS.get(envelope.type)
        if decoder is None:
            return invalid(f"type: {envelope.type!r}, must be one of {', '.join(PAYLOADS)}")
        try:
            payload = decoder.decode(envelope.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return invalid(_ROOT.sub("`$.payload", str(wrong)))
        times = [time for time in _times(payload) if not _is_time(time)]
        if times:
            return invalid(*(f"{time} is no time" for time in times))
        return Told(((payload.order_id, body),), partial(self._take, payload, script))

    def contents(self) -> dict[str, dict[str, object]]:
        """Orders by ID, with what moved of each line."""
        found: dict[str, dict[str, object]] = {}
        for order_id in self._orders:
            order = self._orders.get(order_id)
            if order is not None:
                found[order_id] = {
                    "cancelled_at": order.cancelled_at,
                    "events": order.told,
                    "line_items": {
                        name: {
                            "ordered": line.ordered,
                            "fulfilled": line.fulfilled,
                            "refunded": line.refunded,
                            "cancelled": line.cancelled,
                        }
                        for name, line in order.lines.items()
                    },
                }
        return found

    def _take(self, payload: _Payload, script: Script) -> Refusal | None:
        order = self._orders.get(payload.order_id)
        if isinstance(payload, _OrderPlaced):
            if order is not None:
                return invalid(f"order_id: {payload.order_id} was placed before")
            return self._place(payload, script)
        if order is None:
            return Refusal(404, Code.INVALID_REQUEST_PARAMETERS, (f"order_id: there is no order {payload.order_id}",))
        refusal = _move(order, payload)
        if refusal is None:
            order.told += 1
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
        self._orders.put(
            payload.order_id,
            _Order(
                {
                    item.id: _Line(
                        item.quantity,
                        item.product_id,
                        item.custom_properties.product_reference if item.custom_properties else None,
                    )
                    for item in payload.line_items
                }
            ),
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


def _move(
    order: _Order, payload: _FulfillmentAdded | _RefundAdded | _LineItemsCancelled | _OrderCancelled
) -> Refusal | None:
    match payload:
        case _FulfillmentAdded():
            fulfilled = [(item.line_item_id, item.quantity, item.fulfilled_at) for item in payload.fulfillment_items]
            return _take(order, "fulfillment_items", fulfilled, "fulfilled")
        case _RefundAdded():
            refunded = [(item.line_item_id, item.quantity, item.refunded_at) for item in payload.refund_items]
            return _take(order, "refund_items", refunded, "refunded")
        case _LineItemsCancelled():
            cancelled = [(item.line_item_id, item.quantity, item.cancelled_at) for item in payload.cancelled_line_items]
            return _take(order, "cancelled_line_items", cancelled, "cancelled")
        case _OrderCancelled():
            if order.cancelled_at is not None:
                return Refusal(422, Code.CANCEL_DECLINE, (f"{payload.order_id} is cancelled already",))
            if order.fulfilled:
                return Refusal(422, Code.CANCEL_DECLINE, (f"{payload.order_id} is fulfilled already",))
            order.cancelled_at = payload.cancelled_at
            return None


def _take(order: _Order, where: str, items: Sequence[tuple[str, int, str]], road: str) -> Refusal | None:
    """Takes all units or none. `items` are line item, quantity and time, `road` is the line's count of them. Only a
    fulfilment may leave a protection without its product."""
    problems = _unknown(order, where, [name for name, _, _ in items])
    if problems:
        return invalid(*problems)
    for at, (_, _, moved_at) in enumerate(items):
        if order.cancelled_at is not None and moved_at > order.cancelled_at:
            problems.append(f"{where}[{at}]: the order was cancelled at {order.cancelled_at}")
    wanted: Counter[str] = Counter()
    for name, quantity, _ in items:
        wanted[name] += quantity
    for name, units in wanted.items():
        left = order.lines[name].remaining(road)
        if units > left:
            problems.append(f"{where}: {units} of {name} are more than the {left} that remain")
    if road != "fulfilled":
        problems += _unpaired(where, order, wanted)
    if problems:
        return invalid(*problems)
    for name, units in wanted.items():
        line = order.lines[name]
        setattr(line, road, getattr(line, road) + units)
    return None


def _unknown(order: _Order, where: str, names: list[str]) -> list[str]:
    return [
        f"{where}[{at}].line_item_id: {name} is no line item of this order"
        for at, name in enumerate(names)
        if name not in order.lines
    ]


def _unpaired(where: str, order: _Order, wanted: Counter[str]) -> list[str]:
    """Protections that would keep more units than their product has left.

    The reference links by product, not by line: where two lines are the same product, nobody can say which of
    them is protected, and nothing is asked.
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


def _times(payload: _Payload) -> list[str]:
    match payload:
        case _OrderPlaced():
            return [payload.placed_at]
        case _FulfillmentAdded():
            return [item.fulfilled_at for item in payload.fulfillment_items]
        case _RefundAdded():
            return [item.refunded_at for item in payload.refund_items]
        case _LineItemsCancelled():
            return [item.cancelled_at for item in payload.cancelled_line_items]
        case _OrderCancelled():
            return [payload.cancelled_at]


def _is_time(text: str) -> bool:
    """The pattern has seen to the form; this to the calendar."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
