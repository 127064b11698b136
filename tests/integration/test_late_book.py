"""A worker that stood still for a session writes its book after its heir's: `order` and `rewind` go by the heir's, on a
real Kafka."""

from __future__ import annotations

import time

from confluent_kafka import Producer

from processor.send.kafka_thread.beginnings import LATE_MS, Book, Gap, decode_book, encode_book
from processor.topics import Topic
from tests.support.commands import ask
from tests.support.topics import TopicSpace


def test_a_book_that_arrived_after_its_heirs_is_not_the_book(topic_space: TopicSpace) -> None:
    topic_space.create(Topic.OUTBOX, Topic.SEND_OFFSETS, Topic.CHANGELOG, Topic.HOLDS)
    outbox, books = topic_space.name(Topic.OUTBOX), topic_space.name(Topic.SEND_OFFSETS)
    writer = Producer({"bootstrap.servers": topic_space.bootstrap_servers})
    for number in range(3):
        writer.produce(outbox, b"{}", b"ord-%d" % number, partition=0)
    now_ms, gap = round(time.time() * 1000), Gap(1_790_000_000_000, 4, 2)
    for made_ms, value in (
        (now_ms, encode_book("c/t/1", "holds-2", 3, [], gap)),
        (now_ms - LATE_MS - 1_000, encode_book("c/t/1", "holds-1", 2, [], Gap(1_789_000_000_000, 1, 1))),
    ):
        writer.produce(books, value, b"0", partition=0, timestamp=made_ms)
        writer.flush(30)

    told = ask("order", "ord-9", environment=topic_space.environment)
    assert f"4 records of {outbox}/0 before offset 2 were deleted before they were taken" in told.err
    rewound = ask("rewind", "--role", "send", "--to", "earliest", environment=topic_space.environment)
    assert rewound.code == 0, rewound.err
    book = decode_book(topic_space.records(Topic.SEND_OFFSETS)[-1].value() or b"")
    assert book is not None
    assert book == Book(book.place, "holds-2", 0, [], gap)
