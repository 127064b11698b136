"""The state in the changelog: whether it is whole, and was made for the topics as they are; and how safe our topics are
kept: whether one replica is enough for a write, and whether our own client can write what the sources may hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processor.config import Role, Settings
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.books import KafkaBooks
from processor.edges.kafka.client import Log
from processor.errors import BrokerOutage, Fatal, StateCorrupt
from processor.operate.check.findings import Area, Finding, found_of, note, problem, sound
from processor.run.layout import here_of, state_problems
from processor.topics import ORDER_TOPICS, STOCK_TOPICS, Topic, needed, producer_problems

_SOURCES = frozenset({*ORDER_TOPICS, *STOCK_TOPICS})
_REPLICAS_SAFE = 3


def check_state(
    settings: Settings, admin: KafkaAdmin, log: Log, described: Mapping[str, TopicState | None]
) -> list[Finding]:
    """Asked only where every topic of transform is there."""
    there = {name: state for name, state in described.items() if state is not None}
    if any(settings.topic(topic) not in there for topic in needed(Role.TRANSFORM, rekey=settings.rekey)):
        return []
    changelog = settings.topic(Topic.CHANGELOG)
    books = KafkaBooks(
        settings.librdkafka,
        changelog,
        group=settings.group(Role.TRANSFORM),
        client_id="hakuna-processor-check",
        log=log,
    )
    try:
        wrong = state_problems(settings, admin, books, here_of(settings, admin, there))
    except (BrokerOutage, Fatal, StateCorrupt) as refused:
        return [note(Area.STATE, changelog, f"it is not known whether it is whole: {refused}")]
    if not wrong:
        return [sound(Area.STATE, changelog, "the state is whole, and was made for the topics as they are")]
    return [found_of(Area.STATE, one) for one in wrong]


def check_replicas(
    settings: Settings, role: Role, described: Mapping[str, TopicState | None], *, several: bool
) -> Sequence[Finding]:
    """Of our own topics: the sources are the shops'."""
    found = []
    for topic in needed(role, rekey=settings.rekey):
        name = settings.topic(topic)
        state = described.get(name)
        if state is None or topic in _SOURCES:
            continue
        enough = int(state.config.get("min.insync.replicas", "1"))
        if state.replicas >= _REPLICAS_SAFE and enough < 2:
            what = f"has {state.replicas} replicas, and one of them is enough for a write: with its broker it is gone"
            remedy = "`hakuna-processor topics create` sets min.insync.replicas=2"
            found.append(problem(Area.TOPICS, name, what, remedy))
        elif several and state.replicas == 1:
            what = "has one replica: with its broker's disk it is gone"
            found.append(note(Area.TOPICS, name, what, "give it two or three replicas"))
    return found


def check_producer(settings: Settings, role: Role, described: Mapping[str, TopicState | None]) -> list[Finding]:
    there = {name: state for name, state in described.items() if state is not None}
    wrong = producer_problems(role, there, settings.kafka, settings.topic_prefix)
    return [found_of(Area.SETTINGS, one) for one in wrong]
