"""How far a role that merges its sources is, per source partition; and how its transactions end. Pure.

Shared by transform and rekey: both read through `merge.py`, and both show the same of themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from processor.moments import meant_ms
from processor.records import IgnoredReason, Outcome, Stage, TopicPartition
from processor.sources.merge import Input


class TransactionOutcome(StrEnum):
    """How a transaction ended (`processor_transactions_total`)."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    FENCED = "fenced"
    UNKNOWN = "unknown"


class Written(NamedTuple):
    """The effects of one committed transaction, by source topic: each record once, by how it ended."""

    records: Mapping[tuple[str, Outcome], int]
    ignored: Mapping[tuple[str, IgnoredReason], int]
    dead_letters: Mapping[tuple[str, Stage, str], int]
    replayed: Mapping[tuple[str, Outcome], int]
    """Of a replay's those that are dead letters again; the others are the send role's to count."""
    astray: Mapping[str, int] = {}
    """Erasures that found no order, by topic, where the order lives in another partition."""
    left_out: Mapping[str, int] = {}
    """Lines and items of no unit, by topic, of events that were taken without them."""


class SourceLag(NamedTuple):
    """One source partition: its unfinished records, and the age of the oldest (0 without any). `known` is false until a
    broker has said how many there are."""

    topic: str
    partition: int
    records: int
    seconds: float
    known: bool = True
    retention_left_s: float | None = None
    """Seconds for which retention keeps the oldest unfinished record at least; None if there is none, or no
    retention."""


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


def position(one: Input, committed: Mapping[TopicPartition, int]) -> int:
    """The next offset to be read: before the first word of a poll, where the group left off."""
    return max(one.polled_next, committed.get(one.partition, 0))


def source_status(
    one: Input, lag: SourceLag, committed: Mapping[TopicPartition, int], blocked: tuple[str | None, int | None]
) -> SourceStatus:
    """`blocked` is what the source waits for, and since when."""
    return SourceStatus(
        lag.topic, lag.partition, position(one, committed), committed.get(one.partition), lag.records, *blocked
    )


def source_lag(
    one: Input,
    committed: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    now_ms: int,
    kept_s: float | None = None,
) -> SourceLag:
    """`ends` are the last stable offsets, as far as they are known; `kept_s` is for how long the topic keeps a record
    (None: not deleted by age)."""
    end = one.polled_next if one.at_end else ends.get(one.partition, one.polled_next)
    records = len(one.records) + max(0, end - position(one, committed))
    oldest_ms = one.records[0].timestamp_ms if one.records else None
    if records and (oldest_ms is None or oldest_ms < 0):
        # Known to be there and not read yet: as old as the last one that was, which it came after.
        oldest_ms = one.last_timestamp_ms
    seconds = 0.0
    if records and oldest_ms is not None and oldest_ms >= 0:
        seconds = max(0.0, (now_ms - meant_ms(oldest_ms)) / 1000)
    known = records > 0 or one.at_end or one.partition in ends
    left_s = None if kept_s is None or not records or oldest_ms is None else kept_s - seconds
    return SourceLag(*one.partition, records, seconds, known, left_s)
