"""Short looks into topics, by a scan (`scan.py`).

    KafkaBooks     the newest book (`transform/book.py`) of changelog partitions, from their ends backwards
    KafkaOthers    in partitions of other workers, the first records that the group has not taken
    survey         the newest records of each source topic, whose keys and timestamps show who wrote them

The start of transform, `check` and the commands that move state ask for books. A book is the last record of its
partition's last transaction, so a few records are read if there is one; else only the last records are searched. The
rekey thread asks for the records of others after an erasure, and waits some 0.2 s. `check` makes a survey, and so does
a thread beside a running transform: at most RECORDS_MAX records a topic, SECONDS_MAX in all, no values kept.

All read committed records, write nothing and join no group.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import KafkaSettings, Log
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.scan import KafkaScan, Window
from processor.moments import meant_ms
from processor.records import Record, TopicPartition
from processor.sources.survey import Surveyed, surveyed
from processor.transform.book import BOOK_KEY, Book, decode_book

_STEP_RECORDS: Final = 100
"""A transaction's last records and its marker, and some aborted ones."""
_BACK_RECORDS_MAX: Final = 20_000
"""Four of the largest transactions: an older book is not the newest."""
_OFFSETS_READ: Final = 100
"""Offsets to read of each partition: there are fewer transaction markers in a row."""
_READ_S_MAX: Final = 2.0
RECORDS_MAX: Final = 1_000
"""Records of a topic: enough to see a producer of one in a hundred, and some 0.2 s for five topics."""
SECONDS_MAX: Final = 1.5
_QUEUE_KBYTES: Final = 8 * 1024


class KafkaBooks:
    """See the module. Holds no connection: each question has a client of its own."""

    def __init__(
        self, settings: KafkaSettings, changelog: str, *, group: str, client_id: str, log: Log | None = None
    ) -> None:
        self._settings = settings
        self._changelog = changelog
        self._group = group
        self._client_id = client_id
        self._log: Log = log or structlog.get_logger()

    def newest(self, ends: Mapping[int, int], beginnings: Mapping[int, int]) -> Mapping[int, Book]:
        """Returns the books by partition; a partition without one is left out. Raises `BrokerOutage`, `Fatal`,
        `StateCorrupt`."""
        spans = [
            Window(self._changelog, number, max(beginnings[number], end - _BACK_RECORDS_MAX), end)
            for number, end in ends.items()
        ]
        if not any(span.start < span.end for span in spans):
            return {}
        scan = KafkaScan(self._settings, group=self._group, client_id=self._client_id, log=self._log)
        try:
            found = scan.find_last(spans, BOOK_KEY, step=_STEP_RECORDS)
        finally:
            scan.close()
        return {where.partition: decode_book(record.value or b"") for where, record in found.items()}


def by_number(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    """Returns the offsets of one topic by partition."""
    return {where.partition: offset for where, offset in offsets.items()}


def numbered(topic: str, partitions: int) -> Sequence[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(partitions)]


class KafkaOthers:
    """Holds no connection: each question has clients of its own (`groups.py` has the reason)."""

    def __init__(self, settings: KafkaSettings, group: str, topics: Sequence[str], *, client_id: str) -> None:
        self._settings = settings
        self._group = group
        self._topics = topics
        self._client_id = client_id

    def left(self, mine: Collection[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        """See `processor/rekey/erasures.py`. Raises `BrokerOutage`, `Fatal`."""
        admin = KafkaAdmin(self._settings, client_id=self._client_id)
        described = admin.describe(self._topics)
        others = [
            where
            for topic, state in described.items()
            if state is not None
            for where in (TopicPartition(topic, number) for number in range(state.partitions))
            if where not in mine
        ]
        if not others:
            return None
        committed = KafkaGroups(self._settings, client_id=self._client_id).committed(self._group, others)
        beginnings, ends = admin.beginnings(others), admin.stable_ends(others)
        starts = {where: max(beginnings[where], committed[where].next_offset or 0) for where in others}
        windows = [
            Window(*where, start, min(ends[where], start + _OFFSETS_READ))
            for where, start in starts.items()
            if start < ends[where]
        ]
        return self._first(windows) if windows else {}

    def _first(self, windows: Sequence[Window]) -> Mapping[TopicPartition, int]:
        scan = KafkaScan(self._settings, group=self._group, client_id=self._client_id, log=structlog.get_logger())
        try:
            found: dict[TopicPartition, int] = {}
            for record in scan.heads(windows, _READ_S_MAX):
                found.setdefault(TopicPartition(record.topic, record.partition), meant_ms(record.timestamp_ms))
        finally:
            scan.close()
        return found


def survey(
    kafka: KafkaSettings, topics: Mapping[str, int], *, group: str, client_id: str, log: Log
) -> dict[str, Surveyed]:
    """`topics` are whole names with their partitions; `group` is needed by librdkafka only. Raises `BrokerOutage`, and
    `Fatal` if a right is missing."""
    admin = KafkaAdmin(kafka, client_id=client_id, log=log)
    settings = dict(kafka) | {"queued.max.messages.kbytes": str(_QUEUE_KBYTES)}
    scan = KafkaScan(settings, group=group, client_id=client_id, log=log)
    try:
        partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        beginnings, ends = admin.beginnings(partitions), admin.ends(partitions)
        windows = [
            Window(*one, max(beginnings[one], ends[one] - max(1, RECORDS_MAX // topics[one.topic])), ends[one])
            for one in partitions
        ]
        read: dict[str, list[Record]] = {topic: [] for topic in topics}
        for record in scan.heads(windows, SECONDS_MAX):
            read[record.topic].append(record)
    finally:
        scan.close()
    return {topic: surveyed(records, topics[topic]) for topic, records in read.items()}
