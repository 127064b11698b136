"""`check` and `schemas` on real brokers and a real registry: sound, wrong in ten ways, without rights, at the wrong
door."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]  # exported, unsaid

from processor.config import Role
from processor.edges.avro import reader_schema
from processor.edges.kafka import groups as kafka_groups
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import NEEDED, TOPICS, Topic
from tests.conftest import StartWorker
from tests.support.children import free_ports, wait_until
from tests.support.commands import ask, run_on_terminal
from tests.support.installation import Installation
from tests.support.json_output import printed
from tests.support.login_page import login_page
from tests.support.loopback import LOOPBACK
from tests.support.secured_kafka import SecuredKafka
from tests.support.topics import TopicSpace


@pytest.fixture(scope="module")
def hakuna() -> Iterator[StandIn]:
    stand_in = StandIn(HakunaApi(), Script())
    with Loopback(stand_in) as loopback:
        HAKUNA["HAKUNA_BASE_URL"] = loopback.url
        yield stand_in


HAKUNA = {"HAKUNA_API_KEY": SANDBOX_KEY}
SILENCE_S = 30.0


def checked(environment: Mapping[str, str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    said = ask("check", "--output", "json", *arguments, environment=environment)
    told = printed("check", said.out)
    assert told["sound"] == (said.code == 0)
    assert said.code == (78 if told["problems"] else 0)
    findings: list[dict[str, Any]] = told["findings"]
    assert all(one["remedy"] for one in findings if one["verdict"] == "problem")
    return said.code, findings


def problems(findings: list[dict[str, Any]]) -> dict[str, str]:
    return {one["subject"]: one["what"] for one in findings if one["verdict"] == "problem"}


def test_a_sound_installation_is_exit_0_and_nothing_is_left_behind(
    topic_space: TopicSpace, schema_registry: str, hakuna: StandIn, tmp_path: Path
) -> None:
    installation = Installation(topic_space, schema_registry, partitions=2)
    state = tmp_path / "state" / "deeper"
    environment = installation.environment | HAKUNA | {"PROCESSOR_STATE_DIR": str(state)}
    ends = {topic: topic_space.end_offsets(topic) for topic in Topic}
    requests = hakuna.record.requests
    code, findings = checked(environment)
    assert problems(findings) == {}
    assert code == 0
    assert {one["area"] for one in findings} == {
        "settings", "brokers", "topics", "groups", "rights", "registry", "state", "keys", "clock",
    }  # fmt: skip
    assert {topic: topic_space.end_offsets(topic) for topic in Topic} == ends
    assert not state.parent.exists()
    assert list(tmp_path.iterdir()) == []
    groups = topic_space.admin.list_consumer_groups().result(timeout=10).valid
    assert not [group for group in groups if group.group_id.startswith(topic_space.prefix)]
    assert hakuna.record.requests == requests + 1
    assert hakuna.record.statuses() == {"400": 1}, "a request that changes nothing"


def test_a_quota_keeps_check_from_sending_a_request_that_would_not_count(
    topic_space: TopicSpace, schema_registry: str, hakuna: StandIn, tmp_path: Path
) -> None:
    installation = Installation(topic_space, schema_registry)
    environment = installation.environment | HAKUNA | {"PROCESSOR_STATE_DIR": str(tmp_path), "HAKUNA_QUOTA": "120/60s"}
    hakuna.script = Script(revoked=True)
    try:
        _, findings = checked(environment, "--role", "send")
        assert "HAKUNA_API_KEY" not in problems(findings)
        assert [one["verdict"] for one in findings if one["subject"] == "HAKUNA_API_KEY"] == ["note"]
        _, findings = checked(environment, "--role", "send", "--try-key")
        assert "HTTP 401: the key is refused" in problems(findings)["HAKUNA_API_KEY"]
    finally:
        hakuna.script = Script()


def test_ten_things_that_are_wrong_are_ten_problems(
    topic_space: TopicSpace, schema_registry: str, hakuna: StandIn, tmp_path: Path
) -> None:
    for plan in TOPICS:
        match plan.topic:
            case Topic.OUTBOX:
                continue  # 1: missing
            case Topic.REFUNDED:
                topic_space.create(plan.topic, partitions=3, config=plan.config)  # 2: partitions of its own
            case Topic.CHANGELOG:
                topic_space.create(plan.topic, partitions=2)  # 3: not compacted
            case Topic.ORDER_DEAD_LETTERS:
                topic_space.create(plan.topic, partitions=2)  # 4: deleted by age
            case _:
                topic_space.create(plan.topic, partitions=2, config=plan.config)
    subject = f"{topic_space.name(Topic.PLACED)}-value"
    broken = json.loads(reader_schema(Topic.PLACED))
    broken["fields"] = [one for one in broken["fields"] if one["name"] != "currency"]  # 5: cannot be read
    versions = f"{schema_registry}/subjects/{subject}/versions"
    LOOPBACK.post(versions, json={"schema": json.dumps(broken)}, timeout=20).raise_for_status()
    (tmp_path / "file").write_text("")
    environment = topic_space.environment | HAKUNA | {
        "SCHEMA_REGISTRY_URL": schema_registry,
        "PROCESSOR_STATE_DIR": str(tmp_path / "file" / "state"),  # 6: below a file
        "HAKUNA_API_KEY": "sk_of_somebody_else",  # 7: refused
        "HAKUNA_QOUTA": "120/60s",  # 8: misspelt
        "KAFKA_ISOLATION_LEVEL": "read_uncommitted",  # 9: owned
        "PROCESSOR_PARK_FOR": "500d",  # 10: longer than the retention
    }  # fmt: skip
    _, findings = checked(environment)
    assert {name.removeprefix(topic_space.prefix) for name in problems(findings)} == {
        "hakuna.outbox",
        "orders.refunded",
        "hakuna.orders-changelog",
        "orders.dead-letters",
        "orders.placed-value",
        f"PROCESSOR_STATE_DIR {tmp_path}/file/state",
        "HAKUNA_API_KEY",
        "HAKUNA_QOUTA",
        "KAFKA_ISOLATION_LEVEL",
        "PROCESSOR_PARK_FOR",
    }
    assert "currency" in problems(findings)[subject]
    assert next(one["remedy"] for one in findings if one["subject"] == "HAKUNA_QOUTA") == "the nearest is HAKUNA_QUOTA"
    for columns in (80, 200):
        screen = run_on_terminal("check", columns=columns, environment=environment)
        assert screen.code == 78
        assert "10 problems" in screen.text
        assert max(len(line) for line in screen.text.split("\r\n") if "\x1b" not in line) <= columns


@pytest.mark.parametrize(
    ("role", "topic"), [("transform", Topic.REFUNDED), ("rekey", Topic.REFUNDED), ("send", Topic.OUTBOX)]
)
def test_a_compacted_topic_of_events_is_a_problem_for_check_and_a_warning_at_the_start(
    topic_space: TopicSpace, schema_registry: str, hakuna: StandIn, start_worker: StartWorker, role: str, topic: Topic
) -> None:
    installation = Installation(topic_space, schema_registry, sources={} if role == "rekey" else None)
    topic_space.configure(topic, config={"cleanup.policy": "compact"})
    name = topic_space.name(topic)
    environment = installation.environment | HAKUNA
    _, findings = checked(environment, "--role", role)
    assert "of two records of one of them the brokers keep the newer alone" in problems(findings)[name]
    worker = start_worker("run", "--role", role, environment=environment)
    (said,) = [line for line in worker.log_tail().splitlines() if "a topic is compacted and must not be" in line]
    assert name in said


def test_a_quota_that_is_smaller_than_the_partitions_is_a_problem(
    topic_space: TopicSpace, schema_registry: str, hakuna: StandIn, tmp_path: Path
) -> None:
    installation = Installation(topic_space, schema_registry, partitions=3)
    environment = installation.environment | HAKUNA | {"PROCESSOR_STATE_DIR": str(tmp_path), "HAKUNA_QUOTA": "2/60s"}
    _, findings = checked(environment, "--role", "send")
    assert list(problems(findings)) == ["HAKUNA_QUOTA"]


def test_brokers_registry_and_api_that_are_gone_are_told_at_once(tmp_path: Path) -> None:
    kafka, registry, api = free_ports(3)
    _, findings = checked(
        {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka},no.such.host.invalid:9092",
            "SCHEMA_REGISTRY_URL": f"http://127.0.0.1:{registry}",
            "HAKUNA_API_KEY": "sk",
            "HAKUNA_BASE_URL": f"http://127.0.0.1:{api}",
            "PROCESSOR_STATE_DIR": str(tmp_path),
        }
    )
    assert set(problems(findings)) == {
        f"127.0.0.1:{kafka}",
        "no.such.host.invalid:9092",
        f"http://127.0.0.1:{registry}",
        f"http://127.0.0.1:{api}",
    }


@pytest.fixture
def page() -> Iterator[str]:
    with login_page() as url:
        yield url


def test_a_page_in_the_registrys_place_and_a_late_clock_are_known_for_what_they_are(page: str, tmp_path: Path) -> None:
    (kafka,) = free_ports(1)
    _, findings = checked(
        {
            "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka}",
            "SCHEMA_REGISTRY_URL": page,
            "HAKUNA_API_KEY": "sk",
            "HAKUNA_BASE_URL": page,
            "PROCESSOR_STATE_DIR": str(tmp_path),
        }
    )
    found = problems(findings)
    assert "answers HTTP 200 with text/html" in found[page]
    assert "behind this machine's" in found["127.0.0.1"]
    said = ask("schemas", "check", environment={"SCHEMA_REGISTRY_URL": page})
    assert said.code == 1
    assert "answers HTTP 200 with text/html" in said.err


def test_rights_that_are_missing_are_named_until_all_are_there(
    secured: SecuredKafka, schema_registry: str, tmp_path: Path
) -> None:
    space = TopicSpace(secured.anybody)
    installation = Installation(space, schema_registry)
    environment = installation.environment | secured.credentials | {"PROCESSOR_STATE_DIR": str(tmp_path)}
    group = space.name("hakuna-processor.transform")
    names = {space.name(topic) for topic in NEEDED[Role.TRANSFORM]}

    _, findings = checked(environment, "--role", "transform")
    assert set(problems(findings)) == names | {group, f"{group}.*"}
    assert not [one for one in findings if one["verdict"] == "sound" and one["area"] == "rights"]
    told = ask("check", "--role", "transform", environment=environment).out
    assert told.count("not allowed to ask about it (Describe)") == 1, "what is the same of all topics is said once"
    assert f"{len(names)} topics" in told
    said = ask("order", "ord-1", environment=environment)
    assert said.code == 78, "topics that may not be seen are not there"

    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
    secured.grant(ResourceType.GROUP, space.prefix, AclOperation.READ)
    _, findings = checked(environment, "--role", "transform")
    assert problems(findings) == {
        space.name(topic): "transform may not Write it"
        for topic in (Topic.CHANGELOG, Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS)
    } | {f"{group}.*": problems(findings)[f"{group}.*"]}
    assert "Transactional Id authorization failed" in problems(findings)[f"{group}.*"]

    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.WRITE)
    secured.grant(ResourceType.TRANSACTIONAL_ID, space.prefix, AclOperation.WRITE)
    code, findings = checked(environment, "--role", "transform")
    assert problems(findings) == {}
    assert code == 0


def test_topics_that_may_not_be_asked_about_changed_or_made_are_named_with_the_right(secured: SecuredKafka) -> None:
    space = TopicSpace(secured.anybody)
    environment = space.environment | secured.credentials
    (first, *_), name = TOPICS, space.name

    def refused(*arguments: str) -> str:
        said = ask("topics", *arguments, environment=environment)
        assert (said.code, said.out) == (1, "")
        assert "allow it to this user" in said.err
        return said.err

    for verb in ("plan", "create"):
        assert f"not allowed to ask about {name(first.topic)} (Describe): " in refused(verb)
    space.create(first.topic, config={**first.config, "retention.ms": "1000"})
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.DESCRIBE)
    assert f"not allowed to ask about the settings of {name(first.topic)} (DescribeConfigs): " in refused("plan")
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.DESCRIBE_CONFIGS)
    assert ask("topics", "plan", environment=environment).code == 0
    said = refused("create")
    assert f"not allowed to change the settings of {name(first.topic)} (AlterConfigs): " in said
    assert "done before that: nothing" in said
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.ALTER_CONFIGS)
    said = refused("create")
    assert f"not allowed to make the topic {name(TOPICS[1].topic)} (Create): " in said
    assert f"done before that: change {name(first.topic)}" in said
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.CREATE)
    assert ask("topics", "create", "--all", environment=environment).code == 0
    assert ask("topics", "create", "--output", "json", environment=environment).out.count('"leave"') == len(TOPICS)


def test_what_status_and_order_may_not_see_is_named(
    secured: SecuredKafka, schema_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order is told without what the groups have done where they may not be asked, and nobody waits for it."""
    monkeypatch.setattr(kafka_groups, "_TRIES_S", (0.5, SILENCE_S))
    space = TopicSpace(secured.anybody)
    installation = Installation(space, schema_registry)
    installation.write(Topic.PLACED, b"ord-1", b"no Avro")
    installation.flush()
    environment = installation.environment | secured.credentials

    def trouble() -> str:
        said = ask("status", "--output", "json", environment=environment)
        told = printed("status", said.out)
        assert (said.code, told["well"]) == (1, False)
        assert told["brokers"] in ask("status", environment=environment).out.replace("\n", "")
        brokers: str = told["brokers"]
        return brokers

    assert trouble() == (
        f"PROCESSOR_TOPIC_PREFIX: no topic of ours begins with {space.prefix!r} on these brokers (or this user may not "
        "see them)"
    )
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.DESCRIBE)
    group = space.name("hakuna-processor.transform")
    assert trouble().startswith(f"not allowed to ask about the offsets of {group} (Describe): ")
    said = ask("order", "ord-1", environment=environment)
    assert said.code == 1
    assert f"not allowed to read {space.name(Topic.PLACED)} (Read): " in said.err
    secured.grant(ResourceType.TOPIC, space.prefix, AclOperation.READ)
    started_s = time.monotonic()
    said = ask("order", "ord-1", "--output", "json", environment=environment)
    assert time.monotonic() - started_s < SILENCE_S, "the groups' silence was waited for"
    (event,) = printed("order", said.out)["timeline"]
    assert (said.code, event["kind"], event["became"]) == (0, "event", "unknown")
    secured.grant(ResourceType.GROUP, space.prefix, AclOperation.DESCRIBE)
    # A broker that has had no group yet makes its topic for offsets when it is first asked.
    wait_until(lambda: ask("status", environment=environment).code == 0, what="a coordinator", timeout_s=30)


