"""Questions to a cluster: topics, logs, members, rights.

Used by the commands (`check`, `topics`), by the roles at their start, and by the consumers for their lag. Every
question is bounded in time and raises `BrokerOutage` without an answer. A method that ends in `_soon` does not wait: it
returns a future that librdkafka's own thread completes, so the loop of a consumer can ask without standing still
(`Repeated`).

A client that got no answer is replaced. librdkafka's admin client (2.16) does not survive the restart of a broker: it
keeps asking with the leader's old epoch and is refused until its metadata is a quarter of an hour old. It also keeps a
group's coordinator for good (`groups.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeVar

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but it does not say so
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConsumerGroupDescription,
    ListOffsetsResultInfo,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)
from confluent_kafka.cimpl import NewPartitions, NewTopic

from processor.edges.kafka.client import Complaints, KafkaSettings, Log, error_of, merged, new_admin, said
from processor.errors import BrokerOutage, Fatal
from processor.records import TopicPartition

_GLANCE_S: Final = 0.1
ANSWER_S_MAX: Final = 10.0  # a cluster that is down must not hold up a start or a command for ever

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka's own omission
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_MAX_TIMESTAMP: Final = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]

MOCK_CLUSTER: Final = "mockCluster"
_MOCK_CONFIG: Final = {"cleanup.policy": "compact", "delete.retention.ms": "86400000", "max.message.bytes": "1048588"}
"""The settings that the roles ask for at their start; a broker's defaults."""

T = TypeVar("T")


class TopicState(NamedTuple):
    """A topic in its cluster: the number of partitions and replicas, the whole configuration, the topic ID."""

    partitions: int
    replicas: int
    config: Mapping[str, str]
    topic_id: str
    """Kafka's topic ID: a topic that is made again under its name has another one."""


class Member(NamedTuple):
    """A live member of a consumer group, by the client ID it joined with."""

    client_id: str
    partitions: frozenset[TopicPartition]


