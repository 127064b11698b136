"""The settings of transform's loop, and its edges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from processor.interfaces import Clock, Consumer, Predecessors, Reader, SourceTopics, Stores, Transaction
from processor.transform.batch import Plan
from processor.transform.book import Book, Here
from processor.transform.meter import TransformMeter


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """The settings of the loop. Topic names are whole, in the order in which equal timestamps are taken; each topic has
    `partitions`."""

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
