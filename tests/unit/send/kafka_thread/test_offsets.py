"""The offset map: a commit stops before the oldest unfinished offset, and a restart skips exactly what is finished."""

from __future__ import annotations

import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.send.kafka_thread.offsets import (
    METADATA_CHARS_MAX,
    SILENT,
    Note,
    OffsetMap,
    Range,
    decode_ranges,
    encode_ranges,
    read_note,
    write_note,
)

ANY_RANGES = st.lists(st.tuples(st.integers(1, 2**40), st.integers(1, 2**20)), max_size=30).map(
    lambda steps: _ranges(steps)
)


def _ranges(steps: list[tuple[int, int]]) -> list[Range]:
    ranges, before = [], 0
    for gap, length in steps:
        ranges.append(Range(before + gap, before + gap + length))
        before = ranges[-1].end
    return ranges


def test_a_commit_stops_before_the_oldest_offset_in_flight() -> None:
    offsets: OffsetMap[str] = OffsetMap(100, ())
    for offset in (100, 101, 102, 105):
        assert offsets.take(offset, f"e{offset}")
    offsets.finish(100)
    offsets.finish(102)
    assert offsets.next_offset == 101
    assert offsets.oldest() == "e101"
    assert offsets.finished() == [Range(102, 105)]  # 103 and 104 hold no record
    offsets.finish(101)
    assert offsets.next_offset == 105
    offsets.finish(105)
    assert (offsets.next_offset, offsets.finished()) == (106, [])


def test_nothing_is_known_before_the_first_record_of_a_partition_without_a_commit() -> None:
    offsets: OffsetMap[str] = OffsetMap(None, ())
    assert offsets.next_offset is None
    offsets.take(40, "e")
    assert offsets.next_offset == 40


def test_the_end_of_a_partition_is_behind_its_transaction_markers() -> None:
    offsets: OffsetMap[str] = OffsetMap(0, ())
    offsets.take(0, "e")
    offsets.reached(3)
    assert (offsets.next_offset, offsets.position) == (0, 3)
    offsets.finish(0)
    assert offsets.next_offset == 3


def test_a_log_that_was_made_anew_is_taken_from_its_beginning() -> None:
    offsets: OffsetMap[str] = OffsetMap(500, [Range(510, 520)])
    assert offsets.take(0, "e")
    assert offsets.next_offset == 0
    assert offsets.finished() == []


def test_a_record_that_is_read_twice_is_taken_once() -> None:
    offsets: OffsetMap[str] = OffsetMap(0, ())
    assert offsets.take(0, "e")
    assert not offsets.take(0, "e")
    offsets.finish(0)
    assert not offsets.take(0, "e")


@given(st.integers(0, 2**20))
def test_any_number_of_restarts_skips_exactly_what_was_finished(seed: int) -> None:
    """Records with gaps, finished in any order, with a commit and a crash now and then: what is taken after
    it is what was not finished at the commit, no more and no less."""
    random = Random(seed)
    log = sorted(random.sample(range(300), 150))
    committed, ranges = random.choice((None, 0)), list[Range]()
    finished: set[int] = set()
    for _ in range(4):
        known = finished.copy()
        offsets: OffsetMap[int] = OffsetMap(committed, ranges)
        unfinished: list[int] = []
        for offset in log:
            if committed is not None and offset < committed:
                assert offset in known
                continue
            if random.random() < 0.01:
                break
            taken = offsets.take(offset, offset)
            assert taken == (offset not in known)
            if taken:
                unfinished.append(offset)
            while unfinished and random.random() < 0.5:
                done = unfinished.pop(random.randrange(len(unfinished)))
                offsets.finish(done)
                finished.add(done)
        committed, ranges = offsets.next_offset, offsets.finished()
        assert decode_ranges(encode_ranges(ranges)) == ranges
        assert all(offset in finished for offset in log if committed is not None and offset < committed)
        assert len(offsets) == len(unfinished)


