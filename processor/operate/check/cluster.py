"""Brokers, topics, groups, and what this user may do with them: asked, and tried where asking does not tell.

    brokers    metadata; before them, what stands behind each address (`doors.py`)
    topics     there, partitions, configuration: the same rules as at a worker's start (`topics.py`)
    groups     who is in them
    rights     topics and groups: the broker says what this user may do with each
               transactional IDs: a producer is asked for with a timeout that no broker grants. The
               refusal names the right where that is missing, else the timeout; nothing of it is kept

Owned by `check`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from processor.config import Role, Settings
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.broker_clock import ahead_s, limit_ms
from processor.edges.kafka.client import ALLOW
from processor.edges.kafka.rights import Allowed, group_rights, may_write_transactions, topic_rights
from processor.edges.kafka.versions import without_consumer_protocol
from processor.errors import BrokerOutage, Fatal
from processor.moments import CLOCK_S_MAX, apart
from processor.operate.check import rights
from processor.operate.check.doors import closed, let_in_by_none
from processor.operate.check.findings import Area, Finding, Heard, found_of, note, problem, sound
from processor.operate.check.producers import check_producers
from processor.operate.check.state import check_producer, check_replicas, check_state
from processor.records import TopicPartition
from processor.send.event_loop.pace import quota_problem
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
)

ANSWER_TRIES_MAX: Final = 10
"""Of a second each, for the first question."""
_NOT_LET_IN: Final = ("sasl", "ssl", "authentication", "certificate")
_SOURCES: Final = (*ORDER_TOPICS, *STOCK_TOPICS)
_PLANS: Final = {one.topic: one for one in (*TOPICS, *REKEY_TOPICS)}


def check_cluster(
    settings: Settings, kafka: Mapping[str, str], admin: KafkaAdmin, heard: Heard, roles: Sequence[Role]
) -> list[Finding]:
    """`kafka` are the librdkafka settings that `admin` was made with."""
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
    found += unasked
    for role in roles:
        found += _topics(settings, role, described)
        found += check_replicas(settings, role, described, several=count > 1)
        found += check_producer(settings, role, described)
    if Role.TRANSFORM in roles:
        found += check_state(settings, admin, heard, described)
    allowed = topic_rights(admin, names)
    for role in roles:
        found += _group(settings, admin, role)
        found += _topic_rights(settings, role, described, allowed)
        if role in rights.TRANSACTIONAL:
            found += _transactions(settings, kafka, role)
    if (Role.REKEY if settings.rekey else Role.TRANSFORM) in roles:
        found += check_producers(settings, kafka, described, heard)
    found += _quota(settings, roles, described)
    found += _clock_of_brokers(settings, kafka, roles, described)
    found += _clock(settings, admin, described)
    return found


def _rights(settings: Settings, role: Role) -> Mapping[Topic, frozenset[str]]:
    return rights.needed(role, settings.hakuna_api, rekey=settings.rekey)


def _brokers(admin: KafkaAdmin, heard: Heard) -> int:
    """How many there are; 0 where none answers, without waiting on once it is known why."""
    for _ in range(ANSWER_TRIES_MAX):
        try:
            return admin.brokers(1.0)
        except (BrokerOutage, Fatal):
            if heard.about(*_NOT_LET_IN) is not None:
                return 0
    return 0


def _no_brokers(settings: Settings, heard: Heard, doors: Sequence[tuple[str, str, str]]) -> list[Finding]:
    """What stands at each address instead of a broker, and what the client has heard of it."""
    found = [problem(Area.BROKERS, address, what, remedy) for address, what, remedy in doors]
    said = heard.about(*_NOT_LET_IN)
    return (
        found if said is None else [*found, note(Area.BROKERS, settings.bootstrap_servers, f"the client says: {said}")]
    )


# ---- topics ---------------------------------------------------------------------------------------------------------


def _describe(admin: KafkaAdmin, names: Sequence[str]) -> tuple[dict[str, TopicState | None], list[Finding]]:
    """Topic by topic, so that one that may not be looked at does not hide the others; those are left out."""
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


def _topics(settings: Settings, role: Role, described: Mapping[str, TopicState | None]) -> list[Finding]:
    names = {settings.topic(topic): topic for topic in needed(role, rekey=settings.rekey)}
    there = {name: state for name in names if (state := described.get(name)) is not None}
    create = "make it with `hakuna-processor topics create`"
    found = [
        problem(Area.TOPICS, name, "does not exist", create)
        for name in names
        if name in described and described[name] is None
    ]
    if not there:
        return found
    # What is not there, or may not be looked at, is complained of already: here it counts as it should be.
    count = Counter(state.partitions for state in there.values()).most_common(1)[0][0]
    as_wanted = {
        name: there.get(name) or TopicState(count, 0, _PLANS[topic].config, "") for name, topic in names.items()
    }
    wrong = problems(role, as_wanted, settings.topic_prefix, rekey=settings.rekey)
    wrong += oddities(role, as_wanted, settings.topic_prefix, rekey=settings.rekey)
    found += [found_of(Area.TOPICS, one) for one in wrong]
    complained = {finding.subject for finding in found}
    found += [
        problem(Area.TOPICS, name, what, "set cleanup.policy=delete")
        for name, what in compacted(there, settings.topic_prefix).items()
    ]
    found += _configuration(
        settings, {name: topic for name, topic in names.items() if name in there}, there, complained
    )
    complained = {finding.subject for finding in found}
    return found + [
        sound(Area.TOPICS, name, f"{state.partitions} partition{'s' if state.partitions != 1 else ''}")
        for name, state in there.items()
        if name not in complained
    ]


def _configuration(
    settings: Settings, names: Mapping[str, Topic], there: Mapping[str, TopicState], complained: set[str]
) -> list[Finding]:
    """What `topics create` would mend. Of it, dead letters that are deleted by age are a loss; the rest is a choice
    that somebody may have made. The sources are the shops' own."""
    found = []
    for name, topic in names.items():
        if topic in _SOURCES or name in complained:
            continue
        # Alone, and with the partitions that it has: those were judged before.
        (step,) = plan(
            {name: there[name]}, settings.topic_prefix, partitions=there[name].partitions, only=[_PLANS[topic]]
        )
        if step.action is not Action.CHANGE:
            continue
        wanted = ", ".join(f"{key}={value}" for key, value in step.config.items())
        remedy = f"`hakuna-processor topics create` sets {wanted}"
        lost = names[step.topic] in DEAD_LETTER_TOPICS and step.config.get("retention.ms") == KEEP
        what = (
            f"{step.why}: dead letters carry their records' old timestamps, and would be deleted by age"
            if lost
            else step.why
        )
        found.append((problem if lost else note)(Area.TOPICS, step.topic, what, remedy))
    return found


