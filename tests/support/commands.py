"""A command as its user runs it, with nothing but an environment.

ask               in this process: the same code from the command line to the exit code, without a second of imports
told              the same, for all that a command says which ends with the code that is given
run               in a process of its own, into pipes
run_on_terminal   in a process of its own, on a terminal, with Ctrl-C if wanted
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from typing import NamedTuple

from click.testing import CliRunner

from processor.cli import main
from tests.support.children import REPOSITORY
from tests.support.processes import OWN_PREFIXES

SECONDS_MAX = 60.0
CTRL_C = b"\x03"


class Said(NamedTuple):
    """What a command ended with, and said."""

    code: int
    out: str
    err: str


def ask(*arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> Said:
    """In this process."""
    outer: dict[str, str | None] = {name: None for name in os.environ if name.startswith(OWN_PREFIXES)}
    done = CliRunner().invoke(main, arguments, input=stdin, env=outer | dict(environment or {}))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def told(code: int, *arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> str:
    """In this process; it has to end with this code."""
    said = ask(*arguments, environment=environment, stdin=stdin)
    assert said.code == code, said
    return said.out + said.err


def run(*arguments: str, environment: Mapping[str, str] | None = None, stdin: bytes = b"") -> Said:
    """Into pipes. A traceback is never an answer."""
    done = subprocess.run(
        command(*arguments), env=_environment(environment), input=stdin, capture_output=True, timeout=SECONDS_MAX
    )
    said = Said(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in said.err, said.err
    return said


class Screen(NamedTuple):
    """What a command showed on a terminal, and how long after Ctrl-C it ended (from the start, without one)."""

    code: int
    text: str
    seconds: float


def run_on_terminal(
    *arguments: str, columns: int, environment: Mapping[str, str] | None = None, interrupt_at: str | None = None
) -> Screen:
    """On a terminal of so many columns; with Ctrl-C as soon as it shows `interrupt_at` (empty: at once)."""
    given = _environment(environment) | {"TERM": "xterm-256color"}
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))  # here: before it can be asked for
        program, *_ = started = command(*arguments)
        os.execve(program, started, given)
    shown = b""
    since = time.monotonic()
    deadline = since + SECONDS_MAX
    try:
        while time.monotonic() < deadline:
            if interrupt_at is not None and interrupt_at.encode() in shown:
                os.write(terminal, CTRL_C)
                interrupt_at, since = None, time.monotonic()
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    shown += os.read(terminal, 65_536)
                except OSError:  # the other end is closed
                    break
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)  # it would be waited for without end
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    return Screen(os.waitstatus_to_exitcode(status), shown.decode(errors="replace"), time.monotonic() - since)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "processor", *arguments]


def _environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """The developer's own, but for settings of ours."""
    # pytest's readline has them set for workers of xdist, to 80 and 24, and rich believes them before any terminal.
    left_out = (*OWN_PREFIXES, "NO_COLOR", "COLUMNS", "LINES")
    outer = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return outer | {"PYTHONPATH": str(REPOSITORY)} | dict(given or {})
