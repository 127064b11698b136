"""plan: the settings of transform's loop, its edges, and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from processor.interfaces import Clock, Consumer, Predecessors, Reader, SourceTopics, Stores, Transaction
from processor.sources.standing import SourceMeter
from processor.transform.batch import Plan
from processor.transform.book import Book, Here


class StateSize(NamedTuple):
    """One partition's state; `parked_oldest_s` is the age of the oldest parked event, 0 if there is none."""

    partition: int
    orders: int
    parked_events: int
    restore_remaining: int
    parked_oldest_s: float


class TransformMeter(SourceMeter, Protocol):
    """Called by the transform thread."""

    def state(self, sizes: list[StateSize]) -> None:
        """Takes all partitions of this worker; others are no longer its own."""

    def misplaced(self, records: Mapping[str, int]) -> None:
        """Takes the sampled records in another partition than their order's, by topic; 0 makes a topic known."""

    def throttled(self, seconds: float) -> None:
        """The broker has made our producer wait for so long, by a quota."""


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """The settings of the loop. `topics` are whole names, in the order in which equal timestamps are taken."""

    topics: tuple[str, ...]
    partitions: int
    changelog: str
    here: Here
    changelog_tombstones_ms: int
    worker: str
    batch_records_max: int
    merge_wait_s: float
    retention_ms: int
    dead_letter_share_max: float
    decide: Plan


@dataclass(frozen=True, slots=True)
class TransformEdges:
    """The outside, as the loop uses it; all of it belongs to the role's thread."""

    consumer: Consumer
    reader: Reader
    transaction: Transaction
    predecessors: Predecessors
    topology: SourceTopics
    stores: Stores
    clock: Clock
    meter: TransformMeter
    newest_book: Callable[[int], Book | None]
    """Of a changelog partition, read from its end; raises `BrokerOutage`."""
