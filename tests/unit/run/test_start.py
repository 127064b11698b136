"""What the composition root does before a role is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from processor.config import Role, Settings, load
from processor.edges.avro import reader_schema
from processor.edges.kafka.admin import TopicState
from processor.edges.metrics import SCHEMA_UNREADABLE
from processor.edges.registry import Registry
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.run.start import check_readable, described_topics
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import CONFIG, NEEDED, Topic

ENVIRONMENT = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker.test:9092",
    "SCHEMA_REGISTRY_URL": "http://registry.test",
    "HAKUNA_API_KEY": "k",
    "HAKO_API_KEY": "k",
    "PROCESSOR_TOPIC_PREFIX": "shop.",
}


class Cluster:
    """The topics of a cluster, and whether we may make one."""

    def __init__(self, role: Role, *without: Topic) -> None:
        self.topics = {
            f"shop.{topic}": TopicState(6, 3, CONFIG[topic], topic) for topic in NEEDED[role] if topic not in without
        }
        self.may_create = True
        self.denied: str | None = None

    def describe(self, topics: Sequence[str]) -> Mapping[str, TopicState | None]:
        if self.denied is not None:
            raise Fatal(self.denied)
        return {name: self.topics.get(name) for name in topics}

    def create(self, topic: str, *, partitions: int, replicas: int, config: Mapping[str, str]) -> bool:
        if not self.may_create:
            raise Fatal("not allowed to ask")
        self.topics[topic] = TopicState(partitions, replicas, config, topic)
        return True


@pytest.fixture
def settings() -> Settings:
    return load(ENVIRONMENT)


@pytest.mark.parametrize(("role", "book"), [(Role.SEND, Topic.SEND_OFFSETS), (Role.HAKO, Topic.HAKO_SENT)])
def test_a_book_of_our_own_that_is_missing_is_made_like_the_others(settings: Settings, role: Role, book: Topic) -> None:
    cluster = Cluster(role, book)
    with pytest.raises(BrokerOutage, match="are made"):
        described_topics(settings, role, cluster)  # type: ignore[arg-type]  # all that is asked of an admin client
    assert cluster.topics[f"shop.{book}"] == TopicState(6, 3, CONFIG[book], f"shop.{book}")
    assert len(described_topics(settings, role, cluster)) == len(NEEDED[role])  # type: ignore[arg-type]  # as above


def test_a_topic_that_others_read_or_write_is_waited_for_and_no_book_is_made_meanwhile(settings: Settings) -> None:
    cluster = Cluster(Role.SEND, Topic.OUTBOX, Topic.SEND_OFFSETS)
    with pytest.raises(BrokerOutage, match=r"missing: shop\.hakuna\.outbox, shop\.hakuna\.send-offsets; make them"):
        described_topics(settings, Role.SEND, cluster)  # type: ignore[arg-type]  # as above
    assert "shop.hakuna.send-offsets" not in cluster.topics


def test_without_the_right_to_make_topics_a_book_is_waited_for(settings: Settings) -> None:
    cluster = Cluster(Role.SEND, Topic.SEND_OFFSETS)
    cluster.may_create = False
    with pytest.raises(BrokerOutage, match="make them with"):
        described_topics(settings, Role.SEND, cluster)  # type: ignore[arg-type]  # as above


def test_a_right_that_is_missing_at_the_start_is_waited_for_and_named(settings: Settings) -> None:
    cluster = Cluster(Role.SEND)
    cluster.denied = "not allowed to ask about shop.hakuna.outbox (Describe)"
    with pytest.raises(BrokerOutage, match=r"not allowed to ask about shop\.hakuna\.outbox"):
        described_topics(settings, Role.SEND, cluster)  # type: ignore[arg-type]  # as above
    cluster.denied = None
    assert len(described_topics(settings, Role.SEND, cluster)) == len(NEEDED[Role.SEND])  # type: ignore[arg-type]  # as above


STRAY = '{"type": "record", "name": "Record1", "fields": [{"name": "cancelled_at", "type": "float"}]}'
SUBJECT = "shop.orders.cancelled-value"


def unreadable() -> float:
    return next(
        sample.value
        for metric in SCHEMA_UNREADABLE.collect()
        for sample in metric.samples
        if sample.labels == {"topic": "shop.orders.cancelled"}
    )


def test_one_stray_registration_keeps_no_worker_from_starting_and_is_told(settings: Settings) -> None:
    api = RegistryApi()
    with Loopback(StandIn(api)) as server:
        registry = Registry(server.url)
        api.register(SUBJECT, reader_schema(Topic.CANCELLED))
        check_readable(settings, registry)
        assert unreadable() == 0
        api.register(SUBJECT, STRAY)
        check_readable(settings, registry)
        assert unreadable() == 1


def test_a_topic_none_of_whose_schemas_can_be_read_is_a_reason_not_to_start(settings: Settings) -> None:
    api = RegistryApi()
    with Loopback(StandIn(api)) as server:
        api.register(SUBJECT, STRAY)
        api.register(SUBJECT, '"string"')
        with pytest.raises(Unusable, match=f"{SUBJECT}: none of its schemas can be read"):
            check_readable(settings, Registry(server.url))


def test_a_topic_without_a_schema_is_none() -> None:
    with Loopback(StandIn(RegistryApi())) as server:
        check_readable(load(ENVIRONMENT), Registry(server.url))
