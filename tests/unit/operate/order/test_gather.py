"""What of an order says where its producers put it."""

from __future__ import annotations

import pytest

from processor.operate.order.gather import Found
from processor.records import Headers, Record
from processor.topics import Topic
from tests.unit.letters import written_by_others as others

OURS: Headers = [
    ("__dlq.errors.topic", b"orders.placed"), ("__dlq.errors.partition", b"0"), ("__dlq.errors.offset", b"1"),
    ("__dlq.errors.reason", b"key_mismatch"),
]  # fmt: skip


def found(topic: Topic, headers: Headers) -> Found:
    return Found(b"ord-1", 0, records={topic: [Record(topic.value, 0, 7, 1, b"ord-1", b"x", headers)]})


@pytest.mark.parametrize("tool", others.WHOLE)
def test_a_letter_of_another_tool_says_nothing_of_the_producers_of_its_order(tool: str) -> None:
    letters = found(Topic.ORDER_DEAD_LETTERS, others.WHOLE[tool].headers)
    assert letters.anything
    assert not letters.is_placed
    letters.join(found(Topic.PLACED, []))
    assert letters.is_placed


def test_a_letter_of_ours_lies_where_its_record_stood() -> None:
    assert found(Topic.ORDER_DEAD_LETTERS, OURS).is_placed
    assert not Found(b"ord-1", 0).is_placed
