"""The small pure parts: offsets that are resolved, filters, patches, masks, counts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.letters.families import Family, LetterFacts, letter_facts
from processor.letters.letter import Refusal, letter_headers
from processor.letters.masking import HIDDEN, masked, masked_message, masked_whole
from processor.letters.patch import Unsendable, merged
from processor.letters.resolutions import How, Resolution, encode_resolution, letter_of, resolution_key
from processor.moments import iso, parse_moment
from processor.operate.replay.contents import edited_json, parse_patch
from processor.operate.replay.listing import KINDS_MAX, Tally
from processor.operate.replay.noted import OffsetSet, Resolved, run_key
from processor.operate.replay.selection import EVERYTHING, Selection, parse_letter
from processor.records import Position, Record, Stage, TopicPartition

AT_MS = 1_700_000_000_000


def letter(offset: int, reason: str = "held", *, failed_ms: int = AT_MS, key: bytes = b"o") -> Record:
    source = Record("hakuna.outbox", 0, offset, AT_MS, key, b"{}", [("entry-id", b"e")])
    code = None if reason == "held" else reason
    refusal = Refusal(stage=Stage.SEND, reason=reason, message="", group="g", failed_ms=failed_ms, error_code=code)
    return Record("dl", 0, offset, AT_MS, key, b"{}", letter_headers(source, refusal))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200_000)), max_size=60))
def test_an_offset_set_is_a_set(changes: list[tuple[bool, int]]) -> None:
    real: set[int] = set()
    offsets = OffsetSet()
    for adds, offset in changes:
        (real.add if adds else real.discard)(offset)
        (offsets.add if adds else offsets.discard)(offset)
    assert len(offsets) == len(real)
    for _, offset in changes:
        assert (offset in offsets) == (offset in real)
        assert (offset + 1 in offsets) == (offset + 1 in real)


def test_ten_million_offsets_take_little_more_than_a_megabyte() -> None:
    offsets = OffsetSet()
    for offset in range(0, 10_000_000, 65_536 // 4):
        offsets.add(offset)
    assert sum(len(chunk) for chunk in offsets._chunks.values()) < 1_300_000


def test_a_letter_is_open_until_a_record_names_it_and_again_when_that_is_taken_back() -> None:
    place = Position("dl", 3, 7)
    value = encode_resolution(Resolution(how=How.DISCARDED, at_ms=1, by="me", reason="done by hand"))
    resolved = Resolved({})
    resolved.take([Record("r", 0, 0, 0, resolution_key(place), value, [])])
    assert resolved.how(place) is How.DISCARDED
    assert resolved.how(place._replace(offset=8)) is None
    resolved.take([Record("r", 0, 1, 0, resolution_key(place), None, [])])
    assert resolved.how(place) is None


def test_what_was_resolved_before_a_topic_of_letters_was_made_again_is_no_end_of_its_letters() -> None:
    """The first letter that stands there failed later; the clocks of two machines differ a little."""
    begun_ms = 1_700_000_000_000
    where = TopicPartition("dl", 3)
    resolved = Resolved({where: begun_ms})
    for offset, at_ms in ((0, begun_ms - 3_600_000), (1, begun_ms - 60_000), (2, begun_ms + 1)):
        value = encode_resolution(Resolution(how=How.REPLAYED, at_ms=at_ms, by="me"))
        resolved.take([Record("r", 0, 0, 0, resolution_key(Position(*where, offset)), value, [])])
    assert [resolved.how(Position(*where, offset)) for offset in range(3)] == [None, How.REPLAYED, How.REPLAYED]


def test_what_is_foreign_in_the_resolutions_is_passed_over() -> None:
    resolved = Resolved({})
    for key, value in ((None, b"{}"), (b"dl/0/x", b"{}"), (b"dl/0/1", b"no JSON"), (run_key("dl"), b"{}")):
        resolved.take([Record("r", 0, 0, 0, key, value, [])])
    assert resolved.how(Position("dl", 0, 1)) is None
    assert letter_of(run_key("dl/1/2")) != Position("dl", 1, 2)


def test_every_filter_takes_what_it_names_and_nothing_else() -> None:
    one = letter(5, "location_unsupported", key=b"ord-1")
    facts = letter_facts(one)
    takes = (
        EVERYTHING,
        Selection(reasons=("held", "location_unsupported")),
        Selection(error_codes=("location_unsupported",)),
        Selection(order_ids=("ord-1",)),
        Selection(origins=("hakuna.outbox",)),
        Selection(letters=("dl/0/5",)),
        Selection(since_ms=AT_MS, until_ms=AT_MS + 1),
    )
    leaves = (
        Selection(reasons=("held",)),
        Selection(error_codes=("product_unsupported",)),
        Selection(order_ids=("ord-2",)),
        Selection(origins=("orders.placed",)),
        Selection(letters=("dl/0/6",)),
        Selection(since_ms=AT_MS + 1),
        Selection(until_ms=AT_MS),
    )
    assert all(selection.takes(one, facts) for selection in takes)
    assert not any(selection.takes(one, facts) for selection in leaves)


@pytest.mark.parametrize(
    ("text", "epoch_ms"),
    [("2023-11-14T22:13:20Z", AT_MS), ("2023-11-14T23:13:20+01:00", AT_MS), ("2023-11-14", AT_MS - 79_998_000 - 2_000),
     ("90m", AT_MS - 5_400_000)],
)  # fmt: skip
def test_a_moment_is_a_time_or_how_long_ago(text: str, epoch_ms: int) -> None:
    assert parse_moment(text, AT_MS) == epoch_ms


def test_a_time_is_written_as_it_is_read_and_one_out_of_any_calendar_as_a_number() -> None:
    assert iso(AT_MS) == "2023-11-14T22:13:20.000Z"
    assert iso(1 << 62) == f"{1 << 62} ms"
    assert parse_letter("a.b/3/17") == Position("a.b", 3, 17)
    with pytest.raises(ValueError, match="a letter's place"):
        parse_letter("a.b/3")


RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386)
def test_merge_patch_does_what_the_rfc_says(target: object, patch: object, result: object) -> None:
    assert merged(target, patch) == result


def test_a_patch_must_be_able_to_change_something() -> None:
    assert parse_patch(b'{"a": null}') == {"a": None}
    for text, complaint in ((b"{", "no JSON"), (b"[1]", "is an object itself"), (b"{}", "changes nothing")):
        with pytest.raises(ValueError, match=complaint):
            parse_patch(text)
    assert isinstance(edited_json(b"\x00\x01", {"a": 1}), Unsendable)
    assert isinstance(edited_json(b"[1]", {"a": 1}), Unsendable)
    assert edited_json(b'{"a":1,"b":{"c":2}}', {"b": {"c": 3}}) == b'{"a":1,"b":{"c":3}}'


def test_what_names_a_person_is_hidden_and_the_rest_is_not() -> None:
    order = {"order_id": "o", "customer": {"email": "a@b.c", "phone": ""}, "line_items": [{"product_title": "Phone"}]}
    assert masked(order) == {
        "order_id": "o",
        "customer": {"email": HIDDEN, "phone": ""},
        "line_items": [{"product_title": "Phone"}],
    }
    assert masked_whole({"a": "Max", "n": 1, "l": ["x", None]}) == {"a": HIDDEN, "n": 1, "l": [HIDDEN, None]}
    assert masked_message('email: "max@x.de" is none, ask max@x.de') == f"email: {HIDDEN} is none, ask {HIDDEN}"


def test_letters_are_counted_by_what_they_are_whichever_way_they_are_read() -> None:
    letters = [letter(n, ("held", "http_400")[n % 2], failed_ms=AT_MS + n) for n in range(100)]
    letters.append(Record("dl", 0, 100, AT_MS, b"o", b"{}", []))
    fast, slow = Tally(EVERYTHING), Tally(Selection(until_ms=1 << 60))
    for tally in (fast, slow):
        tally.take(letters, {}, all_letters=False)
    assert fast.counts == slow.counts
    assert fast.letters == 101
    assert fast.unknown == slow.unknown == 1
    held = next(count for kind, count in fast.counts.items() if kind.reason == "held")
    assert (held.letters, held.first_ms, held.last_ms) == (50, AT_MS, AT_MS + 98)


def test_resolved_letters_count_only_when_all_are_asked_for() -> None:
    resolved = OffsetSet()
    resolved.add(3)
    letters = [letter(n) for n in range(10)]
    open_ones, all_of_them = Tally(EVERYTHING), Tally(EVERYTHING)
    open_ones.take(letters, {How.REPLAYED: resolved}, all_letters=False)
    all_of_them.take(letters, {How.REPLAYED: resolved}, all_letters=True)
    assert (open_ones.letters, all_of_them.letters) == (9, 10)
    assert {kind.how for kind in all_of_them.counts} == {"", "replayed"}


def test_an_api_that_makes_up_its_codes_does_not_fill_the_memory() -> None:
    chance = random.Random(1)
    tally = Tally(EVERYTHING)
    for n in range(KINDS_MAX + 50):
        tally.take([letter(n, f"http_{n}_{chance.random()}")], {}, all_letters=False)
    assert len(tally.counts) <= KINDS_MAX + 1
    assert tally.letters == KINDS_MAX + 50


def test_facts_of_a_letter_of_ours_are_its_heads() -> None:
    facts = letter_facts(letter(5, "http_400"))
    assert isinstance(facts, LetterFacts)
    assert facts.family is Family.PROCESSOR
    assert (facts.reason, facts.error_code, facts.stage) == ("http_400", "http_400", "send")
