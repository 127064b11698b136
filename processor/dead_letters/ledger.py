"""Ledger: writes copies, resolutions and releases so that all of them are there, or none.

    begin ─► copy, resolution, copy, resolution … ─► commit ──┬─► written
      ▲                                                       ├─► TransactionAborted: nothing of it is, again
      └───────────────────────────────────────────────────────┴─► OutcomeUnknown: open, look whether it is, else again

Owned by one command, one thread. Not chosen: an idempotent producer and a resolution after the acknowledgement (a kill
between the two sends a letter twice).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from processor.dead_letters.exclusive import Waits
from processor.dead_letters.reading import Offsets, read
from processor.errors import BrokerOutage, Fatal, Fenced, OutcomeUnknown, TransactionAborted
from processor.interfaces import Clock, Reader, Transaction
from processor.records import Headers, TopicPartition, record_bytes

TRIES: Final = 5
"""A transaction that is aborted as often is not aborted by a passing trouble: a right is missing, a topic is gone."""
RETRY_S: Final = 1.0


class Write(NamedTuple):
    """A record to be written. `timestamp_ms` 0 means now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Ledger:
    """Holds nothing but its clients: what is written stands in Kafka."""

    def __init__(
        self,
        transaction: Transaction,
        reader: Reader,
        offsets: Offsets,
        clock: Clock,
        resolutions: str,
        wait: Waits,
    ) -> None:
        self._transaction = transaction
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._resolutions = resolutions
        self._wait = wait

    def open(self) -> None:
        """Takes the transactional ID over: what a killed command left open is aborted, and what it committed is there
        to be read. Raises `Fatal`."""
        for _ in range(TRIES):
            try:
                self._transaction.open()
                return
            except BrokerOutage as outage:
                self._wait(RETRY_S, f"for the transaction coordinator: {outage}")
        raise Fatal("the transaction coordinator does not answer")

    def fits(self, write: Write) -> bool:
        """Whether a record of this size can be written at all."""
        return record_bytes(write.key, write.value, write.headers) <= self._transaction.record_bytes_max

    def write(self, writes: Sequence[Write]) -> None:
        """Returns when all of them are readable. Raises `Fatal` where that cannot be had; then none is."""
        assert writes, "a transaction of nothing"
        resolved = [write for write in writes if write.topic == self._resolutions]
        where = TopicPartition(self._resolutions, resolved[0].partition) if resolved else None
        before = 0
        why = ""
        for _ in range(TRIES):
            try:
                if where is not None:
                    before = self._offsets.ends([where])[where]
                self._transaction.begin()
                for write in writes:
                    self._transaction.produce(*write)
                self._transaction.commit({})
                return
            except OutcomeUnknown as unknown:
                self.open()
                if where is not None and self._stands(where, before, resolved[0].key):
                    return
                why = str(unknown)
            except Fenced as fenced:
                raise Fatal(f"another process has taken over: {fenced}") from fenced
            except (TransactionAborted, BrokerOutage) as trouble:
                why = str(trouble)
            self._wait(RETRY_S, f"after a transaction that came to nothing: {why}")
        topics = ", ".join(sorted({write.topic for write in writes}))
        raise Fatal(f"{topics} cannot be written, so nothing of this step was: {why}")

    def _stands(self, where: TopicPartition, before: int, key: bytes | None) -> bool:
        end = self._offsets.ends([where])[where]
        for records in read(self._reader, self._clock, where, before, end, lambda _count: None):
            if any(record.key == key for record in records):
                return True
        return False
