"""The settings of transform's loop, its edges, and the reasons why it may stand still."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from processor.interfaces import Clock, Consumer, Predecessors, Reader, SourceTopics, Stores, Transaction
from processor.transform.batch import Plan
from processor.transform.book import Book, Here
from processor.transform.meter import TransformMeter


class Standstill(StrEnum):
    """Why nothing is taken at the moment, where there is a reason (`/readyz`)."""

    ASSIGNMENT = "no assignment yet"
    GATHERING = "partitions are here without all of their topics"
    RESTORE = "the changelog does not answer"
    TRANSACTION = "the transactional producer is not open"
    REGISTRY = "the schema registry does not answer"
    ABORTED = "the last transaction was aborted"
    FLOOD = "stopped by the flood guard"


USUAL: Final = (Standstill.ASSIGNMENT,)
"""The standstills of every start."""


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
