"""A test's own corner of a shared cluster: topics, groups and transactional IDs under a prefix nobody else
has."""

import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any, Self, TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but it does not say so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    OffsetSpec,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic  # confluent_kafka.admin has it too, but not for type checkers

from tests.support.children import wait_until

_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # confluent-kafka's own omission
READ_SECONDS_MAX = 30.0  # a reader that gets nothing fails the test, not the whole run
_NOT_YET = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
    }
)
"""What a broker says that has just started, and a new cluster whose first question about a group makes their topic."""
GROUP_GONE_SECONDS_MAX = 2.0  # a killed member keeps its group alive for its session timeout: not worth waiting for

T = TypeVar("T")
Asked = TypeVar("Asked")


class TopicSpace:
    """`prefix` goes before every topic name, group and transactional ID; `delete` removes all that carries
    it."""

    def __init__(self, bootstrap_servers: str, replication: int = 1) -> None:
        self.bootstrap_servers = bootstrap_servers
        self.replication = replication
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.admin = self._new_admin()
        self._unanswered: list[AdminClient] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a worker needs to be told to stay in here."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "PROCESSOR_TOPIC_PREFIX": self.prefix,
            "PROCESSOR_GROUP_PREFIX": self.prefix,
        }

    def name(self, topic: str) -> str:
        """`topic` as the cluster knows it."""
        return self.prefix + topic

    def create(self, *topics: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make `topics` (names without the prefix); returns when each partition has a leader."""
        names = {self.name(topic) for topic in topics}
        made = self.admin.create_topics(
            [
                NewTopic(
                    name, num_partitions=partitions, replication_factor=self.replication, config=dict(config or {})
                )
                for name in names
            ]
        )
        for future in made.values():
            future.result(timeout=30)
        deadline = time.monotonic() + 30
        while not names <= self._led_topics():
            assert time.monotonic() < deadline, f"no leader for {names - self._led_topics()} within 30 s"
            time.sleep(0.02)

    def configure(self, *topics: str, config: Mapping[str, str]) -> None:
        """Changes settings of `topics` (names without the prefix); others stay. Returns when the broker says so: the
        controller has answered before a busy broker knows of it."""
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        wanted = [ConfigResource(ResourceType.TOPIC, self.name(topic), incremental_configs=changes) for topic in topics]
        admin = self._new_admin()
        self._answers(admin, admin.incremental_alter_configs(wanted))
        resources = [ConfigResource(ResourceType.TOPIC, self.name(topic)) for topic in topics]

        def is_known() -> bool:
            there = self._answers(admin, admin.describe_configs(resources)).values()
            return all(found[setting].value == value for found in there for setting, value in config.items())

        wait_until(is_known, what=f"{config} of {topics}", timeout_s=30)

    def _new_admin(self) -> AdminClient:
        """A client that has seen no broker restart: one that has may wait for a leader or controller that is gone."""
        settings: dict[str, str | int | float | bool] = {"bootstrap.servers": self.bootstrap_servers, "log_level": 3}
        settings["enable.sparse.connections"] = False  # see `new_admin`
        return AdminClient(settings)

    def _answers(self, admin: AdminClient, asked: Mapping[Asked, Future[T]]) -> dict[Asked, T]:
        """What each was answered. A client that has got no answer stays to the end of this process."""
        if wait(asked.values(), timeout=30).not_done:
            self._unanswered.append(admin)
        return {one: answer.result(timeout=0) for one, answer in asked.items()}

    def grow(self, topic: str, partitions: int) -> None:
        """Gives `topic` so many partitions, unless it has them: who got no answer asks again."""
        name, admin = self.name(topic), self._new_admin()
        if len(admin.list_topics(name, timeout=10).topics[name].partitions) < partitions:
            self._answers(admin, admin.create_partitions([NewPartitions(name, partitions)]))

    def make_again(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """Deletes `topic` and makes another one of its name."""
        name = self.name(topic)
        self.admin.delete_topics([name])[name].result(timeout=30)
        deadline = time.monotonic() + 30
        while name in self.admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline, f"{name} is still there after 30 s"
            time.sleep(0.02)
        self.create(topic, partitions=partitions, config=config)

    def end_offsets(self, topic: str) -> dict[int, int]:
        """High watermark by partition: also past what a transaction still keeps from `read_committed`
        readers."""
        return {partition: end for (_, partition), end in self.ends(topic).items()}

    def stable_offsets(self, topic: str) -> dict[int, int]:
        """Last stable offset by partition: how far a `read_committed` reader may read now."""
        stable = self.ends(topic, isolation=IsolationLevel.READ_COMMITTED)
        return {partition: end for (_, partition), end in stable.items()}

    def ends(
        self, *topics: str, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[tuple[str, int], int]:
        """`end_offsets` of all of them, by topic and partition: one question, for what waits for them asks often."""
        known = self.admin.list_topics(timeout=10).topics
        asked = {
            TopicPartition(self.name(topic), partition): (topic, partition)
            for topic in topics
            if self.name(topic) in known
            for partition in known[self.name(topic)].partitions
        }

        def ask() -> dict[tuple[str, int], int]:
            admin = self._new_admin()
            answers = admin.list_offsets(dict.fromkeys(asked, _LATEST), isolation_level=isolation, request_timeout=10)
            return {asked[where]: answer.offset for where, answer in self._answers(admin, answers).items()}

        return _answered(ask) if asked else {}

    def records(self, topic: str, *, isolation: str = "read_committed") -> list[Message]:
        """Every record of `topic` from its beginning to its present high watermark, partition by partition,
        each in order.

        Waits for transactions that are open below it: a commit returns before its markers are written, so a
        reader that stopped at the last stable offset would now and then miss what was just committed.
        """
        ends = self.end_offsets(topic)
        with _Reader(self.bootstrap_servers, isolation) as reader:
            return reader.read(self.name(topic), ends)

    def committed(self, group: str, *topics: str) -> dict[tuple[str, int], TopicPartition]:
        """What `group` (without the prefix) has committed, by topic (without the prefix) and partition.

        Asked by a consumer that never joins: an admin client does not get over a restart of the coordinator.
        """
        metadata = self.admin.list_topics(timeout=10).topics
        asked = [
            TopicPartition(name, partition)
            for name, topic in metadata.items()
            if name.startswith(self.prefix) and (not topics or name.removeprefix(self.prefix) in topics)
            for partition in topic.partitions
        ]
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": self.name(group),
                "enable.auto.commit": False,
                "isolation.level": "read_uncommitted",
                "log_level": 3,
            }
        )
        try:
            positions = _answered(lambda: consumer.committed(asked, timeout=READ_SECONDS_MAX))
        finally:
            consumer.close()
        return {(p.topic.removeprefix(self.prefix), p.partition): p for p in positions if p.offset >= 0}

    def delete_offsets(self, group: str) -> None:
        """Deletes `group` (without the prefix), which has no members by now, with its offsets."""
        admin = self._new_admin()
        self._answers(admin, admin.delete_consumer_groups([self.name(group)]))

    def delete(self) -> None:
        """Topics and groups with this prefix. A group whose killed members still count is left to the
        broker."""
        topics = [name for name in self.admin.list_topics(timeout=10).topics if name.startswith(self.prefix)]
        if topics:
            for future in self.admin.delete_topics(topics).values():
                future.result(timeout=30)
        deadline = time.monotonic() + GROUP_GONE_SECONDS_MAX
        while self._delete_groups() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _delete_groups(self) -> bool:
        """Whether some are left that still have members."""
        admin = self._new_admin()
        listing = admin.list_consumer_groups().result(timeout=10)
        groups = [group.group_id for group in listing.valid if group.group_id.startswith(self.prefix)]
        left = False
        for future in (admin.delete_consumer_groups(groups) if groups else {}).values():
            try:
                future.result(timeout=10)
            except KafkaException as refused:
                code = refused.args[0].code()
                if code == KafkaError.NON_EMPTY_GROUP:
                    left = True
                elif code != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
        return left

    def _led_topics(self) -> set[str]:
        metadata = self.admin.list_topics(timeout=10)
        return {
            name
            for name, topic in metadata.topics.items()
            if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values())
        }


class _Reader:
    """A consumer without a group: it assigns itself, commits nothing and leaves no trace."""

    def __init__(self, bootstrap_servers: str, isolation: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "unused",  # librdkafka insists on one; nothing is ever committed to it
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": isolation,
                "log_level": 3,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, topic: str, ends: Mapping[int, int]) -> list[Message]:
        by_partition: dict[int, list[Message]] = {partition: [] for partition in sorted(ends)}
        behind = {partition for partition, end in ends.items() if end > 0}
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in behind])
        deadline = time.monotonic() + READ_SECONDS_MAX
        while behind:
            assert time.monotonic() < deadline, f"{topic}: {behind} of {ends} not read in {READ_SECONDS_MAX} s"
            # Short, because it waits for the whole number or the whole time.
            for message in self._consumer.consume(num_messages=1_000, timeout=0.05):
                error, partition, offset = message.error(), message.partition(), message.offset()
                assert partition is not None
                assert offset is not None
                if error is None:
                    by_partition[partition].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:  # comes again whenever the end has moved
                    if offset >= ends[partition]:
                        behind.discard(partition)
                else:
                    raise KafkaException(error)
        return [message for messages in by_partition.values() for message in messages]


def produce(producer: Producer, *record: Any, **more: Any) -> None:
    """Queues a record as soon as there is room for it."""
    while True:
        try:
            producer.produce(*record, **more)
            return
        except BufferError:
            producer.poll(0.1)


def _answered(ask: Callable[[], T]) -> T:
    """Its answer, once the broker can give one."""
    deadline_s = time.monotonic() + READ_SECONDS_MAX
    while True:
        try:
            return ask()
        except KafkaException as raised:
            if raised.args[0].code() not in _NOT_YET or time.monotonic() > deadline_s:
                raise
        time.sleep(0.1)
