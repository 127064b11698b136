"""A machine whose clock is not the brokers' is told so before it writes: by a worker at its start and by `check`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import pytest

from processor.config import Role
from processor.edges.clock import SystemClock
from processor.edges.kafka.broker_clock import ahead_s
from processor.topics import CONFIG, NEEDED, Topic
from tests.conftest import watch_log
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.processes import Worker
from tests.support.shifted_clock import VARIABLE
from tests.support.topics import TopicSpace

pytestmark = pytest.mark.kafka

LIMIT = {"message.timestamp.after.max.ms": "3600000"}
SHIFTED = (sys.executable, "-m", "tests.support.shifted_clock")


@pytest.mark.parametrize("off_s", [0, 3, -3, 90, -90, 7_200, -7_200, 40 * 86_400])
def test_how_far_it_is_from_the_brokers_is_known_and_nothing_is_written(topic_space: TopicSpace, off_s: int) -> None:
    topic_space.create("t")
    now_ms = round(time.time() * 1000) + off_s * 1000
    found = ahead_s(_kafka(topic_space), topic_space.name("t"), LIMIT, now_ms, client_id="test")
    assert found is not None
    if abs(off_s) < 10:
        assert found == 0
    else:
        assert 0.7 < found / off_s <= 1.01
    assert topic_space.end_offsets("t") == {0: 0}


def test_brokers_that_let_any_time_pass_are_not_asked(topic_space: TopicSpace) -> None:
    for config in (
        {},
        {"message.timestamp.after.max.ms": str(2**63 - 1)},
        LIMIT | {"message.timestamp.type": "LogAppendTime"},
    ):
        assert ahead_s(_kafka(topic_space), "nowhere", config, 0, client_id="test") is None


def test_a_clock_two_hours_ahead_is_named_at_start_and_by_check_and_what_waits_goes_on_once_it_is_right(
    topic_space: TopicSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for topic in (*NEEDED[Role.SEND], Topic.RESOLUTIONS):
        topic_space.create(topic, config=CONFIG[topic])
    environment = topic_space.environment | {"HAKUNA_BASE_URL": "http://127.0.0.1:9", "HAKUNA_API_KEY": "sk_test_x"}

    with monkeypatch.context() as ahead:
        ahead.setattr(SystemClock, "now_ms", lambda _self: time.time_ns() // 1_000_000 + 7_200_000)
        assert "this machine's clock is at least 118 min ahead of theirs" in ask(
            "check", "--role", "send", environment=environment
        ).out.replace("\n", " ")
    assert "clock and this machine's differ by less than a minute" in ask(
        "check", "--role", "send", environment=environment
    ).out.replace("\n", " ")

    shift = tmp_path / "shift"
    shift.write_text("7200")
    worker = Worker(
        "run",
        "--role",
        "send",
        environment=environment | {VARIABLE: str(shift)},
        directory=tmp_path / "worker",
        await_ready=False,
        program=SHIFTED,
    )
    watch_log(request.node, "the worker", lambda: worker.log_tail())
    with worker:
        said = "clock is at least 118 min ahead of the brokers', which take nothing that is more than 3600 s ahead"
        wait_until(lambda: said in reasons(worker), what="the clock, named", timeout_s=30, child=worker.child)
        assert topic_space.committed("hakuna-processor.send") == {}
        shift.write_text("0")
        wait_until(lambda: "clock" not in reasons(worker), what="a start", timeout_s=30, child=worker.child)
        assert worker.terminate() == 0
        assert said in worker.log.read_text()


def reasons(worker: Worker) -> str:
    """Why it is not ready; nothing while its endpoints are not served yet, or no longer."""
    try:
        return worker.get("/readyz").text
    except httpx.TransportError:
        return ""


def _kafka(space: TopicSpace) -> dict[str, str]:
    return {"bootstrap.servers": space.bootstrap_servers}
