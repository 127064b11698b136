"""Finds, in partitions of other workers, the first records that the group has not taken.

Owned by the rekey thread, which asks after an erasure if there are other workers. Its loop waits some 0.2 s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import KafkaSettings
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.scan import KafkaScan, Window
from processor.moments import meant_ms
from processor.records import TopicPartition

_OFFSETS_READ: Final = 100
"""Offsets to read of each partition: there are fewer transaction markers in a row."""
_READ_S_MAX: Final = 2.0

log = structlog.get_logger(__name__)


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
        scan = KafkaScan(self._settings, group=self._group, client_id=self._client_id, log=log)
        try:
            found: dict[TopicPartition, int] = {}
            for record in scan.heads(windows, _READ_S_MAX):
                found.setdefault(TopicPartition(record.topic, record.partition), meant_ms(record.timestamp_ms))
        finally:
            scan.close()
        return found
