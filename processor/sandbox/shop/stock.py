"""A shop's stock: items, warehouses and levels, with what Hako's role has to sort out. `stock` is the demo's, which has
an end; `changing` is `simulate`'s, which goes on.

Levels come before the items that they name, most of what is said is out of date a moment later, some of it from the
start, and some items are sold off: deleted, with their levels. `steps` are the records in their order, `tables` what
Hako must hold in the end, as its stand-in shows it. Pure; the same seed, the same stock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final, NamedTuple

from processor.records import Outcome
from processor.sandbox.shop.history import Expected, Step, Truncated
from processor.topics import Topic

ITEMS: Final = 60
WAREHOUSES: Final = ("north", "south", "harbour")
COUNTS: Final = 2_000
SOLD_OFF: Final = 6

_SENT: Final = Expected(Outcome.DELIVERED)
"""Or replaced by a newer one, or stale: which of them is a matter of moments."""


REFUSED_SKU: Final = "hk-refused"
"""For a stand-in that is told to refuse it."""
_BAD_KINDS: Final = 4


@dataclass(frozen=True, slots=True)
class Stock:
    """See the module."""

    steps: tuple[Step, ...]
    tables: dict[str, list[dict[str, Any]]]


def stock(seed: int, now_ms: int) -> Stock:
    chance = Random(seed)
    skus = [f"hk-{number:03d}" for number in range(ITEMS)]
    steps: list[Step] = []
    levels: dict[tuple[str, str], int] = {}

    def say(topic: Topic, key: str, value: dict[str, Any] | None) -> None:
        steps.append(Step(topic, key.encode(), value, now_ms, _SENT))

    def count(warehouse: str, sku: str, quantity: int, at_ms: int) -> None:
        said = {"sku": sku, "warehouse_id": warehouse, "quantity": quantity, "occurred_at": at_ms}
        say(Topic.LEVELS, f"{warehouse}/{sku}", said)

    for number in range(COUNTS):
        warehouse, sku = chance.choice(WAREHOUSES), chance.choice(skus)
        if (warehouse, sku) in levels and chance.random() < 0.05:
            count(warehouse, sku, -1, now_ms - 1_000_000)  # a till that was off line: out of date
            continue
        levels[warehouse, sku] = chance.randint(0, 500)
        count(warehouse, sku, levels[warehouse, sku], now_ms + number)
    for sku in skus:
        say(Topic.ITEMS, sku, {"sku": sku, "name": f"Item {sku}", "expires": None, "price": None})
        say(Topic.ITEMS, sku, {"sku": sku, "name": f"Item {sku}", "expires": None, "price": len(sku)})
    for warehouse in WAREHOUSES:
        say(Topic.WAREHOUSES, warehouse, {"warehouse_id": warehouse, "name": warehouse.title()})
    gone = set(chance.sample(skus, SOLD_OFF))
    for sku in sorted(gone):
        for warehouse in WAREHOUSES:
            say(Topic.LEVELS, f"{warehouse}/{sku}", None)
        say(Topic.ITEMS, sku, None)
    tables: dict[str, list[dict[str, Any]]] = {
        "items": [{"sku": sku, "name": f"Item {sku}", "price": len(sku)} for sku in skus if sku not in gone],
        "warehouses": [{"warehouseID": one, "name": one.title()} for one in sorted(WAREHOUSES)],
        "inventory": [
            {"sku": sku, "warehouseID": warehouse, "quantity": quantity}
            for (warehouse, sku), quantity in sorted(levels.items())
            if sku not in gone
        ],
    }
    return Stock(tuple(steps), tables)


class Changing(NamedTuple):
    """`rate` changes a second from `start_ms` on, without end; `bad_share` of them ask for more than to be sent."""

    rate: float
    bad_share: float
    seed: int
    start_ms: int


def changing(plan: Changing) -> Iterator[Step]:
    """The whole catalogue at once, then a level after the other and now and then an item. The bad ones in turn: of an
    item that nobody tells of, an item that is refused, out of date, with its last bytes lost."""
    assert plan.rate > 0, "a rate of nothing never ends"
    chance = Random(f"{plan.seed}/stock")
    skus = [f"hk-{number:03d}" for number in range(ITEMS)]

    def step(topic: Topic, key: str, value: dict[str, Any] | Truncated, at_ms: int) -> Step:
        return Step(topic, key.encode(), value, at_ms, _SENT)

    def item(sku: str, price: int, at_ms: int) -> Step:
        fields = {"sku": sku, "name": f"Item {sku}", "expires": None, "price": price}
        return step(Topic.ITEMS, sku, fields, at_ms)

    def level(sku: str, occurred_at: int) -> tuple[str, dict[str, Any]]:
        warehouse = chance.choice(WAREHOUSES)
        fields = {"sku": sku, "warehouse_id": warehouse, "quantity": chance.randint(0, 500), "occurred_at": occurred_at}
        return f"{warehouse}/{sku}", fields

    for warehouse in WAREHOUSES:
        fields = {"warehouse_id": warehouse, "name": warehouse.title()}
        yield step(Topic.WAREHOUSES, warehouse, fields, plan.start_ms)
    for sku in skus:
        yield item(sku, 100, plan.start_ms)
    for number in itertools.count():
        at_ms = plan.start_ms + int(number * 1000 / plan.rate)
        sku = chance.choice(skus)
        if int((number + 1) * plan.bad_share) == int(number * plan.bad_share):
            if chance.random() < 0.1:
                yield item(sku, chance.randint(1, 99_900), at_ms)
            else:
                yield step(Topic.LEVELS, *level(sku, at_ms), at_ms)
            continue
        match int(number * plan.bad_share) % _BAD_KINDS:
            case 0:
                yield step(Topic.LEVELS, *level(f"hk-unheard-of-{number % 5}", at_ms), at_ms)
            case 1:
                yield item(REFUSED_SKU, number, at_ms)
            case 2:
                yield step(Topic.LEVELS, *level(sku, at_ms - 1_000_000), at_ms)
            case _:
                key, fields = level(sku, at_ms)
                yield step(Topic.LEVELS, key, Truncated(fields), at_ms)
