"""The shop: the same seed gives the same records, and every way to end is among them."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import orjson
import pytest
from fastavro import parse_schema
from fastavro.validation import validate
from hypothesis import given
from hypothesis import strategies as st

from processor.edges.avro import reader_schema
from processor.records import IgnoredReason, Outcome, Reason
from processor.sandbox.shop.history import HAPPENED_BEFORE_MS, Expected, Step
from processor.sandbox.shop.orders import REFUSED_COUNTRY, REFUSED_PRODUCT, Shop, shop
from processor.topics import ORDER_TOPICS, Topic

START_MS = 1_700_000_000_000
PLAN = Shop(
    orders=800,
    rate=20,
    bad_share=0.1,
    seed=7,
    start_ms=START_MS,
    refused_countries=frozenset({REFUSED_COUNTRY}),
    refused_products=frozenset({REFUSED_PRODUCT}),
)
STEPS = list(shop(PLAN))
SCHEMAS = {topic: parse_schema(orjson.loads(reader_schema(topic))) for topic in ORDER_TOPICS}


def by_order(steps: list[Step]) -> dict[bytes, list[Step]]:
    found: dict[bytes, list[Step]] = defaultdict(list)
    for step in steps:
        found[step.key].append(step)
    return found


def test_the_same_plan_gives_the_same_records_and_another_seed_others() -> None:
    assert list(shop(PLAN)) == STEPS
    other = list(shop(PLAN._replace(seed=8)))
    assert not {step.key for step in other} & {step.key for step in STEPS}


def test_every_way_to_end_is_expected_of_some_record() -> None:
    expected = {step.expected for step in STEPS}
    dead_letters = {
        Reason.UNDECODABLE,
        Reason.KEY_MISMATCH,
        Reason.ORDER_UNKNOWN,
        Reason.PARKED_TOO_MANY,
        Reason.LINE_ITEM_DUPLICATE,
        Reason.LINE_ITEM_UNKNOWN,
        Reason.QUANTITY_EXCEEDED,
        Reason.ORDER_CANCELLED,
        Reason.ORDER_EXISTS,
        Reason.PROTECTION_DANGLING,
        Reason.TIME_IMPLAUSIBLE,
    }
    ignored = {IgnoredReason.ORDER_CANCELLED, IgnoredReason.NOTHING_MOVED, IgnoredReason.ERASED}
    answers = {None, Reason.LOCATION_UNSUPPORTED, Reason.PRODUCT_UNSUPPORTED, Reason.CANCEL_DECLINE, Reason.HELD}
    assert expected == (
        {Expected(Outcome.DEAD_LETTERED, reason) for reason in dead_letters}
        | {Expected(Outcome.TRANSFORMED, None, answer) for answer in answers}
        | {Expected(Outcome.IGNORED, reason) for reason in ignored}
        | {Expected(Outcome.DUPLICATE, IgnoredReason.DUPLICATE)}
    )


def test_every_event_is_one_that_its_schema_can_write() -> None:
    for step in STEPS:
        if isinstance(step.value, dict):
            assert validate(step.value, SCHEMAS[step.topic], raise_errors=True)


def test_the_bad_are_as_many_as_asked_for_and_the_rest_is_good() -> None:
    bad = {step.key for step in STEPS if step.expected.outcome is Outcome.DEAD_LETTERED}
    of_no_effect = [step.expected for step in STEPS if step.expected.outcome in (Outcome.IGNORED, Outcome.DUPLICATE)]
    ignored = [expected for expected in of_no_effect if expected.reason is not IgnoredReason.ERASED]
    assert len(bad) + len(ignored) == 80
    good = list(shop(PLAN._replace(bad_share=0)))
    assert {step.expected.outcome for step in good} == {Outcome.TRANSFORMED, Outcome.IGNORED}
    assert {step.expected.reason for step in good} == {None, IgnoredReason.ERASED}


def test_time_goes_on_and_an_orders_topics_are_told_apart_by_it() -> None:
    assert all(one.timestamp_ms <= next_one.timestamp_ms for one, next_one in itertools.pairwise(STEPS))
    for steps in by_order(STEPS).values():
        for one, next_one in itertools.pairwise(steps):
            if one.topic is not next_one.topic:
                assert next_one.timestamp_ms > one.timestamp_ms


def test_events_happen_before_their_records_are_written() -> None:
    placed = [step for step in STEPS if step.topic is Topic.PLACED and step.expected == Expected(Outcome.TRANSFORMED)]
    for step in placed:
        assert isinstance(step.value, dict)
        assert step.value["placed_at"] == step.timestamp_ms - HAPPENED_BEFORE_MS


def test_orders_come_at_the_rate_that_was_asked_for() -> None:
    firsts = [steps[0].timestamp_ms for steps in by_order(STEPS).values() if b"astray" not in steps[0].key]
    assert sorted(firsts) == [START_MS + number * 50 for number in range(800)]


def test_orders_are_of_many_kinds() -> None:
    placed = [step.value for step in STEPS if step.topic is Topic.PLACED and isinstance(step.value, dict)]
    products = Counter(sum(1 for item in one["line_items"] if not item["protection"]) for one in placed)
    protections = Counter(sum(1 for item in one["line_items"] if item["protection"]) for one in placed)
    assert set(products) == {1, 2, 3, 4, 5}
    assert {0, 1, 2} <= set(protections)
    assert len({one["billing_address"]["country"].lower() for one in placed}) == 9


def test_the_hundred_and_first_parked_event_is_one_too_many() -> None:
    (key,) = {step.key for step in STEPS if step.expected.reason is Reason.PARKED_TOO_MANY}
    steps = by_order(STEPS)[key]
    placed = next(at for at, step in enumerate(steps) if step.topic is Topic.PLACED)
    before = [step.expected.reason for step in steps[:placed]]
    assert before == [None] * 100 + [Reason.PARKED_TOO_MANY]


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 30))
def test_any_seed_makes_histories_that_have_room_for_their_units(seed: int, bad_share: float, orders: int) -> None:
    """The generator's own counts are asserted by the moves it makes; here it is enough that none of them fails."""
    steps = list(shop(PLAN._replace(seed=seed, bad_share=bad_share, orders=orders)))
    assert len({step.key for step in steps if b"astray" not in step.key}) == orders


@pytest.mark.parametrize("bad_share", [0.0, 1.0])
def test_all_or_none_may_be_bad(bad_share: float) -> None:
    steps = list(shop(PLAN._replace(bad_share=bad_share, orders=60)))
    bad = [step for step in steps if step.expected.outcome not in (Outcome.TRANSFORMED,)]
    assert len({step.key for step in bad if step.expected.reason is not IgnoredReason.ERASED}) == 60 * bad_share
