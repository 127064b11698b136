"""What of an order says where its producers put it."""

from __future__ import annotations

import pytest

from processor.operate.order.gather import Found, missed
from processor.records import Headers, Record
from processor.send.kafka_thread.beginnings import LATE_MS, Gap, encode_book
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


def test_what_was_missed_is_what_the_newest_book_says_and_not_one_that_arrived_after_it() -> None:
    """A worker that stood still for a session writes its book after its heir's, which had found the gap."""
    heirs, late = (encode_book("here", None, 9, [], Gap(50_000, missed, 9)) for missed in (4, 1))
    records = [
        Record(Topic.SEND_OFFSETS, 3, 0, 60_000, b"3", heirs, []),
        Record(Topic.SEND_OFFSETS, 3, 1, 60_000 - LATE_MS - 1, b"3", late, []),
    ]
    (note,) = missed(3, records, Topic.SEND_OFFSETS, Topic.OUTBOX)
    assert note.startswith("4 records of hakuna.outbox/3 before offset 9 were deleted before they were taken")
    newer = Record(Topic.SEND_OFFSETS, 3, 2, 61_000, b"3", encode_book("here", None, 5, []), [])
    assert missed(3, [*records, newer], Topic.SEND_OFFSETS, Topic.OUTBOX) == [], "it is the newest"
