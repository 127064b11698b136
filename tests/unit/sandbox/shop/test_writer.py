"""The writer, on the broker and the registry that the demo uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from io import BytesIO

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition
from fastavro import parse_schema, schemaless_reader

from processor.edges.avro import reader_schema
from processor.errors import Fatal, RegistryOutage, Unusable
from processor.records import Position
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.demo.demo import PARTITIONS, EmbeddedBroker
from processor.sandbox.shop.history import TRANSFORMED, Step, Truncated
from processor.sandbox.shop.orders import Shop, shop
from processor.sandbox.shop.writer import OrderWriter, write_in_time
from processor.topics import ORDER_TOPICS, Topic

PREFIX = "shop."


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        broker.create([PREFIX + topic for topic in ORDER_TOPICS])
        yield broker


def read(
    bootstrap_servers: str, topic: str, counts: dict[int, int]
) -> dict[Position, tuple[bytes | None, bytes | None, int]]:
    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "unused", "enable.auto.commit": False})
    found: dict[Position, tuple[bytes | None, bytes | None, int]] = {}
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in counts])
        while len(found) < sum(counts.values()):
            message = consumer.poll(10)
            assert message is not None, f"{len(found)} of {sum(counts.values())} records of {topic}"
            assert message.error() is None
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            found[Position(topic, partition, offset)] = (message.key(), message.value(), message.timestamp()[1])
    finally:
        consumer.close()
    return found


def test_records_arrive_as_they_were_planned(broker: EmbeddedBroker) -> None:
    """Every record is at the position that was told, with its key, time and bytes; an order has one partition
    number."""
    registry = RegistryApi()
    written: dict[Position, Step] = {}
    plan = Shop(orders=60, rate=1_000, bad_share=0.5, seed=3, start_ms=1_700_000_000_000)
    with Loopback(StandIn(registry)) as loopback:
        writer = OrderWriter(
            {"bootstrap.servers": broker.bootstrap_servers},
            loopback.url,
            topic_prefix=PREFIX,
            written=lambda step, position: written.__setitem__(position, step),
        )
        count = write_in_time(writer, shop(plan), lambda: 2_000_000_000_000, lambda: False)
    assert count == len(written)
    partitions = defaultdict(set)
    counts: dict[str, dict[int, int]] = defaultdict(lambda: dict.fromkeys(range(PARTITIONS), 0))
    for position, step in written.items():
        partitions[step.key].add(position.partition)
        counts[position.topic][position.partition] += 1
    assert {len(numbers) for numbers in partitions.values()} == {1}
    assert set(counts) == {PREFIX + topic for topic in ORDER_TOPICS}
    for topic in ORDER_TOPICS:
        framing = b"\x00" + registry.register(f"{PREFIX}{topic}-value", reader_schema(topic)).id.to_bytes(4, "big")
        schema = parse_schema(orjson.loads(reader_schema(topic)))
        for position, (key, value, timestamp_ms) in read(
            broker.bootstrap_servers, PREFIX + topic, counts[PREFIX + topic]
        ).items():
            step = written[position]
            assert (key, timestamp_ms) == (step.key, step.timestamp_ms)
            if isinstance(step.value, bytes) or step.value is None:
                assert value == step.value
                continue
            assert value is not None
            assert value.startswith(framing)
            if isinstance(step.value, Truncated):
                with pytest.raises((EOFError, IndexError)):
                    schemaless_reader(BytesIO(value[5:]), schema, None)
            else:
                event = schemaless_reader(BytesIO(value[5:]), schema, None)
                assert isinstance(event, dict)
                assert event["order_id"] == step.value["order_id"]


def test_a_registry_that_is_not_there_is_an_outage(broker: EmbeddedBroker) -> None:
    with Loopback(StandIn(RegistryApi("user:secret"))) as loopback, pytest.raises(RegistryOutage, match="401"):
        OrderWriter({"bootstrap.servers": broker.bootstrap_servers}, loopback.url, written=lambda step, position: None)


def test_settings_that_librdkafka_does_not_know_are_unusable() -> None:
    with pytest.raises(Unusable, match=r"no\.such\.setting"):
        OrderWriter({"no.such.setting": "1"}, "http://127.0.0.1:1", written=lambda step, position: None)


def test_a_record_that_cannot_be_written_ends_the_writing(broker: EmbeddedBroker) -> None:
    with Loopback(StandIn(RegistryApi())) as loopback:
        writer = OrderWriter(
            {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": "1000"},
            loopback.url,
            topic_prefix=PREFIX,
            written=lambda step, position: None,
        )
        with pytest.raises(Fatal, match="too large"):
            writer.write(Step(Topic.PLACED, b"ord-1", b"x" * 2_000, 1, TRANSFORMED))


def test_writing_stops_when_it_is_told_to(broker: EmbeddedBroker) -> None:
    with Loopback(StandIn(RegistryApi("user:secret"))) as loopback:
        writer = OrderWriter(
            {"bootstrap.servers": broker.bootstrap_servers},
            loopback.url,
            registry_auth="user:secret",
            topic_prefix=PREFIX,
            written=lambda step, position: None,
        )
        plan = Shop(orders=10, rate=1, bad_share=0, seed=3, start_ms=1_000)
        asked = iter([False, False, True])
        assert write_in_time(writer, shop(plan), lambda: 1_000, lambda: next(asked)) == 1
