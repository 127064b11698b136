"""What a replay writes down about itself, and which letters are resolved.

Pure, except for the sets that `Resolved` announces. Used by the `dead-letters` commands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.letters.resolutions import How, decode_resolution, letter_of, may_be_of
from processor.operate.replay.offset_set import OffsetSet
from processor.operate.replay.selection import Selection
from processor.records import Position, Record, TopicPartition


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


_RUN: Final = msgspec.json.Decoder(Run)


_RUN_PREFIX: Final = "run/"


RUN_PARTITION: Final = 0


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

    def __init__(self, begun_ms: Mapping[TopicPartition, int]) -> None:
        """`begun_ms` is when the first letter that stands in a partition failed, where there is one."""
        self._begun_ms = begun_ms
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
            if resolution is not None and may_be_of(resolution.at_ms, self._begun_ms.get(where, 0)):
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
