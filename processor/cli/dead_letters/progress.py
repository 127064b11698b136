"""The progress of reading and sending letters: a count or a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self

import click
import structlog

if TYPE_CHECKING:
    from processor.cli.dead_letters.desk import Desk
    from processor.operate.replay.replay import Progress

TELL_S: Final = 10.0
"""How often a replay without a terminal says where it is."""


@contextmanager
def counting(desk: Desk, what: str) -> Iterator[None]:
    """A live count of what is read, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    read = 0
    with Console(stderr=True).status(f"{what}: 0") as status:

        def step(records: int) -> None:
            nonlocal read
            read += records
            status.update(f"{what}: {read:,}")

        desk.step = step
        try:
            yield
        finally:
            desk.step = lambda _records: None


class Bar:
    """How far a run is, and the wish to stop it, from Ctrl-C or SIGTERM. Mutable: `_stopped`; `_progress` while it is
    shown; `_before` the handlers that were there."""

    def __init__(self) -> None:
        self._stopped = False
        self._progress: Any = None
        self._task: Any = None
        self._told_s = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TextColumn("{task.fields[back]} came back"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._progress.add_task("begins", total=None, back=0)
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopped(self) -> bool:
        return self._stopped

    def show(self, now: Progress) -> None:
        if self._progress is not None:
            self._progress.update(
                self._task, description=now.phase.value, total=now.total, completed=now.settled, back=now.returned
            )
        elif time.monotonic() - self._told_s >= TELL_S:
            self._told_s = time.monotonic()
            log, phase = structlog.get_logger(__name__), now.phase.value
            counts = {"letters": now.total, "sent": now.sent, "settled": now.settled, "came_back": now.returned}
            log.info("run goes on", phase=phase, **counts)

    def _stop(self, number: int, _frame: object) -> None:
        """Once: after what is being written. Twice: now."""
        if self._stopped:
            raise KeyboardInterrupt
        self._stopped = True
        click.echo(f"\nstopping on {signal.Signals(number).name}: the same command goes on from here", err=True)
