"""A shop's stock as the demo tells of it: items, warehouses and levels, with what Hako's role has to sort out.

Levels come before the items that they name, most of what is said is out of date a moment later, some of it from the
start, and some items are sold off: deleted, with their levels. `steps` are the records in their order, `tables` what
Hako must hold in the end, as its stand-in shows it. Pure; the same seed, the same stock.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from processor.records import Outcome
from processor.sandbox.history import Expected, Step
from processor.topics import Topic

ITEMS: Final = 60
WAREHOUSES: Final = ("north", "south", "harbour")
COUNTS: Final = 2_000
SOLD_OFF: Final = 6

_SENT: Final = Expected(Outcome.DELIVERED)
"""Or replaced by a newer one, or stale: which of them is a matter of moments."""


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
