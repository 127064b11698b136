"""beginnings: the offset at which a partition begins, from its commit, its book and the cluster as it is now.

    committed, in this very log          from there, without what its note says is finished
    nothing committed, and a book        from the book: the group's offsets are gone (expired, deleted, another group)
    nothing committed, no book           from the beginning: a new installation
    made in another log of this cluster  from the beginning: the topic was deleted and made again
    made in another cluster              from the offset, which the copy has translated; its map of finished
                                         offsets counts those of another log, and is not believed
    before the beginning of the log      from the beginning: retention was faster, and what it took is counted
    beyond the end of the log            from the end: the log has lost its end, all of it was finished

A place identifies a log: the cluster's ID and the topic's ID, which no other topic ever has, whatever its name is.

Offsets without a place: an operator's (no note at all: `rewind`, Kafka's tools) are obeyed. Those of an older version
(`v1`) are believed while they fit into the log, so that an upgrade sends nothing twice. A map that reaches beyond the
end of the log is of another one (a mirror leaves out transaction markers, so its offsets are smaller) and is not
believed: to send twice under the same key is better than not at all.

Pure. Not chosen: the larger of book and commit (an operator who moves the group's offsets back wants to send again).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from processor.interfaces import Committed
from processor.records import Record
from processor.send.kafka_thread.offsets import Note, Range, decode_ranges, encode_ranges

BOOKS_READ: Final = 16
"""Records at the end of a partition of books among which its book is."""
LATE_MS: Final = 5_000
"""A record that was made so much earlier than one before it comes from a worker that stood still for a session (6 s at
least) and wrote its book when it went on. Clocks of hosts are nearer to one another."""


class Cause(StrEnum):
    """Why a partition is not read on from its group's offset."""

    OFFSETS_GONE = "offsets_gone"
    MADE_AGAIN = "made_again"
    OTHER_CLUSTER = "other_cluster"
    OVERTAKEN = "overtaken"
    CUT_OFF = "cut_off"
    OLD_NOTE = "old_note"


ENTRIES_GONE: Final = frozenset({Cause.MADE_AGAIN, Cause.OTHER_CLUSTER, Cause.OVERTAKEN, Cause.CUT_OFF})
"""An entry that was not finished may be gone, and nobody reads it again."""


class Log(NamedTuple):
    """A partition's log: its place, its first offset and its end."""

    place: str
    first: int
    end: int


class Gap(msgspec.Struct, frozen=True):
    """Records that were deleted before they were finished: `missed` of them, before `next_offset`, seen at `at_ms`."""

    at_ms: int
    missed: int
    next_offset: int


class Book(NamedTuple):
    """What a role keeps of a partition beside its group's offsets, on `hakuna.send-offsets`. `past` is the place of the
    topic that remembers (the holds), as it was known then; `gap` is the newest; `shared_by` is by how many partitions
    its writer shared the quota out. A map of an older version has no place
    and no offset."""

    place: str | None
    past: str | None
    next_offset: int | None
    finished: list[Range]
    gap: Gap | None = None
    shared_by: int | None = None


class Newest(NamedTuple):
    """The book of a partition as far as its records are read: the book (None: there is none, or its record is foreign),
    and when it was made, epoch ms."""

    book: Book | None = None
    made_ms: int = 0

    def after(self, record: Record) -> Newest:
        """Returns the newest book, with the next record of the partition taken into account. The last record is not
        always the newest: one that was made LATE_MS before an earlier record is left out."""
        if record.timestamp_ms < self.made_ms - LATE_MS:
            return self
        book = None if record.value is None else decode_book(record.value)
        return Newest(book, max(record.timestamp_ms, self.made_ms))


def newest_books(records: Iterable[Record]) -> dict[int, Book]:
    """Returns the newest book by partition number. `records` are the last BOOKS_READ or more of each partition of
    `hakuna.send-offsets`, in offset order within each. A partition without a book is left out."""
    newest: dict[int, Newest] = {}
    for record in records:
        newest[record.partition] = newest.get(record.partition, Newest()).after(record)
    return {partition: one.book for partition, one in newest.items() if one.book is not None}