class Repeated(Generic[T]):
    """A question that is asked every `every_s` seconds, without waiting for its answers.

    Mutable: `asked` are the answers under way, `ask_at_s` is the time of the next question (`monotonic_s`).
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Future[T]]],
        every_s: float,
        monotonic_s: Callable[[], float] = time.monotonic,
        first_s: float = 0.0,
    ) -> None:
        """The first question is asked after `first_s`."""
        self._ask = ask
        self._every_s = every_s
        self._monotonic_s = monotonic_s
        self.asked: Mapping[str, Future[T]] = {}
        self.ask_at_s = monotonic_s() + first_s

    def answers(self) -> Mapping[str, Future[T]]:
        """Returns the answers, once, when all have arrived; else nothing. Asks when it is time."""
        if self.asked:
            if all(answer.done() for answer in self.asked.values()):
                answers, self.asked = self.asked, {}
                return answers
        elif self._monotonic_s() >= self.ask_at_s:
            self.ask_at_s = self._monotonic_s() + self._every_s
            self.asked = self._ask()
        return {}


class KafkaAdmin:
    """Questions to one cluster, from any thread; `close` is not needed. Mutable: `_admin`, see the module."""

    def __init__(self, settings: KafkaSettings, *, client_id: str, log: Log | None = None) -> None:
        if log is None:
            import structlog  # 0.2 s: a command that brings its own log does not need it

            log = structlog.get_logger()
        self._log = log
        self._settings = settings
        self._client_id = client_id
        self._complaints = Complaints(log)
        self._admin = self._new()

    def _new(self) -> AdminClient:
        config = merged({}, self._settings, {"client.id": self._client_id})
        return new_admin(config, self._complaints.on_error, self._log)

    def went_wrong(self, raised: BaseException) -> None:
        """Called with what the future of a `…_soon` raised. Makes a new client, unless a right is missing."""
        if not (isinstance(raised, KafkaException) and error_of(raised).code() in NOT_ALLOWED):
            self._admin = self._new()

    def brokers(self, answer_s_max: float = ANSWER_S_MAX) -> int:
        """Returns the number of brokers. Raises `BrokerOutage` if none answers."""
        with self._asking():
            return len(self._admin.list_topics(timeout=answer_s_max).brokers)

    def refusal(self) -> str | None:
        """Returns why the brokers do not let this client in. Returns None if they do, or if no reason is known after
        ANSWER_S_MAX. librdkafka retries a wrong password without end, and reports it to its error callback alone."""
        deadline_s = time.monotonic() + ANSWER_S_MAX
        while time.monotonic() < deadline_s:
            try:
                self._admin.list_topics(timeout=_GLANCE_S)
                return None
            except KafkaException:
                self._admin.poll(0)
                if (complaint := self._complaints.text()) is not None:
                    return complaint
        return None

    def describe(self, topics: Sequence[str]) -> Mapping[str, TopicState | None]:
        """Returns each topic's state, None if it does not exist. Raises `Fatal` if the right to ask is missing."""
        if self._is_mock(topics):
            return self._as_mocked(topics)
        described = self.topics_soon(topics)
        there = {name: found for name in topics if (found := self._topic(name, described[name])) is not None}
        if not there:
            return dict.fromkeys(topics)
        resources = {ConfigResource(ResourceType.TOPIC, name): name for name in there}
        configs = {
            resources[resource]: self._answer(future, f"ask about the settings of {resource.name} (DescribeConfigs)")
            for resource, future in self._admin.describe_configs(list(resources), request_timeout=ANSWER_S_MAX).items()
        }
        return {
            name: TopicState(
                partitions=len(there[name].partitions),
                replicas=min((len(partition.replicas) for partition in there[name].partitions), default=0),
                config={entry.name: entry.value for entry in configs[name].values() if entry.value is not None},
                topic_id=str(there[name].topic_id),
            )
            if name in there
            else None
            for name in topics
        }

    def _is_mock(self, topics: Sequence[str]) -> bool:
        """True if the cluster is the demo's: librdkafka's mock, which has no controller and answers no such
        question."""
        with self._asking():
            cluster = self._admin.list_topics(topics[0], timeout=ANSWER_S_MAX)
        return str(cluster.cluster_id).startswith(MOCK_CLUSTER)

    def _as_mocked(self, topics: Sequence[str]) -> Mapping[str, TopicState | None]:
        """Returns states of a mock cluster, which creates a topic when a client asks for it and has no
        configuration."""
        found = {name: self._admin.list_topics(name, timeout=ANSWER_S_MAX).topics[name] for name in topics}
        return {
            name: TopicState(len(topic.partitions), 1, _MOCK_CONFIG, topic_id=name) for name, topic in found.items()
        }

    def create(self, topic: str, *, partitions: int, replicas: int, config: Mapping[str, str]) -> bool:
        """Makes a topic. Returns False if it exists already. `replicas` -1 is the cluster's default."""
        assert partitions > 0, "a topic without partitions"
        wanted = NewTopic(topic, num_partitions=partitions, replication_factor=replicas, config=dict(config))
        made: Future[None] = self._admin.create_topics([wanted], request_timeout=ANSWER_S_MAX)[topic]
        with self._asking(f"make the topic {topic} (Create)", f"the new topic {topic}"):
            try:
                made.result(timeout=2 * ANSWER_S_MAX)
            except KafkaException as refused:
                if error_of(refused).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
        return True

    def grow(self, topic: str, partitions: int) -> None:
        """Gives a topic this many partitions, more than it has."""
        made: Future[None] = self._admin.create_partitions(
            [NewPartitions(topic, partitions)], request_timeout=ANSWER_S_MAX
        )[topic]
        self._answer(made, f"give {topic} more partitions (Alter)")

    def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Sets these settings of a topic and leaves its others alone."""
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)
        answer = self._admin.incremental_alter_configs([resource], request_timeout=ANSWER_S_MAX)[resource]
        self._answer(answer, f"change the settings of {topic} (AlterConfigs)")

    def cluster_id(self) -> str:
        """Returns the cluster's ID; a cluster that its records were copied to has another. Raises `BrokerOutage`."""
        with self._asking():
            return str(self._admin.list_topics(timeout=ANSWER_S_MAX).cluster_id)

    def broker_setting(self, name: str) -> str | None:
        """Returns the value of a broker's setting; None if the brokers do not say, or this user lacks the right to
        ask."""
        try:
            broker = next(iter(self._admin.list_topics(timeout=ANSWER_S_MAX).brokers), None)
            if broker is None:
                return None
            resource = ConfigResource(ResourceType.BROKER, str(broker))
            answer = self._admin.describe_configs([resource], request_timeout=ANSWER_S_MAX)[resource]
            entry = self._answer(answer).get(name)
        except (KafkaException, BrokerOutage, Fatal):
            return None
        return None if entry is None else entry.value

    def topics_soon(
        self, topics: Sequence[str], timeout_s: float = ANSWER_S_MAX
    ) -> Mapping[str, Future[TopicDescription]]:
        """Returns descriptions of topics, with this user's rights to them."""
        return self._admin.describe_topics(
            TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=timeout_s
        )

    def settings_soon(self, topics: Sequence[str]) -> Mapping[str, Future[Mapping[str, ConfigEntry]]]:
        """Returns the settings of topics."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        answers = self._admin.describe_configs(resources, request_timeout=ANSWER_S_MAX)
        return {resource.name: answer for resource, answer in answers.items()}

    def _topic(self, name: str, future: Future[TopicDescription]) -> TopicDescription | None:
        with self._asking(f"ask about {name} (Describe)", name):
            try:
                return future.result(timeout=2 * ANSWER_S_MAX)
            except KafkaException as refused:
                if error_of(refused).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
                return None

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset that is still in each log."""
        return self._offsets(self._offsets_soon(partitions, _EARLIEST, ck.IsolationLevel.READ_UNCOMMITTED))

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the high watermark of each log, open transactions included."""
        return self._offsets(self._offsets_soon(partitions, _LATEST, ck.IsolationLevel.READ_UNCOMMITTED))

    def at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int | None]:
        """Returns the first offset whose record is not older than `timestamp_ms`; None if all records are older."""
        spec = OffsetSpec.for_timestamp(timestamp_ms)
        found = self._offsets(self._offsets_soon(partitions, spec, ck.IsolationLevel.READ_UNCOMMITTED))
        return {partition: offset if offset >= 0 else None for partition, offset in found.items()}

    def newest_ms(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        """Returns the latest timestamp in each log, epoch ms; None if the log is empty."""
        futures = self._offsets_soon(partitions, _MAX_TIMESTAMP, ck.IsolationLevel.READ_UNCOMMITTED)
        found = {partition: self._told(partition, future).timestamp for partition, future in futures.items()}
        return {partition: timestamp if timestamp >= 0 else None for partition, timestamp in found.items()}

    def stable_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the last stable offset of each log: the end for a read_committed reader."""
        return self._offsets(self.stable_ends_soon(partitions))

    def stable_ends_soon(
        self, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Future[ListOffsetsResultInfo]]:
        """Returns the last stable offset of each log: the end for a read_committed reader."""
        return self._offsets_soon(partitions, _LATEST, ck.IsolationLevel.READ_COMMITTED)

    def _offsets_soon(
        self, partitions: Sequence[TopicPartition], spec: Any, isolation: ck.IsolationLevel
    ) -> Mapping[TopicPartition, Future[ListOffsetsResultInfo]]:
        if not partitions:
            return {}
        asked = {ck.TopicPartition(topic, partition): spec for topic, partition in partitions}
        futures = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=ANSWER_S_MAX)
        return {TopicPartition(asked.topic, asked.partition): future for asked, future in futures.items()}

    def _offsets(self, futures: Mapping[TopicPartition, Future[ListOffsetsResultInfo]]) -> Mapping[TopicPartition, int]:
        return {partition: self._told(partition, future).offset for partition, future in futures.items()}

    def _told(self, partition: TopicPartition, future: Future[ListOffsetsResultInfo]) -> ListOffsetsResultInfo:
        told = self._answer(future)
        if is_no_answer(told):
            silence = BrokerOutage(f"no answer about the log of {partition.topic}/{partition.partition}")
            self.went_wrong(silence)
            raise silence
        return told

    def members(self, group: str) -> Sequence[Member]:
        """Returns the members of `group`; empty if there is no such group. Needs a client of its own (`groups.py`)."""
        future = self.group_soon(group)
        with self._asking(f"ask who is in {group} (Describe)", f"the group {group}"):
            try:
                described = future.result(timeout=2 * ANSWER_S_MAX)
            except KafkaException as refused:
                if error_of(refused).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                return ()
        return [
            Member(
                member.client_id,
                frozenset(TopicPartition(p.topic, p.partition) for p in member.assignment.topic_partitions),
            )
            for member in described.members
        ]

    def group_soon(self, group: str) -> Future[ConsumerGroupDescription]:
        """Returns a group's description, with this user's rights to it."""
        future: Future[ConsumerGroupDescription] = self._admin.describe_consumer_groups(
            [group], include_authorized_operations=True, request_timeout=ANSWER_S_MAX
        )[group]
        return future

    def _answer(self, future: Future[T], doing: str = "ask") -> T:
        with self._asking(doing):
            return future.result(timeout=2 * ANSWER_S_MAX)  # librdkafka ends the request itself, well before

    @contextmanager
    def _asking(self, doing: str = "ask", about: str = "") -> Iterator[None]:
        """Raises our own errors. `doing` is the action, with the right that it needs; `about` is its subject."""
        try:
            yield
        except KafkaException as refused:
            raise self._outage(refused, doing) from refused
        except FutureTimeout as silence:
            self.went_wrong(silence)
            raise BrokerOutage(f"no answer about {about}" if about else "no broker answers") from silence

    def _outage(self, refused: KafkaException, doing: str = "ask") -> BrokerOutage | Fatal:
        error = error_of(refused)
        if error.code() in NOT_ALLOWED:
            return Fatal(f"not allowed to {doing}: {said(error)}")
        if error.code() in _REFUSED:
            # A policy has its owner's words, and the size of records is our largest setting.
            may_be_size = error.code() == KafkaError.POLICY_VIOLATION or "max.message.bytes" in error.str()
            lower = "; `topics create --max-message-bytes` asks for less" if may_be_size else ""
            return Fatal(f"the cluster refuses to {doing}: {error.str()}{lower}")
        self._admin.poll(0)  # runs the error callback and the log
        complaint = self._complaints.text()
        self.went_wrong(refused)
        kind = NoCoordinatorYet if error.code() in NO_COORDINATOR_YET else BrokerOutage
        return kind(f"{error.str()} ({complaint})" if complaint else error.str())


def is_no_answer(told: ListOffsetsResultInfo) -> bool:
    """True if the answer has no offset: while a partition has no leader, librdkafka (2.16) may report neither an error
    nor an offset."""
    return told.offset == ck.OFFSET_INVALID


class NoCoordinatorYet(BrokerOutage):
    """A group has no coordinator, most often only for a moment: see `NO_COORDINATOR_YET`."""


NO_COORDINATOR_YET: Final = frozenset(
    {KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR}
)
"""Not a fault: a cluster without groups first creates its topic of offsets, which takes seconds."""
_REFUSED: Final = frozenset(
    {KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_REPLICATION_FACTOR}
)
"""Errors that a second attempt does not change."""
NOT_ALLOWED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def may_read(operations: Sequence[Enum] | None) -> bool:
    """True if the rights of a description include READ, or if it has none: old brokers and mocks send no rights."""
    return not operations or AclOperation.READ in operations
