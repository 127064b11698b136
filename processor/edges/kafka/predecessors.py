"""Ends the open transactions of dead workers, so that nobody waits for their timeouts.

    kill -9 ──► open transaction ──► the successor's reads of the committed offsets wait for it (up to 14 s)
                      ▲
                      └── the committed metadata names the last writer; a name that is not a member is dead:
                          to take over its transactional ID for a moment aborts its transaction

Owned by the transform thread. To fence a live worker would cost it a restart of its producer and nothing more (its
group generation protects the data), so a wrong guess is cheap; only names that the group does not list are guessed
dead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from processor.edges.kafka.admin import Member
from processor.interfaces import Committed
from processor.records import TopicPartition

log = structlog.get_logger(__name__)

_WORKER: Final = re.compile(r"([0-9a-f]{16})(?: .*)?\Z")
"""The name of a worker, and more words. Other tools write other metadata."""


class Groups(Protocol):
    """The questions about a consumer group (`groups.py`). Raises `BrokerOutage`."""

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]: ...
    def members(self, group: str) -> Sequence[Member]: ...


class KafkaPredecessors:
    """Mutable: `_ended` is, by partition, the last commit of a dead worker whose transaction was ended, so that a
    rebalance does not end it again. If that worker has lived since, it has committed more."""

    def __init__(self, groups: Groups, group: str, worker: str, end: Callable[[str], None]) -> None:
        self._groups = groups
        self._group = group
        self._worker = worker
        self._end = end
        self._ended: dict[TopicPartition, Committed] = {}

    def end_transactions(self, partitions: Sequence[TopicPartition]) -> None:
        """Ends the transactions of dead workers that were the last to commit these partitions. Raises
        `BrokerOutage`."""
        left = {
            partition: committed
            for partition, committed in self._groups.committed(self._group, partitions).items()
            if _writer(committed) not in (None, self._worker) and self._ended.get(partition) != committed
        }
        if not left:
            return
        alive = {member.client_id.rpartition("-")[2] for member in self._groups.members(self._group)}
        writers = {writer for committed in left.values() if (writer := _writer(committed)) is not None}
        for worker in sorted(writers - alive):
            log.info("ending what a dead worker may have left open", worker=worker)
            self._end(worker)
            self._ended.update({where: committed for where, committed in left.items() if _writer(committed) == worker})


def _writer(committed: Committed) -> str | None:
    found = _WORKER.match(committed.metadata)
    return None if found is None else found[1]
