"""notices: sources that are not simply read on from where their group left off: said, counted and shown.

Shared by transform and rekey.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from processor.interfaces import Clock
from processor.records import TopicPartition
from processor.sources.starts import Start

log = structlog.get_logger(__name__)

_NOTICES_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Notice:
    """Something out of the ordinary at a source partition, as `/status` shows it: from where it is read since `at`
    (epoch ms), how many offsets are missed, and why (`Correction`)."""

    at: int
    topic: str
    partition: int
    offset: int
    missed: int
    why: str


class Notices:
    """Mutable: `shown` are the newest, replaced whole and so read by any thread."""

    def __init__(self, clock: Clock, started: Callable[[str, int, Start], None]) -> None:
        """`started` counts one: topic, partition, start."""
        self._clock = clock
        self._started = started
        self._newest: deque[Notice] = deque(maxlen=_NOTICES_MAX)
        self.shown: tuple[Notice, ...] = ()

    def take(self, source: TopicPartition, start: Start) -> None:
        """Does nothing where nothing is out of the ordinary."""
        if not start.corrections:
            return
        self._started(*source, start)
        why = ", ".join(start.corrections)
        facts = {"topic": source.topic, "partition": source.partition, "offset": start.offset, "why": why}
        if start.missed:
            log.error("records are gone that were never taken", missed=start.missed, **facts)
        else:
            log.warning("a source is not read on from the group's offset", **facts)
        self._newest.append(Notice(self._clock.now_ms(), *source, start.offset, start.missed, why))
        self.shown = tuple(self._newest)
