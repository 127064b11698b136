"""entry_ids: the ID of an entry, which is the idempotency key of its request. Pure.

    events/<digest>              of API, kind of event, order ID and event ID
    feed/<digest>~<of bytes>     the same, and of the snapshot: an event may be sent again with its order as it is then
    …~<of bytes>                 an entry whose bytes were changed (a rebuild, an edit): a key is for the same bytes

An ID has no offset in it: a topic that is made again counts from 0, and its events would get the keys of others, whose
answers the API keeps. Entries of older versions have `API/topic/partition/offset` and keep that.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Final

_CHANGED: Final = "~"
_EVENT_CHARS: Final = 32
_BYTES_CHARS: Final = 12


def entry_id(api: str, kind: str, order_id: str, event_id: str) -> str:
    """Returns the entry ID of one event. `kind` separates events of one ID that are not repetitions of each other."""
    # Each with its length in bytes, because IDs may have any character: "a" and "bc" are not "ab" and "c".
    order, event = len(order_id.encode()), len(event_id.encode())
    said = f"{_first(api, kind)}{order}:{order_id}{event}:{event_id}"
    return f"{api}/{sha256(said.encode()).hexdigest()[:_EVENT_CHARS]}"


@cache
def _first(api: str, kind: str) -> str:
    """Both are names of our own: few, and ASCII only."""
    return f"{len(api)}:{api}{len(kind)}:{kind}"


def of_bytes(entry: str, value: bytes) -> str:
    """Returns the entry ID of an entry with these bytes. The same bytes always have the same ID."""
    return f"{entry.partition(_CHANGED)[0]}{_CHANGED}{sha256(value).hexdigest()[:_BYTES_CHARS]}"
