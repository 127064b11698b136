"""A fault that is planted is found, and what is right is not called one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from processor.config import Quota
from processor.records import OrderEvent, Reason, Record
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import ORDER_TOPICS, Topic
from processor.transform.order_state import OrderState
from tests.soak import checks
from tests.soak.checks import Entry, Request, Sample
from tests.support.order_events import order_event
from tests.support.transform_model import Made, Model, made_of
from tests.support.transform_site import RULES

NOW_MS = 1_800_000_000_000
EVENTS: dict[bytes, OrderEvent] = {}


def decode(record: Record) -> OrderEvent:
    assert record.value is not None
    return EVENTS[record.value]


def step(record: Record, state: OrderState | None) -> Made:
    return made_of(record, state, RULES, decode, NOW_MS)


def history() -> list[Record]:
    """A shop's records without those that cannot be decoded; a value is a name for its event."""
    records = []
    for number, one in enumerate(shop(Shop(orders=60, rate=5, bad_share=0.0, seed=4, start_ms=NOW_MS - 900_000))):
        value = None
        if isinstance(one.value, dict):
            value = f"event-{number}".encode()
            EVENTS[value] = order_event(one.topic, one.value)
        records.append(Record(one.topic, 0, number, one.timestamp_ms, one.key, value, []))
    return records


def outcome(records: Sequence[Record]) -> tuple[list[Entry], dict[str, str]]:
    model = Model(RULES, decode, list(ORDER_TOPICS), NOW_MS)
    model.take(records)
    entries = [
        Entry(order_id, f"e-{order_id}-{number}", source, body)
        for order_id, told in model.entries.items()
        for number, (source, body) in enumerate(told)
    ]
    return entries, model.reasons


RECORDS = history()
ENTRIES, REASONS = outcome(RECORDS)
ORDER = {entry.entry_id: entry.order_id for entry in ENTRIES}
SOME = [number for number, (one, other) in enumerate(pairwise(ENTRIES)) if one.order_id == other.order_id]


def test_what_the_rules_make_is_explained() -> None:
    assert len(ENTRIES) > 100
    assert checks.unexplained(RECORDS, ENTRIES, REASONS, step) == []
    assert checks.doubled(ENTRIES) == []


def test_what_was_taken_in_another_order_is_explained_too() -> None:
    """As after an outage of one broker of several, or for an event that was late."""
    chance = random.Random(2)
    for _ in range(8):
        behind_ms = {topic: chance.randint(0, 8_000) for topic in ORDER_TOPICS}
        stamps = [one.timestamp_ms + behind_ms[Topic(one.topic)] for one in RECORDS]
        as_taken = [msgspec.structs.replace(one, timestamp_ms=ms) for one, ms in zip(RECORDS, stamps, strict=True)]
        entries, reasons = outcome(as_taken)
        assert checks.unexplained(RECORDS, entries, reasons, step) == []


@pytest.mark.parametrize("at", SOME[::17])
def test_an_entry_that_is_lost_invented_doubled_altered_or_out_of_order_is_found(at: int) -> None:
    one = ENTRIES[at]
    lost = ENTRIES[:at] + ENTRIES[at + 1 :]
    assert one.order_id in checks.unexplained(RECORDS, lost, REASONS, step)[0]
    twice = [*ENTRIES[:at], one, one, *ENTRIES[at + 1 :]]
    assert checks.unexplained(RECORDS, twice, REASONS, step)
    assert len(checks.doubled(twice)) == 2
    assert len(checks.doubled(twice, {one.order_id})) == 1, "of one record there is one entry, whatever was erased"
    assert checks.unexplained(RECORDS, [*ENTRIES, Entry("nobody", "e", "orders.placed/0/9", b"{}")], REASONS, step)
    assert checks.unexplained(RECORDS, [*ENTRIES[:at], one._replace(body=b"{}"), *ENTRIES[at + 1 :]], REASONS, step)
    turned = [*ENTRIES[:at], ENTRIES[at + 1], one, *ENTRIES[at + 2 :]]
    if one.body != ENTRIES[at + 1].body:
        first = checks.unexplained(RECORDS, turned, REASONS, step)
        # Two shipments may have come either way; what is placed comes first.
        assert first or "order_placed" not in one.body.decode()


def test_a_letter_that_is_lost_or_invented_is_found_and_one_of_what_is_too_large_is_none() -> None:
    source = ENTRIES[-1].source
    assert checks.unexplained(RECORDS, ENTRIES, {**REASONS, source: "order_unknown"}, step)
    assert checks.unexplained(RECORDS, ENTRIES, {**REASONS, "orders.placed/0/99999": "undecodable"}, step)
    late = [*RECORDS, Record("orders.placed", 0, 9_999, NOW_MS, b"giant", b"giant", [])]
    EVENTS[b"giant"] = order_event(ORDER_TOPICS[0], _placed())
    assert checks.unexplained(late, ENTRIES, REASONS, step)
    assert checks.unexplained(late, ENTRIES, {**REASONS, "orders.placed/0/9999": Reason.TOO_LARGE}, step) == []


def _placed() -> dict[str, object]:
    first = next(one for one in shop(Shop(orders=1, rate=1, bad_share=0, seed=9, start_ms=NOW_MS)))
    assert isinstance(first.value, dict)
    return {**first.value, "order_id": "giant"}


