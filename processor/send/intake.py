"""intake: what a role makes of the records that it reads, and what an accepted entry leaves; the outbox's is here.

The Kafka thread of every role that sends is the same (`role.py`); what its topics hold is not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Protocol

from processor.dead_letters.resolutions import NEWER_DELIVERED, How, Resolution
from processor.errors import BadRecord
from processor.records import EntryType, OutboxEntry, Reason, Record, Stage
from processor.send import written
from processor.send.destination import EntryT
from processor.send.outgoing import read_entry
from processor.send.pending import Ended, Pending
from processor.send.written import Write
from processor.verdicts import Delivered

ENTRY_OVERHEAD_BYTES: Final = 1_000
"""What an entry takes in memory beside its value: headers, lane, record."""


class Intake(Protocol[EntryT]):
    """One kind of entries."""

    def pending(self, record: Record, epoch: int, taken_ms: int) -> Pending[EntryT] | BadRecord:
        """The entry of a record, or why it is none. Raises `RegistryOutage`: later."""

    def foreign(self, entry: EntryT) -> str | None:
        """Why this destination cannot be sent this entry, ever: a setting was changed. None where it can."""

    def receipt(self, ended: Ended[EntryT], delivered: Delivered, topic: str) -> Write:
        """What an accepted entry leaves."""

    def mark(self, record: Record, entry: EntryT | None) -> tuple[str, Any] | None:
        """Of a refused record: its lane, and how new it is there. `entry` None: it is unreadable. None where no other
        entry makes it needless, or which one would be a guess."""

    def replaces(self, entry: EntryT, mark: Any) -> bool:
        """Whether it is as new as what was marked, or newer."""

    def superseded(self, order_id: str, at_ms: int) -> Resolution:
        """What is said of a letter when such an entry was accepted."""


class OutboxIntake:
    """The outbox's. `entry_types` are what the destination takes: others mean that `HAKUNA_API` was changed over a
    full outbox."""

    def __init__(self, entry_types: Collection[EntryType]) -> None:
        self._entry_types = entry_types
        # By identity: an enum's member is hashed in Python, 0.3 µs, and there is one look an entry.
        self._ours = frozenset(map(id, entry_types))

    def pending(self, record: Record, epoch: int, taken_ms: int) -> Pending[OutboxEntry] | BadRecord:
        read = read_entry(record)
        if isinstance(read, str):
            return BadRecord(Stage.SEND, Reason.UNDECODABLE, read)
        entry, replay_id, replayed = read
        return Pending(
            entry.order_id,
            entry.entry_id,
            entry,
            record,
            epoch,
            ENTRY_OVERHEAD_BYTES + len(entry.body),
            entry.occurred_at_ms,
            taken_ms,
            replay_id,
            replayed,
        )

    def foreign(self, entry: OutboxEntry) -> str | None:
        if id(entry.entry_type) in self._ours:
            return None
        wanted = ", ".join(sorted(self._entry_types))
        return (
            f"the outbox holds an entry of type {entry.entry_type.value}, and this worker sends "
            f"{wanted}: HAKUNA_API was changed before the outbox was empty; drain it with workers of the old kind "
            "(the old HAKUNA_API) first"
        )

    def receipt(self, ended: Ended[OutboxEntry], delivered: Delivered, topic: str) -> Write:
        return written.receipt(ended, delivered, topic)

    def mark(self, record: Record, entry: OutboxEntry | None) -> tuple[str, None] | None:
        return None if entry is None else (entry.order_id, None)

    def replaces(self, entry: OutboxEntry, mark: Any) -> bool:
        """A lane keeps the order of its entries."""
        return True

    def superseded(self, order_id: str, at_ms: int) -> Resolution:
        return Resolution(how=How.SUPERSEDED, at_ms=at_ms, by="send", reason=NEWER_DELIVERED, order_id=order_id)
