"""An erasure waits for workers that are behind it: handed on too early it finds no order, and a person's data stays."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from processor.errors import BrokerOutage
from processor.records import TopicPartition
from processor.rekey.erasures import Erasures
from tests.chaos.rekey_world import GROUP, SOURCES, TARGETS, Traits, World
from tests.fakes.clock import FakeClock

PLACED = SOURCES[0]
MINE = frozenset({TopicPartition(PLACED, 0)})
AT_MS = 1_700_000_000_000
P1, P2 = TopicPartition(PLACED, 1), TopicPartition(PLACED, 2)


class Said:
    """Others, as the test says. Mutable: `answer`, and `asked` how often."""

    def __init__(self) -> None:
        self.answer: Mapping[TopicPartition, int] | None = None
        self.asked = 0
        self.down = False

    def left(self, mine: Collection[TopicPartition]) -> Mapping[TopicPartition, int] | None:
        self.asked += 1
        if self.down:
            raise BrokerOutage("no broker answers")
        return self.answer


@pytest.fixture
def others() -> Said:
    return Said()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def erasures(others: Said, clock: FakeClock) -> Erasures:
    return Erasures(others, clock)


def test_a_worker_that_is_alone_asks_once(erasures: Erasures, others: Said) -> None:
    assert all(erasures.may_pass(AT_MS + later, MINE) for later in range(1000))
    assert others.asked == 1


def test_it_passes_where_nothing_older_is_left_and_waits_where_something_is(
    erasures: Erasures, others: Said, clock: FakeClock
) -> None:
    others.answer = {P1: AT_MS, P2: AT_MS - 1}
    assert not erasures.may_pass(AT_MS, MINE)
    assert str(erasures.waits_for).startswith(f"{PLACED}/2 of other workers are behind an erasure of 2023-11-14T")
    others.answer = {P1: AT_MS, P2: AT_MS}
    assert not erasures.may_pass(AT_MS, MINE), "it asks twice a second at most"
    clock.advance(0.5)
    assert erasures.may_pass(AT_MS, MINE)
    assert erasures.waits_for is None
    assert erasures.may_pass(AT_MS - 5, MINE)
    assert others.asked == 2


def test_one_answer_holds_for_all_erasures_up_to_now_where_nothing_is_left(
    erasures: Erasures, others: Said, clock: FakeClock
) -> None:
    others.answer = {}
    assert erasures.may_pass(AT_MS, MINE)
    assert erasures.may_pass(clock.now_ms(), MINE)
    assert others.asked == 1
    clock.advance(1.0)
    ahead = clock.now_ms() + 3_000_000
    assert erasures.may_pass(ahead, MINE), "its stamp may be ahead of our clock"


def test_what_was_found_of_other_partitions_is_forgotten_when_they_move(erasures: Erasures, others: Said) -> None:
    assert erasures.may_pass(AT_MS, MINE | {P1})
    others.answer = {P1: AT_MS - 1}
    clock_free = Erasures(others, FakeClock())
    assert not clock_free.may_pass(AT_MS, MINE)
    assert not erasures.may_pass(AT_MS, MINE)


def test_without_an_answer_it_waits(erasures: Erasures, others: Said, clock: FakeClock) -> None:
    others.down = True
    with pytest.raises(BrokerOutage):
        erasures.may_pass(AT_MS, MINE)
    others.down = False
    clock.advance(0.5)
    assert erasures.may_pass(AT_MS, MINE)


def test_two_workers_with_a_backlog_hand_on_no_erasure_before_its_order() -> None:
    world = World(1, Traits(counts=(2, 1, 1, 1, 1), workers=2, batch_records_max=5))
    broker = world.broker
    behind, ahead = world.workers
    rest = {where for topic in SOURCES[1:] for where in broker.partitions(topic)}
    targets = {behind.client_id: {TopicPartition(PLACED, 0), *rest}, ahead.client_id: {TopicPartition(PLACED, 1)}}
    broker.rebalance(GROUP, targets)
    for _ in range(100):
        world.turn(behind)
        world.turn(ahead)
    at_ms = world.clock.now_ms() - 3_600_000
    for number in range(30):
        value = b'{"order_id": "ord-%d"}' % number
        broker.append(PLACED, 0, None, value, [("number", b"%d" % number)], at_ms + number * 1000)
    broker.append(PLACED, 1, b"ord-20", None, [("number", b"100")], at_ms + 25_500)
    broker.append(PLACED, 1, None, b'{"order_id": "ord-99"}', [("number", b"101")], at_ms + 26_000)
    for _ in range(200):
        world.turn(ahead)
    assert not broker.records(TARGETS[PLACED]), "the erasure has overtaken its order"
    assert any("an erasure waits for other workers" in why for why in ahead.rekeyer.unready())
    world.settle()
    keys = [record.key for record in broker.records(TARGETS[PLACED]) if record.key in (b"ord-20", b"ord-99")]
    assert keys == [b"ord-20", b"ord-20", b"ord-99"]
    assert not ahead.rekeyer.unready()
