"""What each role needs to be allowed covers its topics, and nothing else; and what is granted is that, in the words of
kafka-acls.sh and of Strimzi."""

from __future__ import annotations

import re
import shlex

import pytest

from processor.config import Role, Settings, load
from processor.hakuna import Api
from processor.operate.check.rights import (
    DELETE,
    DESCRIBE_CONFIGS,
    OPERATOR,
    READ,
    TRANSACTIONAL,
    WRITE,
    Grant,
    acl_commands,
    grants,
    kafka_topics,
    kafka_users,
    missing,
    needed,
)  # fmt: skip
from processor.topics import CONFIG, NEEDED, ORDER_TOPICS, REKEYED, TOPICS, Topic, plan
from processor.topics import needed as needed_topics


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("role", NEEDED)
@pytest.mark.parametrize("rekey", [False, True])
def test_every_topic_of_a_role_is_read_or_written(role: Role, api: Api, rekey: bool) -> None:
    wanted = needed(role, api, rekey=rekey)
    assert set(wanted) - {Topic.RESOLUTIONS} == set(needed_topics(role, rekey=rekey))
    assert all({READ, WRITE} & operations for operations in wanted.values())


def test_an_operator_may_read_every_topic_that_a_timeline_shows() -> None:
    assert {one.topic for one in TOPICS} <= {topic for topic, operations in OPERATOR.items() if READ in operations}


def test_who_marks_letters_superseded_may_write_the_resolutions() -> None:
    """On the feed a newer snapshot does, at Hako a newer value; the Events API knows no such thing."""
    marking = {(role, api) for role in NEEDED for api in Api if WRITE in needed(role, api).get(Topic.RESOLUTIONS, ())}
    assert marking == {(Role.SEND, Api.FEED), (Role.HAKO, Api.EVENTS), (Role.HAKO, Api.FEED)}
    assert needed(Role.SEND, Api.FEED)[Topic.RESOLUTIONS] == {WRITE, DESCRIBE_CONFIGS}


def test_sources_are_never_written() -> None:
    for topic in ORDER_TOPICS:
        assert needed(Role.TRANSFORM, Api.EVENTS)[topic] == {READ, DESCRIBE_CONFIGS}
    assert WRITE not in needed(Role.SEND, Api.EVENTS)[Topic.OUTBOX]


def test_transform_deletes_what_it_takes_of_rekeyed_topics_and_nothing_else() -> None:
    for rekey in (False, True):
        wanted = needed(Role.TRANSFORM, Api.EVENTS, rekey=rekey)
        deleted = {topic for topic, operations in wanted.items() if DELETE in operations}
        assert deleted == (set(REKEYED.values()) if rekey else set())
    for role in {*NEEDED} - {Role.TRANSFORM}:
        assert not any(DELETE in operations for operations in needed(role, Api.FEED, rekey=True).values()), role


def test_what_is_missing_is_named_as_acl_commands_spell_it() -> None:
    assert missing(frozenset({READ, DESCRIBE_CONFIGS}), frozenset({"DESCRIBE"})) == ["DescribeConfigs", "Read"]
    assert missing(frozenset({READ}), frozenset({READ, WRITE})) == []
    assert missing(frozenset({READ}), None) == [], "a broker that does not say is not held against the user"


ROLES = tuple(role for role in Role if needed(role, load({}, None).hakuna_api))


@pytest.fixture
def settings() -> Settings:
    return load({"PROCESSOR_TOPIC_PREFIX": "shop_A.", "PROCESSOR_GROUP_PREFIX": "shop_A."}, None)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_granted_what_check_asks_for(settings: Settings, role: Role) -> None:
    granted = grants(settings, role)
    topics = {grant.name: {one.upper() for one in grant.operations} for grant in granted if grant.kind == "topic"}
    assert topics == {
        settings.topic(topic): {one.replace("_", "") for one in operations}
        for topic, operations in needed(role, settings.hakuna_api).items()
    }
    assert Grant("group", settings.group(role), ("Read",)) in granted
    transactional = [grant for grant in granted if grant.kind == "transactionalId"]
    assert [grant.prefixed for grant in transactional] == [True] * (role in TRANSACTIONAL)


def test_an_acl_command_says_who_may_do_what_where(settings: Settings) -> None:
    commands = acl_commands("kafka:9092", {"kafka-transform": grants(settings, Role.TRANSFORM)})
    words = [shlex.split(command) for command in commands]
    assert all(one[:6] == ["kafka-acls.sh", "--bootstrap-server", "kafka:9092", "--add", "--allow-principal",
                           "User:kafka-transform"] for one in words)  # fmt: skip
    (transactions,) = [one for one in words if "--transactional-id" in one]
    assert transactions[6:] == ["--operation", "Write", "--transactional-id", "shop_A.hakuna-processor.transform.",
                                "--resource-pattern-type", "prefixed"]  # fmt: skip
    outbox = next(one for one in words if one[-1] == f"shop_A.{Topic.OUTBOX}")
    assert outbox[6:] == ["--operation", "DescribeConfigs", "--operation", "Write", "--topic", "shop_A.hakuna.outbox"]


def test_strimzis_users_hold_the_same(settings: Settings) -> None:
    granted = grants(settings, Role.TRANSFORM)
    (user,) = kafka_users("main", {"kafka-transform": granted})["items"]
    assert user["metadata"] == {"name": "kafka-transform", "labels": {"strimzi.io/cluster": "main"}}
    acls = [(acl["resource"], acl["operations"]) for acl in user["spec"]["authorization"]["acls"]]
    assert [(on["type"], on["name"], on["patternType"] == "prefix", what) for on, what in acls] == [
        (grant.kind, grant.name, grant.prefixed, list(grant.operations)) for grant in granted
    ]


def test_strimzis_topics_are_the_plans(settings: Settings) -> None:
    steps = plan({}, settings.topic_prefix, partitions=6)
    topics = kafka_topics("main", steps, 3)["items"]
    assert [topic["spec"]["topicName"] for topic in topics] == [step.topic for step in steps]
    assert {topic["spec"]["partitions"] for topic in topics} == {6}
    assert {topic["spec"]["replicas"] for topic in topics} == {3}
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", topic["metadata"]["name"]) for topic in topics)
    by_name = {topic["spec"]["topicName"]: topic["spec"]["config"] for topic in topics}
    for one in TOPICS:
        assert by_name[settings.topic(one.topic)].items() >= CONFIG[one.topic].items()
    (cluster_default,) = {tuple(sorted(topic["spec"])) for topic in kafka_topics("main", steps, -1)["items"]}
    assert cluster_default == ("config", "partitions", "topicName")
