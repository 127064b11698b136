"""intake: turns the records of a role's topics into entries. The outbox's intake is here, Hako's in `hako/intake.py`.

The Kafka thread of every sending role is the same (`role.py`); the contents of its topics differ.

Pure. Transform, or a replay, wrote every record of the outbox; any other record becomes a dead letter. The value is
checked to be a JSON object (2.5 µs), because otherwise the API would have to say so, once for each attempt.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Protocol

import msgspec

from processor.api.verdicts import Delivered
from processor.errors import BadRecord
from processor.letters.resolutions import NEWER_DELIVERED, How, Resolution
from processor.records import EntryId, EntryType, NewRecord, OrderId, OutboxEntry, Reason, Record, Stage
from processor.send.destination import EntryT
from processor.send.kafka_thread import written
from processor.send.pending import Ended, Pending

ENTRY_ID_CHARS_MAX: Final = 500
"""The entry ID becomes a header of each request."""
TIME_DIGITS_MAX: Final = 19


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: its contents are skipped, but must be JSON."""


_BODY: Final = msgspec.json.Decoder(_Object)
_TYPES: Final[dict[bytes | None, EntryType]] = {entry_type.value.encode(): entry_type for entry_type in EntryType}


def read_entry(record: Record) -> tuple[OutboxEntry, str | None, bool] | str:
    """Returns the entry, the ID of its replay, and whether a replay brought it at all (through transform it has lost
    the ID). Returns a text if the record is not an entry."""
    headers = dict(record.headers)
    entry_id = headers.get("entry-id")
    entry_type = _TYPES.get(headers.get("entry-type"))
    replay_id = headers.get("replay-id")
    body = record.value
    if record.key is None:
        return "no key: the order ID is missing"
    if body is None:
        return "no value: there is nothing to send"
    if not entry_id or len(entry_id) > ENTRY_ID_CHARS_MAX:
        return "header entry-id is missing or too long"
    if entry_type is None:
        return "header entry-type is missing or unknown"
    occurred_at = headers.get("occurred-at")
    if occurred_at is None or len(occurred_at) > TIME_DIGITS_MAX:
        return "header occurred-at is missing or no time"
    try:
        _BODY.decode(body)
        occurred_at_ms = int(occurred_at)
        text = entry_id.decode("ascii")
        entry = OutboxEntry(
            OrderId(record.key.decode()), EntryId(text), entry_type, body, occurred_at_ms, record.headers
        )
        replay = None if replay_id is None else replay_id.decode()
    except msgspec.DecodeError:
        return "the value is not a JSON object"
    except UnicodeDecodeError:
        return "the key or a header is not UTF-8, or entry-id not ASCII"
    except ValueError:
        return "header occurred-at is missing or no time"
    if not text.isprintable():
        return "header entry-id is not printable"
    return entry, replay, replay is not None or "replay-of" in headers


ENTRY_OVERHEAD_BYTES: Final = 1_000
"""Bytes in memory of an entry beside its value: headers, lane, record."""


class Intake(Protocol[EntryT]):
    """One kind of entries."""

    def pending(self, record: Record, epoch: int, taken_ms: int) -> Pending[EntryT] | BadRecord:
        """Returns the entry of a record, or why it is not one. Raises `RegistryOutage`: try later."""

    def foreign(self, entry: EntryT) -> str | None:
        """Returns why this destination can never take this entry, because a setting was changed. Returns None if it
        can."""

    def receipt(self, ended: Ended[EntryT], delivered: Delivered, topic: str, place: str) -> NewRecord:
        """Returns the record of an accepted entry; `place` names the log that the entry came from."""

    def mark(self, record: Record, entry: EntryT | None) -> tuple[str, Any] | None:
        """Returns the lane of a refused record and its rank in that lane. `entry` is None if the record could not be
        decoded. Returns None if no later entry can supersede it, or if its lane is unknown."""

    def replaces(self, entry: EntryT, mark: Any) -> bool:
        """Returns true if the entry is at least as new as the mark."""

    def superseded(self, order_id: str, at_ms: int) -> Resolution:
        """Returns the resolution of a letter that an accepted entry has superseded."""


class OutboxIntake:
    """The intake of the outbox. `entry_types` are the types of the destination: another type means that `HAKUNA_API`
    was changed while the outbox was not empty."""

    def __init__(self, entry_types: Collection[EntryType]) -> None:
        self._entry_types = entry_types
        # By identity: an enum's member is hashed in Python, 0.3 µs, and there is one lookup an entry.
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

    def receipt(self, ended: Ended[OutboxEntry], delivered: Delivered, topic: str, place: str) -> NewRecord:
        return written.receipt(ended, delivered, topic)

    def mark(self, record: Record, entry: OutboxEntry | None) -> tuple[str, None] | None:
        return None if entry is None else (entry.order_id, None)

    def replaces(self, entry: OutboxEntry, mark: Any) -> bool:
        """A lane keeps the order of its entries."""
        return True

    def superseded(self, order_id: str, at_ms: int) -> Resolution:
        return Resolution(how=How.SUPERSEDED, at_ms=at_ms, by="send", reason=NEWER_DELIVERED, order_id=order_id)
