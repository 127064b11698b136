"""`hakuna-processor demo` as its user runs it: with nothing, left running, and interrupted."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.children import REPOSITORY, ChildProcess, wait_until
from tests.support.commands import ask
from tests.support.processes import OWN_PREFIXES

SECONDS_MAX = 110.0  # by itself some 25 s; a busy machine takes its time
INTERRUPTED = 130
SMALL = ("--orders", "80", "--rate", "40", "--bad-share", "0.3", "--seed", "5")

Demo = Callable[..., ChildProcess]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """Starts the demo; its temporary files go to `tmp_path`."""
    with ExitStack() as running:

        def start(*arguments: str) -> ChildProcess:
            outer = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
            child = ChildProcess(
                [sys.executable, "-m", "processor", "demo", *arguments],
                log=tmp_path / "demo.log",
                env=outer | {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path)},
                cwd=tmp_path,
            )
            running.callback(child.kill)
            return child

        yield start


def left_behind(directory: Path) -> list[Path]:
    return list(directory.glob("hakuna-processor-demo-*"))


def workers_of(pid: int) -> list[int]:
    """The processes that `pid` has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in children.split()]


@pytest.mark.slow
def test_it_runs_with_nothing_and_every_record_becomes_what_the_rules_say(demo: Demo, tmp_path: Path) -> None:
    """And while it is kept, the commands that it names as examples answer."""
    child = demo(*SMALL, "--keep")
    wait_until(lambda: "curl " in child.log_tail(), what="the demo", timeout_s=SECONDS_MAX, child=child)
    kept = child.log_tail()
    environment = dict(re.findall(r"^  export (\w+)=(\S+)$", kept, re.MULTILINE))
    (order, *arguments), letters = (
        line.split() for line in re.findall(r"^  (?:\S*hakuna-processor|\S+ -m processor) (.*)$", kept, re.MULTILINE)
    )
    timeline = ask(order, *arguments, environment=environment)
    assert timeline.code == 0, timeline.err
    for word in ("order_placed", "transformed", "dead letter", "state"):
        assert word in timeline.out
    assert "orders.dead-letters" in ask(*letters, environment=environment).out
    shown = (tmp_path / "demo.log").read_text()
    assert re.search(r"One of them, \S+, delivered:", shown)
    assert "→ delivered" in " ".join(shown.split()), "its timeline"
    child.signal(signal.SIGINT)
    code = child.wait(SECONDS_MAX)
    shown = child.log_tail()
    assert code == 0, shown
    assert "All as expected" in shown
    assert "Next: " in shown
    assert "dead letters" in shown
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_producers_that_agree_on_nothing_are_brought_together_by_rekey(demo: Demo, tmp_path: Path) -> None:
    child = demo(*SMALL, "--producers", "mixed")
    assert child.wait(SECONDS_MAX) == 0, child.log_tail()
    shown = (tmp_path / "demo.log").read_text()
    assert "rekey, transform, send, hako, on a broker inside this process" in shown
    assert "All as expected" in shown
    assert re.search(r"rekey \d+ \(lag 0", shown)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_takes_its_workers_with_it(demo: Demo, tmp_path: Path, number: signal.Signals) -> None:
    child = demo("--orders", "5000")
    wait_until(lambda: "feeding" in child.log_tail(), what="the demo", timeout_s=SECONDS_MAX, child=child)
    started = workers_of(child.pid)
    assert len(started) == 3
    child.signal(number)
    assert child.wait(60) == INTERRUPTED
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_killed_it_leaves_no_worker_behind(demo: Demo) -> None:
    child = demo("--orders", "5000")
    wait_until(lambda: "feeding" in child.log_tail(), what="the demo", timeout_s=SECONDS_MAX, child=child)
    started = workers_of(child.pid)
    assert len(started) == 3
    child.signal(signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), what="the workers' end", timeout_s=30)
