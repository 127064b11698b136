"""Entry IDs: what makes one request another one, and so its idempotency key. Pure.

    events/<digest>              of API, kind of event, order ID and event ID
    feed/<digest>~<of bytes>     the same, and what the snapshot tells: an event may be told again as its order is then
    …~<of bytes>                 an entry whose bytes were changed (a rebuild, an edit): a key is for the same bytes

No place is in it: a topic that is made again counts from 0 again, and its events would get the keys of others, whose
answers the API keeps. So one event has one ID, in whatever partition it stands and however often it is read, and no
other event can have it. Entries of older versions carry `API/topic/partition/offset` and keep that.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Final

_CHANGED: Final = "~"
_EVENT_CHARS: Final = 32
_BYTES_CHARS: Final = 12


def entry_id(api: str, kind: str, order_id: str, event_id: str) -> str:
    """The entry ID of one event. `kind` tells events of one ID apart that are no repetition of each other."""
    # Each with its length in bytes, since IDs may hold any character: "a" and "bc" are not "ab" and "c".
    order, event = len(order_id.encode()), len(event_id.encode())
    said = f"{_first(api, kind)}{order}:{order_id}{event}:{event_id}"
    return f"{api}/{sha256(said.encode()).hexdigest()[:_EVENT_CHARS]}"


@cache
def _first(api: str, kind: str) -> str:
    """Both are names of our own: there are few of them, and none but ASCII."""
    return f"{len(api)}:{api}{len(kind)}:{kind}"


def of_bytes(entry: str, value: bytes) -> str:
    """The entry ID of an entry with these bytes. The same bytes have the same one, however often they are made."""
    return f"{entry.partition(_CHANGED)[0]}{_CHANGED}{sha256(value).hexdigest()[:_BYTES_CHARS]}"
