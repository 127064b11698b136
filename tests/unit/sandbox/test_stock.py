"""The demo's stock: what Hako must hold in the end is what its records say last."""

from __future__ import annotations

from typing import Any

from processor.sandbox.stock import SOLD_OFF, stock
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
