"""Records in transactions of bounded size: what belongs together is there, or nothing of it.

Owned by the commands that move state, one thread. A kill leaves what was committed, and the command goes on from there
when it is given again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, TransactionAborted
from processor.interfaces import Clock, Transaction
from processor.records import NewRecord, record_bytes

_RECORDS_MAX: Final = 2_000
_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of one transaction: what is committed well within the time that a broker gives one."""
_TRIES: Final = 5


class Nobody:
    """Who commits no offsets."""

    def group_metadata(self) -> Any:
        raise AssertionError("a transaction without offsets")


class Writing:
    """Mutable: `_waiting` what the next transaction holds, `written` how many records were committed."""

    def __init__(self, transaction: Transaction, clock: Clock) -> None:
        self._transaction = transaction
        self._clock = clock
        self._waiting: list[NewRecord] = []
        self._bytes = 0
        self.written = 0

    def add(self, together: Sequence[NewRecord]) -> None:
        """These go into one transaction. Raises `BrokerOutage`."""
        self._waiting += together
        self._bytes += sum(record_bytes(one.key, one.value, one.headers) for one in together)
        if len(self._waiting) >= _RECORDS_MAX or self._bytes >= _BYTES_MAX:
            self.commit()

    def commit(self) -> None:
        """Whatever waits is there when this returns; twice, where a broker did not say whether it was: all of it may
        be written again. Raises `BrokerOutage`."""
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
