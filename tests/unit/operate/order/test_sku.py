"""A SKU's timeline says what each record became."""

from __future__ import annotations

from typing import Any

import msgspec

from processor.operate.order.sku import FoundSku, is_of, sku_line, tell_sku
from processor.records import Record, TopicPartition
from processor.topics import Topic

LEVELS = TopicPartition("inventory.levels", 0)


def level(offset: int, quantity: int | None, occurred_at: int) -> Record:
    value = None if quantity is None else msgspec.json.encode({"quantity": quantity, "occurred_at": occurred_at})
    return Record("inventory.levels", 0, offset, 1_000 + offset, b"w/a/b", value, [])


def sent(rank: int, occurred_at: int) -> Record:
    value = {"rank": rank, "occurred_at": occurred_at, "verb": "PUT", "status": 200, "attempts": 1, "sent_at": 2_000}
    return Record("hako.sent", 0, 0, 2_000, b"inventory/w/a/b", msgspec.json.encode(value), [])


def fields(record: Record) -> dict[str, Any]:
    return msgspec.json.decode(record.value or b"{}", type=dict[str, Any])


def test_a_key_names_a_sku_alone_or_behind_its_warehouse() -> None:
    for key in (b"a/b", b"w/a/b", b"items/a/b", b"inventory/w/a/b"):
        assert is_of(key, b"a/b")
    for other in (None, b"a", b"w/a", b"w/a/b/c", b"warehouses/a"):
        assert not is_of(other, b"a/b")


def test_each_record_says_what_it_became() -> None:
    records = [level(0, 1, 10), level(1, 2, 20), level(2, 0, 5), level(3, 9, 30)]
    found = FoundSku({Topic.LEVELS: records, Topic.HAKO_SENT: [sent(1, 20)]}, {LEVELS: 3})
    told = tell_sku(found, {Topic.LEVELS: fields})
    became = [one.facts["became"] for one in told if one.kind == "event"]
    assert became == ["superseded", "delivered", "superseded", "waiting"]
    assert [one.kind.value for one in told][-1] == "delivery"
    assert sku_line(told[3])[1] == "w/a/b: quantity 9, occurred_at 30 → waiting"


def test_a_record_that_is_stamped_in_seconds_stands_at_its_time() -> None:
    seconds = Record("inventory.levels", 0, 0, 1_790_000_000, b"w/a/b", None, [])
    found = FoundSku({Topic.LEVELS: [seconds]}, {LEVELS: 3})
    assert [one.at_ms for one in tell_sku(found, {Topic.LEVELS: fields})] == [1_790_000_000_000]


def test_an_old_count_that_came_last_was_ignored() -> None:
    found = FoundSku({Topic.LEVELS: [level(2, 0, 5)], Topic.HAKO_SENT: [sent(1, 20)]}, {LEVELS: 3})
    assert tell_sku(found, {Topic.LEVELS: fields})[0].facts["became"] == "ignored"
