"""Ends what dead workers left open, so that nobody waits for their transactions to time out.

    kill -9 ──► open transaction ──► the successor's reads of the committed offsets wait for it (up to 14 s)
                      ▲
                      └── the committed metadata names who wrote last; a name that is no member any more is dead:
                          taking its transactional ID over for a moment aborts what it left

Owned by the transform thread. Fencing a worker that is alive would cost it a restart of its producer and nothing more
(its group generation protects the data), so a wrong guess is cheap; it is made only for names that the group does not
list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from processor.edges.kafka_admin import KafkaAdmin
from processor.records import TopicPartition

log = structlog.get_logger(__name__)

_WORKER: Final = re.compile(r"[0-9a-f]{16}\Z")
"""What our own workers are called; other tools write other things into the metadata."""


class Predecessors:
    """Mutable: `_ended` names that were dealt with, so that a rebalance does not do it again."""

    def __init__(self, admin: KafkaAdmin, group: str, worker: str, end: Callable[[str], None]) -> None:
        self._admin = admin
        self._group = group
        self._worker = worker
        self._end = end
        self._ended: set[str] = set()

    def end_transactions(self, partitions: Sequence[TopicPartition]) -> None:
        """Of the dead among those who last committed these partitions. Raises `BrokerOutage`."""
        named = {
            committed.metadata
            for committed in self._admin.committed(self._group, partitions).values()
            if _WORKER.match(committed.metadata)
        }
        unknown = named - self._ended - {self._worker}
        if not unknown:
            return
        alive = {member.client_id.rpartition("-")[2] for member in self._admin.members(self._group)}
        self._ended -= alive
        for worker in sorted(unknown - alive):
            log.info("ending what a dead worker may have left open", worker=worker)
            self._end(worker)
            self._ended.add(worker)
