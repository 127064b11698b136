"""The demo's verdict: any record that ended otherwise than it should have, is named."""

from __future__ import annotations

import pytest

from processor.letters.letter import Refusal, letter_headers
from processor.records import HeaderName, IgnoredReason, Outcome, Position, Reason, Record, Stage
from processor.sandbox.apis.record import Accepted
from processor.sandbox.apis.record import Record as Seen
from processor.sandbox.demo.judgement import DIFFERENCES_MAX, dead_letters, differences
from processor.sandbox.shop.history import TRANSFORMED, Expected, Step
from processor.topics import Topic


def step(order_id: str, expected: Expected) -> Step:
    return Step(Topic.PLACED, order_id.encode(), b"", 1, expected)


WRITTEN = {
    Position("orders.placed", 0, 0): step("ord-1", TRANSFORMED),
    Position("orders.placed", 0, 1): step("ord-1", TRANSFORMED),
    Position("orders.placed", 0, 2): step("ord-2", TRANSFORMED._replace(answer=Reason.HELD)),
    Position("orders.placed", 0, 3): step("ord-3", Expected(Outcome.DEAD_LETTERED, Reason.KEY_MISMATCH)),
    Position("orders.placed", 0, 4): step("ord-3", Expected(Outcome.IGNORED, IgnoredReason.ERASED)),
}
LETTERS = {"orders.placed/0/2": "held", "orders.placed/0/3": "key_mismatch"}


@pytest.fixture
def seen() -> Seen:
    seen = Seen()
    for _ in range(2):
        seen.accepted("ord-1", Accepted(1.0, "POST /events", b"{}", "k"))
    return seen


def test_all_is_well_when_all_became_what_it_should(seen: Seen) -> None:
    assert differences(WRITTEN, LETTERS, seen) == []


@pytest.mark.parametrize(
    ("letters", "says"),
    [
        ({"orders.placed/0/3": "key_mismatch"}, "orders.placed/0/2: dead letter None, should be held"),
        (LETTERS | {"orders.placed/0/0": "undecodable"}, "orders.placed/0/0: dead letter undecodable, should be None"),
        (LETTERS | {"orders.placed/0/3": "undecodable"}, "dead letter undecodable, should be key_mismatch"),
    ],
)
def test_a_letter_too_many_too_few_or_of_another_reason_is_named(
    seen: Seen, letters: dict[str, str], says: str
) -> None:
    (problem,) = differences(WRITTEN, letters, seen)
    assert says in problem


def test_an_order_with_requests_too_many_or_too_few_is_named(seen: Seen) -> None:
    seen.accepted("ord-1", Accepted(1.0, "POST /events", b"{}", "k"))
    seen.accepted("ord-9", Accepted(1.0, "POST /events", b"{}", "k"))
    assert differences(WRITTEN, LETTERS, seen) == [
        "ord-1: 3 requests accepted, should be 2",
        "ord-9: 1 requests accepted, should be 0",
    ]


def test_mistakes_overlaps_and_reused_keys_are_named(seen: Seen) -> None:
    seen.mistaken("POST /events: type: missing")
    seen.overlapped("ord-1")
    seen.key_reused()
    assert differences(WRITTEN, LETTERS, seen) == [
        "a request that the reference does not allow: POST /events: type: missing",
        "ord-1: two requests in flight at once",
        "1 times one Idempotency-Key for two bodies",
    ]


def test_of_many_differences_the_first_are_told(seen: Seen) -> None:
    for number in range(100):
        seen.mistaken(str(number))
    told = differences(WRITTEN, LETTERS, seen)
    assert len(told) == DIFFERENCES_MAX + 1
    assert told[-1] == "… and 90 more like that"


def test_a_letter_is_known_by_its_source_record() -> None:
    """Of a letter of transform that is where it stood itself; of one of send, what its entry was made of."""
    refusal = Refusal(stage=Stage.SEND, reason="held", message="", group="g", failed_ms=1)
    source = Record("orders.placed", 0, 7, 1, b"k", b"v", [])
    entry = Record("hakuna.outbox", 0, 3, 1, b"k", b"v", [(HeaderName.SOURCE, b"orders.placed/0/8")])
    letters = [
        Record("dead", 0, offset, 1, b"k", b"v", letter_headers(of, refusal))
        for offset, of in enumerate((source, entry))
    ]
    assert dead_letters(letters) == {"orders.placed/0/7": "held", "orders.placed/0/8": "held"}
