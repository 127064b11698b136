"""What is on the leash ends with whoever holds the other end, and with nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys

from processor.sandbox.demo import workers as leash

STAYS = "import signal, time; print('here', flush=True); time.sleep(60)"
DRAINS = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('drained', flush=True)); " + STAYS


def on_a_leash(program: str) -> subprocess.Popen[bytes]:
    """Already at work; what it is told to do at its end takes 0.2 s at most."""
    leashed = (
        "from processor.sandbox.demo import workers as leash; leash.LEAVE_S_MAX = 0.2; "
        f"leash.end_with_standard_input(); {program}"
    )
    child = subprocess.Popen([sys.executable, "-c", leashed], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    return child


def test_it_is_told_to_drain_when_the_other_end_is_gone() -> None:
    child = on_a_leash(STAYS)
    assert child.poll() is None, "it lives as long as the other end"
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGTERM


def test_what_does_not_drain_in_time_is_ended() -> None:
    child = on_a_leash(DRAINS)
    out, _ = child.communicate(timeout=30)
    assert (out, child.returncode) == (b"drained\n", -signal.SIGKILL)


def test_it_is_the_command_line() -> None:
    command = [sys.executable, "-m", leash.__name__, "--version"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert b", version " in child.stdout.read()
    assert child.returncode == 0
