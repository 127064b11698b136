"""Resolutions: which dead letters need nobody any more, and what was done about them.

    letter ──open──► replayed    sent again; should it come back, that is a new letter with an offset of its own
             │
             ├─────► discarded   put aside by a person, who said why
             └─────► superseded  another letter, a newer snapshot or a newer value says what it said

A letter is its place: dead-letter topic, partition, offset. It is open until a record with that key stands on the
compacted topic `hakuna.dead-letter-resolutions`, in the partition of the same number; there is no way back. The record
is written in the same transaction as the copy that is sent, so that neither is ever there without the other.

    key     topic/partition/offset of the letter, UTF-8       value   `Resolution`, JSON
    key     run/<dead-letter topic>, in partition 0           value   `Run`, JSON: the replay that is under way

Pure but for the sets announced in `Resolved`. Owned by the `dead-letters` commands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.dead_letters.offset_set import OffsetSet
from processor.dead_letters.selection import Selection
from processor.records import Position, Record, TopicPartition

NEWER_DELIVERED: Final = "a newer snapshot of its order was delivered"
"""Why a snapshot's letter is superseded."""
NEWER_ACCEPTED: Final = "a newer value of its object was accepted"
"""Why a letter of Hako's is."""


class How(StrEnum):
    """What was done about a letter; the transitions are drawn above."""

    REPLAYED = "replayed"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"


class Resolution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One letter's end. `reason` is a person's words, or what supersedes it; `entry_id` and `sent_to` are the copy's
    entry ID and topic; `edit` is the merge patch that was applied to it."""

    how: How
    at_ms: int
    by: str
    reason: str = ""
    replay_id: str = ""
    replay_count: int = 0
    order_id: str = ""
    entry_id: str = ""
    sent_to: str = ""
    rebuilt: bool = False
    edit: dict[str, Any] | None = None


class RunState(StrEnum):
    """UNDER_WAY ──all settled──► DONE; ──too many came back, or a person gave it up──► STOPPED.

    A process that dies leaves UNDER_WAY behind, and the same command goes on with it.
    """

    UNDER_WAY = "under_way"
    DONE = "done"
    STOPPED = "stopped"


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replay of letters of one topic. `given` is the command in the words it was given in (`--since 2h` selects
    something else each time it is said, and means the same run); `follow_from` are the next offsets of the topics that
    tell what became of its letters, as they stood before the first was sent: by topic, then partition."""

    replay_id: str
    state: RunState
    topic: str
    given: str
    selection: Selection
    rebuild: bool
    started_ms: int
    by: str
    follow_from: dict[str, dict[int, int]]
    edit: dict[str, Any] | None = None
    ended_ms: int | None = None


_RESOLUTION: Final = msgspec.json.Decoder(Resolution)
_RUN: Final = msgspec.json.Decoder(Run)
_RUN_PREFIX: Final = "run/"
RUN_PARTITION: Final = 0


def resolution_key(letter: Position) -> bytes:
    return str(letter).encode()


def letter_of(key: bytes | None) -> Position | None:
    """The letter that a resolution's key names; None where it is no such key."""
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
    """None where the bytes are none: something foreign in the topic."""
    try:
        return _RESOLUTION.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def run_key(topic: str) -> bytes:
    return (_RUN_PREFIX + topic).encode()


def encode_run(run: Run) -> bytes:
    return msgspec.json.encode(run)


def decode_run(value: bytes) -> Run | None:
    try:
        return _RUN.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def new_replay_id(selection: Selection, topic: str, now_ms: int) -> str:
    """Short, and told apart by its beginning: when it started, then what it selects."""
    digest = hashlib.sha256(topic.encode() + msgspec.json.encode(selection)).hexdigest()[:6]
    return f"{now_ms:x}-{digest}"


class Resolved:
    """What is resolved of the letters whose resolutions stand in one partition.

    Mutable: `_sets` by the letters' partition, then how. A letter is in one set at most.
    """

    def __init__(self) -> None:
        self._sets: dict[TopicPartition, dict[How, OffsetSet]] = {}

    def take(self, records: Iterable[Record]) -> None:
        """Records of the resolutions, in their order."""
        for record in records:
            letter = letter_of(record.key)
            if letter is None:
                continue
            where = TopicPartition(letter.topic, letter.partition)
            sets = self._sets.setdefault(where, {})
            for offsets in sets.values():
                offsets.discard(letter.offset)
            resolution = None if record.value is None else decode_resolution(record.value)
            if resolution is not None:
                sets.setdefault(resolution.how, OffsetSet()).add(letter.offset)

    def of(self, where: TopicPartition) -> dict[How, OffsetSet]:
        """The resolved offsets of one partition of letters, by how."""
        return self._sets.get(where, {})

    def how(self, letter: Position) -> How | None:
        """None: it is open."""
        for how, offsets in self.of(TopicPartition(letter.topic, letter.partition)).items():
            if letter.offset in offsets:
                return how
        return None
