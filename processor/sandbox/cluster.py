"""Where the demo's topics live: on the broker inside this process, or under a prefix of their own on a real
cluster.

    with cluster(settings, prefix, keep) as kafka:      # its topics are there, with PARTITIONS partitions
    each
        …
                                                        # and gone again, with groups and subjects, unless
                                                        # kept

Owned by the demo.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from processor.config import Settings
from processor.edges.kafka_client import unusable
from processor.errors import BrokerOutage
from processor.sandbox.broker import PARTITIONS, EmbeddedBroker
from processor.topics import ORDER_TOPICS, TOPICS

_ANSWER_S_MAX: Final = 10.0
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
def cluster(settings: Settings, *, keep: bool) -> Iterator[Cluster]:
    """A cluster with the processor's topics. Raises `BrokerOutage` when a real one does not answer or
    refuses."""
    if not settings.bootstrap_servers:
        with EmbeddedBroker() as broker:
            broker.create([plan.topic.value for plan in TOPICS])
            kafka = {"bootstrap.servers": broker.bootstrap_servers, "fetch.wait.max.ms": _FETCH_WAIT_MS}
            yield Cluster("a broker inside this process", kafka, "")
        return
    prefix = f"demo-{uuid.uuid4().hex[:8]}."
    try:
        admin = AdminClient({**settings.librdkafka, "log_level": 0})
    except KafkaException as refused:
        raise unusable(refused) from refused
    missing = _create(admin, prefix)
    try:
        if missing:
            raise BrokerOutage(f"the demo's topics cannot be made: {missing[0]}")
        yield Cluster(settings.bootstrap_servers, settings.librdkafka, prefix)
    finally:
        # Nothing to tidy up where no broker answered, and nobody wants to wait for it a second time.
        if not keep and len(missing) < len(TOPICS):
            _delete(admin, settings, prefix)


def _create(admin: AdminClient, prefix: str) -> list[str]:
    """Why topics could not be made, one reason for each that is not there."""
    wanted = [
        NewTopic(prefix + plan.topic, num_partitions=PARTITIONS, replication_factor=-1, config=dict(plan.config))
        for plan in TOPICS
    ]
    missing = []
    for future in admin.create_topics(wanted, request_timeout=_ANSWER_S_MAX).values():
        try:
            future.result(timeout=_ANSWER_S_MAX)
        except (KafkaException, TimeoutError) as reason:
            missing.append(str(reason) or "no answer")
    return missing


def _delete(admin: AdminClient, settings: Settings, prefix: str) -> None:
    """As far as it goes: what is left over has the demo's prefix and says so itself."""
    with suppress(KafkaException, TimeoutError):
        names = [prefix + plan.topic for plan in TOPICS]
        _await(admin.delete_topics(names, request_timeout=_ANSWER_S_MAX))
        listed = admin.list_consumer_groups().result(timeout=_ANSWER_S_MAX)
        groups = [group.group_id for group in listed.valid if group.group_id.startswith(prefix)]
        if groups:
            _await(admin.delete_consumer_groups(groups, request_timeout=_ANSWER_S_MAX))
    user, _, password = settings.registry_auth.partition(":")
    for url in filter(None, settings.registry_url.split(",")):
        for topic in ORDER_TOPICS:
            with suppress(httpx.HTTPError):
                httpx.delete(
                    f"{url.strip().rstrip('/')}/subjects/{quote(f'{prefix}{topic}-value', safe='')}",
                    auth=(user, password) if user else None,
                    timeout=_ANSWER_S_MAX,
                )


def _await(answers: Mapping[str, Future[None]]) -> None:
    for answer in answers.values():
        with suppress(KafkaException):
            answer.result(timeout=_ANSWER_S_MAX)
