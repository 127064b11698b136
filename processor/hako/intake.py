"""intake: a record of `catalog.items`, `catalog.warehouses` or `inventory.levels` as a change.

Owned by the role's Kafka thread. Raises `RegistryOutage` if the registry does not have the writer's schema now; the
record is read again. A replayed record keeps the rank of its original, so a dead letter from last week never replaces a
value that was accepted since. Sizes are those of the bytes that will be sent: they fill an array as well as memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from processor.api.verdicts import Delivered
from processor.errors import BadRecord
from processor.hako.changes import Change, Sent, Table, check_times, key_of, read_change
from processor.hako.sent import sent_write
from processor.letters.letter import letter_head
from processor.letters.resolutions import NEWER_ACCEPTED, How, Resolution
from processor.moments import meant_ms
from processor.records import HeaderName, NewRecord, Record
from processor.send.pending import Ended, Pending

Decode = Callable[[Record], dict[str, Any]]
"""The fields of a value. Raises `BadRecord` or `RegistryOutage`."""


class StockIntake:
    """`tables` has, by source topic (whole name), the kind of its objects and the decoder of its values."""

    def __init__(self, tables: Mapping[str, tuple[Table, Decode]]) -> None:
        self._tables = tables

    def pending(self, record: Record, epoch: int, taken_ms: int) -> Pending[Change] | BadRecord:
        table, decode = self._tables[record.topic]
        try:
            value = None if record.value is None else decode(record)
            if value is not None:
                check_times(table, value, taken_ms)
            at_ms = max(meant_ms(record.timestamp_ms), 0)
            change = read_change(table, record.key, value, rank=_rank(record), at_ms=at_ms)
        except BadRecord as bad:
            return bad
        size = len(change.key) + len(change.identity) + len(change.fields or b"") + len(b'{,"updates":{}},')
        place, stamp_ms = str(record.position), max(record.timestamp_ms, 0)
        replay_id = record.header_text(HeaderName.REPLAY_ID)
        return Pending(change.key, place, change, record, epoch, size, stamp_ms, taken_ms, replay_id)

    def foreign(self, entry: Change) -> str | None:
        """Returns None: a change never belongs to another destination."""
        return None

    def receipt(self, ended: Ended[Change], delivered: Delivered, topic: str, place: str) -> NewRecord:
        return sent_write(ended, delivered, topic, place)

    def mark(self, record: Record, entry: Change | None) -> tuple[str, Sent] | None:
        if entry is not None:
            return entry.key, Sent(entry.rank, entry.occurred_at_ms)
        key = key_of(self._tables[record.topic][0], record.key)
        return None if key is None else (key, Sent(_rank(record), None))

    def replaces(self, entry: Change, mark: Sent) -> bool:
        return entry.rank == mark.rank or entry.is_newer(mark.rank, mark.occurred_at_ms)

    def superseded(self, order_id: str, at_ms: int) -> Resolution:
        return Resolution(how=How.SUPERSEDED, at_ms=at_ms, by="hako", reason=NEWER_ACCEPTED, order_id=order_id)


def _rank(record: Record) -> int:
    """Returns the offset that orders a change: the record's own, or that of the record that it repeats."""
    head = letter_head(record) if record.headers else None
    if head is None or (head.origin.topic, head.origin.partition) != (record.topic, record.partition):
        return record.offset
    return head.origin.offset
