"""One thread a role: what it publishes about itself, and how it ends.

    WAITING ──brokers, topics, stores are there──► RUNNING ──stop──► STOPPED
       │                                              │
       └── Unusable: exit 78 ──┬── Fatal: exit 1 ─────┘
                               ▼
                             FAILED

Owned by the composition root (`process.py`), which starts the threads and waits for them. A role is a loop that makes
rounds (`turn`). The thread notes each round, which `/livez` reads, and asks the watch whether the loop makes progress.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

import structlog

from processor.config import Role
from processor.errors import Fatal, Outage, Unusable
from processor.interfaces import Clock
from processor.watch import Progress, Watch, Work

log = structlog.get_logger(__name__)

STUCK_AFTER_S: Final = 60.0
"""The longest round that is still alive: above every bounded call of a round together (a transaction's 16 s, a
registry's 5 s, a rebalance), below the patience of a shop that waits for its orders."""
_RETRY_S: Final = 1.0


class Life(StrEnum):
    """The life of a role's thread; drawn above."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"


class Loop(Protocol):
    """A role as its thread runs it: built, started, turned until it shall stop."""

    def turn(self) -> float:
        """Makes one round. Returns for how long the next one may wait, in seconds."""

    def stop(self) -> None:
        """Drains: finishes what is in flight, commits, leaves the group. Bounded by the drain's deadline."""

    def fail(self) -> None:
        """Something has ended its turns. Commits what is done and leaves the group, within some seconds: others take
        over at once, and what was done is not done again. May raise."""

    def unready(self) -> list[str]: ...

    def status(self) -> dict[str, Any]: ...

    def progress(self) -> tuple[Mapping[int, Work], bool]:
        """The parts of its work that are watched each by itself, and whether a standstill has a known reason."""


class RoleThread:
    """Runs one role. `failure` is what ended it, None after a drain.

    Mutable: `_life`, `_loop` (None until built), `_waiting_for` why it is not built yet, `_beat_s` when the last round
    began, `_progress` what the watch says. Written by the role's thread, read by the others.
    """

    def __init__(self, role: Role, build: Callable[[], Loop], clock: Clock, ended: Callable[[], None]) -> None:
        self.role = role
        self._build = build
        self._clock = clock
        self._ended = ended
        self._stop = threading.Event()
        self._watch = Watch()
        self._life = Life.WAITING
        self._loop: Loop | None = None
        self._waiting_for = "starting"
        self._progress = Progress.FINE
        self._beat_s = clock.monotonic_s()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"role-{role}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Asks the role to drain; `join` waits for it."""
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Returns true if the role has ended within the time."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop = self._built()
            if self._loop is not None:
                self._life = Life.RUNNING
                log.info("role started", role=self.role.value)
                while not self._stop.is_set():
                    self._beat_s = self._clock.monotonic_s()
                    rest_s = self._loop.turn()
                    self._observe(self._loop)
                    if rest_s > 0:
                        self._stop.wait(rest_s)
                log.info("draining", role=self.role.value)
                self._loop.stop()
            self._life = Life.STOPPED
            log.info("role stopped", role=self.role.value)
        except BaseException as failure:
            self._life = Life.FAILED
            self.failure = failure
            self._leave()
        finally:
            self._ended()

    def _leave(self) -> None:
        """Whatever ended it: a member that goes without a word keeps its partitions for a session."""
        if self._loop is None:
            return
        try:
            self._loop.fail()
        except Exception as also:
            log.warning("a role that failed could not leave in order", role=self.role.value, why=repr(also))

    def _built(self) -> Loop | None:
        """Returns the role as soon as brokers, topics and stores are there; None if it must stop before that."""
        while not self._stop.is_set():
            self._beat_s = self._clock.monotonic_s()
            try:
                return self._build()
            except Outage as outage:
                if str(outage) != self._waiting_for:
                    log.warning("waiting", role=self.role.value, why=str(outage))
                self._waiting_for = str(outage)
            self._stop.wait(_RETRY_S)
        return None

    def _observe(self, loop: Loop) -> None:
        work, excused = loop.progress()
        self._progress = self._watch.observe(work, excused, self._clock.monotonic_s())
        if self._progress is Progress.DEAD:
            part = self._watch.longest()
            assert part is not None, "dead, and nothing stands still"
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            raise Fatal(
                f"{self.role}: {work[part].lag} records of partition {part} wait, none was finished for minutes, and "
                "nothing says why"
            )

    def stuck(self) -> str | None:
        silent_s = self._clock.monotonic_s() - self._beat_s
        if self._life in (Life.WAITING, Life.RUNNING) and silent_s > STUCK_AFTER_S:
            return f"{self.role}: its loop has not come round for {silent_s:.0f} s"
        return None

    def unready(self) -> list[str]:
        match self._life:
            case Life.WAITING:
                return [f"{self.role}: waiting: {self._waiting_for}"]
            case Life.RUNNING:
                assert self._loop is not None, "a role that runs without being built"
                reasons = [f"{self.role}: {reason}" for reason in self._loop.unready()]
                if self._progress is Progress.STALLED:
                    reasons.append(f"{self.role}: records wait and none is finished")
                return reasons
            case Life.STOPPED:
                return [f"{self.role}: stopped"]
            case Life.FAILED:
                return [f"{self.role}: failed"]

    def status(self) -> dict[str, Any]:
        base: dict[str, Any] = {"role": self.role.value, "life": self._life.value, "partitions": [], "destinations": []}
        return {**base, **self._loop.status()} if self._loop is not None else base

    def exit_code(self) -> int:
        match self.failure:
            case None:
                return 0
            case Unusable():
                return 78
            case _:
                return 1
