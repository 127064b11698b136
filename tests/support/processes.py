"""A worker of ours as its user starts it: `hakuna-processor run …` in a process of its own, with nothing
but an environment, to be looked at through its ports, killed and terminated."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from tests.support.children import REPOSITORY, ChildProcess, free_ports, wait_until
from tests.support.loopback import LOOPBACK

READY_SECONDS_MAX = 60.0
DRAIN_SECONDS_MAX = 60.0  # above the worker's own limit: what is late must be seen as late, not cut off here

# The developer's own settings would reach the worker, or stop it: an unknown one with these prefixes is an
# error.
OWN_PREFIXES = ("KAFKA_", "SCHEMA_REGISTRY_", "HAKUNA_", "HAKO_", "PROCESSOR_")
PROGRAM = (sys.executable, "-m", "processor")


class Worker:
    """`with Worker("run", "--role", "transform", environment=…, directory=…) as worker:` is a worker that
    is ready.

    `environment` is the whole of its settings. Where they do not say so, its metrics port is a free one and
    its state goes to `directory`/state, which a second Worker with the same directory finds again, as a
    restarted pod would. Leaving the context kills it if it still runs.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        directory: Path,
        await_ready: bool = True,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.directory = directory
        self.log = directory / "worker.log"
        self._command = [*program, *arguments]
        self._await_ready = await_ready
        defaults = {"PROCESSOR_STATE_DIR": str(directory / "state")}
        if "PROCESSOR_METRICS_PORT" not in environment:
            defaults["PROCESSOR_METRICS_PORT"] = str(free_ports(1)[0])
        outer = {name: value for name, value in os.environ.items() if not name.startswith(OWN_PREFIXES)}
        path = os.pathsep.join(filter(None, [str(REPOSITORY), outer.get("PYTHONPATH")]))
        self._env = outer | {"PYTHONPATH": path} | defaults | dict(environment)
        self.port = int(self._env["PROCESSOR_METRICS_PORT"])
        self._child: ChildProcess | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        # cwd: not the repository, whose .env is the developer's
        self._child = ChildProcess(self._command, log=self.log, env=self._env, cwd=self.directory)
        if self._await_ready:
            try:
                self.wait_ready()
            except BaseException:
                self._child.kill()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()

    @property
    def child(self) -> ChildProcess:
        assert self._child is not None, "use it as a context: with Worker(…) as worker"
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child.running

    def wait_ready(self, timeout_s: float = READY_SECONDS_MAX) -> None:
        """Until /readyz says 200; raises StartFailed with the tail of its log if it ends first or takes too
        long."""
        wait_until(self.ready, what=f"Worker {self._command[-2:]}", timeout_s=timeout_s, child=self.child)

    def ready(self) -> bool:
        try:
            return self.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def get(self, path: str) -> httpx.Response:
        """GET `path`, such as /metrics or /status, from its metrics port."""
        return LOOPBACK.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def kill(self) -> int:
        """SIGKILL; its exit code (-9, or what it had ended with before)."""
        return self.child.kill()

    def terminate(self, timeout_s: float = DRAIN_SECONDS_MAX) -> int:
        """SIGTERM, and its exit code when it has drained. Raises TimeoutError."""
        return self.child.terminate(timeout_s)

    def wait(self, timeout_s: float) -> int:
        """Its exit code when it ends by itself. Raises TimeoutError."""
        return self.child.wait(timeout_s)

    def log_tail(self, lines_max: int = 40) -> str:
        return self.child.log_tail(lines_max)
