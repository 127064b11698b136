"""resolutions: which dead letters are no longer open, and what was done about them.

    letter ──open──► replayed    sent again; if it comes back, that is a new letter with an offset of its own
             │
             ├─────► discarded   put aside by a person, who said why
             └─────► superseded  another letter, a newer snapshot or a newer value replaces it

A letter is known by its place: dead-letter topic, partition, offset. It is open until the compacted topic
`hakuna.dead-letter-resolutions` has a record with that key, in the partition of the same number. There is no way back.
A replay writes the record in the transaction of the copy that it sends.

    key     topic/partition/offset of the letter, UTF-8       value   `Resolution`, JSON
    key     run/<dead-letter topic>, in partition 0           value   `Run`, JSON: the replay that is under way

Pure, except for the sets that `Resolved` announces. Used by the `dead-letters` commands.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.records import Position

NEWER_DELIVERED: Final = "a newer snapshot of its order was delivered"
"""The reason of a superseded letter of a snapshot."""
NEWER_ACCEPTED: Final = "a newer value of its object was accepted"
"""The reason of a superseded letter of Hako's."""


class How(StrEnum):
    """What was done about a letter; the transitions are drawn above."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"


class Resolution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of one letter. `reason` is a person's text, or what supersedes it. `entry_id`, `sent_to` and
    `sent_partition` (if not the letter's) are of the copy that was sent, `edit` is the merge patch that was applied to
    it."""

    how: How
    at_ms: int
    by: str
    reason: str = ""
    replay_id: str = ""
    replay_count: int = 0
    order_id: str = ""
    entry_id: str = ""
    sent_to: str = ""
    sent_partition: int | None = None
    rebuilt: bool = False
    edit: dict[str, Any] | None = None


CLOCKS_MS: Final = 5 * 60 * 1000
"""The most that a worker's clock and the clock of a command's machine may differ."""


def may_be_of(resolved_ms: int, failed_ms: int) -> bool:
    """True if a resolution can belong to a letter: a topic made again has new letters at old positions."""
    return resolved_ms >= failed_ms - CLOCKS_MS


_RESOLUTION: Final = msgspec.json.Decoder(Resolution)


def resolution_key(letter: Position) -> bytes:
    return str(letter).encode()


def letter_of(key: bytes | None) -> Position | None:
    """Returns the letter that a resolution's key names; None if the key names no letter."""
    if key is None:
        return None
    topic, _, rest = key.decode("utf-8", "replace").partition("/")
    partition, _, offset = rest.partition("/")
    if not topic or not partition.isdigit() or not offset.isdigit() or len(offset) > 19:
        return None
    return Position(topic, int(partition), int(offset))


def encode_resolution(resolution: Resolution) -> bytes:
    return msgspec.json.encode(resolution)


def decode_resolution(value: bytes) -> Resolution | None:
    """Returns None if the bytes are not a resolution but a foreign record."""
    try:
        return _RESOLUTION.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
