"""Workers and brokers in one picture: a worker's word first, and nobody missing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processor.cli.status import _page, _short
from processor.config import Role
from processor.operate.status.brokers import Behind
from processor.operate.status.view import view
from processor.operate.status.workers import Worker
from processor.records import TopicPartition
from processor.run.start import client_id

NOW = 1_800_000_000_000
OUTBOX = TopicPartition("hakuna.outbox", 0)


def behind(lag: int, member: str | None, where: TopicPartition = OUTBOX) -> Behind:
    return Behind(Role.SEND, where, 5, 5 + lag, lag, NOW - 2_000 if lag else None, member)


def worker(**said: Any) -> Worker:
    partition = {"topic": OUTBOX.topic, "partition": OUTBOX.partition, **said}
    return Worker("http://w:9400", None, (), ({"role": "send", "life": "running", "partitions": [partition]},))


def test_a_workers_word_wins_over_what_brokers_can_tell() -> None:
    told = worker(lag=1, blocked_by="e: the key is refused", blocked_since=NOW - 60_000)
    (seen,) = view([told], [behind(3, "client-1")], None, NOW).partitions
    assert (seen.worker, seen.lag, seen.blocked_by) == ("http://w:9400", 1, "e: the key is refused")
    assert seen.lag_seconds == 2.0
    assert not seen.quiet


def test_without_a_worker_the_brokers_word_stands() -> None:
    (seen,) = view([], [behind(3, "client-1")], None, NOW).partitions
    assert (seen.worker, seen.lag, seen.end) == ("client-1", 3, 8)


def test_held_orders_are_told_without_a_worker() -> None:
    seen = view([], [behind(0, "client-1")], None, NOW, 241)
    assert seen.as_json()["held_orders"] == 241
    page = "\n".join(str(part) for part in _page(seen, "", everything=False).renderables)
    assert "241 orders wait for a replay or a discard (`hakuna-processor dead-letters list`)" in page
    assert "nothing waits" not in page


@pytest.mark.parametrize(
    ("worker", "shown"),
    [("hakuna-processor-send-send-7d9f8-x2x-00ff3d", "send-7d9f8-x2x"), ("http://10.0.0.1:9400", "10.0.0.1:9400")],
)
def test_a_worker_is_named_by_its_pod_or_its_address(worker: str, shown: str) -> None:
    assert _short(worker) == shown
    assert _short(client_id(Role.SEND, "00ff3d", "send-7d9f8-x2x")) == "send-7d9f8-x2x"


def test_a_partition_that_nobody_has_is_never_quiet() -> None:
    (seen,) = view([], [behind(0, None)], None, NOW).partitions
    assert not seen.quiet
    assert view([], [behind(0, "client-1")], None, NOW).partitions[0].quiet


def test_what_only_a_worker_knows_is_shown_when_brokers_are_silent() -> None:
    seen = view([worker(lag=4)], [], "no broker answers", NOW)
    assert [one.lag for one in seen.partitions] == [4]
    assert not seen.well


def test_a_worker_that_does_not_answer_is_a_row_and_not_well() -> None:
    seen = view([Worker("http://gone:9400", "does not answer")], [], None, NOW)
    assert not seen.well
    assert seen.as_json()["workers"][0]["silent"] == "does not answer"


def test_an_unready_worker_is_not_well_and_a_status_of_another_version_is_no_crash() -> None:
    odd = Worker("http://odd", None, ("send: the key is refused",), ({"role": "send", "partitions": ["?"]}, {}))
    seen = view([odd], [behind(0, "client-1")], None, NOW)
    assert not seen.well
    json.dumps(seen.as_json())