# ---- groups and rights ----------------------------------------------------------------------------------------------


def _group(settings: Settings, admin: KafkaAdmin, role: Role) -> list[Finding]:
    group = settings.group(role)
    answer = group_rights(admin, group)
    if answer.refused is not None:
        return [problem(Area.RIGHTS, group, answer.refused, f"allow this user to Read and Describe the group {group}")]
    lacking = rights.missing(frozenset({rights.READ}), answer.operations)
    if lacking:
        return [problem(Area.RIGHTS, group, "this user may not Read it", f"allow this user to Read the group {group}")]
    members = {0: "nobody is in it", 1: "1 worker is in it"}.get(answer.members, f"{answer.members} workers are in it")
    return [sound(Area.GROUPS, group, members)]


def _topic_rights(
    settings: Settings, role: Role, described: Mapping[str, TopicState | None], allowed: Mapping[str, Allowed]
) -> list[Finding]:
    found, unknown = [], False
    for topic, wanted in _rights(settings, role).items():
        name = settings.topic(topic)
        if described.get(name) is None:
            unknown = True
            continue
        lacking = " and ".join(rights.missing(wanted, allowed[name].operations))
        if lacking:
            remedy = f"allow this user to {lacking} the topic"
            found.append(problem(Area.RIGHTS, name, f"{role} may not {lacking} it", remedy))
    if found or unknown:  # of what is not there, or may not be looked at, nobody knows
        return found
    return [sound(Area.RIGHTS, f"{role}: topics", "every operation that is needed is allowed")]


def _transactions(settings: Settings, kafka: Mapping[str, str], role: Role) -> list[Finding]:
    group = settings.group(role)
    subject = f"{group}.*"
    refused = may_write_transactions(kafka, f"{group}.check")
    if refused is None:
        return [sound(Area.RIGHTS, subject, "transactional IDs may be used")]
    remedy = f"allow this user to Write transactional IDs that begin with {group}."
    return [problem(Area.RIGHTS, subject, refused, remedy)]


# ---- what follows from several of them ------------------------------------------------------------------------------


def _quota(settings: Settings, roles: Sequence[Role], described: Mapping[str, TopicState | None]) -> list[Finding]:
    quotas = (
        (Role.SEND, settings.hakuna_quota, "HAKUNA_QUOTA", Topic.OUTBOX),
        (Role.HAKO, settings.hako_quota, "HAKO_QUOTA", STOCK_TOPICS[0]),
    )
    found = []
    for role, quota, setting, topic in quotas:
        state = described.get(settings.topic(topic))
        if role not in roles or quota is None or state is None:
            continue
        complaint = quota_problem(quota, state.partitions, setting)
        if complaint is not None:
            found.append(found_of(Area.SETTINGS, complaint))
    return found


def _clock(settings: Settings, admin: KafkaAdmin, described: Mapping[str, TopicState | None]) -> list[Finding]:
    """Whether there are records from the future."""
    partitions = [
        TopicPartition(name, number)
        for name in (settings.topic(topic) for topic in _SOURCES)
        if (state := described.get(name)) is not None
        for number in range(state.partitions)
    ]
    if not partitions:
        return []
    try:
        newest = [(at_ms, one.topic) for one, at_ms in admin.newest_ms(partitions).items() if at_ms is not None]
    except (BrokerOutage, Fatal) as refused:
        return [note(Area.CLOCK, "records", f"the newest records cannot be asked for: {refused}")]
    now_ms = SystemClock().now_ms()
    ahead_s = {topic: (at_ms - now_ms) / 1000 for at_ms, topic in sorted(newest) if at_ms > now_ms + CLOCK_S_MAX * 1000}
    return [
        note(
            Area.CLOCK,
            topic,
            f"its newest record is {seconds:.0f} s ahead of this machine's clock",
            "set the clock of this machine, or that of the producer, by NTP",
        )
        for topic, seconds in ahead_s.items()
    ] or [sound(Area.CLOCK, "records", "no source record is ahead of this machine's clock")]


def _clock_of_brokers(
    settings: Settings, kafka: Mapping[str, str], roles: Sequence[Role], described: Mapping[str, TopicState | None]
) -> list[Finding]:
    """By what the brokers say of a batch that none of them takes: nothing is written."""
    why = "none of these topics has a limit to times ahead, by which the brokers' clock is known"
    for topic in (settings.topic(CLOCK_TOPICS[role]) for role in roles):
        if (state := described.get(topic)) is None or limit_ms(state.config) is None:
            continue
        try:
            ahead = ahead_s(kafka, topic, state.config, SystemClock().now_ms(), client_id="hakuna-processor-check")
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
