"""Workers and brokers in one picture: a worker's word first, and nobody missing."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from processor.cli.status import _page, _short
from processor.config import Role
from processor.operate.status.brokers import Behind
from processor.operate.status.view import FleetView, view
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


@pytest.mark.parametrize(("stamp", "age_s"), [(NOW - 2_000, 2.0), (NOW // 1000 - 2, 2.0), (-1, None)])
def test_a_record_is_as_old_as_its_producer_means_it(stamp: int, age_s: float | None) -> None:
    (seen,) = view([], [behind(3, "client-1")._replace(oldest_ms=stamp)], None, NOW).partitions
    assert seen.lag_seconds == age_s


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
    [
        ("hakuna-processor-send-send-7d9f8-x2x-00ff3d", "send-7d9f8-x2x"),
        ("http://10.0.0.1:9400", "10.0.0.1:9400"),
        ("http://transform-0.transform.shop.svc.cluster.local:9400", "transform-0"),
        ("http://localhost:9401", "localhost:9401"),
    ],
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


def page(seen: FleetView, columns: int) -> list[str]:
    """The lines of a terminal of so many columns."""
    screen = Console(width=columns, file=io.StringIO(), force_terminal=False, color_system=None)
    screen.print(_page(seen, "", everything=False))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def test_80_columns_break_no_name_and_no_number() -> None:
    destination = {"name": "hakuna", "quota_share": 30, "circuit": "closed", "in_flight": 8, "paused_until": None}
    why = "the quota 30/60s, of which 30 requests are this worker's; the next goes in 12.5 s"
    busy = worker(lag=241, blocked_by=f"events/orders.placed/ord-1: {why}", blocked_since=NOW - 60_000)
    roles = ({**busy.roles[0], "destinations": [destination]},)
    told = Worker("http://send-7d9f8c5b6-x2x4z.hakuna:9400", None, (), roles, {"processor_held_orders": 17})
    lines = page(view([told], [behind(241, "client-1")], None, NOW, held=17), 80)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for whole in ("send-7d9f8c5b6-x2x4z", "hakuna.outbox/0", "17 held orders", "17 orders wait for a replay"):
        assert whole in text, text
    assert text.count("send-7d9f8c5b6-x2x4z") == 3
    assert "the quota" in text


def test_records_that_nobody_has_taken_are_said_by_whoever_knows_of_them() -> None:
    overtaken = behind(0, "client-1")._replace(missed=4)
    text = "\n".join(page(view([], [overtaken], None, NOW), 120))
    assert "hakuna.outbox/0: 4 records deleted before send took them" in text
    placed = TopicPartition("orders.placed", 1)
    own = {"topic": placed.topic, "partition": 1}
    notices = [own | {"missed": 8}, own | {"partition": 0}]
    told = Worker("w", None, (), ({"role": "transform", "partitions": [own | {"lag": 0}], "notices": notices},))
    seen = view([told], [Behind(Role.TRANSFORM, placed, 9, 9, 0, None, "client-1")], None, NOW)
    (line,) = [line for line in page(seen, 120) if "deleted before" in line]
    assert line.startswith("orders.placed/1: 8 records deleted before transform took them")
    assert [one["missed"] for one in seen.as_json()["partitions"]] == [8]
