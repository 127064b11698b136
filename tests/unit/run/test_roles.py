"""A role's thread: from waiting to its end, and what it says of itself meanwhile."""

from __future__ import annotations

import faulthandler
import io
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Self

import pytest

from processor.config import Role
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.run import roles
from processor.run.roles import RoleThread
from processor.watch import Work
from tests.fakes.clock import FakeClock

WAIT_S_MAX = 10.0


class OneRound:
    """A loop that turns when it is let, and does what the test says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.turned = threading.Semaphore(0)
        self.may_turn = threading.Semaphore(0)
        self.on_turn: Callable[[], None] = lambda: None
        self.stopped = False
        self.failed = 0
        self.on_fail: Callable[[], None] = lambda: None
        self.work: Mapping[int, Work] = {}
        self.reasons: list[str] = []
        self.rest_s = 0.0

    def turn(self) -> float:
        assert self.may_turn.acquire(timeout=WAIT_S_MAX)
        try:
            self.on_turn()
        finally:
            self.turned.release()
        return self.rest_s

    def stop(self) -> None:
        self.stopped = True

    def fail(self) -> None:
        self.failed += 1
        self.on_fail()

    def unready(self) -> list[str]:
        return self.reasons

    def status(self) -> dict[str, Any]:
        return {"partitions": [1]}

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        return self.work, False


class Stage:
    """A role's thread with its loop, turned by the test."""

    def __init__(self, build: Callable[[], OneRound] | None = None) -> None:
        self.clock = FakeClock()
        self.loop = OneRound(self.clock)
        self.ended = threading.Event()
        self.thread = RoleThread(Role.TRANSFORM, build or (lambda: self.loop), self.clock, self.ended.set)

    def begun(self) -> Self:
        """With one turn behind it."""
        self.thread.start()
        self.turn()
        return self

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.may_turn.release()
            assert self.loop.turned.acquire(timeout=WAIT_S_MAX)

    def end(self) -> None:
        self.thread.stop()
        self.loop.may_turn.release(100)
        assert self.thread.join(WAIT_S_MAX)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roles, "_RETRY_S", 0.01)


def test_a_role_turns_until_it_is_stopped_and_drains() -> None:
    stage = Stage().begun()
    stage.turn(2)
    assert stage.thread.unready() == []
    assert stage.thread.status() == {"role": "transform", "life": "running", "partitions": [1], "destinations": []}
    stage.end()
    assert stage.loop.stopped
    assert (stage.thread.failure, stage.thread.exit_code()) == (None, 0)
    assert stage.thread.unready() == ["transform: stopped"]
    assert stage.ended.is_set()


def test_a_role_rests_for_as_long_as_its_loop_says_and_no_longer_than_it_runs() -> None:
    stage = Stage().begun()
    stage.loop.rest_s = 3600.0
    stage.turn()
    stage.loop.may_turn.release()
    assert not stage.loop.turned.acquire(timeout=0.2)
    stage.end()
    assert stage.loop.stopped


def test_what_is_needed_and_not_there_is_waited_for_and_said() -> None:
    tries = threading.Semaphore(0)
    there = threading.Event()

    def built() -> OneRound:
        tries.release()
        if not there.is_set():
            raise BrokerOutage("no broker answers")
        return stage.loop

    stage = Stage(built)
    stage.thread.start()
    for _ in range(3):
        assert tries.acquire(timeout=WAIT_S_MAX)
    assert stage.thread.unready() == ["transform: waiting: no broker answers"]
    assert stage.thread.status()["life"] == "waiting"
    there.set()
    stage.turn()
    assert stage.thread.unready() == []
    stage.end()


def test_a_role_that_is_stopped_while_it_waits_ends_with_0() -> None:
    def never() -> OneRound:
        raise BrokerOutage("no broker answers")

    stage = Stage(never)
    stage.thread.start()
    stage.end()
    assert stage.thread.exit_code() == 0


@pytest.mark.parametrize(
    ("failure", "code"),
    [(Unusable(["wrong"]), 78), (Fatal("no"), 1), (AssertionError("a fault of ours"), 1), (RuntimeError("?"), 1)],
)
@pytest.mark.parametrize("when", ["built", "turned"])
def test_a_failure_ends_the_role_with_its_code(failure: Exception, code: int, when: str) -> None:
    def fail() -> Any:
        raise failure

    stage = Stage(fail if when == "built" else None)
    stage.loop.on_turn = fail
    stage.thread.start()
    stage.loop.may_turn.release()
    assert stage.ended.wait(WAIT_S_MAX)
    assert stage.thread.join(WAIT_S_MAX)
    assert (stage.thread.failure, stage.thread.exit_code()) == (failure, code)
    assert stage.thread.unready() == ["transform: failed"]
    assert stage.thread.stuck() is None, "it is dead, not stuck: the process ends by itself"


def test_a_loop_that_does_not_come_round_is_stuck_and_says_since_when() -> None:
    stage = Stage().begun()
    stage.clock.advance(roles.STUCK_AFTER_S)
    assert stage.thread.stuck() is None
    stage.clock.advance(1)
    assert "has not come round for 61 s" in (stage.thread.stuck() or "")
    stage.turn(2)
    assert stage.thread.stuck() is None
    stage.end()


def test_reasons_of_the_loop_carry_the_name_of_the_role() -> None:
    stage = Stage().begun()
    stage.loop.reasons = ["restoring"]
    assert stage.thread.unready() == ["transform: restoring"]
    stage.end()


def test_lag_without_progress_is_unready_and_ends_the_process_with_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    dumped: list[bool] = []
    monkeypatch.setattr(faulthandler, "dump_traceback", lambda *_, **__: dumped.append(True))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    stage = Stage()
    stage.loop.work = {3: Work(17, 4)}
    stage.begun()
    stage.clock.advance(61)
    stage.turn(2)
    assert stage.thread.unready() == ["transform: records wait and none is finished"]
    stage.clock.advance(300)
    stage.loop.may_turn.release(2)
    assert stage.ended.wait(WAIT_S_MAX)
    assert isinstance(stage.thread.failure, Fatal)
    assert "17 records of partition 3 wait" in str(stage.thread.failure)
    assert dumped == [True]


@pytest.mark.parametrize("failure", [Fatal("over"), ZeroDivisionError("a mistake of ours"), Unusable(["a setting"])])
def test_whatever_ends_a_role_it_leaves_its_group(failure: Exception) -> None:
    stage = Stage()

    def end() -> None:
        raise failure

    def also() -> None:
        raise BrokerOutage("no broker answers")

    stage.loop.on_turn, stage.loop.on_fail = end, also
    stage.begun()
    assert stage.ended.wait(WAIT_S_MAX)
    assert stage.loop.failed == 1
    assert stage.thread.failure is failure, "what ended it, not what came after"
    stage.end()


def test_a_role_that_drains_does_not_fail() -> None:
    stage = Stage().begun()
    stage.end()
    assert (stage.loop.stopped, stage.loop.failed) == (True, 0)
