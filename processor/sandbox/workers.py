"""Workers as their user runs them: `hakuna-processor run --role …` in processes of their own, told by an
environment.

Owned by the demo, which starts, watches and ends them. Each has its log in a file and its endpoints on a
loopback port; none sees the settings of the shell that the demo runs in, except those that lead to the
brokers and the registry.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from processor.config import PREFIXES, Role

DRAIN_S_MAX: Final = 30.0
"""Above the workers' own drain (25 s): one that is late must be seen to be late."""
_TAIL_BYTES: Final = 4_000


@dataclass(frozen=True, slots=True)
class Worker:
    """One running role. Frozen, but the process behind it lives and ends."""

    role: Role
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal ended it."""
        return self.process.poll()

    def drain(self) -> int | None:
        """Sends SIGTERM and waits; the exit code, None (and SIGKILL) when it takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(DRAIN_S_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log_tail(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")


def start(role: Role, settings: Mapping[str, str], directory: Path) -> Worker:
    """Starts a worker with these settings; its log and its state are in `directory`."""
    port = _free_port()
    log = directory / f"{role}.log"
    outer = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    package = str(Path(__file__).parents[2])
    environment = (
        outer
        # The package is found even where it is not installed and the directory is another.
        | {"PYTHONPATH": os.pathsep.join(filter(None, [package, outer.get("PYTHONPATH")]))}
        | {"PROCESSOR_METRICS_PORT": str(port), "PROCESSOR_STATE_DIR": str(directory / "state")}
        | dict(settings)
    )
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "processor", "run", "--role", role.value],
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
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
