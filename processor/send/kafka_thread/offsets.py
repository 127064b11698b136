"""Offsets: which of a partition's offsets are finished, and how that survives a restart.

    offsets   100 101 102 103 104 105 106      next to commit: 101, the oldest unfinished
    state      ✓   …   ✓   ✓   …   ✓   (not read yet)
    kept                102–104     105–106     finished beyond it, as half-open ranges

A committed offset says that all offsets before it are finished. Finished offsets beyond it are kept as ranges in the
commit's metadata and in the compacted topic `hakuna.send-offsets` (`beginnings.py`); the next worker of the partition
skips them. So one order that is stuck for a day does not make a day's entries go out twice. Offsets without a record
(transaction markers, compaction) count as finished.

Owned by the Kafka thread. Memory: the unfinished offsets, which the role bounds; never the finished ones.

The note is the metadata of a committed offset, for the next worker.

    v2 in=CLUSTER/TOPIC past=CLUSTER/TOPIC used=17 done=eJxjYGBgYGRgYAQAAA8ABA
    v2 in=CLUSTER/TOPIC done=topic

    in      the place, by IDs, of the log of the offset and the ranges
    past    the place of the topic of holds from which the holds were known
    used    slots of the quota in use, after a clean revoke only (`pace.py`)
    of      the number of partitions that shared them, if there is no book (hako's)
    done    finished ranges beyond the offset, here or, if they outgrow the metadata, in the topic
            `hakuna.send-offsets`

The topic is compacted. Its key is the partition's number, in the same partition; the newest record, by its own time, is
the book of the partition. (The last record may be older: a worker that stood still for a session may write its book
after its heir's.) It is acknowledged before the commit. A book that is newer than the commit (a crash between the two)
is as good: finished offsets stay finished, and those before the committed one no longer matter. Nobody reads the book
while there is a commit without `topic`, so an operator who moves the group's offsets back sends again. Without a
commit, the book counts (`beginnings.py`).

A note that cannot be read (another tool's, a later version's) is ignored: entries may then go out twice, and the
quota's slots count as used. Both are safe.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections import deque
from collections.abc import Iterable
from typing import Final, Generic, NamedTuple, TypeVar

UnfinishedT = TypeVar("UnfinishedT")

RANGES_MAX: Final = 1_000_000
_INFLATED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Foreign bytes must not inflate without end."""


class Range(NamedTuple):
    """Finished offsets, without `end`."""

    start: int
    end: int


class OffsetMap(Generic[UnfinishedT]):
    """The offsets of one assignment.

    Mutable. `_unfinished` are the taken and unfinished records, in offset order (a dict keeps the order of insertion);
    `position` is past everything that was taken or skipped; `_skips` are the ranges from before that reach beyond it;
    `_taken` is true once a record has come.
    """

    def __init__(self, committed: int | None, finished: Iterable[Range]) -> None:
        self.position = committed
        self._taken = False
        self._unfinished: dict[int, UnfinishedT] = {}
        self._skips = deque(sorted(known for known in finished if known.end > (committed or 0)))

    def take(self, offset: int, unfinished: UnfinishedT) -> bool:
        """A record was read. Returns false if it was finished before this assignment, or is taken already."""
        if self.position is not None and offset < self.position:
            if self._taken:
                return False
            self._skips.clear()  # the log was made again, or the offsets were moved back: all of it again
        self._taken = True
        self.position = offset + 1
        skips = self._skips
        while skips and skips[0].end <= offset:
            skips.popleft()
        if skips and skips[0].start <= offset:
            return False
        self._unfinished[offset] = unfinished
        return True

    def reached(self, end: int) -> None:
        """There is no record between the position and `end`."""
        if self.position is None or end > self.position:
            self.position = end

    def finish(self, offset: int) -> None:
        del self._unfinished[offset]

    @property
    def next_offset(self) -> int | None:
        """The offset to commit: all before it are finished. None if no offset is known yet."""
        return next(iter(self._unfinished), self.position)

    def oldest(self) -> UnfinishedT | None:
        """Returns the oldest unfinished record, which holds the commit."""
        return next(iter(self._unfinished.values()), None)

    def __len__(self) -> int:
        return len(self._unfinished)

    def finished(self) -> list[Range]:
        """Returns the finished offsets beyond `next_offset`, as ranges, in order."""
        if self.position is None:
            return []
        ranges: list[Range] = []
        start = None
        for offset in self._unfinished:
            if start is not None and offset > start:
                ranges.append(Range(start, offset))
            start = offset + 1
        if start is not None and self.position > start:
            ranges.append(Range(start, self.position))
        for skip in self._skips:
            skip_start = max(skip.start, self.position)
            if skip.end <= skip_start:
                continue
            if ranges and ranges[-1].end == skip_start:
                ranges[-1] = Range(ranges[-1].start, skip.end)
            else:
                ranges.append(Range(skip_start, skip.end))
        return ranges


