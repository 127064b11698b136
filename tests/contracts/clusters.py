"""Clients of one kind for the contract suites on Kafka, the fake broker's or a real one's, and what drives them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import Setting
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.topics import KafkaTopics
from processor.edges.kafka.transaction import KafkaTransaction, abort_left_behind
from processor.interfaces import Committed, Consumer, Polled, Producer, Reader, Topics, Transaction
from processor.records import Headers, NewRecord, Record, TopicPartition
from tests.fakes.broker import FakeBroker
from tests.fakes.kafka import FakeConsumer, FakeProducer, FakeReader, FakeTopics, FakeTransaction
from tests.support.topics import TopicSpace

WAIT_S_MAX = 30.0
CLASSIC = "range"
COOPERATIVE = "cooperative-sticky"
NEW_PROTOCOL = "consumer"


class Cluster(Protocol):
    """Makes topics and clients; `name` puts a topic, a group or an ID into this test's own corner."""

    def name(self, name: str) -> str: ...
    def create(self, *topics: str, partitions: int = 1) -> None: ...
    def consumer(
        self, group: str, client_id: str = "a", protocol: str = CLASSIC, patience_s: float = 60.0, resets: bool = True
    ) -> Consumer: ...
    def reader(self) -> Reader: ...
    def producer(self) -> Producer: ...
    def transaction(self, transactional_id: str, consumer: Consumer) -> Transaction: ...
    def abort_left_behind(self, transactional_id: str) -> None: ...
    def committed_so_far(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed]: ...
    def members(self, group: str) -> Sequence[str]: ...
    def delete_before(self, topic: str, partition: int, offset: int) -> None: ...
    def make_again(self, topic: str, partitions: int) -> None: ...
    def grow(self, topic: str, partitions: int) -> None: ...
    def limit(self, topic: str, bytes_max: int) -> None: ...
    def topics(self, *topics: str) -> Topics: ...
    def seconds(self) -> float: ...


