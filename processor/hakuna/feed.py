"""feed: the order feed: one order as it stands, and the array in which many of them go out.

Owned by transform, which calls `snapshot` after each applied event; send joins the bytes by `array`. Pure.

Decisions, where the feed's documents are silent:

- The feed has no cancelled line item: a cancelled unit is written as refunded at the time of its cancellation.
- A protection's movements follow from its product (`_insure`). They are worked out anew from all that the shop has
  reported, in the order of its times: the same facts make the same bytes, in whatever order they came.
- Fulfilments and refunds are in the order of their own times, not of their arrival, so that one history has one
  snapshot in whatever order its events came.
- A whole order's cancellation is `status` and `cancelled_at`; it refunds no unit.
- `custom_properties` is left out if it would be empty: on a line item that is neither protected nor a protection, and
  on a protection without offer and plan. The feed's documents show no such line; those of the Events API show it
  without.
- If a product has several protections, the first is named, because the feed has room for one.
- Times are epoch milliseconds as they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from processor.hakuna.events import BillingAddress, billing_address
from processor.records import LineItem, Movement, Order


class _Customer(msgspec.Struct, frozen=True, gc=False):
    first_name: str
    last_name: str
    email: str
    phone: str


class _Price(msgspec.Struct, frozen=True, gc=False):
    amount: int
    currency: str


class _ProductData(msgspec.Struct, frozen=True, gc=False):
    id: str
    price: _Price
    brand: str
    title: str


class _Fulfilment(msgspec.Struct, frozen=True, gc=False):
    quantity: int
    fulfilled_at: int


class _Refund(msgspec.Struct, frozen=True, gc=False):
    quantity: int
    refunded_at: int


class _LineItem(msgspec.Struct, frozen=True, gc=False):
    id: str
    quantity: int
    product_data: _ProductData
    custom_properties: dict[str, str] | msgspec.UnsetType
    fulfillments: list[_Fulfilment]
    refunds: list[_Refund]


class _Order(msgspec.Struct, frozen=True, gc=False):
    id: str
    status: Literal["placed", "cancelled"]
    placed_at: int
    cancelled_at: int | None
    customer: _Customer
    customer_billing_address: BillingAddress
    line_items: list[_LineItem]


_encoder: Final = msgspec.json.Encoder()


def snapshot(order: Order) -> bytes:
    """Returns the whole order as one JSON object, UTF-8."""
    placed = order.placed
    customer = placed.customer
    currency = placed.currency.lower()
    protected_by: dict[str, str] = {}
    for line in placed.line_items:
        if line.protection is not None:
            protected_by.setdefault(line.protection.protects_line_item_id, line.id)
    fulfilments: dict[str, list[_Fulfilment]] = {}
    for item in _by_time(order.fulfilments):
        fulfilments.setdefault(item.line_item_id, []).append(_Fulfilment(item.quantity, item.at_ms))
    refunds: dict[str, list[_Refund]] = {}
    for item in _by_time(order.refunds + order.cancellations):
        refunds.setdefault(item.line_item_id, []).append(_Refund(item.quantity, item.at_ms))
    if protected_by:
        _insure(placed.line_items, fulfilments, refunds)
    lines: list[_LineItem] = []
    for line in placed.line_items:
        product, properties = _product_data(line, currency), _custom_properties(line, protected_by.get(line.id))
        out, back = fulfilments.get(line.id, []), refunds.get(line.id, [])
        lines.append(_LineItem(line.id, line.quantity, product, properties, out, back))
    first, last = customer.first_name or "", customer.last_name or ""
    who = _Customer(first, last, customer.email or "", customer.phone or "")
    status: Literal["placed", "cancelled"] = "placed" if order.cancelled_at_ms is None else "cancelled"
    address = billing_address(placed.billing_address)
    whole = _Order(placed.order_id, status, placed.placed_at_ms, order.cancelled_at_ms, who, address, lines)
    return _encoder.encode(whole)


def array(snapshots: Sequence[bytes]) -> bytes:
    """Returns the body of one request: the snapshots as they are, in their order."""
    assert snapshots, "a request without an order"
    return b"[" + b",".join(snapshots) + b"]"


def _insure(
    lines: Sequence[LineItem], fulfilments: dict[str, list[_Fulfilment]], refunds: dict[str, list[_Refund]]
) -> None:
    """Replaces the reported movements of each protection by those that follow from its product:

    fulfilled    with the product, unit by unit, up to its own quantity
    gone         by any time, max(units that the shop took, its quantity − units that its product had left by then);
                 the latter once a unit of the product was refunded or cancelled
    """
    for line, product in _products_first(lines):
        fulfilments[line.id] = _with(fulfilments.get(product.id, ()), line.quantity)
        refunds[line.id] = _gone(line.quantity, refunds.get(line.id, ()), product.quantity, refunds.get(product.id, ()))


def _products_first(lines: Sequence[LineItem]) -> Iterator[tuple[LineItem, LineItem]]:
    """Returns each protection with its line, and a protected one before its own protection; none of a circle."""
    by_id = {line.id: line for line in lines}
    followed: set[str] = set()
    circular: set[str] = set()
    for line in lines:
        chain: list[LineItem] = []
        met: set[str] = set()
        while line.protection is not None and not (line.id in followed or line.id in met or line.id in circular):
            met.add(line.id)
            chain.append(line)
            line = by_id[line.protection.protects_line_item_id]
        if line.id in met or line.id in circular:
            circular |= met
            continue
        while chain:
            product, line = line, chain.pop()
            followed.add(line.id)
            yield line, product


def _with(product: Sequence[_Fulfilment], quantity: int) -> list[_Fulfilment]:
    found: list[_Fulfilment] = []
    for one in product:
        if quantity <= 0:
            break
        found.append(_Fulfilment(min(quantity, one.quantity), one.fulfilled_at))
        quantity -= one.quantity
    return found


def _gone(quantity: int, own: Sequence[_Refund], ordered: int, product: Sequence[_Refund]) -> list[_Refund]:
    if not product:
        return list(own)
    found: list[_Refund] = []
    taken, left, gone = 0, ordered, 0
    mine, theirs = 0, 0
    for at_ms in sorted({one.refunded_at for one in (*own, *product)}):
        while mine < len(own) and own[mine].refunded_at == at_ms:
            taken += own[mine].quantity
            mine += 1
        while theirs < len(product) and product[theirs].refunded_at == at_ms:
            left -= product[theirs].quantity
            theirs += 1
        by_now = max(taken, quantity - left if theirs else 0)
        if by_now > gone:
            found.append(_Refund(by_now - gone, at_ms))
            gone = by_now
    return found


def _by_time(movements: tuple[Movement, ...]) -> Sequence[Movement]:
    if len(movements) < 2:
        return movements
    return sorted(movements, key=lambda movement: (movement.at_ms, movement.quantity))


def _product_data(line: LineItem, currency: str) -> _ProductData:
    brand = line.product_brand if line.protection is None else "hakuna"
    return _ProductData(line.product_id, _Price(line.price_amount, currency), brand, line.product_title)


def _custom_properties(line: LineItem, protected_by: str | None) -> dict[str, str] | msgspec.UnsetType:
    properties: dict[str, str] = {}
    if protected_by is not None:
        properties["protection_line_item_id"] = protected_by
    if line.protection is not None:
        if line.protection.offer_id is not None:
            properties["offer_id"] = line.protection.offer_id
        if line.protection.plan_id is not None:
            properties["plan_id"] = line.protection.plan_id
    return properties or msgspec.UNSET
