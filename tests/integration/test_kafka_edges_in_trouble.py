"""The Kafka edges on a broker that dies, freezes or refuses: every call ends in time, the work goes on by itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # exported all the same

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import KafkaSettings
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.transaction import KafkaTransaction
from processor.errors import BrokerOutage, Fatal, Fenced, TransactionAborted
from processor.interfaces import Committed
from processor.records import NewRecord, Position, Record, TopicPartition
from tests.support.kafka import ONE_NODE_SETTINGS, KafkaBroker, short_lived_jvm
from tests.support.secured_kafka import SecuredKafka

T = TypeVar("T")

SOURCE, OUT, CHANGELOG = "source", "out", "changelog"
USER_TOPIC = ResourceType.TOPIC
REVOCATION_S_MAX = 12.0  # a fifth of `max.poll.interval.ms`: what a call may take at most, whatever the broker does


class Worker:
    """The smallest worker that is exactly once: reads SOURCE, copies to OUT and CHANGELOG, commits, starts again where
    the group stands after anything else. `slowest_s` is the longest that any call took."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.consumer = KafkaConsumer(settings, group="copy", assignment=Assignment.RANGE, client_id="copy-1")
        self.transaction = KafkaTransaction(
            settings, transactional_id="copy-1", consumer=self.consumer, client_id="copy-1"
        )
        self.owned: set[TopicPartition] = set()
        self.positions_doubtful = False
        self.commits = 0
        self.slowest_s = 0.0
        self.last_refusal = ""
        self.before_commit: Callable[[], None] = lambda: None
        self.consumer.subscribe([SOURCE], self)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.owned |= set(partitions)
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned -= set(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned -= set(partitions)

    def once(self) -> None:
        try:
            records = self._timed(lambda: self.consumer.poll(100, 0.1)).records
            if self.positions_doubtful:
                self._timed(self._go_back)  # and what was just read comes again
            elif records:
                self.positions_doubtful = True
                self._copy(records)
                self.positions_doubtful = False
                self.commits += 1
        except (TransactionAborted, Fenced, BrokerOutage) as refused:
            self.last_refusal = repr(refused)  # `positions_doubtful` says what is to be done

    def _copy(self, records: Sequence[Record]) -> None:
        self._timed(self.transaction.begin)
        for record in records:
            self.transaction.produce(NewRecord(OUT, record.partition, record.key, record.value, []))
        self.transaction.produce_keyed(CHANGELOG, 0, [(record.key or b"", record.value) for record in records])
        offsets = {
            TopicPartition(record.topic, record.partition): Committed(record.offset + 1, "copy-1") for record in records
        }
        self.before_commit()
        self._timed(lambda: self.transaction.commit(offsets))

    def _go_back(self) -> None:
        owned = sorted(self.owned)
        stands = self.consumer.committed(owned)
        self.consumer.seek(Position(*where, stands[where].next_offset or 0) for where in owned)
        self.positions_doubtful = False

    def _timed(self, call: Callable[[], T]) -> T:
        started_s = time.monotonic()
        try:
            return call()
        finally:
            self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)

    def until(self, condition: Callable[[], bool], seconds_max: float) -> float:
        started_s = time.monotonic()
        while not condition():
            assert time.monotonic() - started_s < seconds_max, (
                f"not within {seconds_max} s: trouble {self.consumer.trouble()}, owned {self.owned}, "
                f"commits {self.commits}, doubtful {self.positions_doubtful}, last refusal {self.last_refusal}"
            )
            self.once()
        return time.monotonic() - started_s

    def close(self) -> None:
        self.transaction.close()
        self.consumer.close()


def made(bootstrap_servers: str) -> KafkaSettings:
    settings: KafkaSettings = {"bootstrap.servers": bootstrap_servers}
    admin = KafkaAdmin(settings, client_id="test")
    for topic in (SOURCE, OUT, CHANGELOG):
        admin.create(topic, partitions=2, replicas=1, config={})
    return settings


