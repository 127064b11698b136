"""A shop's stock: items, warehouses and levels, in the disorder that the role hako must sort out. `stock` is the demo's
and ends; `changing` is `simulate`'s and does not.

Levels come before their items, most are replaced a moment later, some are stale from the start, and some items are
deleted with their levels. Pure; the same seed gives the same stock.
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

REFUSED_SKU: Final = "hk-refused"
"""An item for a stand-in that is set to refuse it."""
_BAD_KINDS: Final = 4
_LATE_MS: Final = 1_000_000
_SENT: Final = Expected(Outcome.DELIVERED)
"""Or superseded by a newer one, or stale: that depends on timing."""
_SKUS: Final = tuple(f"hk-{number:03d}" for number in range(ITEMS))

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stock:
    """`steps` are the records in their order, `tables` what Hako must hold in the end, as its stand-in shows it."""

    steps: tuple[Step, ...]
    tables: dict[str, list[Fields]]


def _step(topic: Topic, key: str, value: Fields | Truncated | None, at_ms: int) -> Step:
    return Step(topic, key.encode(), value, at_ms, _SENT)


def _item(sku: str, price: int | None, at_ms: int) -> Step:
    return _step(Topic.ITEMS, sku, {"sku": sku, "name": f"Item {sku}", "expires": None, "price": price}, at_ms)


def _warehouse(name: str, at_ms: int) -> Step:
    return _step(Topic.WAREHOUSES, name, {"warehouse_id": name, "name": name.title()}, at_ms)


def _level(sku: str, warehouse: str, quantity: int, occurred_at: int, at_ms: int) -> Step:
    fields = {"sku": sku, "warehouse_id": warehouse, "quantity": quantity, "occurred_at": occurred_at}
    return _step(Topic.LEVELS, f"{warehouse}/{sku}", fields, at_ms)


def stock(seed: int, now_ms: int) -> Stock:
    chance = Random(seed)
    steps: list[Step] = []
    levels: dict[tuple[str, str], int] = {}
    for number in range(COUNTS):
        warehouse, sku = chance.choice(WAREHOUSES), chance.choice(_SKUS)
        if (warehouse, sku) in levels and chance.random() < 0.05:
            steps.append(_level(sku, warehouse, -1, now_ms - _LATE_MS, now_ms))  # a till that was offline: stale
            continue
        levels[warehouse, sku] = chance.randint(0, 500)
        steps.append(_level(sku, warehouse, levels[warehouse, sku], now_ms + number, now_ms))
    for sku in _SKUS:
        steps += [_item(sku, None, now_ms), _item(sku, len(sku), now_ms)]
    steps += [_warehouse(name, now_ms) for name in WAREHOUSES]
    gone = set(chance.sample(_SKUS, SOLD_OFF))
    for sku in sorted(gone):
        steps += [_step(Topic.LEVELS, f"{warehouse}/{sku}", None, now_ms) for warehouse in WAREHOUSES]
        steps.append(_step(Topic.ITEMS, sku, None, now_ms))
    tables: dict[str, list[Fields]] = {
        "items": [{"sku": sku, "name": f"Item {sku}", "price": len(sku)} for sku in _SKUS if sku not in gone],
        "warehouses": [{"warehouseID": one, "name": one.title()} for one in sorted(WAREHOUSES)],
        "inventory": [
            {"sku": sku, "warehouseID": warehouse, "quantity": quantity}
            for (warehouse, sku), quantity in sorted(levels.items())
            if sku not in gone
        ],
    }
    return Stock(tuple(steps), tables)


class Changing(NamedTuple):
    """`rate` changes a second from `start_ms` on, without end. `bad_share` of them are wrong, stale or refused."""

    rate: float
    bad_share: float
    seed: int
    start_ms: int


def changing(plan: Changing) -> Iterator[Step]:
    """Yields the whole catalogue at once, then one level after the other and a few items. The bad changes take turns: a
    level of an unknown item, a refused item, a stale level, a damaged record."""
    assert plan.rate > 0, "a rate of nothing never ends"
    chance = Random(f"{plan.seed}/stock")

    def level(sku: str, occurred_at: int, at_ms: int) -> Step:
        return _level(sku, chance.choice(WAREHOUSES), chance.randint(0, 500), occurred_at, at_ms)

    yield from (_warehouse(name, plan.start_ms) for name in WAREHOUSES)
    yield from (_item(sku, 100, plan.start_ms) for sku in _SKUS)
    for number in itertools.count():
        at_ms = plan.start_ms + int(number * 1000 / plan.rate)
        sku = chance.choice(_SKUS)
        if int((number + 1) * plan.bad_share) == int(number * plan.bad_share):
            yield _item(sku, chance.randint(1, 99_900), at_ms) if chance.random() < 0.1 else level(sku, at_ms, at_ms)
            continue
        match int(number * plan.bad_share) % _BAD_KINDS:
            case 0:
                yield level(f"hk-unheard-of-{number % 5}", at_ms, at_ms)
            case 1:
                yield _item(REFUSED_SKU, number, at_ms)
            case 2:
                yield level(sku, at_ms - _LATE_MS, at_ms)
            case _:
                damaged = level(sku, at_ms, at_ms)
                assert isinstance(damaged.value, dict), "a level has fields"
                yield damaged._replace(value=Truncated(damaged.value))
