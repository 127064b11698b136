"""The composition root: the only place that builds edges, wires roles and handles signals.

    settings ─► edges ─► one RoleThread a role ─► SIGTERM or SIGINT ─► drain ─► exit code

`transform.py`, `rekey.py` and `sending.py` say what each role is made of.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, assert_never

import structlog

from processor.config import Role, Settings, Traces
from processor.edges.clock import SystemClock
from processor.edges.health import HealthServer
from processor.edges.metrics import BUILD_INFO, Restores
from processor.edges.traces import Tracing
from processor.errors import Unusable
from processor.run.rekey import rekey
from processor.run.roles import RoleThread
from processor.run.sending import hako, send, way_problems
from processor.run.start import AFTER_DRAIN_S, build
from processor.run.transform import transform

log = structlog.get_logger(__name__)

FILES_MAX: Final = 65_536


def run(settings: Settings, roles: tuple[Role, ...]) -> int:
    """Runs these roles until a signal or a failure. Returns the exit code: 0 after a drain, 78, or 1."""
    clock = SystemClock()
    over = threading.Event()
    restores = Restores()
    problems = way_problems(settings, roles)
    if problems:
        return _unusable(Unusable(problems))
    try:
        tracing = _tracing(settings, roles)
    except Unusable as unusable:
        return _unusable(unusable)
    builders = {Role.TRANSFORM: transform, Role.REKEY: rekey, Role.SEND: send, Role.HAKO: hako}
    threads = [
        RoleThread(role, partial(builders[role], settings, clock, restores, tracing), clock, over.set) for role in roles
    ]
    BUILD_INFO.labels(*build()).set(1)
    _open_files()
    _no_core()
    _tune()
    try:
        health = HealthServer(settings.metrics_port, list(threads))
    except Unusable as unusable:
        return _unusable(unusable)
    log.info("serving health", port=health.port)
    _stop_on_signals(over)
    for thread in threads:
        thread.start()
    over.wait()
    for thread in threads:
        thread.stop()
    deadline_s = clock.monotonic_s() + settings.drain_s + AFTER_DRAIN_S
    late = [thread for thread in threads if not thread.join(max(0.0, deadline_s - clock.monotonic_s()))]
    health.close()
    if tracing is not None:
        tracing.close()
    return _exit_code(threads, late)


def _tracing(settings: Settings, roles: tuple[Role, ...]) -> Tracing | None:
    """Returns what makes spans, if the settings ask for them. Raises `Unusable` if it cannot be made."""
    match settings.traces:
        case Traces.OFF:
            return None
        case Traces.OTLP:
            return Tracing("-".join(["hakuna-processor", *roles]), build()[0])
        case _:
            assert_never(settings.traces)


def _tune() -> None:
    """CPython for a process that makes millions of small objects and has two busy threads.

    Both by figure: the collector at its own threshold looks at every connection far too often (a sender 72 → 49 µs an
    entry), and a thread that waits 5 ms for the interpreter makes the other one idle (16,000 → 19,000 a second).
    """
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(0.0005)


def _open_files() -> None:
    """Raises the limit of open files: a thousand requests in flight exceed the usual soft limit of 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _no_core() -> None:
    """Forbids core dumps: they would hold the key and orders. A kernel that pipes dumps to a program ignores the limit,
    so the content of a dump is set to nothing as well."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # no Linux, or no /proc
        Path("/proc/self/coredump_filter").write_text("0")


def _stop_on_signals(over: threading.Event) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        if over.is_set():
            os._exit(1)  # the second signal does not wait for the drain
        log.info("signal", signal=signal.Signals(number).name)
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _exit_code(threads: list[RoleThread], late: list[RoleThread]) -> int:
    for thread in late:
        log.error("the drain took too long; what is unfinished is taken again by the next worker", role=thread.role)
    code = 1 if late else 0
    for thread in threads:
        if isinstance(thread.failure, Unusable):
            code = max(code, _unusable(thread.failure))
        elif thread.failure is not None:
            log.error("role failed", role=thread.role.value, why=str(thread.failure), exc_info=thread.failure)
            code = max(code, thread.exit_code())
    return code


def _unusable(unusable: Unusable) -> int:
    for problem in unusable.problems:
        log.error("unusable", problem=str(problem))
    return 78