@given(ANY_RANGES, st.none() | st.integers(0, 999_999_999), st.sampled_from([None, "cluster/topic"]))
def test_a_note_is_read_as_it_was_written(ranges: list[Range], used: int | None, place: str | None) -> None:
    note = Note(used, ranges, place, place, shared_by=None if used is None else 12)
    text = write_note(note)
    assert text is not None
    assert len(text) <= METADATA_CHARS_MAX
    assert read_note(text) == note
    pointing = write_note(Note(used, None))
    assert pointing is not None
    assert read_note(pointing) == Note(used, None)


def test_a_note_of_the_version_before_is_read_and_names_no_place() -> None:
    assert read_note("v1 used=7") == Note(7, [], None, None)
    assert read_note("v1 done=topic") == Note(None, None, None, None)


def test_ranges_that_outgrow_the_metadata_are_not_written_into_it() -> None:
    random = Random(1)
    many = _ranges([(random.randint(1, 500), random.randint(1, 500)) for _ in range(5_000)])
    assert write_note(Note(None, many)) is None
    assert decode_ranges(encode_ranges(many)) == many


def test_a_thousand_stuck_orders_fit_into_the_metadata() -> None:
    random = Random(1)
    assert write_note(Note(None, _ranges([(1, random.randint(1, 200)) for _ in range(1_500)]))) is not None


@pytest.mark.parametrize(
    "text", ["v3 used=1", "v2 in=x", "hello", "v1 used=-1", "v1 used=x", "v1 done=%%%", "v1 done=AAAA", "v1 x=1"]
)
def test_a_note_of_another_kind_is_none(text: str) -> None:
    assert read_note(text) is None


def test_no_note_is_silent() -> None:
    assert read_note("") == SILENT


@given(st.text(max_size=80))
def test_no_metadata_raises(text: str) -> None:
    read_note(text)
    read_note("v1 " + text)
    read_note("v2 " + text)


@given(st.binary(max_size=80))
def test_no_map_raises(data: bytes) -> None:
    decode_ranges(data)


def test_a_map_that_inflates_without_end_is_refused() -> None:
    assert decode_ranges(encode_ranges([Range(1, 2)])[:2] + b"\x00" * 10) is None
    endless = zlib.compress(b"\x81" * (64 * 1024 * 1024))
    tracemalloc.start()
    try:
        assert decode_ranges(endless) is None
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_what_was_finished_behind_the_position_is_no_news_and_what_lies_beyond_is() -> None:
    known: OffsetMap[str] = OffsetMap(10, [Range(12, 14), Range(20, 25), Range(30, 31)])
    assert known.take(10, "x")
    known.reached(15)
    known.reached(12)  # an end that was said before
    assert known.position == 15
    assert known.finished() == [Range(11, 15), Range(20, 25), Range(30, 31)]
    fresh: OffsetMap[str] = OffsetMap(None, [])
    fresh.reached(7)
    assert fresh.next_offset == 7


def test_of_a_map_half_is_none_and_so_is_more_than_one() -> None:
    whole = encode_ranges([Range(3, 5), Range(300, 70_000)])
    assert decode_ranges(whole) == [Range(3, 5), Range(300, 70_000)]
    for wrong in (
        whole[:-1],
        whole + b"x",
        zlib.compress(b"\x01"),
        zlib.compress(b"\x81"),
        zlib.compress(b"\xff" * 11),
    ):
        assert decode_ranges(wrong) is None
    for wrong_range in (Range(5, 5), Range(5, 4)):
        with pytest.raises(AssertionError):
            encode_ranges([wrong_range])
    assert decode_ranges(encode_ranges([Range(0, 127), Range(255, 1 << 62)])) == [Range(0, 127), Range(255, 1 << 62)]


@pytest.mark.parametrize(
    "metadata",
    ["v2  used=3", "v2 used=1234567890", "v2 used=-1", "v2 past=holds", "v2 other=a/b", "v2 done=####", "v3 used=3"],
)
def test_a_note_with_a_word_that_is_none_of_ours_is_no_note(metadata: str) -> None:
    assert read_note(metadata) is None
    assert read_note("v2 used=123456789") == Note(123_456_789, [], None, None)


def test_a_map_with_a_sign_too_many_is_none() -> None:
    text = write_note(Note(None, [Range(3, 5)]))
    assert text is not None
    assert read_note(text) == Note(None, [Range(3, 5)])
    assert read_note(text.replace("done=", "done=!")) is None
