"""`topics plan|create` on a real Kafka: says what it will do, does it, and leaves alone what is as it should be."""

from __future__ import annotations

from typing import Any

from processor.config import Role
from processor.topics import KEEP, NEEDED, TOPICS, Topic
from tests.support.children import free_ports
from tests.support.commands import ask, run_on_terminal
from tests.support.json_output import printed
from tests.support.topics import TopicSpace


def steps(space: TopicSpace, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    said = ask("topics", *arguments, "--output", "json", environment=space.environment)
    assert said.code == code, said.err
    return {step["topic"].removeprefix(space.prefix): step for step in printed("topics", said.out)}


def test_a_plan_creates_nothing_and_create_does_what_was_planned(topic_space: TopicSpace) -> None:
    planned = steps(topic_space, "plan", "--partitions", "2")
    assert set(planned) == {plan.topic for plan in TOPICS} - set(NEEDED[Role.HAKO]), "no key of Hako's is set"
    everything = steps(topic_space, "plan", "--all")
    assert set(everything) == {plan.topic for plan in TOPICS}
    assert {step["action"] for step in planned.values()} == {"create"}
    assert not [
        name for name in topic_space.admin.list_topics(timeout=10).topics if name.startswith(topic_space.prefix)
    ]

    made = ask("topics", "create", "--partitions", "2", environment=topic_space.environment)
    assert f"created {len(planned)} topics" in made.err
    assert "retention.ms=7d" in made.out
    assert "max.message.bytes=16 MiB" in made.out
    assert "9223372036854775807" not in made.out
    again = steps(topic_space, "create", "--partitions", "7")
    assert {step["action"] for step in again.values()} == {"leave"}
    assert {step["partitions"] for step in again.values()} == {2}, "partitions follow the sources that are there"


def test_80_columns_break_no_name_and_no_setting(topic_space: TopicSpace) -> None:
    for columns in (80, 200):
        screen = run_on_terminal("topics", "plan", columns=columns, environment=topic_space.environment)
        assert screen.code == 0
        words = set(screen.text.split())
        assert {topic_space.name(plan.topic) for plan in TOPICS} - words == {
            topic_space.name(topic) for topic in NEEDED[Role.HAKO]
        }
        assert {"message.timestamp.type=CreateTime", "message.timestamp.after.max.ms=no"} <= words


def test_what_is_not_as_it_should_be_is_mended_and_never_lowered(topic_space: TopicSpace) -> None:
    for plan in TOPICS:
        config = dict(plan.config) | ({"retention.ms": KEEP} if plan.topic is Topic.OUTBOX else {})
        topic_space.create(plan.topic, partitions=2, config={} if plan.topic is Topic.ORDER_DEAD_LETTERS else config)
    made = steps(topic_space, "create", "--retention", "1d")
    assert made[Topic.ORDER_DEAD_LETTERS]["action"] == "change"
    assert made[Topic.ORDER_DEAD_LETTERS]["config"]["retention.ms"] == KEEP
    assert {name for name, step in made.items() if step["action"] != "leave"} == {Topic.ORDER_DEAD_LETTERS}
    assert {step["action"] for step in steps(topic_space, "plan").values()} == {"leave"}


def test_partitions_that_differ_are_refused_and_nothing_else_is_touched(topic_space: TopicSpace) -> None:
    topic_space.create(Topic.PLACED, partitions=2)
    topic_space.create(Topic.OUTBOX, partitions=3)
    refused = steps(topic_space, "create", code=1)
    assert refused[Topic.OUTBOX]["action"] == "refuse"
    said = ask("topics", "create", environment=topic_space.environment)
    assert said.code == 1
    assert "nothing was done" in said.err
    assert "created" not in said.out, "it was planned, and not done"
    names = [name for name in topic_space.admin.list_topics(timeout=10).topics if name.startswith(topic_space.prefix)]
    assert len(names) == 2


def test_a_broker_that_is_gone_is_named() -> None:
    (port,) = free_ports(1)
    said = ask("topics", "plan", environment={"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"})
    assert said.code == 1
    assert f"127.0.0.1:{port} cannot be connected to" in said.err


def test_what_makes_no_sense_is_said_before_anybody_is_asked() -> None:
    assert ask("topics", "plan").code == 78
    assert ask("topics", "plan", "--retention", "soon").code == 1
