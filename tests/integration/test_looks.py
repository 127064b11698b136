"""What a group has left of others' partitions, on a real Kafka: what an erasure in rekey waits for."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as Where

from processor.edges.kafka.looks import KafkaOthers
from processor.records import TopicPartition
from tests.support.topics import TopicSpace

GROUP = "rekey-of-this-test"
AT_MS = 1_700_000_000_000


def test_the_first_record_that_is_left_says_from_when_and_markers_are_no_records(topic_space: TopicSpace) -> None:
    topic_space.create("placed", partitions=2)
    topic_space.create("refunded")
    topics = placed, refunded = topic_space.name("placed"), topic_space.name("refunded")
    servers = {"bootstrap.servers": topic_space.bootstrap_servers}
    group = topic_space.prefix + GROUP
    others = KafkaOthers(servers, group, topics, client_id="others")
    everything = {TopicPartition(placed, 0), TopicPartition(placed, 1), TopicPartition(refunded, 0)}

    def committed(*offsets: tuple[str, int, int]) -> None:
        consumer = Consumer({**servers, "group.id": group, "enable.auto.commit": False})
        consumer.commit(offsets=[Where(*one) for one in offsets], asynchronous=False)
        consumer.close()

    assert others.left(set()) == {}
    assert others.left(everything) is None
    writer = Producer({**servers, "transactional.id": f"{group}.writer"})
    writer.init_transactions(30)
    for at_ms in (AT_MS, AT_MS + 5, AT_MS // 1000):
        writer.begin_transaction()
        writer.produce(placed, b"v", b"k", partition=0, timestamp=at_ms)
        writer.produce(refunded, None, b"k", partition=0, timestamp=at_ms)
        writer.commit_transaction(30)
    assert others.left(set()) == {TopicPartition(placed, 0): AT_MS, TopicPartition(refunded, 0): AT_MS}
    assert others.left({TopicPartition(refunded, 0)}) == {TopicPartition(placed, 0): AT_MS}
    committed((placed, 0, 1), (refunded, 0, 3))  # what stands at 1 and 3 are markers
    assert others.left(set()) == {TopicPartition(placed, 0): AT_MS + 5, TopicPartition(refunded, 0): AT_MS}, (
        "a stamp in seconds is taken for what it means"
    )
    committed((placed, 0, 5), (refunded, 0, 5))
    assert others.left(set()) == {}
