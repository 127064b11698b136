"""outbox: the record that send will read for an applied event.

Pure. The record's value is the JSON that will be sent, byte for byte; its key is the order ID; its partition is the
source's. Its headers are ours, then the source record's own, so that a trace or a shop's own marks go along:

    entry-id     the idempotency key (`entry_ids.py`): any attempt, restart or replay of the same bytes carries the same
    entry-type   the Events API's event type, or `order` for the feed
    source       topic/partition/offset of the source record
    occurred-at  the source record's timestamp, epoch ms
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from processor.hakuna import Api, entry_ids, events, feed
from processor.letters import letter
from processor.records import EntryType, HeaderName, Headers, NewRecord, OrderEvent, Record
from processor.transform.transitions import Applied, Retold

# Plain strings and bytes made once: an enum's `.value` is a descriptor call, and an event needs six of them.
_ENTRY_ID: Final = HeaderName.ENTRY_ID.value
_ENTRY_TYPE: Final = HeaderName.ENTRY_TYPE.value
_SOURCE: Final = HeaderName.SOURCE.value
_OCCURRED_AT: Final = HeaderName.OCCURRED_AT.value
_OURS: Final = frozenset({_ENTRY_ID, _ENTRY_TYPE, _SOURCE, _OCCURRED_AT})
_STAYS_BEHIND: Final = letter.OURS | {HeaderName.REPLAY_ID.value, HeaderName.REPLAY_COUNT.value} | _OURS
"""The headers of a source record that an entry must not have. Those of a dead letter describe a refusal that is over.
With those of a replay the entry would pass its order's hold. `replay-of` stays, and shows what became of the letter."""
_ORDER: Final = EntryType.ORDER
_TYPES: Final = {entry_type: entry_type.value.encode() for entry_type in EntryType}
_EVENTS: Final = Api.EVENTS.value
_FEED: Final = Api.FEED.value


def entries(api: Api, topic: str) -> Callable[[Applied | Retold], NewRecord]:
    """Returns the function that makes the outbox record of an event, for this API and this outbox."""
    body = {Api.EVENTS: _of_events, Api.FEED: _of_feed}[api]

    def outgoing(told: Applied | Retold) -> NewRecord:
        origin = told.taken.origin
        entry_type, entry_id, value = body(told)
        # The source's key is the order ID, byte for byte, or there would be no event.
        return NewRecord(topic, origin.partition, origin.key, value, headers(entry_type, entry_id, origin), 0)

    return outgoing


def _of_events(told: Applied | Retold) -> tuple[EntryType, str, bytes]:
    entry_type, value = events.entry(told.change, told.order_after)
    return entry_type, entry_id(_EVENTS, told.taken.event), value


def _of_feed(told: Applied | Retold) -> tuple[EntryType, str, bytes]:
    value = feed.snapshot(told.order_after)
    return _ORDER, entry_ids.of_bytes(entry_id(_FEED, told.taken.event), value), value


def entry_id(api: str, event: OrderEvent) -> str:
    """The entry ID of an event: by API, order, kind and event ID."""
    return entry_ids.entry_id(api, type(event).__name__, event.order_id, event.event_id)


def headers(entry_type: EntryType, entry_id: str, origin: Record) -> Headers:
    """Returns our headers of an entry, then the source record's own."""
    ours: Headers = [
        (_ENTRY_ID, entry_id.encode()),
        (_ENTRY_TYPE, _TYPES[entry_type]),
        (_SOURCE, b"%b/%d/%d" % (origin.topic.encode(), origin.partition, origin.offset)),
        (_OCCURRED_AT, b"%d" % origin.timestamp_ms),
    ]
    if origin.headers:
        # A source header with a name of ours would make two of it, and readers differ in which one they take.
        ours.extend(header for header in origin.headers if header[0] not in _STAYS_BEHIND)
    return ours