class Beginning(NamedTuple):
    """`missed` are offsets that retention took before they were finished (transaction markers among them)."""

    offset: int
    finished: list[Range]
    past: str | None = None
    causes: tuple[Cause, ...] = ()
    missed: int = 0


def beginning(committed: Committed, note: Note, book: Book | None, log: Log) -> Beginning:
    """See the module. `note` is the commit's metadata; `book` is None if there is none."""
    found = _nowhere(book, log) if committed.next_offset is None else _committed(committed.next_offset, note, book, log)
    if found.offset > log.end:
        # Offsets without a place may be of any log: a topic made again is likelier than a log that lost its end.
        place = note.place if committed.next_offset is not None else book and book.place
        if place != log.place:
            return Beginning(log.first, [], found.past, (*found.causes, Cause.MADE_AGAIN))
        return found._replace(offset=log.end, finished=[], causes=(*found.causes, Cause.CUT_OFF))
    if found.offset < log.first:
        missed = log.first - found.offset - _within(found.finished, found.offset, log.first)
        causes = (*found.causes, Cause.OVERTAKEN) if missed else found.causes
        return found._replace(offset=log.first, missed=missed, causes=causes)
    return found


def _nowhere(book: Book | None, log: Log) -> Beginning:
    if book is None or book.next_offset is None:
        return Beginning(log.first, [])
    if book.place == log.place:
        return Beginning(book.next_offset, book.finished, book.past, (Cause.OFFSETS_GONE,))
    return Beginning(log.first, [], book.past, (_other(book.place, log.place),))


def _committed(offset: int, note: Note, book: Book | None, log: Log) -> Beginning:
    finished = note.finished
    if finished is None:  # they did not fit into the commit
        believed = book is not None and (book.place is None or book.place == log.place)
        finished = book.finished if book is not None and believed else []
    if note.place is None:
        if not finished:
            return Beginning(offset, [], note.past)
        fits = finished[-1].end <= log.end and offset >= log.first
        return Beginning(offset, finished if fits else [], note.past, () if fits else (Cause.OLD_NOTE,))
    if note.place == log.place:
        return Beginning(offset, finished, note.past)
    other = _other(note.place, log.place)
    if other is Cause.MADE_AGAIN:
        return Beginning(log.first, [], note.past, (other,))
    return Beginning(offset, [], note.past, (other,))


def _other(place: str | None, here: str) -> Cause:
    cluster = (place or "").partition("/")[0]
    return Cause.MADE_AGAIN if cluster == here.partition("/")[0] else Cause.OTHER_CLUSTER


def _within(ranges: Iterable[Range], start: int, end: int) -> int:
    return sum(max(min(one.end, end) - max(one.start, start), 0) for one in ranges)


class _Record(msgspec.Struct, omit_defaults=True):
    """The value of a record of the book, JSON."""

    place: str
    next_offset: int
    finished: str = ""
    past: str | None = None
    gap: Gap | None = None
    shared_by: int | None = None


_RECORD: Final = msgspec.json.Decoder(_Record)
_JSON: Final = msgspec.json.Encoder()


def encode_book(
    place: str,
    past: str | None,
    next_offset: int,
    finished: Iterable[Range],
    gap: Gap | None = None,
    shared_by: int | None = None,
) -> bytes:
    ranges = list(finished)
    coded = base64.b64encode(encode_ranges(ranges)).decode() if ranges else ""
    return _JSON.encode(_Record(place, next_offset, coded, past, gap, shared_by))


def decode_book(value: bytes) -> Book | None:
    """None if the bytes are foreign."""
    if not value.startswith(b"{"):
        ranges = decode_ranges(value)
        return None if ranges is None else Book(None, None, None, ranges)
    try:
        record = _RECORD.decode(value)
        ranges = decode_ranges(base64.b64decode(record.finished, validate=True)) if record.finished else []
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return None
    if ranges is None:
        return None
    return Book(record.place, record.past, record.next_offset, ranges, record.gap, record.shared_by)