class FakeCluster:
    """A `FakeBroker`, and time that passes by waiting."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.broker = FakeBroker(chance=chance)

    def name(self, name: str) -> str:
        return name

    def create(self, *topics: str, partitions: int = 1) -> None:
        self.broker.create(*topics, partitions=partitions)

    def consumer(
        self, group: str, client_id: str = "a", protocol: str = CLASSIC, patience_s: float = 60.0, resets: bool = True
    ) -> Consumer:
        return FakeConsumer(
            self.broker,
            group=group,
            client_id=client_id,
            eager=protocol == CLASSIC,
            poll_interval_s_max=patience_s,
            resets=resets,
        )

    def reader(self) -> Reader:
        return FakeReader(self.broker, client_id="reader")

    def producer(self) -> Producer:
        return FakeProducer(self.broker, client_id="producer")

    def transaction(self, transactional_id: str, consumer: Consumer) -> Transaction:
        assert isinstance(consumer, FakeConsumer)
        return FakeTransaction(self.broker, transactional_id=transactional_id, consumer=consumer)

    def abort_left_behind(self, transactional_id: str) -> None:
        self.broker.abort_left_behind(transactional_id)

    def committed_so_far(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        return self.broker.committed(group, partitions)

    def members(self, group: str) -> Sequence[str]:
        return [member.client_id for member in self.broker.members(group)]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        self.broker.delete_before(topic, partition, offset)

    def seconds(self) -> float:
        return self.broker.clock.monotonic_s()

    def make_again(self, topic: str, partitions: int) -> None:
        self.broker.make_again(topic, partitions)

    def limit(self, topic: str, bytes_max: int) -> None:
        self.broker.config[topic] = {"max.message.bytes": str(bytes_max)}

    def grow(self, topic: str, partitions: int) -> None:
        self.broker.grow(topic, partitions)

    def topics(self, *topics: str) -> Topics:
        return FakeTopics(self.broker, topics)

    def close(self) -> None:
        pass


class RealCluster:
    """A corner of a real Kafka. Clients are closed with it."""

    def __init__(self, space: TopicSpace) -> None:
        self._space = space
        self._settings = {"bootstrap.servers": space.bootstrap_servers}
        self._questions = KafkaGroups(self._settings, client_id="admin")
        self._close: list[Callable[[], None]] = []
        self._groups: dict[int, str] = {}

    def name(self, name: str) -> str:
        return self._space.name(name)

    def create(self, *topics: str, partitions: int = 1) -> None:
        self._space.create(*(topic.removeprefix(self._space.prefix) for topic in topics), partitions=partitions)

    def consumer(
        self, group: str, client_id: str = "a", protocol: str = CLASSIC, patience_s: float = 60.0, resets: bool = True
    ) -> Consumer:
        settings: dict[str, Setting] = {**self._settings, "max.poll.interval.ms": int(patience_s * 1000)}
        if protocol == NEW_PROTOCOL:
            settings["group.protocol"] = "consumer"
        else:
            settings["session.timeout.ms"] = 6_000  # no more than the above, in every test
        consumer = KafkaConsumer(
            settings,
            group=group,
            assignment=Assignment.COOPERATIVE if protocol == COOPERATIVE else Assignment.RANGE,
            client_id=client_id,
            resets=resets,
        )
        self._close.append(consumer.close)
        return consumer

    def reader(self) -> Reader:
        reader = KafkaReader(self._settings, group=self.name("reader"), client_id="reader")
        self._close.append(reader.close)
        return reader

    def producer(self) -> Producer:
        producer = KafkaProducer(self._settings, client_id="producer")
        self._close.append(producer.close)
        return producer

    def transaction(self, transactional_id: str, consumer: Consumer) -> Transaction:
        assert isinstance(consumer, KafkaConsumer)
        transaction = KafkaTransaction(
            self._settings, transactional_id=transactional_id, consumer=consumer, client_id="transaction"
        )
        self._close.append(transaction.close)
        return transaction

    def abort_left_behind(self, transactional_id: str) -> None:
        abort_left_behind(self._settings, transactional_id, client_id="successor")

    def committed_so_far(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        return self._questions.committed(group, partitions)

    def members(self, group: str) -> Sequence[str]:
        return [member.client_id for member in self._questions.members(group)]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        from confluent_kafka import TopicPartition as Partition

        for future in self._space.admin.delete_records([Partition(topic, partition, offset)]).values():
            future.result(timeout=10)

    def make_again(self, topic: str, partitions: int) -> None:
        self._space.make_again(topic.removeprefix(self._space.prefix), partitions)

    def limit(self, topic: str, bytes_max: int) -> None:
        self._space.configure(topic.removeprefix(self._space.prefix), config={"max.message.bytes": str(bytes_max)})

    def grow(self, topic: str, partitions: int) -> None:
        self._space.grow(topic.removeprefix(self._space.prefix), partitions)

    def topics(self, *topics: str) -> Topics:
        return KafkaTopics(KafkaAdmin(self._settings, client_id="topics"), topics)

    def seconds(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for close in reversed(self._close):
            close()


class Movements:
    """A listener that writes down what it is told, and does what the test says."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[TopicPartition, ...]]] = []
        self.owned: set[TopicPartition] = set()
        self.starts: dict[TopicPartition, int] = {}
        self.on_assigned: Callable[[Sequence[TopicPartition]], None] = lambda _partitions: None
        self.on_revoked: Callable[[Sequence[TopicPartition]], None] = lambda _partitions: None

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.told.append(("assigned", tuple(sorted(partitions))))
        self.owned |= set(partitions)
        self.on_assigned(partitions)
        return {where: self.starts[where] for where in partitions if where in self.starts}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("revoked", tuple(sorted(partitions))))
        self.owned -= set(partitions)
        self.on_revoked(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.told.append(("lost", tuple(sorted(partitions))))
        self.owned -= set(partitions)


class Reading:
    """A consumer or reader, everything it has read so far, and what it last said of ends and of its way."""

    def __init__(self, cluster: Cluster, poll: Callable[[int, float], Polled]) -> None:
        self._cluster = cluster
        self._poll = poll
        self.records: list[Record] = []
        self.at_end: Mapping[TopicPartition, int] = {}
        self.astray: frozenset[TopicPartition] = frozenset()
        self.resets: dict[TopicPartition, int] = {}

    def once(self, timeout_s: float = 0.1) -> Sequence[Record]:
        polled = self._poll(1_000, timeout_s)
        self.records += polled.records
        self.at_end = polled.at_end
        self.astray = polled.astray
        self.resets |= polled.resets
        return polled.records

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(self._cluster, condition, self.once)

    def for_s(self, seconds: float) -> None:
        end_s = self._cluster.seconds() + seconds
        while self._cluster.seconds() < end_s:
            self.once()

    def reads(self, *values: bytes) -> None:
        """Until so many records have come, which are these."""
        self.until(lambda: len(self.records) >= len(values))
        assert self.values == [*values]

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]