def write(settings: KafkaSettings, first: int, count: int) -> None:
    producer = KafkaProducer(settings, client_id="shop")
    refused: list[str] = []
    for number in range(first, first + count):
        value = b"%d" % number
        record = NewRecord(SOURCE, number % 2, value, value, [])
        producer.produce(record, lambda error, _offset: refused.append(error) if error else None)
    assert producer.flush(30.0) == 0
    assert refused == []
    producer.close()


def committed_values(settings: KafkaSettings, topic: str) -> list[bytes | None]:
    reader = KafkaReader(settings, group="test", client_id="test")
    partitions = [TopicPartition(topic, partition) for partition in range(2)]
    ends = reader.ends(partitions)
    reader.assign(Position(*where, 0) for where in partitions)
    values: list[bytes | None] = []
    deadline_s = time.monotonic() + 30.0
    while any(reader.position(where) < end for where, end in ends.items()):
        assert time.monotonic() < deadline_s, "the copies are not readable"
        values += [record.value for record in reader.poll(1_000, 0.2).records]
    reader.close()
    return values


def in_order(values: Sequence[bytes | None]) -> list[int]:
    return sorted(int(value or b"-1") for value in values)


def copied(settings: KafkaSettings) -> Callable[[], int]:
    """How many records of SOURCE are finished; 0 while nobody answers."""
    groups = KafkaGroups(settings, client_id="test")
    partitions = [TopicPartition(SOURCE, partition) for partition in range(2)]

    def count() -> int:
        try:
            stands = groups.committed("copy", partitions)
        except BrokerOutage:
            return 0
        return sum(committed.next_offset or 0 for committed in stands.values())

    return count


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_worker_that_lives_through_broker_restarts_goes_on_by_itself(kafka_broker: KafkaBroker) -> None:
    """The first design of this hung here: alive, ready and idle, its transaction open."""
    settings = made(kafka_broker.bootstrap_servers)
    finished = copied(settings)
    worker = Worker(settings)

    def until_finished(count: int) -> None:
        worker.until(lambda: finished() >= count, 90.0)

    def until_back() -> None:
        """Works on while nobody answers, and until all is well again."""
        worker.until(lambda: worker.consumer.trouble() is not None, 30.0)
        with ThreadPoolExecutor(1) as pool:
            back = pool.submit(kafka_broker.start)
            worker.until(back.done, 90.0)
            back.result()

    def strike_in_a_transaction(strike: Callable[[], None]) -> None:
        struck: list[bool] = []

        def once() -> None:
            if not struck:
                struck.append(True)
                strike()

        worker.before_commit = once
        worker.until(lambda: bool(struck), 90.0)

    def kill_with_records_in_the_log() -> None:
        worker.transaction._begun().flush(5.0)
        kafka_broker.kill()

    write(settings, 0, 200)
    strike_in_a_transaction(kill_with_records_in_the_log)
    until_back()
    until_finished(200)
    write(settings, 200, 200)
    strike_in_a_transaction(kafka_broker.kill)
    until_back()
    until_finished(400)
    kafka_broker.stop()
    until_back()
    write(settings, 400, 50)
    until_finished(450)
    worker.until(lambda: worker.consumer.trouble() is None, 30.0)
    worker.close()
    for topic in (OUT, CHANGELOG):
        assert in_order(committed_values(settings, topic)) == list(range(450))
    assert worker.slowest_s < REVOCATION_S_MAX


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_commit_ends_in_time_where_no_broker_coordinates_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a restarted broker is like for a moment, kept: librdkafka's `send_offsets_to_transaction` never returns."""
    monkeypatch.setitem(ONE_NODE_SETTINGS, "offsets.topic.replication.factor", "3")  # so the topic cannot be made

    class Unaware:
        """A member that has not heard yet that its group has no coordinator."""

        def __init__(self, settings: KafkaSettings) -> None:
            self._consumer = Consumer({**settings, "group.id": "copy"})

        def group_metadata(self) -> Any:
            return self._consumer.consumer_group_metadata()

    with KafkaBroker(jvm=short_lived_jvm) as broker:
        settings = made(broker.bootstrap_servers)
        transaction = KafkaTransaction(settings, transactional_id="t", consumer=Unaware(settings), client_id="copy-1")
        for _ in range(2):
            transaction.begin()
            transaction.produce(NewRecord(OUT, 0, b"k", b"never", []))
            started_s = time.monotonic()
            with pytest.raises(TransactionAborted):
                transaction.commit({TopicPartition(SOURCE, 0): Committed(1, "")})
            assert time.monotonic() - started_s < REVOCATION_S_MAX
        transaction.begin()
        transaction.produce(NewRecord(OUT, 0, b"k", b"without offsets", []))
        transaction.commit({})
        assert committed_values(settings, OUT) == [b"without offsets"]
        transaction.close()


