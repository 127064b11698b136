"""The runs that a replay writes down, and which letters are resolved.

Pure, except for the sets that `OffsetSet` and `Resolved` announce, and for `with_resolved`, which reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from processor.letters.resolutions import How, decode_resolution, letter_of, may_be_of
from processor.operate.replay.reading import Reading
from processor.operate.replay.selection import Selection
from processor.records import Position, Record, TopicPartition


class RunState(StrEnum):
    """UNDER_WAY ──all settled──► DONE; ──too many came back, or an operator gave it up──► STOPPED.

    A process that dies leaves UNDER_WAY behind, and the same command goes on with the run.
    """

    UNDER_WAY = "under_way"
    DONE = "done"
    STOPPED = "stopped"


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replay of letters of one topic. `given` is the command line as it was given (`--since 2h` selects other
    letters each time, and means the same run). `follow_from` are the next offsets, before the first letter was sent, of
    the topics that show what became of the letters: by topic, then partition."""

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


RUN_PARTITION: Final = 0


def run_key(topic: str) -> bytes:
    return b"run/" + topic.encode()


def encode_run(run: Run) -> bytes:
    return msgspec.json.encode(run)


def decode_run(value: bytes) -> Run | None:
    try:
        return msgspec.json.decode(value, type=Run)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def new_replay_id(selection: Selection, topic: str, now_ms: int) -> str:
    """Returns a short ID: when the replay started, then a digest of what it selects."""
    digest = hashlib.sha256(topic.encode() + msgspec.json.encode(selection)).hexdigest()[:6]
    return f"{now_ms:x}-{digest}"


_CHUNK_BITS: Final = 16
"""65,536 offsets a chunk, 8 KB."""
_IN_CHUNK: Final = (1 << _CHUNK_BITS) - 1


class OffsetSet:
    """Some of a partition's offsets, an eighth of a byte each.

    Memory is that of the span that it covers: ten million offsets are 1.25 MB, whether all of them are in the set or
    every other one. A chunk without an offset costs nothing. Not chosen: a set of integers (60 bytes each); runs of
    offsets (100 bytes a run, and orders are resolved one here and one there).

    Mutable: `_chunks` by the offset's high bits, one bit an offset; `_count` the bits that are set.
    """

    __slots__ = ("_chunks", "_count")

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._count = 0

    def add(self, offset: int) -> None:
        assert offset >= 0, f"no offset: {offset}"
        chunk = self._chunks.get(offset >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[offset >> _CHUNK_BITS] = bytearray(1 << (_CHUNK_BITS - 3))
        place, bit = (offset & _IN_CHUNK) >> 3, 1 << (offset & 7)
        self._count += not chunk[place] & bit
        chunk[place] |= bit

    def discard(self, offset: int) -> None:
        if offset in self:
            self._chunks[offset >> _CHUNK_BITS][(offset & _IN_CHUNK) >> 3] ^= 1 << (offset & 7)
            self._count -= 1

    def __contains__(self, offset: int) -> bool:
        chunk = self._chunks.get(offset >> _CHUNK_BITS)
        return chunk is not None and bool(chunk[(offset & _IN_CHUNK) >> 3] >> (offset & 7) & 1)

    def __len__(self) -> int:
        return self._count


class Resolved:
    """Which letters are resolved, by the resolutions of one partition. `begun_ms` is when the first letter in each
    partition of letters failed.

    Mutable: `_sets` by the letters' partition, then how. A letter is in one set at most.
    """

    def __init__(self, begun_ms: Mapping[TopicPartition, int]) -> None:
        self._begun_ms = begun_ms
        self._sets: dict[TopicPartition, dict[How, OffsetSet]] = {}

    def take(self, records: Iterable[Record]) -> None:
        """`records` are resolutions in offset order."""
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
        """Returns the resolved offsets of one partition of letters, by how; no empty sets."""
        return {how: offsets for how, offsets in self._sets.get(where, {}).items() if len(offsets)}

    def how(self, letter: Position) -> How | None:
        """Returns None if the letter is open."""
        return how_of(self.of(TopicPartition(letter.topic, letter.partition)), letter.offset)


def how_of(resolved: Mapping[How, OffsetSet], offset: int) -> How | None:
    """Returns how the letter at this offset was resolved; None if it is open."""
    return next((how for how, offsets in resolved.items() if offset in offsets), None)


def home(partition: int, resolution_partitions: int) -> int:
    """Returns the partition of the resolutions for letters of this partition. A foreign topic may have more
    partitions."""
    return partition % resolution_partitions


def with_resolved(
    reading: Reading,
    resolutions: str,
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    hear: Callable[[Sequence[Record]], None] = lambda _records: None,
) -> Iterator[tuple[TopicPartition, dict[How, OffsetSet]]]:
    """Yields each partition of letters in `beginnings` with its resolved offsets. The ends must have been asked for
    before: a letter that is resolved meanwhile must not count as open. Every batch of the topic `resolutions` goes to
    `hear`, too. Memory is that of one partition's offsets. Raises `BrokerOutage`."""
    begun = reading.begun_ms(beginnings, ends)
    homes = reading.offsets.partitions(resolutions) or 0
    for number in range(max(homes, 1)):
        wheres = [where for where in beginnings if home(where.partition, max(homes, 1)) == number]
        resolved = Resolved(begun)
        for records in reading.whole(TopicPartition(resolutions, number)) if wheres and homes else ():
            resolved.take(records)
            hear(records)
        for where in wheres:
            yield where, resolved.of(where)
