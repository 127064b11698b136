"""Records in transactions of bounded size: records that belong together are all written, or none.

Owned by the commands that move state, in one thread. After a kill, the command goes on from what was committed when it
is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, TransactionAborted
from processor.interfaces import Clock, Transaction
from processor.records import NewRecord, record_bytes

_RECORDS_MAX: Final = 2_000
_BYTES_MAX: Final = 8 * 1024 * 1024
"""Limits of one transaction, which must be committed well within the time that a broker gives it."""
_TRIES: Final = 5


class Nobody:
    """The consumer of a transaction that commits no offsets."""

    def group_metadata(self) -> Any:
        raise AssertionError("a transaction without offsets")


class Writing:
    """Mutable: `_waiting` is the content of the next transaction, `written` counts committed records."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._transaction = transaction
        self._clock = clock
        self._waiting: list[NewRecord] = []
        self._bytes = 0
        self.written = 0

    def add(self, together: Sequence[NewRecord]) -> None:
        """Puts these records into one transaction. Raises `BrokerOutage`."""
        self._waiting += together
        self._bytes += sum(record_bytes(one.key, one.value, one.headers) for one in together)
        if len(self._waiting) >= _RECORDS_MAX or self._bytes >= _BYTES_MAX:
            self.commit()

    def commit(self) -> None:
        """Writes everything that waits; twice, if a broker did not say whether it was written: all of it may be written
        again. Raises `BrokerOutage`."""
        if not self._waiting:
            return
        why = ""
        for _ in range(_TRIES):
            try:
                self._transaction.open()
                self._transaction.begin()
                for write in self._waiting:
                    self._transaction.produce(write)
                self._transaction.commit({})
            except (TransactionAborted, BrokerOutage, OutcomeUnknown, Fenced) as trouble:
                why = str(trouble)
            else:
                self.written += len(self._waiting)
                self._waiting = []
                self._bytes = 0
                return
        raise BrokerOutage(f"{len(self._waiting)} records were not written: {why}; give the command again")
