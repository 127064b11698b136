"""outgoing: an outbox record as the entry that it is, or why it is none.

Pure. Everything in the outbox was written by transform, or by a replay; what was not is a dead letter, not a
crash. The value is checked to be a JSON object (2.5 µs), for an API would have to say so otherwise, once for
each attempt.
"""

from __future__ import annotations

from typing import Final

import msgspec

from processor.records import EntryId, EntryType, OrderId, OutboxEntry, Record

ENTRY_ID_CHARS_MAX: Final = 500
"""It becomes a header of each request."""
TIME_DIGITS_MAX: Final = 19


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: what it holds is skipped, but must be JSON."""


_BODY: Final = msgspec.json.Decoder(_Object)
_TYPES: Final[dict[bytes | None, EntryType]] = {entry_type.value.encode(): entry_type for entry_type in EntryType}


def read_entry(record: Record) -> tuple[OutboxEntry, str | None, bool] | str:
    """The entry, the replay that it belongs to, and whether one brought it at all (through transform it has lost the
    ID); else what is wrong with the record."""
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
            OrderId(record.key.decode()),
            EntryId(text),
            entry_type,
            body,
            occurred_at_ms,
            record.headers,
        )
        replay = None if replay_id is None else replay_id.decode()
    except msgspec.DecodeError:
        return "the value is no JSON object"
    except UnicodeDecodeError:
        return "the key or a header is not UTF-8, or entry-id not ASCII"
    except ValueError:
        return "header occurred-at is missing or no time"
    if not text.isprintable():
        return "header entry-id is not printable"
    return entry, replay, replay is not None or "replay-of" in headers