@pytest.mark.parametrize(
    "command", [("check", "--role", "transform"), ("order", "ord-1"), ("sku", "hk-1"), ("status",), ("topics", "plan")]
)
def test_a_broker_that_asks_for_tls_is_known(secured: SecuredKafka, command: tuple[str, ...], tmp_path: Path) -> None:
    said = ask(*command, environment={"KAFKA_BOOTSTRAP_SERVERS": secured.tls, "PROCESSOR_STATE_DIR": str(tmp_path)})
    assert said.code in (1, 78)
    text = " ".join((said.out + said.err).split())
    assert f"{secured.tls} asks for TLS, and KAFKA_SECURITY_PROTOCOL is not set to use it" in text
    assert "set KAFKA_SECURITY_PROTOCOL=SSL" in text


def test_a_wrong_password_is_one_sentence_at_once_for_every_command(secured: SecuredKafka) -> None:
    environment = secured.credentials | {"KAFKA_SASL_PASSWORD": "wrong"}
    for command in (("dead-letters", "list"), ("order", "x"), ("topics", "plan")):
        before_s = time.monotonic()
        said = ask(*command, environment=environment)
        assert said.code == 1
        assert "answers, but does not let this client in; correct KAFKA_SASL_MECHANISM" in said.err
        assert time.monotonic() - before_s < 5, "librdkafka's own patience is ten seconds"