def wait_until(
    cluster: Cluster, condition: Callable[[], bool], *steps: Callable[[], object], seconds_max: float = WAIT_S_MAX
) -> None:
    deadline_s = cluster.seconds() + seconds_max
    while not condition():
        assert cluster.seconds() < deadline_s, f"not within {seconds_max} s"
        for step in steps:
            step()


def made(cluster: Cluster, name: str = "in", *, partitions: int = 1) -> str:
    """The name of a topic that has been made."""
    topic = cluster.name(name)
    cluster.create(topic, partitions=partitions)
    return topic


def write(cluster: Cluster, topic: str, partition: int, *values: bytes, headers: Headers | None = None) -> list[int]:
    """Records of a shop: without a transaction, acknowledged. Returns their offsets."""
    offsets: list[int] = []

    def acknowledged(error: str | None, offset: int) -> None:
        assert error is None, error
        offsets.append(offset)

    producer = cluster.producer()
    for value in values:
        assert producer.produce(NewRecord(topic, partition, b"k", value, headers or []), acknowledged)
    assert producer.flush(10.0) == 0
    return offsets


def joined(
    cluster: Cluster,
    topics: Sequence[str],
    *,
    group: str = "g",
    client_id: str = "a",
    protocol: str = CLASSIC,
    resets: bool = True,
    starts: Mapping[TopicPartition, int] | None = None,
) -> tuple[Consumer, Movements, Reading]:
    """A member that has its partitions (alone in its group: all)."""
    consumer = cluster.consumer(cluster.name(group), client_id, protocol, resets=resets)
    movements = Movements()
    movements.starts |= starts or {}
    consumer.subscribe(topics, movements)
    reading = Reading(cluster, consumer.poll)
    reading.until(lambda: bool(movements.told))
    return consumer, movements, reading


def opened(cluster: Cluster, transactional_id: str, consumer: Consumer) -> Transaction:
    transaction = cluster.transaction(cluster.name(transactional_id), consumer)
    transaction.open()
    return transaction


def left_open(cluster: Cluster, transactional_id: str, consumer: Consumer, topic: str, value: bytes) -> Transaction:
    """A transaction whose only record is at the broker."""
    transaction = opened(cluster, transactional_id, consumer)
    transaction.begin()
    transaction.produce_keyed(topic, 0, [(b"k", value)])
    if isinstance(transaction, KafkaTransaction):
        transaction._begun().flush(10.0)  # real records leave when they like
    return transaction


def transact(
    transaction: Transaction, topic: str, value: bytes, offsets: Mapping[TopicPartition, Committed] | None = None
) -> None:
    transaction.begin()
    transaction.produce(NewRecord(topic, 0, b"k", value, []))
    transaction.commit(offsets or {})
