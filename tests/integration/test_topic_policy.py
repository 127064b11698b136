"""A cluster whose owner caps what topics take: `topics create` names the topic, the policy's words and what to give."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.topics import Topic
from tests.support.commands import ask
from tests.support.jars import java, kafka_class_path
from tests.support.kafka import KafkaBroker, short_lived_jvm
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

SOURCE = Path(__file__).parent.parent / "support" / "SizePolicy.java"
POLICY = {"create.topic.policy.class.name": "SizePolicy", "alter.config.policy.class.name": "SizePolicy"}
SAID = "no record larger than 8 MiB on this cluster"
HINT = "`topics create --max-message-bytes` asks for less"


@pytest.fixture
def capped(tmp_path: Path) -> Iterator[TopicSpace]:
    compiler = Path(os.path.realpath(java())).with_name("javac")
    subprocess.run([compiler, "-cp", kafka_class_path(), "-d", tmp_path, SOURCE], check=True, timeout=120)
    with KafkaBroker(settings=POLICY, jvm=short_lived_jvm, classes=tmp_path) as broker:
        yield TopicSpace(broker.bootstrap_servers)


def test_a_policy_against_large_records_is_told_with_the_topic_and_the_option_that_lowers_ours(
    capped: TopicSpace,
) -> None:
    said = ask("topics", "create", environment=capped.environment)
    assert said.code == 1
    assert f"the cluster refuses to make the topic {capped.name(Topic.CHANGELOG)}" in said.err
    assert SAID in said.err
    assert HINT in said.err
    assert f"done before that: create {capped.name(Topic.PLACED)}" in said.err

    lowered = ("topics", "create", "--max-message-bytes", "8388608")
    made = ask(*lowered, "--partitions", "2", environment=capped.environment)
    assert made.code == 0, made.err
    assert ask(*lowered, environment=capped.environment).code == 0

    said = ask("topics", "create", environment=capped.environment)
    assert said.code == 1
    assert f"the cluster refuses to change the settings of {capped.name(Topic.CHANGELOG)}" in said.err
    assert SAID in said.err
    assert HINT in said.err
