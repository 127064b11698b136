"""Kafka 3.9, the last of the old ones: what it does not know is refused by name, the rest works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.topics import Topic
from tests.support.commands import ask
from tests.support.kafka import SHORT_LIVED_JVM, KafkaBroker
from tests.support.transform_site import Site

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

VERSION = "3.9.2"


@pytest.fixture
def site(schema_registry: str, tmp_path: Path) -> Iterator[Site]:
    with (
        KafkaBroker(VERSION, jvm=lambda: SHORT_LIVED_JVM) as broker,
        Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=2) as made,
    ):
        yield made


def test_the_new_group_protocol_is_refused_by_name_and_the_old_one_works(site: Site) -> None:
    new = {"KAFKA_GROUP_PROTOCOL": "consumer"}
    said = "does not know the protocol `consumer`, which needs Kafka 4.0 or newer"
    for role in ("transform", "send"):
        keys = {"HAKUNA_API_KEY": "sk_test_x"} if role == "send" else {}
        worker = site.worker(role, new | keys, role=role, await_ready=False)
        assert worker.wait(60) == 78
        assert any("KAFKA_GROUP_PROTOCOL" in line and said in line for line in site.logs(role))
    check = ask("check", "--role", "transform", environment=site.installation.environment | new)
    assert check.code == 78
    assert said in check.out.replace("\n", " ")

    # Its clock is not to be known, and nothing is written to find out.
    ends = site.space.end_offsets(Topic.CHANGELOG)
    check = ask("check", "--role", "transform", environment=site.installation.environment)
    assert "their clock is not known" in check.out.replace("\n", " ")
    assert site.space.end_offsets(Topic.CHANGELOG) == ends

    worker = site.worker()
    for number in range(50):
        site.place(f"order-{number}", number % 2)
    site.installation.flush()
    site.wait_done()
    assert len(site.entries()) == 50
    assert worker.terminate() == 0
