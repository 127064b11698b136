"""Sees to it that no process and no directory of a test run outlives it, not even if it is killed -9.

    test run ──lines──► pipe ──► reaper (a child of its own session)
                                   │ "+process 123"   123 leads a process group that is ours
                                   │ "-process 123"   it has been waited for: its number may be another's now
                                   │ "+directory /…"  "-directory /…"
                                   └ end of file: the run is over, however: kill and remove what is left

The pipe is the whole protocol: the kernel closes it when the run ends, so nothing has to be remembered or
polled. Not chosen: PR_SET_PDEATHSIG, which fires when the *thread* that started the child ends, and which
only Linux has.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path


class Reaper:
    """One per test run; thread-safe. The child is started by the first thing it has to watch."""

    # Mutable: `_child` goes from None to a process once, under `_lock`, which also keeps lines whole.

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def watch_process(self, pid: int) -> None:
        """`pid` must lead its own process group, which is what would be killed."""
        self._tell(f"+process {pid}")

    def forget_process(self, pid: int) -> None:
        """To be called when the process has been waited for, before its number can be used again."""
        self._tell(f"-process {pid}")

    def watch_directory(self, path: Path) -> None:
        self._tell(f"+directory {path}")

    def forget_directory(self, path: Path) -> None:
        self._tell(f"-directory {path}")

    def _tell(self, line: str) -> None:
        assert "\n" not in line, f"a line protocol cannot carry {line!r}"
        with self._lock:
            if self._child is None:
                self._child = subprocess.Popen(
                    [sys.executable, "-I", __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,  # an interrupt from the terminal is for the run only
                )
            assert self._child.stdin is not None
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()


REAPER = Reaper()


def reap(lines: list[str]) -> None:
    """End what `lines` watched and never forgot."""
    open_entries: dict[str, None] = {}
    for line in lines:
        sign, entry = line[0], line[1:].rstrip("\n")
        if sign == "+":
            open_entries[entry] = None
        else:
            open_entries.pop(entry, None)
    for entry in open_entries:
        kind, _, name = entry.partition(" ")
        if kind == "process":
            with suppress(ProcessLookupError):
                os.killpg(int(name), signal.SIGKILL)
    for entry in open_entries:
        kind, _, name = entry.partition(" ")
        if kind == "directory":
            shutil.rmtree(name, ignore_errors=True)


if __name__ == "__main__":
    reap(sys.stdin.readlines())
