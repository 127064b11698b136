"""standing: what others see of a role that merges its sources: lag, status, how records end, and odd beginnings.

Shared by transform and rekey. Owned by the role's thread; what other threads read is replaced whole, never changed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import structlog

from processor.interfaces import Clock, Consumer, Topology
from processor.moments import meant_ms
from processor.records import HeaderName, IgnoredReason, Outcome, Reason, Record, Stage, TopicPartition
from processor.sources.merge import Input, Merge
from processor.sources.standstill import Standstills
from processor.sources.starts import Start

log = structlog.get_logger(__name__)

_OBSERVE_S: Final = 1.0
_NOTICES_MAX: Final = 50


class TransactionOutcome(StrEnum):
    """How a transaction ended (`processor_transactions_total`)."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    FENCED = "fenced"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Written:
    """How the records of one transaction ended, by source topic; each record counts once. Mutable: it only grows.

    `replayed` counts the records of a replay that are dead letters again (the send role counts the others), `astray`
    erasures whose order lives in another partition, `left_out` lines and items of no unit in events that were taken.
    """

    records: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    ignored: Counter[tuple[str, IgnoredReason]] = field(default_factory=Counter)
    dead_letters: Counter[tuple[str, Stage, str]] = field(default_factory=Counter)
    replayed: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    astray: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def dead_letter(self, record: Record, letter_value: bytes | None, stage: Stage, reason: Reason) -> bool:
        """Counts a dead letter; one without its record's value is `too_large`. Returns true if a replay sent it."""
        if letter_value is None and record.value is not None:
            reason = Reason.TOO_LARGE
        self.records[record.topic, Outcome.DEAD_LETTERED] += 1
        self.dead_letters[record.topic, stage, reason] += 1
        if record.header(HeaderName.REPLAY_ID) is None:
            return False
        self.replayed[record.topic, Outcome.DEAD_LETTERED] += 1
        return True


class SourceLag(NamedTuple):
    """A source's unfinished records, and the oldest one's age (0 without any). `known` is false until a broker has
    counted them; `retention_left_s` is how long the oldest is kept at least; None without a record or a limit."""

    topic: str
    partition: int
    records: int
    seconds: float
    known: bool = True
    retention_left_s: float | None = None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source partition, as `/status` shows it. Times are epoch ms."""

    topic: str
    partition: int
    position: int
    committed: int | None
    lag: int
    blocked_by: str | None
    blocked_since: int | None


class SourceMeter(Protocol):
    """What both roles measure, in bulk and never per record (`edges/metrics.py`). Called by their threads."""

    def transaction(self, outcome: TransactionOutcome, duration_s: float) -> None: ...

    def written(self, written: Written) -> None: ...

    def lag(self, lags: list[SourceLag]) -> None:
        """Takes all source partitions of this worker; others are no longer its own."""

    def started(self, topic: str, partition: int, start: Start) -> None:
        """A source partition is read from here on; what is `missed` was deleted before it was read."""

    def flooded(self) -> None:
        """The flood guard has stopped the role, for good."""


@dataclass(eq=False)
class Standing:
    """Looks at the sources once a second. `_committed` has the group's next offsets. `_waits_for` returns why nothing
    is taken of a number yet, or None. Mutable: `status` of each source, and when the next look is due."""

    _merge: Merge
    _consumer: Consumer
    _committed: Mapping[TopicPartition, int]
    _topology: Topology
    _standstills: Standstills
    _clock: Clock
    _waits_for: Callable[[int], str | None] = lambda number: None
    status: tuple[SourceStatus, ...] = ()
    _observe_at_s: float = 0.0

    def is_due(self) -> bool:
        """Returns true once a second."""
        now_s = self._clock.monotonic_s()
        if now_s < self._observe_at_s:
            return False
        self._observe_at_s = now_s + _OBSERVE_S
        return True

    def look(self) -> list[SourceLag]:
        """Returns the lag of each source partition as of now, and makes `status` anew."""
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        inputs = [one for number in self._merge.numbers for one in self._merge.inputs(number)]
        behind = [one.partition for one in inputs if not one.at_end]
        ends = self._consumer.ends(behind) if behind else {}
        known, kept_s = self._committed, self._topology.kept_s
        lags = [_lag(one, known, ends.get(one.partition), now_ms, kept_s(one.partition.topic)) for one in inputs]
        self.status = tuple(
            SourceStatus(
                *one.partition,
                _position(one, known),
                known.get(one.partition),
                lag.records,
                *self._blocked(one.partition.partition, lag, now_s, now_ms),
            )
            for one, lag in zip(inputs, lags, strict=True)
        )
        return lags

    def _blocked(self, partition: int, lag: SourceLag, now_s: float, now_ms: int) -> tuple[str | None, int | None]:
        """Returns what a source partition waits for, and since when (epoch ms)."""
        if not lag.records:
            return None, None
        if self._standstills.shown:
            return self._standstills.first
        if (why := self._waits_for(partition)) is not None:
            return why, None
        lagging, since_s = self._merge.lagging(partition)
        if lagging:
            topics = ", ".join(dict.fromkeys(one.topic for one in lagging))
            return f"merge: {topics} has more at the broker", now_ms - round((now_s - since_s) * 1000)
        return None, None


def _position(one: Input, committed: Mapping[TopicPartition, int]) -> int:
    """Returns the next offset to be read; before the first poll, where the group left off."""
    return max(one.polled_next, committed.get(one.partition, 0))


def _lag(
    one: Input, committed: Mapping[TopicPartition, int], end: int | None, now_ms: int, kept_s: float | None
) -> SourceLag:
    """`end` is the last stable offset (None: not known); `kept_s` how long a record is kept (None: for ever)."""
    known_end = one.polled_next if one.at_end or end is None else end
    records = len(one.records) + max(0, known_end - _position(one, committed))
    oldest_ms = one.records[0].timestamp_ms if one.records else None
    if records and (oldest_ms is None or oldest_ms < 0):
        # Known to be there and not read yet: as old as the last one that was, which it came after.
        oldest_ms = one.last_timestamp_ms
    seconds = 0.0
    if records and oldest_ms is not None and oldest_ms >= 0:
        seconds = max(0.0, (now_ms - meant_ms(oldest_ms)) / 1000)
    known = records > 0 or one.at_end or end is not None
    left_s = None if kept_s is None or not records or oldest_ms is None else kept_s - seconds
    return SourceLag(*one.partition, records, seconds, known, left_s)


@dataclass(frozen=True, slots=True)
class Notice:
    """A source that is not simply read on, since `at` (epoch ms): from which offset, and how many are missed."""

    at: int
    topic: str
    partition: int
    offset: int
    missed: int
    why: str


class Notices:
    """Mutable: `shown` has the newest notices; it is replaced whole, so that any thread may read it."""

    def __init__(self, clock: Clock, started: Callable[[str, int, Start], None]) -> None:
        """`started` counts one start: topic, partition, start."""
        self._clock = clock
        self._started = started
        self._newest: deque[Notice] = deque(maxlen=_NOTICES_MAX)
        self.shown: tuple[Notice, ...] = ()

    def take(self, source: TopicPartition, start: Start) -> None:
        """Does nothing if the start has no corrections."""
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