def test_a_wrong_password_is_told(secured: SecuredKafka, tmp_path: Path) -> None:
    environment = secured.credentials | {"KAFKA_SASL_PASSWORD": "wrong", "PROCESSOR_STATE_DIR": str(tmp_path)}
    _, findings = checked(environment, "--role", "transform")
    told = {one["subject"]: one["what"] for one in findings if one["area"] == "brokers" and one["verdict"] == "problem"}
    assert told == {secured.password: "answers, but does not let this client in"}
    remedies = [one["remedy"] for one in findings]
    assert "correct KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD" in remedies
    assert any("uthentication" in one["what"] for one in findings if one["verdict"] == "note")


def test_schemas_are_registered_once_and_left_afterwards(topic_space: TopicSpace, schema_registry: str) -> None:
    environment = {"SCHEMA_REGISTRY_URL": schema_registry, "PROCESSOR_TOPIC_PREFIX": topic_space.prefix}
    for arguments, actions in (
        (("check",), {"register"}),
        (("register",), {"register"}),
        (("register",), {"leave"}),
        (("check",), {"leave"}),
    ):
        said = ask("schemas", *arguments, "--output", "json", environment=environment)
        assert said.code == 0
        steps = printed("schemas", said.out)
        assert {one["action"] for one in steps} == actions
        assert len(steps) == 8
        assert all(one["subject"].startswith(topic_space.prefix) and one["subject"].endswith("-value") for one in steps)


