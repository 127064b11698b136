"""In which sequence the letters of an order are replayed."""

from __future__ import annotations

from processor.letters.families import Family, LetterFacts
from processor.operate.replay.survey import Field, Route, sequence
from processor.records import Position, Record

FIELD = Field("letters", "resolutions", "holds", "deliveries", "changelog", "outbox", Route.OUTBOX, {})


def place(partition: int, origin: Position, failed_ms: int) -> tuple[int, int, int]:
    facts = LetterFacts(
        family=Family.PROCESSOR, origin=origin, reason="held", first_failed_ms=failed_ms, last_failed_ms=failed_ms
    )
    return sequence(Record("letters", partition, 0, 0, b"o", b"v", []), facts, FIELD)


def test_letters_of_an_order_stand_as_transform_merges_their_records_whatever_unit_they_are_stamped_in() -> None:
    field = FIELD._replace(route=Route.SOURCE, ranks={"placed": 0, "fulfilled": 1, "refunded": 2})

    def of(topic: str, stamp: int) -> tuple[int, int, int]:
        facts = LetterFacts(
            family=Family.PROCESSOR, origin=Position(topic, 1, 7), reason="x", first_failed_ms=0, last_failed_ms=0
        )
        return sequence(Record("letters", 1, 0, stamp, b"o", b"v", []), facts, field)

    places = [of("placed", 1_790_000_000_000), of("fulfilled", 1_790_000_060), of("refunded", 1_790_000_120_000)]
    assert places == sorted(places)


def test_letters_of_one_outbox_partition_stand_as_their_entries_did() -> None:
    places = [place(1, Position("outbox", 1, offset), 1000 - offset) for offset in (3, 7, 20)]
    assert places == sorted(places)


def test_letters_that_were_moved_when_topics_grew_come_before_those_of_the_partition_that_they_are_in_now() -> None:
    twice_moved = [place(4, Position("outbox", 0, offset), 100) for offset in (70, 90)]
    moved = [place(4, Position("outbox", 1, offset), 200) for offset in (5, 6)]
    since = [place(4, Position("outbox", 4, offset), 300) for offset in (0, 1)]
    places = [*twice_moved, *moved, *since]
    assert places == sorted(places)
