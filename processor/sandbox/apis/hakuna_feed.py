"""Hakuna's Order feed: arrays of whole orders. Each order is judged by itself; all are taken or none.

An order of the feed holds everything that is known of it, so it is compared with its own last snapshot alone. A
snapshot with fewer movements than the last one is stale. The feed would believe it, so it is no error; `stale` counts
it, because a processor that supersedes unsent snapshots never sends one.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from processor.sandbox.apis.hakuna_events import (
    BillingAddress,
    Currency,
    Identity,
    Quantity,
    Refusal,
    WellFormed,
    invalid,
    unsupported,
)
from processor.sandbox.apis.record import Recent
from processor.sandbox.apis.script import Script

BRAND: Final = "hakuna"
MILLISECONDS_MIN: Final = 100_000_000_000
"""1973 in milliseconds, the year 5138 in seconds. A smaller number was meant in seconds."""

Milliseconds = Annotated[int, msgspec.Meta(ge=MILLISECONDS_MIN)]


class _Customer(Struct, frozen=True, forbid_unknown_fields=True):
    first_name: str
    last_name: str
    email: str
    phone: str


class _Price(Struct, frozen=True, forbid_unknown_fields=True):
    amount: int
    currency: Currency


class _ProductData(Struct, frozen=True, forbid_unknown_fields=True):
    id: Identity
    price: _Price
    brand: str
    title: str


class _CustomProperties(Struct, frozen=True, forbid_unknown_fields=True):
    protection_line_item_id: Identity | UnsetType = UNSET
    offer_id: Identity | UnsetType = UNSET
    plan_id: Identity | UnsetType = UNSET


class _Fulfillment(Struct, frozen=True, forbid_unknown_fields=True):
    quantity: Quantity
    fulfilled_at: Milliseconds


class _Refund(Struct, frozen=True, forbid_unknown_fields=True):
    quantity: Quantity
    refunded_at: Milliseconds


class _LineItem(Struct, frozen=True, forbid_unknown_fields=True):
    id: Identity
    quantity: Quantity
    product_data: _ProductData
    fulfillments: list[_Fulfillment]
    refunds: list[_Refund]
    custom_properties: _CustomProperties | UnsetType = UNSET

    @property
    def fulfilled(self) -> int:
        return sum(one.quantity for one in self.fulfillments)

    @property
    def refunded(self) -> int:
        return sum(one.quantity for one in self.refunds)


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    """One order of the feed."""

    id: Identity
    status: Literal["placed", "cancelled"]
    placed_at: Milliseconds
    cancelled_at: Milliseconds | None
    customer: _Customer
    customer_billing_address: BillingAddress
    line_items: Annotated[list[_LineItem], msgspec.Meta(min_length=1)]


_RAW = msgspec.json.Decoder(Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)])
_ORDERS = msgspec.json.Decoder(list[Order])


class Feed:
    """Mutable: `_orders` is the newest snapshot of each order; `stale` counts, by order, the snapshots that had fewer
    movements than the one before."""

    def __init__(self) -> None:
        self._orders: Recent[Order] = Recent()
        self.stale: Counter[str] = Counter()

    def read(self, body: bytes, script: Script) -> WellFormed | Refusal:
        """Decodes the orders in `body`. Returns a refusal if one has a wrong shape or contradicts itself."""
        try:
            raw = _RAW.decode(body)
            orders = _ORDERS.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            return invalid(str(wrong))
        problems = [
            f"{count} orders have the id {name}"
            for name, count in Counter(order.id for order in orders).items()
            if count > 1
        ]
        for at, order in enumerate(orders):
            problems += [f"[{at}] {order.id}: {problem}" for problem in _problems(order)]
        if problems:
            return invalid(*problems)
        entries = tuple((order.id, bytes(one)) for order, one in zip(orders, raw, strict=True))
        return WellFormed(entries, partial(self._take, orders, script))

    def contents(self) -> object:
        """Returns the newest snapshots by order ID, as JSON values, and the counts of stale ones."""
        return {
            "orders": {name: msgspec.to_builtins(order) for name, order in list(self._orders.items())},
            "stale": dict(self.stale),
        }

    def _take(self, orders: list[Order], script: Script) -> Refusal | None:
        for at, order in enumerate(orders):
            refusal = unsupported(
                script,
                f"[{at}] {order.id}",
                order.customer_billing_address.country,
                [item.product_data.id for item in order.line_items],
            )
            if refusal is not None:
                return refusal
        for order in orders:
            last = self._orders.get(order.id)
            if last is not None and _movements(order) < _movements(last):
                self.stale[order.id] += 1
            self._orders[order.id] = order
        return None


def _movements(order: Order) -> int:
    moved = sum(item.fulfilled + item.refunded for item in order.line_items)
    return moved + (order.status == "cancelled")


def _problems(order: Order) -> list[str]:
    problems = []
    if (order.status == "cancelled") != (order.cancelled_at is not None):
        problems.append(f"cancelled_at: {order.cancelled_at} with status {order.status}")
    lines = {item.id: item for item in order.line_items}
    if len(lines) < len(order.line_items):
        problems.append("line_items: an id stands twice")
    if len({item.product_data.price.currency for item in order.line_items}) > 1:
        problems.append("line_items: more than one currency")
    for at, item in enumerate(order.line_items):
        problems += [f"line_items[{at}]{problem}" for problem in _item_problems(item, lines)]
    return problems


def _item_problems(item: _LineItem, lines: dict[str, _LineItem]) -> list[str]:
    problems = []
    if item.fulfilled > item.quantity:
        problems.append(f".fulfillments: {item.fulfilled} of {item.quantity}")
    if item.refunded > item.quantity:
        problems.append(f".refunds: {item.refunded} of {item.quantity}")
    brand = item.product_data.brand
    if brand.casefold() == BRAND and brand != BRAND:
        problems.append(f".product_data.brand: {brand!r}, must be {BRAND!r}")
    properties = item.custom_properties
    if not properties:
        return problems
    if properties == _CustomProperties():
        problems.append(".custom_properties: empty, leave it out")
    if brand == BRAND and properties.protection_line_item_id:
        problems.append(".custom_properties.protection_line_item_id: of a protection")
    if brand != BRAND and (properties.offer_id or properties.plan_id):
        problems.append(".custom_properties: offer_id and plan_id are a protection's")
    if properties.protection_line_item_id:
        problems += _pair_problems(item, lines.get(properties.protection_line_item_id))
    return problems


def _pair_problems(product: _LineItem, protection: _LineItem | None) -> list[str]:
    where = ".custom_properties.protection_line_item_id"
    if protection is None:
        return [f"{where}: no line item of this order"]
    if protection.product_data.brand != BRAND:
        return [f"{where}: {protection.id} has the brand {protection.product_data.brand!r}, must be {BRAND!r}"]
    problems = []
    left, kept = product.quantity - product.refunded, protection.quantity - protection.refunded
    if product.refunded and kept > left:
        problems.append(f".refunds: without its protection {protection.id}: {left} are left, and {kept} of that")
    if protection.fulfilled != min(product.fulfilled, protection.quantity):
        problems.append(f".fulfillments: without its protection {protection.id}, of that {protection.fulfilled}")
    return problems
