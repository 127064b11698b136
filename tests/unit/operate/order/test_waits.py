"""Why an order's entry waits: a worker's own words first, then what its group says."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from processor.config import Role, load
from processor.edges.kafka.admin import Member
from processor.errors import BrokerOutage
from processor.operate.order import waits as module
from processor.operate.order.gather import Found
from processor.operate.status import workers
from processor.operate.status.workers import Worker
from processor.records import Record, TopicPartition
from processor.topics import Topic

OUTBOX = TopicPartition("hakuna.outbox", 1)
PLACED = TopicPartition("orders.placed", 1)
SETTINGS = load({"KAFKA_BOOTSTRAP_SERVERS": "broker.test:9092", "SCHEMA_REGISTRY_URL": "http://registry.test"})


class Groups:
    """Who is in which group; asked for by `waits` itself."""

    def __init__(self, **members: Any) -> None:
        self.members_of = members
        self.asked: list[str] = []

    def __call__(self, *_: Any, **__: Any) -> Groups:
        return self

    def members(self, group: str) -> list[Member]:
        self.asked.append(group)
        found = self.members_of.get(group.rpartition(".")[2], [])
        if isinstance(found, Exception):
            raise found
        return [Member("client", frozenset(found))]


def order(committed: int | None = 5) -> Found:
    """An entry at 5 and its event at 9, of which send and transform have committed so much."""
    found = Found(b"o", 1)
    found.records = {
        Topic.PLACED: [Record(*PLACED, 9, 0, b"o", b"v", [])],
        Topic.OUTBOX: [Record(*OUTBOX, 5, 0, b"o", b"v", [])],
    }
    found.committed = {PLACED: 10, OUTBOX: committed}
    return found


def asked(monkeypatch: pytest.MonkeyPatch, groups: Groups, found: Found, *told: Worker) -> dict[TopicPartition, str]:
    monkeypatch.setattr(module, "KafkaGroups", groups)
    monkeypatch.setattr(workers, "ask", lambda _urls: list(told))
    return module.waits(SETTINGS, found, [one.url for one in told], structlog.get_logger())


def says(blocked_by: str | None) -> Worker:
    partition = {"topic": OUTBOX.topic, "partition": OUTBOX.partition, "blocked_by": blocked_by, "blocked_since": 0}
    return Worker("http://send:9400", None, (), ({"role": "send", "partitions": [partition, "?"]},))


def test_what_is_committed_waits_for_nothing_and_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups()
    assert asked(monkeypatch, groups, order(committed=6)) == {}
    assert groups.asked == []


@pytest.mark.parametrize("committed", [5, 0, None])
def test_where_no_worker_has_the_partition_that_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, committed: int | None
) -> None:
    (where,) = (told := asked(monkeypatch, Groups(send=[TopicPartition("hakuna.outbox", 0)]), order(committed)))
    assert where == OUTBOX
    assert told[where] == f"no worker has its partition: start one (`hakuna-processor run --role {Role.SEND}`)"


def test_a_worker_that_was_asked_has_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "e1: the quota 30/60s, of which 30 requests are this worker's; the next goes in 2.5 s"
    groups = Groups(send=[OUTBOX])
    assert asked(monkeypatch, groups, order(), says(why)) == {OUTBOX: f"{why}, since 1970-01-01T00:00:00.000Z"}
    assert groups.asked == []
    assert asked(monkeypatch, groups, order(), says(None)) == {}, "it has the partition, and nothing blocks it"


def test_a_worker_that_was_not_asked_is_to_be_asked_and_silent_brokers_are_no_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    why = "--workers asks the worker that has its partition why"
    assert asked(monkeypatch, Groups(send=[OUTBOX]), order()) == {OUTBOX: why}
    assert asked(monkeypatch, Groups(send=BrokerOutage("away")), order()) == {}