LETTERS = [ENTRIES[5].entry_id]
TAKEN = [entry.entry_id for entry in ENTRIES if entry.entry_id not in LETTERS]


def accepted() -> dict[str, list[tuple[str, bytes]]]:
    found: dict[str, list[tuple[str, bytes]]] = {}
    for entry in ENTRIES:
        if entry.entry_id not in LETTERS:
            found.setdefault(entry.order_id, []).append((entry.entry_id, entry.body))
    return found


def test_an_entry_that_is_lost_or_invented_on_its_way_is_found() -> None:
    assert checks.undelivered(ENTRIES, TAKEN, TAKEN, LETTERS) == []
    assert "lost" in checks.undelivered(ENTRIES, TAKEN[1:], TAKEN[1:], LETTERS)[0]
    assert "receipt: False" in checks.undelivered(ENTRIES, TAKEN, TAKEN[1:], LETTERS)[0]
    assert "invented" in checks.undelivered(ENTRIES, [*TAKEN, "e"], TAKEN, LETTERS)[0]
    assert "not accepted" in checks.undelivered(ENTRIES, TAKEN, [*TAKEN, *LETTERS], LETTERS)[0]
    assert "both" in checks.undelivered(ENTRIES, TAKEN, TAKEN, [*LETTERS, TAKEN[0]])[0]


def test_entries_out_of_order_or_with_other_bytes_are_found() -> None:
    right = accepted()
    assert checks.disorder(ENTRIES, LETTERS, right) == []
    order_id = next(order_id for order_id, told in right.items() if len(told) > 1)
    for wrong in (right[order_id][::-1], right[order_id][:-1], [(one, b"") for one, _ in right[order_id]]):
        (said,) = checks.disorder(ENTRIES, LETTERS, {**right, order_id: wrong})
        assert order_id in said
    assert checks.disorder(ENTRIES, LETTERS, {**right, "nobody": [("e", b"")]})
    assert checks.disorder(ENTRIES, [], right), "one is missing that was not refused"
    assert checks.disorder([*ENTRIES, ENTRIES[0]], LETTERS, right) == [], "the API knows the same entry by its key"


def test_two_requests_of_an_order_at_once_are_found_and_a_client_that_hung_up_is_none() -> None:
    order_of = {"a1": "a", "a2": "a", "b1": "b"}
    first = Request("a1", 1.0, 2.0, False, 200)
    others = [Request("a2", 2.0, 3.0, False, 200), Request("b1", 1.5, 9, False, 200)]
    assert checks.overlaps([first, *others], order_of) == []
    assert checks.overlaps([first, Request("a2", 1.99, 3.0, False, 200)], order_of)
    assert checks.overlaps([first, Request("a1", 1.5, 3.0, False, 200)], order_of), "the same entry again"
    assert checks.overlaps([first._replace(hung_up=True), Request("a1", 1.95, 3.0, False, 200)], order_of) == []
    assert checks.overlaps([first._replace(hung_up=True), Request("a1", 1.5, 3.0, False, 200)], order_of)


def test_a_window_with_one_too_many_is_found_wherever_it_begins() -> None:
    quota = Quota(3, 1.0)
    assert checks.over_quota([0.0, 0.9, 0.95, 1.0, 2.0], quota) == []
    assert checks.over_quota([0.0, 0.5, 0.9, 0.95, 1.4], quota) != []
    assert len(checks.over_quota([9.0, 9.1, 9.2, 9.3], quota)) == 1


def test_repeats_are_what_comes_after_an_acceptance() -> None:
    answers = ((1.0, 500), (3.0, 200), (5.0, 200))
    requests = [Request("a", at_s, at_s + 1.0, False, status) for at_s, status in answers]
    assert checks.repeated(requests, {"a": 3.5}) == 1
    assert checks.repeated(requests, {}) == 0
    assert checks.too_many_repeats(3, 3) == []
    assert checks.too_many_repeats(4, 3)


def test_a_person_that_is_still_in_a_state_is_found() -> None:
    erased = {"a": [b"max@example.com"], "b": [b"ada@example.com"]}
    assert checks.not_erased(erased, {"a": None, "b": b"parked", "c": b"max@example.com"}) == []
    (said,) = checks.not_erased(erased, {"a": b"... max@example.com", "b": None})
    assert "order a" in said


def test_memory_and_files_that_grow_to_the_end_are_found_and_a_cache_that_fills_is_not() -> None:
    def life(rss: list[int], files: list[int]) -> list[Sample]:
        return [Sample(10.0 * at, "send-a", 1, mb * 1_000_000, files[at]) for at, mb in enumerate(rss)]

    flat, few = [100] * 60, [50] * 60
    assert checks.growing(life(flat, few)) == []
    assert checks.growing(life([60 + 40 * min(at, 12) // 12 for at in range(60)], few)) == []
    assert "MB" in checks.growing(life([100 + 10 * at for at in range(60)], few))[0]
    assert "open files" in checks.growing(life(flat, [50 + 2 * at for at in range(60)]))[0]
    assert checks.growing(life([100 + 30 * at for at in range(12)], [50] * 12)) == [], "too short a life to tell"