def test_a_schema_that_does_not_go_together_is_refused_and_nothing_is_registered(
    topic_space: TopicSpace, schema_registry: str
) -> None:
    environment = {"SCHEMA_REGISTRY_URL": schema_registry, "PROCESSOR_TOPIC_PREFIX": topic_space.prefix}
    subject = f"{topic_space.name(Topic.CANCELLED)}-value"
    other = json.loads(reader_schema(Topic.CANCELLED))
    other["fields"] = [one for one in other["fields"] if one["name"] != "cancelled_at"]
    LOOPBACK.post(
        f"{schema_registry}/subjects/{subject}/versions", json={"schema": json.dumps(other)}, timeout=20
    ).raise_for_status()
    said = ask("schemas", "register", "--output", "json", environment=environment)
    assert said.code == 1
    (refused,) = [one for one in printed("schemas", said.out) if one["action"] == "refuse"]
    assert refused["subject"] == subject
    assert "cancelled_at" in refused["why"]
    subjects = LOOPBACK.get(f"{schema_registry}/subjects", timeout=20).json()
    assert [one for one in subjects if one.startswith(topic_space.prefix)] == [subject]


def test_a_registry_that_is_not_set_is_said_to() -> None:
    said = ask("schemas", "check")
    assert said.code == 78
    assert "SCHEMA_REGISTRY_URL: not set" in said.err
