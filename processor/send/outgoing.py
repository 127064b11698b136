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


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: what it holds is skipped, but must be JSON."""


_BODY: Final = msgspec.json.Decoder(_Object)
_TYPES: Final = {entry_type.value.encode(): entry_type for entry_type in EntryType}


def read_entry(record: Record) -> tuple[OutboxEntry, str | None] | str:
    """The entry and the replay that it belongs to; else what is wrong with the record."""
    entry_id = entry_type = source = occurred_at = replay_id = None
    for name, value in record.headers:
        if name == "entry-id":
            entry_id = value
        elif name == "entry-type":
            entry_type = value
        elif name == "source":
            source = value
        elif name == "occurred-at":
            occurred_at = value
        elif name == "replay-id":
            replay_id = value
    if record.key is None:
        return "no key: the order ID is missing"
    if not entry_id or len(entry_id) > ENTRY_ID_CHARS_MAX or not entry_id.isascii():
        return "header entry-id is missing, too long or not ASCII"
    kind = _TYPES.get(entry_type) if entry_type is not None else None
    if kind is None:
        return "header entry-type is missing or unknown"
    if record.value is None:
        return "no value: there is nothing to send"
    try:
        _BODY.decode(record.value)
        order_id = OrderId(record.key.decode())
        entry_text = entry_id.decode()
        source_text = "" if source is None else source.decode()
        replay_text = None if replay_id is None else replay_id.decode()
    except msgspec.DecodeError:
        return "the value is no JSON object"
    except UnicodeDecodeError:
        return "the key or a header is not UTF-8"
    if not entry_text.isprintable():
        return "header entry-id is not printable"
    if occurred_at is not None and occurred_at.removeprefix(b"-").isdigit() and len(occurred_at) < 19:
        occurred_at_ms = int(occurred_at)
    else:
        return "header occurred-at is missing or no number"
    return (
        OutboxEntry(
            order_id,
            EntryId(entry_text),
            kind,
            record.value,
            record.position,
            source_text,
            occurred_at_ms,
            record.headers,
        ),
        replay_text,
    )
