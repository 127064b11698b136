"""Brokers, topics, groups and rights of this user: asked for, and tried if a question does not show it.

    brokers    metadata; before them, what listens at each address (`doors.py`)
    topics     existence, partitions, configuration: the same rules as at a worker's start (`topics.py`)
    state      whether the changelog is whole, and was made for the topics as they are
    groups     their members
    rights     topics and groups: the broker says what this user may do with each
               transactional IDs: a producer is requested with a timeout that no broker grants. The
               refusal names the missing right, otherwise the timeout; nothing is kept of it
    producers  what the newest records of the sources show of their producers

Owned by `check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from processor.config import Role, Settings
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.broker_clock import ahead_s, limit_ms
from processor.edges.kafka.client import ALLOW
from processor.edges.kafka.looks import KafkaBooks, survey
from processor.edges.kafka.rights import Allowed, group_rights, may_write_transactions, topic_rights
from processor.edges.kafka.versions import without_consumer_protocol
from processor.errors import BrokerOutage, Fatal, StateCorrupt
from processor.moments import CLOCK_S_MAX, apart
from processor.operate.check import rights
from processor.operate.check.doors import closed, let_in_by_none
from processor.operate.check.findings import Area, Finding, Heard, found_of, note, problem, sound
from processor.records import TopicPartition
from processor.run.start import here_of, state_problems
from processor.send.event_loop.pace import quota_problem
from processor.sources.survey import judged
from processor.topics import (
    CLOCK_TOPICS,
    DEAD_LETTER_TOPICS,
    KEEP,
    ORDER_TOPICS,
    REKEY_TOPICS,
    STOCK_TOPICS,
    TOPICS,
    Action,
    Topic,
    compacted,
    needed,
    oddities,
    plan,
    problems,
    producer_problems,
)

ANSWER_TRIES_MAX: Final = 10
"""Tries of a second each for the first question."""
CLIENT_ID: Final = "hakuna-processor-check"
_NOT_LET_IN: Final = ("sasl", "ssl", "authentication", "certificate")
_SOURCES: Final = frozenset({*ORDER_TOPICS, *STOCK_TOPICS})
_PLANS: Final = {one.topic: one for one in (*TOPICS, *REKEY_TOPICS)}
_REPLICAS_SAFE: Final = 3


def check_cluster(settings: Settings, admin: KafkaAdmin, heard: Heard, roles: Sequence[Role]) -> list[Finding]:
    """`heard` is the log of `admin`."""
    count = 0
    doors = closed(settings.bootstrap_servers, settings.kafka)
    if not doors:
        count = _brokers(admin, heard)
        doors = [] if count else [let_in_by_none(settings.bootstrap_servers, settings.kafka)]
    if doors:
        return _no_brokers(settings, heard, doors)
    brokers = "1 broker answers" if count == 1 else f"{count} brokers answer"
    found = [sound(Area.BROKERS, settings.bootstrap_servers, brokers)]
    if (unknown := without_consumer_protocol(settings.librdkafka)) is not None:
        found.append(found_of(Area.SETTINGS, unknown))
    names = sorted({settings.topic(topic) for role in roles for topic in _rights(settings, role)})
    described, unasked = _describe(admin, names)
    there = {name: state for name, state in described.items() if state is not None}
    cluster = _Cluster(settings, admin, heard, described, there)
    found += unasked
    for role in roles:
        found += cluster.topics(role)
        found += cluster.replicas(role, several=count > 1)
        wrong = producer_problems(role, there, settings.kafka, settings.topic_prefix)
        found += [found_of(Area.SETTINGS, one) for one in wrong]
    if Role.TRANSFORM in roles:
        found += cluster.state()
    allowed = topic_rights(admin, names)
    for role in roles:
        found += cluster.group(role)
        found += cluster.topic_rights(role, allowed)
        if role in rights.TRANSACTIONAL:
            found += cluster.transactions(role)
    if (Role.REKEY if settings.rekey else Role.TRANSFORM) in roles:
        found += cluster.producers()
    found += cluster.quotas(roles)
    found += cluster.clock_of_brokers(roles)
    found += cluster.clock_of_records()
    return found


def _rights(settings: Settings, role: Role) -> Mapping[Topic, frozenset[str]]:
    return rights.needed(role, settings.hakuna_api, rekey=settings.rekey)


def _brokers(admin: KafkaAdmin, heard: Heard) -> int:
    """Returns how many brokers there are; 0 if none answers, as soon as the reason is known."""
    for _ in range(ANSWER_TRIES_MAX):
        try:
            return admin.brokers(1.0)
        except (BrokerOutage, Fatal):
            if heard.about(*_NOT_LET_IN) is not None:
                return 0
    return 0


def _no_brokers(settings: Settings, heard: Heard, doors: Sequence[tuple[str, str, str]]) -> list[Finding]:
    """Returns what is at each address instead of a broker, and what the client has said."""
    found = [problem(Area.BROKERS, address, what, remedy) for address, what, remedy in doors]
    if (said := heard.about(*_NOT_LET_IN)) is not None:
        found.append(note(Area.BROKERS, settings.bootstrap_servers, f"the client says: {said}"))
    return found


def _describe(admin: KafkaAdmin, names: Sequence[str]) -> tuple[dict[str, TopicState | None], list[Finding]]:
    """Describes topic by topic, so that one refusal does not hide the others; a topic that is refused is left out."""
    described: dict[str, TopicState | None] = {}
    found: list[Finding] = []
    for name in names:
        try:
            described.update(admin.describe([name]))
        except Fatal as refused:
            what = str(refused).removesuffix(f": {ALLOW}").replace(name, "it")
            found.append(problem(Area.RIGHTS, name, what, "allow this user to Describe and DescribeConfigs the topic"))
        except BrokerOutage as outage:
            found.append(problem(Area.TOPICS, name, str(outage), "look at the brokers' logs, then check again"))
    return described, found


@dataclass(frozen=True, slots=True)
class _Cluster:
    """A cluster that answers. `described` are the topics that this user may describe, by whole name (None: there is no
    such topic), `there` those that exist."""

    settings: Settings
    admin: KafkaAdmin
    heard: Heard
    described: Mapping[str, TopicState | None]
    there: Mapping[str, TopicState]

    def topics(self, role: Role) -> list[Finding]:
        settings, described = self.settings, self.described
        names = {settings.topic(topic): topic for topic in needed(role, rekey=settings.rekey)}
        there = {name: self.there[name] for name in names if name in self.there}
        create = "make it with `hakuna-processor topics create`"
        found = [
            problem(Area.TOPICS, name, "does not exist", create)
            for name in names
            if name in described and described[name] is None
        ]
        if not there:
            return found
        # A topic that is missing, or may not be described, has its finding already: here it counts as right.
        count = Counter(state.partitions for state in there.values()).most_common(1)[0][0]
        as_wanted = {
            name: there.get(name) or TopicState(count, 0, _PLANS[topic].config, "") for name, topic in names.items()
        }
        wrong = problems(role, as_wanted, settings.topic_prefix, rekey=settings.rekey)
        wrong += oddities(role, as_wanted, settings.topic_prefix, rekey=settings.rekey)
        found += [found_of(Area.TOPICS, one) for one in wrong]
        wrong_already = {finding.subject for finding in found}
        found += [
            problem(Area.TOPICS, name, what, "set cleanup.policy=delete")
            for name, what in compacted(there, settings.topic_prefix).items()
        ]
        for name, state in there.items():
            if names[name] not in _SOURCES and name not in wrong_already:
                found += self._configuration(name, names[name], state)
        wrong_already = {finding.subject for finding in found}
        return found + [
            sound(Area.TOPICS, name, f"{state.partitions} partition{'s' if state.partitions != 1 else ''}")
            for name, state in there.items()
            if name not in wrong_already
        ]

    def _configuration(self, name: str, topic: Topic, state: TopicState) -> list[Finding]:
        """Returns what `topics create` would correct. Dead letters that are deleted by age are a loss; the rest may be
        someone's choice."""
        # Alone, and with its own partitions: those were judged before.
        (step,) = plan({name: state}, self.settings.topic_prefix, partitions=state.partitions, only=[_PLANS[topic]])
        if step.action is not Action.CHANGE:
            return []
        wanted = ", ".join(f"{key}={value}" for key, value in step.config.items())
        remedy = f"`hakuna-processor topics create` sets {wanted}"
        if topic in DEAD_LETTER_TOPICS and step.config.get("retention.ms") == KEEP:
            what = f"{step.why}: dead letters carry their records' old timestamps, and would be deleted by age"
            return [problem(Area.TOPICS, step.topic, what, remedy)]
        return [note(Area.TOPICS, step.topic, step.why, remedy)]

    def replicas(self, role: Role, *, several: bool) -> list[Finding]:
        """Looks at our own topics; the sources belong to the shops. `several`: there is more than one broker."""
        found = []
        for topic in needed(role, rekey=self.settings.rekey):
            name = self.settings.topic(topic)
            state = self.there.get(name)
            if state is None or topic in _SOURCES:
                continue
            enough = int(state.config.get("min.insync.replicas", "1"))
            if state.replicas >= _REPLICAS_SAFE and enough < 2:
                what = f"has {state.replicas} replicas, and a write needs only one: with its broker it is gone"
                remedy = "`hakuna-processor topics create` sets min.insync.replicas=2"
                found.append(problem(Area.TOPICS, name, what, remedy))
            elif several and state.replicas == 1:
                what = "has one replica: with its broker's disk it is gone"
                found.append(note(Area.TOPICS, name, what, "give it two or three replicas"))
        return found

    def state(self) -> list[Finding]:
        """Returns nothing if a topic of transform is missing."""
        settings, there = self.settings, self.there
        if any(settings.topic(topic) not in there for topic in needed(Role.TRANSFORM, rekey=settings.rekey)):
            return []
        changelog, group = settings.topic(Topic.CHANGELOG), settings.group(Role.TRANSFORM)
        books = KafkaBooks(settings.librdkafka, changelog, group=group, client_id=CLIENT_ID, log=self.heard)
        try:
            wrong = state_problems(settings, self.admin, books, here_of(settings, self.admin, there))
        except (BrokerOutage, Fatal, StateCorrupt) as refused:
            return [note(Area.STATE, changelog, f"it is not known whether it is whole: {refused}")]
        if not wrong:
            return [sound(Area.STATE, changelog, "the state is whole, and was made for the topics as they are")]
        return [found_of(Area.STATE, one) for one in wrong]

    def group(self, role: Role) -> list[Finding]:
        group = self.settings.group(role)
        answer = group_rights(self.admin, group)
        remedy = f"allow this user to Read and Describe the group {group}"
        if answer.refused is not None:
            return [problem(Area.RIGHTS, group, answer.refused, remedy)]
        if rights.missing(frozenset({rights.READ}), answer.operations):
            remedy = f"allow this user to Read the group {group}"
            return [problem(Area.RIGHTS, group, "this user may not Read it", remedy)]
        count = answer.members
        members = {0: "nobody is in it", 1: "1 worker is in it"}.get(count, f"{count} workers are in it")
        return [sound(Area.GROUPS, group, members)]

    def topic_rights(self, role: Role, allowed: Mapping[str, Allowed]) -> list[Finding]:
        found, unknown = [], False
        for topic, wanted in _rights(self.settings, role).items():
            name = self.settings.topic(topic)
            if name not in self.there:
                unknown = True
                continue
            lacking = " and ".join(rights.missing(wanted, allowed[name].operations))
            if lacking:
                remedy = f"allow this user to {lacking} the topic"
                found.append(problem(Area.RIGHTS, name, f"{role} may not {lacking} it", remedy))
        if found or unknown:
            return found
        return [sound(Area.RIGHTS, f"{role}: topics", "every operation that is needed is allowed")]

    def transactions(self, role: Role) -> list[Finding]:
        group = self.settings.group(role)
        refused = may_write_transactions(self.settings.librdkafka, f"{group}.check")
        if refused is None:
            return [sound(Area.RIGHTS, f"{group}.*", "transactional IDs may be used")]
        remedy = f"allow this user to Write transactional IDs that begin with {group}."
        return [problem(Area.RIGHTS, f"{group}.*", refused, remedy)]

    def producers(self) -> list[Finding]:
        settings = self.settings
        there = {name: self.there[name] for name in map(settings.topic, ORDER_TOPICS) if name in self.there}
        if not there:
            return []
        counts = {name: state.partitions for name, state in there.items()}
        group = settings.group(Role.REKEY if settings.rekey else Role.TRANSFORM)
        try:
            found = survey(settings.librdkafka, counts, group=group, client_id=CLIENT_ID, log=self.heard)
        except (BrokerOutage, Fatal) as refused:
            return [note(Area.TOPICS, "orders.*", f"the newest records cannot be read: {refused}")]
        return [
            Finding(Area.TOPICS, said.topic, said.weight, said.what, said.remedy)
            for said in judged(found, {name: state.config for name, state in there.items()}, rekey=settings.rekey)
        ]

    def quotas(self, roles: Sequence[Role]) -> list[Finding]:
        settings, found = self.settings, []
        for role, quota, setting, topic in (
            (Role.SEND, settings.hakuna_quota, "HAKUNA_QUOTA", Topic.OUTBOX),
            (Role.HAKO, settings.hako_quota, "HAKO_QUOTA", STOCK_TOPICS[0]),
        ):
            state = self.there.get(settings.topic(topic))
            if role in roles and quota is not None and state is not None:
                wrong = quota_problem(quota, state.partitions, setting)
                found += [] if wrong is None else [found_of(Area.SETTINGS, wrong)]
        return found

    def clock_of_records(self) -> list[Finding]:
        """Looks for records from the future."""
        partitions = [
            TopicPartition(name, number)
            for name in map(self.settings.topic, (*ORDER_TOPICS, *STOCK_TOPICS))
            if name in self.there
            for number in range(self.there[name].partitions)
        ]
        if not partitions:
            return []
        try:
            newest = self.admin.newest_ms(partitions)
        except (BrokerOutage, Fatal) as refused:
            return [note(Area.CLOCK, "records", f"the newest records cannot be asked for: {refused}")]
        now_ms = SystemClock().now_ms()
        limit = now_ms + CLOCK_S_MAX * 1000
        times = sorted((at_ms, one.topic) for one, at_ms in newest.items() if at_ms is not None and at_ms > limit)
        ahead = {topic: (at_ms - now_ms) / 1000 for at_ms, topic in times}
        remedy = "set the clock of this machine, or that of the producer, by NTP"
        return [
            note(Area.CLOCK, topic, f"its newest record is {seconds:.0f} s ahead of this machine's clock", remedy)
            for topic, seconds in ahead.items()
        ] or [sound(Area.CLOCK, "records", "no source record is ahead of this machine's clock")]

    def clock_of_brokers(self, roles: Sequence[Role]) -> list[Finding]:
        """Compares the clocks by the answer to a batch that no broker takes: nothing is written."""
        why = "none of these topics has a limit to times ahead, by which the brokers' clock is known"
        for topic in (self.settings.topic(CLOCK_TOPICS[role]) for role in roles):
            if (state := self.there.get(topic)) is None or limit_ms(state.config) is None:
                continue
            now_ms = SystemClock().now_ms()
            try:
                ahead = ahead_s(self.settings.librdkafka, topic, state.config, now_ms, client_id=CLIENT_ID)
            except (BrokerOutage, Fatal) as refused:
                why = str(refused)
                continue
            if ahead is None:
                continue
            if abs(ahead) < CLOCK_S_MAX:
                return [sound(Area.CLOCK, "brokers", "their clock and this machine's differ by less than a minute")]
            remedy = "set this machine's clock by NTP; until then times are wrong, and what is too far ahead is refused"
            return [problem(Area.CLOCK, "brokers", f"this machine's clock is {apart(ahead)} theirs", remedy)]
        return [note(Area.CLOCK, "brokers", f"their clock is not known: {why}")]
