"""Checks that the state in the changelog is whole and was made for the topics as they are. Called at every start of
transform, by `check`, and by the commands that mend the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from processor.config import Role, Settings
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.looks import KafkaBooks, by_number, numbered
from processor.errors import Problem
from processor.records import TopicPartition
from processor.topics import Topic, sources_of
from processor.transform.book import Book, Here, problems_at_start


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
    """Of one changelog partition. Raises `BrokerOutage`, `Fatal`."""
    where = [TopicPartition(changelog, number)]
    return books.newest(by_number(admin.ends(where)), by_number(admin.beginnings(where))).get(number)


def _taken(settings: Settings, here: Here) -> Iterator[int]:
    """The numbers of which the group has ever finished a record."""
    groups = KafkaGroups(settings.librdkafka, client_id="hakuna-processor-transform-start")
    of = [TopicPartition(topic, number) for topic in sources(settings) for number in range(here.partitions)]
    for where, committed in groups.committed(settings.group(Role.TRANSFORM), of).items():
        if committed.next_offset:
            yield where.partition