def test_a_new_cluster_answers_the_first_question_about_a_group() -> None:
    with KafkaBroker(jvm=short_lived_jvm) as broker:
        groups = KafkaGroups(made(broker.bootstrap_servers), client_id="test")
        where = TopicPartition(SOURCE, 0)
        assert groups.committed("nobody", [where]) == {where: Committed(None, "")}
        assert list(groups.members("nobody")) == []


def test_a_new_cluster_says_of_its_first_group_that_nobody_is_in_it() -> None:
    with KafkaBroker(jvm=short_lived_jvm) as broker:
        groups = KafkaGroups({"bootstrap.servers": broker.bootstrap_servers}, client_id="test")
        assert list(groups.members("nobody")) == []


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_broker_that_freezes_stops_no_call_for_longer_than_a_revocation_may_take(kafka_broker: KafkaBroker) -> None:
    """librdkafka's own synchronous commit never returns from this."""
    settings = made(kafka_broker.bootstrap_servers)
    worker = Worker(settings)
    write(settings, 0, 100)
    worker.until(lambda: copied(settings)() >= 100, 60.0)
    where = TopicPartition(SOURCE, 0)
    (stands,) = worker.consumer.committed([where]).values()
    os.kill(kafka_broker.pid, signal.SIGSTOP)
    try:
        for call in (
            lambda: worker.consumer.commit({where: stands}),  # which the broker may find in its socket when it wakes
            lambda: worker.consumer.committed([where]),
        ):
            started_s = time.monotonic()
            with pytest.raises((BrokerOutage, Fenced)):
                call()
            assert time.monotonic() - started_s < REVOCATION_S_MAX
    finally:
        os.kill(kafka_broker.pid, signal.SIGCONT)
    worker.positions_doubtful = True
    write(settings, 100, 100)
    worker.until(lambda: copied(settings)() >= 200, 60.0)
    assert in_order(committed_values(settings, OUT)) == list(range(200))
    worker.close()


def credentials(kafka: SecuredKafka, **other: str) -> dict[str, str]:
    """As settings of librdkafka."""
    known = {name.removeprefix("KAFKA_").replace("_", ".").lower(): v for name, v in kafka.credentials.items()}
    return known | {name.replace("_", "."): value for name, value in other.items()}


def denied(transaction: KafkaTransaction) -> None:
    """Told at the first record where it is known already that the topic is denied, else at the commit."""
    transaction.produce(NewRecord(OUT, 0, b"k", b"v", []))
    transaction.commit({})