def encode_ranges(ranges: Iterable[Range]) -> bytes:
    """Returns distances as variable-length integers, deflated. The ranges must be in order and apart."""
    plain = bytearray()
    before = 0
    for start, end in ranges:
        assert before <= start < end, "ranges out of order"
        _append_whole(plain, start - before)
        _append_whole(plain, end - start)
        before = end
    return zlib.compress(bytes(plain))


def decode_ranges(data: bytes) -> list[Range] | None:
    """Returns None if the bytes are foreign."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, _INFLATED_BYTES_MAX)
    except zlib.error:
        return None
    if not inflater.eof or inflater.unused_data:
        return None
    numbers = _wholes(plain)
    if numbers is None or len(numbers) % 2 or len(numbers) > 2 * RANGES_MAX:
        return None
    ranges = []
    before = 0
    for index in range(0, len(numbers), 2):
        start = before + numbers[index]
        before = start + numbers[index + 1]
        if before == start:
            return None
        ranges.append(Range(start, before))
    return ranges


def _append_whole(to: bytearray, value: int) -> None:
    while value > 0x7F:
        to.append(value & 0x7F | 0x80)
        value >>= 7
    to.append(value)


def _wholes(data: bytes) -> list[int] | None:
    numbers = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte & 0x80:
            shift += 7
            if shift > 63:
                return None
        else:
            numbers.append(value)
            value = shift = 0
    return None if shift else numbers


METADATA_CHARS_MAX: Final = 4000
"""Brokers refuse a commit with more than 4,096 bytes (`offset.metadata.max.bytes`)."""

_VERSION: Final = "v2"
_BEFORE: Final = "v1"
"""The note of an older version, without places."""
_IN_TOPIC: Final = "topic"


class Note(NamedTuple):
    """`used` is None without a mark; `finished` is None if the ranges are in the topic; `place` and `past` may be
    missing. `shared_by` is the number of partitions that shared the slots of `used`, if no book has it: a worker of an
    older version takes such a note for foreign."""

    used: int | None
    finished: list[Range] | None
    place: str | None = None
    past: str | None = None
    shared_by: int | None = None


SILENT: Final = Note(None, [])


def write_note(note: Note) -> str | None:
    """Returns the metadata string. Returns None if the ranges do not fit into it."""
    words = [_VERSION]
    if note.place is not None:
        words.append(f"in={note.place}")
    if note.past is not None:
        words.append(f"past={note.past}")
    if note.used is not None:
        words.append(f"used={note.used}")
        if note.shared_by is not None:
            words.append(f"of={note.shared_by}")
    if note.finished is None:
        words.append(f"done={_IN_TOPIC}")
    elif note.finished:
        words.append("done=" + base64.urlsafe_b64encode(encode_ranges(note.finished)).decode())
    text = " ".join(words)
    return text if len(text) <= METADATA_CHARS_MAX else None


def read_note(metadata: str) -> Note | None:
    """Returns the note. Returns None if the metadata is not a note, and `SILENT` if it is empty."""
    if not metadata:
        return SILENT
    version, *words = metadata.split(" ")
    if version not in (_VERSION, _BEFORE):
        return None
    used: int | None = None
    shared_by: int | None = None
    place: str | None = None
    past: str | None = None
    finished: list[Range] | None = []
    for word in words:
        name, _, value = word.partition("=")
        whole = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
        if name == "used" and whole is not None:
            used = whole
        elif name == "of" and whole is not None:
            shared_by = whole
        elif name == "in" and "/" in value:
            place = value
        elif name == "past" and "/" in value:
            past = value
        elif name == "done" and value == _IN_TOPIC:
            finished = None
        elif name == "done":
            try:
                finished = decode_ranges(base64.b64decode(value, altchars=b"-_", validate=True))
            except (binascii.Error, ValueError):
                return None
            if finished is None:
                return None
        else:
            return None
    return Note(used, finished, place, past, shared_by)
