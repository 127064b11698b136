"""The demo's stock: what Hako must hold in the end is what its records say last. `simulate`'s goes on for ever."""

from __future__ import annotations

from itertools import islice
from typing import Any

from processor.sandbox.shop.history import Truncated
from processor.sandbox.shop.stock import ITEMS, REFUSED_SKU, SOLD_OFF, WAREHOUSES, Changing, changing, stock
from processor.topics import STOCK_TOPICS, Topic


def test_the_tables_are_what_the_records_say_last() -> None:
    made = stock(7, 1_700_000_000_000)
    last: dict[tuple[Topic, bytes], dict[str, Any] | None] = {}
    for step in made.steps:
        assert step.value is None or isinstance(step.value, dict)
        value: dict[str, Any] | None = step.value
        before = last.get((step.topic, step.key))
        if value is None or before is None or value.get("occurred_at", 0) >= before.get("occurred_at", 0):
            last[step.topic, step.key] = value
    there = {where: value for where, value in last.items() if value is not None}
    levels = {key.decode(): value["quantity"] for (topic, key), value in there.items() if topic is Topic.LEVELS}
    assert levels == {f"{row['warehouseID']}/{row['sku']}": row["quantity"] for row in made.tables["inventory"]}
    items = {value["sku"]: value["price"] for (topic, _), value in there.items() if topic is Topic.ITEMS}
    assert items == {row["sku"]: row["price"] for row in made.tables["items"]}
    assert len(last) - len(there) > SOLD_OFF
    assert {step.topic for step in made.steps} == set(STOCK_TOPICS)


def test_the_same_seed_is_the_same_stock() -> None:
    assert stock(3, 1000) == stock(3, 1000)
    assert stock(3, 1000) != stock(4, 1000)


def test_a_stock_that_goes_on_begins_with_the_catalogue_and_keeps_its_rate() -> None:
    steps = list(islice(changing(Changing(rate=10, bad_share=0, seed=1, start_ms=5_000)), 1_063))
    catalogue, changes = steps[: len(WAREHOUSES) + ITEMS], steps[len(WAREHOUSES) + ITEMS :]
    assert {step.topic for step in catalogue} == {Topic.WAREHOUSES, Topic.ITEMS}
    assert len({step.key for step in catalogue}) == len(catalogue)
    assert [step.timestamp_ms for step in changes] == [5_000 + number * 100 for number in range(1_000)]
    assert {step.topic for step in changes} == {Topic.LEVELS, Topic.ITEMS}


def test_the_bad_changes_are_of_every_kind() -> None:
    plan = Changing(rate=10, bad_share=0.2, seed=1, start_ms=5_000_000)
    changes = list(islice(changing(plan), len(WAREHOUSES) + ITEMS, 1_063))
    told = [step.value for step in changes if isinstance(step.value, dict)]
    assert sum(isinstance(step.value, Truncated) for step in changes) == 50
    assert sum(value["sku"] == REFUSED_SKU for value in told) == 50
    assert sum(value["sku"].startswith("hk-unheard-of") for value in told) == 50
    assert sum(value.get("occurred_at", plan.start_ms) < plan.start_ms for value in told) == 50
    assert list(islice(changing(plan), 500)) == list(islice(changing(plan), 500))
