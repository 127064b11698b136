"""The start of a role: its questions to the cluster and the registry, and parts that several roles build alike.

Before transform takes a record, `state_problems` checks that the state in the changelog is whole and was made for the
topics as they are. `check` and the commands that correct the state ask it, too.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import structlog

from processor.config import Role, Settings
from processor.edges.avro import reader_schema
from processor.edges.avro_plan import judged
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.broker_clock import ahead_s, limit_ms
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.looks import KafkaBooks, by_number, numbered
from processor.edges.kafka.predecessors import KafkaPredecessors
from processor.edges.kafka.transaction import KafkaTransaction, abort_left_behind
from processor.edges.kafka.versions import without_consumer_protocol
from processor.edges.metrics import SCHEMA_UNREADABLE
from processor.edges.registry import Registry
from processor.errors import BrokerOutage, Fatal, Problem, Unusable
from processor.moments import CLOCK_S_MAX, apart
from processor.records import TopicPartition
from processor.topics import (
    BOOKS,
    CLOCK_TOPICS,
    CONFIG,
    ORDER_TOPICS,
    Topic,
    compacted,
    missing,
    needed,
    problems,
    producer_problems,
    sources_of,
)
from processor.transform.book import Book, Here, problems_at_start

log = structlog.get_logger(__name__)

_HOST_CHARS_MAX: Final = 63
AFTER_DRAIN_S: Final = 2.0
"""Seconds that a role may take after its drain to close its clients."""
VERSIONS_MAX: Final = 100
"""Older schemas of a topic that are asked for at a start, the newest first: a producer may register one a record."""


def described_topics(settings: Settings, role: Role, admin: KafkaAdmin) -> Mapping[str, TopicState]:
    """Returns a role's topics as the cluster describes them, by whole name. Raises `BrokerOutage` while a topic is
    missing (it may be made soon; if only books are missing, this makes them) or while the right to describe it is
    missing. Raises `Unusable` if a topic has a fault that waiting does not mend."""
    if (unknown := without_consumer_protocol(settings.librdkafka)) is not None:
        raise Unusable([unknown])
    topics = needed(role, rekey=settings.rekey)
    try:
        described = admin.describe([settings.topic(topic) for topic in topics])
    except Fatal as refused:  # a right is missing, and whoever grants it need not start us again
        raise BrokerOutage(str(refused)) from refused
    if absent := missing(role, described, settings.topic_prefix, rekey=settings.rekey):
        model = described[settings.topic(topics[0])]
        books = [topic for topic in topics if topic in BOOKS and settings.topic(topic) in absent]
        if model is not None and len(books) == len(absent):
            with suppress(Fatal):  # no right to make topics: somebody else has to
                for book in books:
                    counts = {"partitions": model.partitions, "replicas": model.replicas}
                    admin.create(settings.topic(book), config=CONFIG[book], **counts)
                raise BrokerOutage(f"topics of our own were missing and are made: {', '.join(absent)}")
        raise BrokerOutage(f"topics are missing: {', '.join(absent)}; make them with `hakuna-processor topics create`")
    there = {name: state for name, state in described.items() if state is not None}
    wrong = problems(role, there, settings.topic_prefix, rekey=settings.rekey)
    wrong += producer_problems(role, there, settings.kafka, settings.topic_prefix)
    if wrong:
        raise Unusable(wrong)
    for name, what in compacted(there, settings.topic_prefix).items():
        log.warning("a topic is compacted and must not be", topic=name, what=what, remedy="set cleanup.policy=delete")
    _look_at_the_clock(settings, role, there)
    return there


def _look_at_the_clock(settings: Settings, role: Role, there: Mapping[str, TopicState]) -> None:
    """Raises `BrokerOutage` while the brokers would refuse everything that is written at our time."""
    topic = settings.topic(CLOCK_TOPICS[role])
    config = there[topic].config
    ahead: float | None = None
    with suppress(BrokerOutage, Fatal):  # another check names the same trouble
        ahead = ahead_s(
            settings.librdkafka, topic, config, SystemClock().now_ms(), client_id=f"hakuna-processor-{role}-start"
        )
    limit = limit_ms(config)
    if ahead is None or limit is None or abs(ahead) < CLOCK_S_MAX:
        return
    if ahead * 1000 >= limit:
        raise BrokerOutage(
            f"this machine's clock is {apart(ahead)} the brokers', which take nothing that is more than "
            f"{limit / 1000:.0f} s ahead of theirs: set it by NTP; nothing is lost, and it goes on by itself then"
        )
    log.warning("this machine's clock is not the brokers'", role=role.value, off=apart(ahead), remedy="set it by NTP")


def check_readable(settings: Settings, registry: Registry, topics: Iterable[Topic] = ORDER_TOPICS) -> None:
    """Raises `Unusable` if none of a topic's schemas can be read with ours, `RegistryOutage` without an answer.

    If only the latest one cannot be read, that is a warning: it may be one stray registration, which Apicurio's default
    allows, and must not keep a fleet down. Its records become dead letters.
    """
    wrong: list[str] = []
    for topic in topics:
        subject = f"{settings.topic(topic)}-value"
        latest = registry.version(subject, "latest")
        why = None if latest is None else judged(reader_schema(topic), latest.schema, latest.references).refusal
        SCHEMA_UNREADABLE.labels(settings.topic(topic)).set(why is not None)
        if latest is None or why is None:
            continue
        older = _readable(registry, subject, reader_schema(topic), latest.number)
        if older is None:
            wrong.append(
                f"{subject}: none of its schemas can be read with this version's; of the latest: {why}; "
                "deploy a version that can, or take the schema back"
            )
        else:
            log.warning(
                "the latest schema of a topic cannot be read; its records become dead letters",
                subject=subject,
                version=latest.number,
                why=why,
                readable_version=older,
            )
    if wrong:
        raise Unusable(wrong)


def _readable(registry: Registry, subject: str, ours: str, before: int) -> int | None:
    """Returns the newest earlier version that can be read; None if there is none."""
    older = [number for number in registry.versions(subject) if number < before]
    for number in reversed(older[-VERSIONS_MAX:]):
        version = registry.version(subject, number)
        if version is not None and judged(ours, version.schema, version.references).refusal is None:
            return number
    return None


def client_id(role: Role, worker: str, host: str | None = None) -> str:
    """Returns the client ID of this process. It begins with the host, which in Kubernetes is the name of the pod, and
    ends with `worker`, where a successor looks for it."""
    named = re.sub(r"[^A-Za-z0-9._-]", "-", host or socket.gethostname())[:_HOST_CHARS_MAX]
    return f"hakuna-processor-{role}-{named}-{worker}"


def build() -> tuple[str, str]:
    """Returns the version and the revision that this process runs."""
    try:
        installed = version("hakuna-processor")
    except PackageNotFoundError:
        installed = "unknown"
    return installed, os.environ.get("REVISION", "unknown")


def bytes_max(
    settings: Settings, described: Mapping[str, TopicState], transaction: KafkaTransaction, topic: Topic
) -> int:
    """Returns the bytes of the largest record that a transaction can write to a topic."""
    state = described[settings.topic(topic)]
    return min(transaction.record_bytes_max, int(state.config["max.message.bytes"]))


def predecessors(settings: Settings, role: Role, worker: str, client_id: str) -> KafkaPredecessors:
    """Returns what finds the workers that had our partitions, and ends the transactions that they left open."""
    kafka, group = settings.librdkafka, settings.group(role)

    def end(dead: str) -> None:
        abort_left_behind(kafka, f"{group}.{dead}", client_id=client_id)

    return KafkaPredecessors(KafkaGroups(kafka, client_id=client_id), group, worker, end)


def here_of(settings: Settings, admin: KafkaAdmin, described: Mapping[str, TopicState]) -> Here:
    """Returns the installation as it is now. Raises `BrokerOutage`."""
    changelog = described[settings.topic(Topic.CHANGELOG)]
    return Here(admin.cluster_id(), changelog.topic_id, described[sources(settings)[0]].partitions)


def sources(settings: Settings) -> list[str]:
    """Returns the whole names of the topics that transform reads, in the order in which it takes equal timestamps."""
    return [settings.topic(topic) for topic in sources_of(Role.TRANSFORM, rekey=settings.rekey)]


def state_problems(settings: Settings, admin: KafkaAdmin, books: KafkaBooks, here: Here) -> list[Problem]:
    """Returns what keeps transform from starting, each problem with its remedy. Raises `BrokerOutage`, `Fatal`."""
    changelog = settings.topic(Topic.CHANGELOG)
    described = admin.describe([changelog])[changelog]
    assert described is not None, "asked for before it was known to be there"
    partitions = numbered(changelog, described.partitions)
    beginnings, ends = by_number(admin.beginnings(partitions)), by_number(admin.ends(partitions))
    taken = frozenset(_taken(settings, here)) if 0 in ends.values() else frozenset()
    return problems_at_start(changelog, here, books.newest(ends, beginnings), beginnings, ends, taken=taken)


def newest_book(admin: KafkaAdmin, books: KafkaBooks, changelog: str, number: int) -> Book | None:
    """Returns the newest book of one changelog partition. Raises `BrokerOutage`, `Fatal`."""
    where = [TopicPartition(changelog, number)]
    return books.newest(by_number(admin.ends(where)), by_number(admin.beginnings(where))).get(number)


def _taken(settings: Settings, here: Here) -> Iterator[int]:
    """Yields the partition numbers in which the group has finished a record."""
    groups = KafkaGroups(settings.librdkafka, client_id="hakuna-processor-transform-start")
    of = [TopicPartition(topic, number) for topic in sources(settings) for number in range(here.partitions)]
    for where, committed in groups.committed(settings.group(Role.TRANSFORM), of).items():
        if committed.next_offset:
            yield where.partition
