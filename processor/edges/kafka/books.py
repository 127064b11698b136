"""KafkaBooks: finds the newest book (`transform/book.py`) of changelog partitions, from their ends backwards.

Owned by the start of transform, `check`, and the commands that move state. A book is the last record of its partition's
last transaction, so a few records are read if there is one. In an installation that is older than books, only the last
records are searched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from processor.edges.kafka.client import KafkaSettings, Log
from processor.edges.kafka.scan import KafkaScan, Window
from processor.records import TopicPartition
from processor.transform.book import BOOK_KEY, Book, decode_book

_STEP_RECORDS: Final = 100
"""A transaction's last records and its marker, and some aborted ones."""
_BACK_RECORDS_MAX: Final = 20_000
"""Four of the largest transactions: an older book is not the newest."""


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
