"""Where the demo's topics live: on the broker inside this process, or under a prefix of their own on a real cluster.

    with cluster(settings, keep=keep) as kafka:   # its topics are there, with PARTITIONS partitions each
        …
                                                  # and gone again, with groups and subjects, unless kept

Owned by the demo.

`EmbeddedBroker` is a Kafka in this process: librdkafka's mock cluster, for a demo on a machine that has none.

Other processes reach it by `bootstrap_servers` for as long as this one lives and `close`
was not called. What it lacks, and why no test of a guarantee may run on it: it ignores `read_committed`,
keeps the last 5 MB of a partition, forgets everything when it ends, and answers no administrative request.
Topics come into being, with PARTITIONS partitions, when they are first asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from processor.config import Settings
from processor.edges.kafka.client import unusable
from processor.edges.registry import Registry
from processor.errors import BrokerOutage, RegistryOutage
from processor.topics import ORDER_TOPICS, TopicPlan, plans

BROKERS: Final = 3
PARTITIONS: Final = 4
"""What the mock cluster gives every topic."""
_ANSWER_S_MAX: Final = 10.0


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker: … broker.bootstrap_servers`. Mutable: `_owner` is the client in which
    the cluster lives; without it there is none."""

    def __init__(self) -> None:
        self._owner: Producer | None = Producer({"test.mock.num.brokers": BROKERS, "log_level": 0})
        brokers = self._owner.list_topics(timeout=_ANSWER_S_MAX).brokers
        assert len(brokers) == BROKERS, f"{len(brokers)} of {BROKERS} mock brokers"
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers.values())

    def create(self, topics: list[str]) -> None:
        """Makes each topic be there before somebody subscribes to it."""
        assert self._owner is not None, "closed"
        for topic in topics:
            found = self._owner.list_topics(topic, timeout=_ANSWER_S_MAX).topics[topic]
            assert found.error is None, f"{topic}: {found.error}"
            assert len(found.partitions) == PARTITIONS, f"{topic} has {len(found.partitions)} partitions"

    def close(self) -> None:
        self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_FETCH_WAIT_MS: Final = "50"
"""The embedded broker answers a fetch that finds nothing only after its whole wait, whatever is written
meanwhile."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`kafka` are librdkafka's settings, by its own names; every topic and group begins with `prefix`."""

    where: str
    kafka: Mapping[str, str]
    prefix: str


@contextmanager
def cluster(settings: Settings, *, keep: bool, rekey: bool = False) -> Iterator[Cluster]:
    """A cluster with the processor's topics. Raises `BrokerOutage` when a real one does not answer or
    refuses."""
    if not settings.bootstrap_servers:
        with EmbeddedBroker() as broker:
            broker.create([plan.topic.value for plan in plans(rekey=rekey)])
            kafka = {"bootstrap.servers": broker.bootstrap_servers, "fetch.wait.max.ms": _FETCH_WAIT_MS}
            yield Cluster("a broker inside this process", kafka, "")
        return
    prefix = f"demo-{uuid.uuid4().hex[:8]}."
    try:
        admin = AdminClient({**settings.librdkafka, "log_level": 0})
    except KafkaException as refused:
        raise unusable(refused) from refused
    missing = _create(admin, prefix, plans(rekey=rekey))
    try:
        if missing:
            raise BrokerOutage(f"the demo's topics cannot be made: {missing[0]}")
        yield Cluster(settings.bootstrap_servers, settings.librdkafka, prefix)
    finally:
        # Nothing to tidy up where no broker answered, and nobody wants to wait for it a second time.
        if not keep and len(missing) < len(plans(rekey=rekey)):
            _delete(admin, settings, prefix, rekey=rekey)


def _create(admin: AdminClient, prefix: str, topics: Sequence[TopicPlan]) -> list[str]:
    """Why topics could not be made, one reason for each that is not there."""
    wanted = [
        NewTopic(prefix + plan.topic, num_partitions=PARTITIONS, replication_factor=-1, config=dict(plan.config))
        for plan in topics
    ]
    missing = []
    for future in admin.create_topics(wanted, request_timeout=_ANSWER_S_MAX).values():
        try:
            future.result(timeout=_ANSWER_S_MAX)
        except (KafkaException, TimeoutError) as reason:
            missing.append(str(reason) or "no answer")
    return missing


def _delete(admin: AdminClient, settings: Settings, prefix: str, *, rekey: bool) -> None:
    """As far as it goes: what is left over has the demo's prefix and says so itself."""
    with suppress(KafkaException, TimeoutError):
        names = [prefix + plan.topic for plan in plans(rekey=rekey)]
        _await(admin.delete_topics(names, request_timeout=_ANSWER_S_MAX))
        listed = admin.list_consumer_groups().result(timeout=_ANSWER_S_MAX)
        groups = [group.group_id for group in listed.valid if group.group_id.startswith(prefix)]
        if groups:
            _await(admin.delete_consumer_groups(groups, request_timeout=_ANSWER_S_MAX))
    if settings.registry_url:
        registry = Registry.at(settings)
        for topic in ORDER_TOPICS:
            with suppress(RegistryOutage):
                registry.delete(f"{prefix}{topic}-value")


def _await(answers: Mapping[str, Future[None]]) -> None:
    for answer in answers.values():
        with suppress(KafkaException):
            answer.result(timeout=_ANSWER_S_MAX)