@pytest.mark.slow
def test_a_client_that_is_refused_says_so_until_it_is_let_in_and_then_works_without_help(secured: SecuredKafka) -> None:
    inside = made(secured.anybody)
    write(inside, 0, 10)
    settings = credentials(secured)
    worker = Worker(settings)

    def complains_of(*words: str) -> bool:
        return all(word in (worker.consumer.trouble() or "") for word in words)

    worker.until(lambda: complains_of("GROUP_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"), 20.0)
    secured.grant(USER_TOPIC, SOURCE, AclOperation.READ)
    worker.until(lambda: complains_of("GROUP_AUTHORIZATION_FAILED") and not complains_of("TOPIC"), 20.0)
    secured.grant(ResourceType.GROUP, "copy", AclOperation.READ)
    with pytest.raises(Fatal, match="copy-1"):  # no right to the transactional ID: a person must act
        worker.until(lambda: False, 20.0)
    secured.grant(ResourceType.TRANSACTIONAL_ID, "copy-1", AclOperation.WRITE)
    secured.grant(USER_TOPIC, CHANGELOG, AclOperation.WRITE)
    worker.until(lambda: worker.consumer.trouble() is None, 20.0)
    worker.transaction.open()
    worker.transaction.begin()
    with pytest.raises(TransactionAborted, match="TOPIC_AUTHORIZATION_FAILED"):
        denied(worker.transaction)
    secured.grant(USER_TOPIC, OUT, AclOperation.WRITE)
    worker.until(lambda: copied(inside)() >= 10, 30.0)
    assert in_order(committed_values(inside, OUT)) == list(range(10))
    worker.close()


def test_a_wrong_password_is_named(secured: SecuredKafka) -> None:
    worker = Worker(credentials(secured, sasl_password="wrong"))
    worker.until(lambda: "_AUTHENTICATION" in (worker.consumer.trouble() or ""), 20.0)
    with pytest.raises(BrokerOutage, match="_AUTHENTICATION"):
        worker.transaction.open()
    worker.close()


class Waiting:
    """Takes its partitions over later: pauses them, and freezes the broker at that very moment."""

    def __init__(self, settings: KafkaSettings, protocol: str, freeze: Callable[[], None]) -> None:
        self.owned: list[TopicPartition] = []
        self.consumer = KafkaConsumer(
            {**settings, "group.protocol": protocol},
            group=f"waiting-{protocol}",
            assignment=Assignment.COOPERATIVE,
            client_id="waiting",
            resets=False,
        )
        self._freeze = freeze
        self.consumer.subscribe([SOURCE], self)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.consumer.pause(partitions)
        self.owned += partitions
        self._freeze()
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = []

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self.owned = []


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_partition_begins_where_it_was_told_however_slow_the_broker_is(
    kafka_broker: KafkaBroker, protocol: str
) -> None:
    """A question for the end of the log that was under way when `seek` was called was asked again by librdkafka half a
    second later, and its answer taken: everything before the end was skipped, without a word."""
    settings = made(kafka_broker.bootstrap_servers)
    write(settings, 0, 200)
    begins: dict[TopicPartition, int] = {}
    waiting = Waiting(settings, protocol, lambda: os.kill(kafka_broker.pid, signal.SIGSTOP))
    try:
        deadline_s = time.monotonic() + 60.0
        while not waiting.owned:
            assert time.monotonic() < deadline_s, "not assigned"
            waiting.consumer.poll(100, 0.1)
        for _ in range(5):
            waiting.consumer.poll(100, 0.1)
        waiting.consumer.seek(Position(*where, 5) for where in waiting.owned)
        waiting.consumer.resume(waiting.owned)
        os.kill(kafka_broker.pid, signal.SIGCONT)
        read: set[tuple[int, int]] = set()
        deadline_s = time.monotonic() + 15.0
        while len(read) < 2 * 95 and time.monotonic() < deadline_s:
            for record in waiting.consumer.poll(100, 0.1).records:
                begins.setdefault(TopicPartition(record.topic, record.partition), record.offset)
                read.add((record.partition, record.offset))
    finally:
        os.kill(kafka_broker.pid, signal.SIGCONT)
        waiting.consumer.close()
    assert begins == dict.fromkeys([TopicPartition(SOURCE, 0), TopicPartition(SOURCE, 1)], 5)
    assert len(read) == 2 * 95
