"""From where a partition is read on: for all that may be on record of it, and all that may stand in the cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.interfaces import Committed
from processor.send.kafka_thread.beginnings import Beginning, Book, Cause, Log, beginning, decode_book, encode_book
from processor.send.kafka_thread.offsets import SILENT, Note, Range, encode_ranges

HERE = "c1/t1"
MADE_AGAIN = "c1/t2"
ELSEWHERE = "c2/t1"
LOG = Log(HERE, 10, 100)
RANGES = [Range(60, 70), Range(75, 80)]
NONE = Committed(None, "")


def at(offset: int) -> Committed:
    return Committed(offset, "any")


@pytest.mark.parametrize(
    ("committed", "note", "book", "expected"),
    [
        # what its group left in this very log
        (at(50), Note(None, RANGES, HERE, "p"), None, Beginning(50, RANGES, "p")),
        (at(50), Note(None, None, HERE), Book(HERE, None, 40, RANGES), Beginning(50, RANGES)),
        (at(50), Note(None, None, HERE), Book(None, None, None, RANGES), Beginning(50, RANGES)),
        # nothing committed
        (NONE, SILENT, None, Beginning(10, [])),
        (NONE, SILENT, Book(None, None, None, RANGES), Beginning(10, [])),
        (NONE, SILENT, Book(HERE, "p", 50, RANGES), Beginning(50, RANGES, "p", (Cause.OFFSETS_GONE,))),
        (NONE, SILENT, Book(MADE_AGAIN, "p", 50, RANGES), Beginning(10, [], "p", (Cause.MADE_AGAIN,))),
        (NONE, SILENT, Book(ELSEWHERE, None, 50, RANGES), Beginning(10, [], None, (Cause.OTHER_CLUSTER,))),
        # left in another log
        (at(50), Note(None, RANGES, MADE_AGAIN, "p"), None, Beginning(10, [], "p", (Cause.MADE_AGAIN,))),
        (at(500), Note(None, RANGES, MADE_AGAIN), None, Beginning(10, [], None, (Cause.MADE_AGAIN,))),
        (at(50), Note(None, RANGES, ELSEWHERE), None, Beginning(50, [], None, (Cause.OTHER_CLUSTER,))),
        (at(50), Note(None, None, HERE), Book(ELSEWHERE, None, 40, RANGES), Beginning(50, [])),
        # an operator's, and an older version's
        (at(50), SILENT, Book(HERE, None, 90, []), Beginning(50, [])),
        (at(50), Note(None, RANGES), None, Beginning(50, RANGES)),
        (at(50), Note(None, None), Book(None, None, None, RANGES), Beginning(50, RANGES)),
        (at(50), Note(None, [Range(60, 101)]), None, Beginning(50, [], None, (Cause.OLD_NOTE,))),
        (at(101), SILENT, None, Beginning(10, [], None, (Cause.MADE_AGAIN,))),
        # retention, and a log that lost its end
        (at(4), Note(None, [Range(6, 8)], HERE), None, Beginning(10, [Range(6, 8)], None, (Cause.OVERTAKEN,), 4)),
        (at(4), Note(None, [Range(4, 10)], HERE), None, Beginning(10, [Range(4, 10)])),
        (at(120), Note(None, RANGES, HERE), None, Beginning(100, [], None, (Cause.CUT_OFF,))),
        (NONE, SILENT, Book(HERE, None, 4, []), Beginning(10, [], None, (Cause.OFFSETS_GONE, Cause.OVERTAKEN), 6)),
    ],
)
def test_a_partition_is_read_on_from(committed: Committed, note: Note, book: Book | None, expected: Beginning) -> None:
    assert beginning(committed, note, book, LOG) == expected


@given(
    st.none() | st.integers(0, 200),
    st.sampled_from([None, HERE, MADE_AGAIN, ELSEWHERE]),
    st.none() | st.integers(0, 200),
    st.sampled_from([HERE, MADE_AGAIN, ELSEWHERE]),
    st.integers(0, 150),
    st.integers(0, 150),
)
def test_nothing_is_skipped_that_was_not_finished_in_this_log(
    offset: int | None, noted: str | None, booked: int | None, in_book: str, first: int, more: int
) -> None:
    """Whatever stands anywhere: it begins within the log, and skips only what is on record of it."""
    log = Log(HERE, first, first + more)
    book = None if booked is None else Book(in_book, None, booked, [])
    found = beginning(Committed(offset, ""), Note(None, [], noted), book, log)
    assert log.first <= found.offset <= log.end
    skipped = found.offset - log.first
    known = offset if offset is not None else (None if booked is None or in_book != HERE else booked)
    if offset is not None and noted == MADE_AGAIN:
        known = None
    assert skipped == 0 or (known is not None and found.offset <= max(known, log.first))


@given(st.integers(0, 2**40), st.lists(st.integers(1, 1000), max_size=20), st.none() | st.just("c/h"))
def test_a_book_is_read_as_it_was_written(offset: int, gaps: list[int], past: str | None) -> None:
    ranges, before = [], offset
    for gap in gaps:
        ranges.append(Range(before + gap, before + 2 * gap))
        before = ranges[-1].end
    assert decode_book(encode_book(HERE, past, offset, ranges)) == Book(HERE, past, offset, ranges)


def test_the_map_of_an_older_version_is_read_and_says_nothing_of_its_place() -> None:
    assert decode_book(encode_ranges(RANGES)) == Book(None, None, None, RANGES)


@given(st.binary(max_size=60))
def test_no_record_of_a_book_raises(value: bytes) -> None:
    decode_book(value)
    decode_book(b"{" + value)
