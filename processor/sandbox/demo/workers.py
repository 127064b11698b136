"""Workers as a user runs them: `hakuna-processor run --role …` in processes of their own, set by the environment.

Owned by the demo, which starts, watches and ends them. Each has its log in a file and its endpoints on a loopback port.
A worker sees no processor settings of the demo's shell. None outlives the demo, however the demo ends.

`python -m processor.sandbox.demo.workers …` is the command line of the processor on a leash: it ends when the process
that started it ends. The parent keeps the other end of its standard input and never writes. However the parent ends, by
`kill -9` too, the system closes that end: then the worker drains, and LEAVE_S_MAX later it ends even if it has not.

Not chosen: a death signal of the parent's (`PR_SET_PDEATHSIG`): only Linux has it, and it comes at the end of the
thread that started the child.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processor.config import PREFIXES, Role

DRAIN_S_MAX: Final = 30.0
"""Above the workers' own drain (25 s), so that a late one is noticed."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One running role."""

    role: Role
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self.process.poll()


def drain(running: Sequence[Worker]) -> dict[Role, int | None]:
    """Sends SIGTERM to all and waits. Returns their exit codes; None for a worker that took too long and was killed."""
    for worker in running:
        if worker.exit_code is None:
            worker.process.terminate()
    deadline_s = time.monotonic() + DRAIN_S_MAX
    codes: dict[Role, int | None] = {}
    for worker in running:
        try:
            codes[worker.role] = worker.process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
            codes[worker.role] = None
    return codes


def start(role: Role, settings: Mapping[str, str], directory: Path) -> Worker:
    """Starts a worker with these settings. Its log and its state are in `directory`."""
    port = _free_port()
    log = directory / f"{role}.log"
    outer = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    package = str(Path(__file__).parents[3])
    environment = (
        outer
        # So that the package is found although it is not installed and the directory is another.
        | {"PYTHONPATH": os.pathsep.join(filter(None, [package, outer.get("PYTHONPATH")]))}
        | {"PROCESSOR_METRICS_PORT": str(port), "PROCESSOR_STATE_DIR": str(directory / "state")}
        | dict(settings)
    )
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "processor.sandbox.demo.workers", "run", "--role", role.value],
            env=environment,
            cwd=directory,
            stdin=subprocess.PIPE,  # never written to: its end is ours
            stdout=sink,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the demo, which drains its workers.
            start_new_session=True,
        )
    return Worker(role, port, log, process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


LEAVE_S_MAX: Final = 5.0
"""The broker and the APIs may have gone with the demo, and a drain would wait for them."""


def end_with_standard_input() -> None:
    """Returns at once; a thread watches."""
    threading.Thread(target=_watch, name="leash", daemon=True).start()


def _watch() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LEAVE_S_MAX)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_standard_input()
    runpy.run_module("processor", run_name="__main__", alter_sys=True)
