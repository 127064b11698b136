"""outbox: what an applied event becomes, as the record that send will read.

Pure. The record's value is the JSON that will be sent, byte for byte; its key the order ID; its partition the source's
number. Its headers come first in ours, then the source record's own, so that a trace or a shop's own marks go along:

    entry-id     the idempotency key: API and source position, so that any attempt, restart or replay of the same
                 bytes carries the same one
    entry-type   the Events API's event type, or `order` for the feed
    source       topic/partition/offset of the source record
    occurred-at  the source record's timestamp, epoch ms
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, assert_never

from processor.hakuna import Api, events, feed
from processor.letters import letter
from processor.records import EntryType, HeaderName, Headers, Record
from processor.transform.rules import Applied

# Plain strings and bytes made once: an enum's `.value` is a descriptor call, and there were six of them an event.
_ENTRY_ID: Final = HeaderName.ENTRY_ID.value
_ENTRY_TYPE: Final = HeaderName.ENTRY_TYPE.value
_SOURCE: Final = HeaderName.SOURCE.value
_OCCURRED_AT: Final = HeaderName.OCCURRED_AT.value
_OURS: Final = frozenset({_ENTRY_ID, _ENTRY_TYPE, _SOURCE, _OCCURRED_AT})
_STAYS_BEHIND: Final = letter.OURS | {HeaderName.REPLAY_ID.value, HeaderName.REPLAY_COUNT.value} | _OURS
"""What of a source record's headers an entry must not have: the dead letter that the record was is over with; and an
entry that is none of a replay's must not pass its order's hold as one. `replay-of` goes along, and tells of what became
of the letter."""
_ORDER: Final = EntryType.ORDER
_TYPES: Final = {entry_type: entry_type.value.encode() for entry_type in EntryType}
_APIS: Final = {api: api.value.encode() for api in Api}


class Outgoing(NamedTuple):
    """A record to be produced within the transaction. `timestamp_ms` 0 means now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


def entries(api: Api, topic: str) -> Callable[[Applied], Outgoing]:
    """What makes the outbox record of an applied event, for this API and this outbox."""
    match api:
        case Api.EVENTS:
            body = _of_events
        case Api.FEED:
            body = _of_feed
        case _:
            assert_never(api)

    def outgoing(applied: Applied) -> Outgoing:
        origin = applied.taken.origin
        entry_type, value = body(applied)
        # The source's key is the order ID, byte for byte, or there would be no event.
        return Outgoing(topic, origin.partition, origin.key, value, headers(entry_type, api, origin), 0)

    return outgoing


def _of_events(applied: Applied) -> tuple[EntryType, bytes]:
    return events.entry(applied.change, applied.order_after)


def _of_feed(applied: Applied) -> tuple[EntryType, bytes]:
    return _ORDER, feed.snapshot(applied.order_after)


def headers(entry_type: EntryType, api: Api, origin: Record) -> Headers:
    source = f"{origin.topic}/{origin.partition}/{origin.offset}".encode()
    ours: Headers = [
        (_ENTRY_ID, b"%b/%b" % (_APIS[api], source)),
        (_ENTRY_TYPE, _TYPES[entry_type]),
        (_SOURCE, source),
        (_OCCURRED_AT, b"%d" % origin.timestamp_ms),
    ]
    if origin.headers:
        # A source header with a name of ours would make two of it, and readers differ in which one they take.
        ours.extend(header for header in origin.headers if header[0] not in _STAYS_BEHIND)
    return ours
