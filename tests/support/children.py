"""A child process of a test run: own session, log in a file, ended by its own process ID and by nothing
else."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.reaper import REAPER

REPOSITORY = Path(__file__).parent.parent.parent


class Unavailable(Exception):
    """A real part cannot be had on this machine; the text says what is missing. Tests that need it are
    skipped (and fail under CI)."""


class StartFailed(Exception):
    """A part was there but did not come up; the text ends with the tail of its log."""


class ChildProcess:
    """`command` running in a session of its own with stdout and stderr appended to `log`."""

    # Mutable: `_exit_code` goes from None to the code once, and with it the reaper forgets the process.

    def __init__(
        self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.command = tuple(command)
        self.log = log
        self._exit_code: int | None = None
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command,
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        REAPER.watch_process(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative signal number if a signal ended it."""
        if self._exit_code is None:
            self._exit_code = self._process.poll()
            if self._exit_code is not None:
                REAPER.forget_process(self.pid)
        return self._exit_code

    @property
    def running(self) -> bool:
        return self.exit_code is None

    def wait(self, timeout_s: float) -> int:
        """The exit code; raises TimeoutError when it still runs after `timeout_s` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        code = self.exit_code
        if code is None:
            raise TimeoutError(f"{self.command[0]} ({self.pid}) still runs after {timeout_s} s")
        return code

    def kill(self) -> int:
        """SIGKILL to the whole group, and wait; its exit code. Nothing happens if it has ended already."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return self.wait(timeout_s=10)

    def terminate(self, timeout_s: float) -> int:
        """SIGTERM, and wait; its exit code. Raises TimeoutError (and leaves it running) after `timeout_s`."""
        if self.running:
            self._process.terminate()
        return self.wait(timeout_s)

    def signal(self, number: signal.Signals) -> None:
        """For SIGSTOP and SIGCONT, the frozen process of chaos tests."""
        if self.running:
            self._process.send_signal(number)

    def log_tail(self, lines_max: int = 40) -> str:
        return log_tail(self.log, lines_max)


def log_tail(path: Path, lines_max: int = 40) -> str:
    """The last lines of `path`, or "" if there is none. Reads at most 64 KiB: a log can be huge."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 65_536))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines_max:])


PAUSE_S_MAX = 0.5  # an answer that was waited for in vain has cost nobody anything


class Asked:
    """What is waited for, asked now. `answer`: whether it is there."""

    def __init__(self, ready: Callable[[], object]) -> None:
        began_s = time.monotonic()
        self.answer = bool(ready())
        self._took_s = time.monotonic() - began_s

    def pause(self, seconds_min: float) -> None:
        """Before it is asked again: three times as long as asking took, for who is waited for needs the processor."""
        time.sleep(max(seconds_min, min(3 * self._took_s, PAUSE_S_MAX)))


def wait_until(ready: Callable[[], bool], *, what: str, timeout_s: float, child: ChildProcess | None = None) -> None:
    """Poll `ready` every 50 ms. Raises StartFailed when `child` ends first, or after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not (asked := Asked(ready)).answer:
        if child is not None and not child.running:
            raise StartFailed(f"{what}: ended with {child.exit_code}\n{child.log_tail()}")
        if time.monotonic() > deadline:
            tail = "" if child is None else "\n" + child.log_tail()
            raise StartFailed(f"{what}: not within {timeout_s} s{tail}")
        asked.pause(0.05)


def free_ports(count: int) -> tuple[int, ...]:
    """`count` loopback ports nobody listens on.

    Taken from below the range that kernels give to outgoing connections (32768 up on Linux): a broker that
    is down for a moment must find its own port free when it comes back.
    """
    found: list[int] = []
    pick = random.SystemRandom()
    for _ in range(1_000):
        port = pick.randrange(15_000, 30_000)
        if port in found:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return tuple(found)
    raise StartFailed(f"no {count} free loopback ports found in 1,000 attempts")


@contextmanager
def own_directory(prefix: str) -> Iterator[Path]:
    """A temporary directory that is gone afterwards, even if the run is killed."""
    path = Path(tempfile.mkdtemp(prefix=f"hakuna-processor-{prefix}-"))
    REAPER.watch_directory(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        REAPER.forget_directory(path)
