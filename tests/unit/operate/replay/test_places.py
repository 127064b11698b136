"""One command at a time; what is written is written once, whatever Kafka answers; what is purged is resolved."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from processor.errors import Fatal, Fenced, OutcomeUnknown, TransactionAborted
from processor.letters.letter import Refusal, letter_headers
from processor.letters.resolutions import How, Resolution, encode_resolution, resolution_key
from processor.operate.replay.place import GONE_S_MAX, Busy, Exclusive, Ledger
from processor.operate.replay.purge import Purge
from processor.records import Headers, NewRecord, Position, Record, Stage
from processor.topics import Topic
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.kafka import FakeConsumer, FakeTransaction
from tests.unit.operate.replay.world import PLACE, reading_of

AT_MS = 1_700_000_000_000


@pytest.fixture
def broker() -> FakeBroker:
    made = FakeBroker(FakeClock(AT_MS))
    for topic in Topic:
        made.create(topic)
    return made


def exclusive(broker: FakeBroker, name: str) -> Exclusive:
    def join() -> FakeConsumer:
        return FakeConsumer(broker, group=PLACE, client_id=name)

    return Exclusive(broker, PLACE, Topic.RESOLUTIONS, name, broker.clock, random.Random(1), join)


class Waiting:
    """Lets time pass on the clock, and remembers why."""

    def __init__(self, broker: FakeBroker) -> None:
        self.broker = broker
        self.whys: list[str] = []

    def __call__(self, seconds: float, why: str) -> None:
        self.whys.append(why)
        self.broker.clock.advance(seconds)
        self.broker.overdue()


def test_the_second_command_says_who_is_at_it(broker: FakeBroker) -> None:
    first, second = exclusive(broker, "first"), exclusive(broker, "second")
    first.take(Waiting(broker))

    class WhileTheFirstLives(Waiting):
        def __call__(self, seconds: float, why: str) -> None:
            first.keep()
            super().__call__(seconds, why)

    with pytest.raises(Busy, match="another command is at work: first"):
        second.take(WhileTheFirstLives(broker))
    first.keep()


def test_a_killed_command_is_waited_for_no_longer_than_its_session(broker: FakeBroker) -> None:
    exclusive(broker, "killed").take(Waiting(broker))
    broker.kill("killed")
    waiting = Waiting(broker)
    started_s = broker.clock.monotonic_s()
    exclusive(broker, "next").take(waiting)
    assert broker.clock.monotonic_s() - started_s <= GONE_S_MAX + 1
    assert waiting.whys[0] == "for killed to end"


def test_one_that_stood_still_until_its_place_was_given_away_stops(broker: FakeBroker) -> None:
    frozen = exclusive(broker, "frozen")
    frozen.take(Waiting(broker))
    broker.expel("frozen")
    with pytest.raises(Fatal, match="its place was given away"):
        frozen.keep()


def ledger_on(broker: FakeBroker) -> tuple[Ledger, FakeTransaction]:
    consumer = FakeConsumer(broker, group=PLACE, client_id="c")
    transaction = FakeTransaction(broker, transactional_id=PLACE, consumer=consumer)
    ledger = Ledger(transaction, reading_of(broker, "c"), Topic.RESOLUTIONS, Waiting(broker))
    ledger.open()
    return ledger, transaction


WRITES = [NewRecord(Topic.OUTBOX, 0, b"ord-1", b"{}", [], AT_MS), NewRecord(Topic.RESOLUTIONS, 0, b"dl/0/1", b"{}", [])]


@pytest.mark.parametrize("done", [False, True])
def test_a_commit_that_nobody_answered_is_looked_up_and_counts_once(broker: FakeBroker, done: bool) -> None:
    ledger, _ = ledger_on(broker)
    broker.points.fail("transaction.commit", OutcomeUnknown("no answer"), done=done)
    ledger.write(WRITES)
    assert len(broker.records(Topic.OUTBOX)) == 1
    assert len(broker.records(Topic.RESOLUTIONS)) == 1


def test_an_aborted_transaction_is_made_again_and_then_given_up(broker: FakeBroker) -> None:
    ledger, _ = ledger_on(broker)
    broker.points.fail("transaction.commit", TransactionAborted("passing"), times=2)
    ledger.write(WRITES)
    assert len(broker.records(Topic.OUTBOX)) == 1
    broker.denied.add(Topic.OUTBOX)
    with pytest.raises(Fatal, match=r"hakuna.outbox cannot be written, so nothing of this step was"):
        ledger.write(WRITES)
    assert len(broker.records(Topic.RESOLUTIONS)) == 1


def test_a_command_whose_id_was_taken_over_stops(broker: FakeBroker) -> None:
    ledger, _ = ledger_on(broker)
    broker.points.fail("transaction.produce", Fenced("taken over"))
    with pytest.raises(Fatal, match="another process has taken over"):
        ledger.write(WRITES)


class Deletion:
    """`RecordDeletion` over the fake broker."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    def before(self, positions: Iterable[Position]) -> None:
        for position in positions:
            self._broker.delete_before(*position)


def letters(broker: FakeBroker, failed: Iterable[int]) -> None:
    for number, failed_ms in enumerate(failed):
        source = Record(Topic.OUTBOX, 0, number, AT_MS, b"o", b"{}", [])
        refusal = Refusal(stage=Stage.SEND, reason="http_400", message="", group="g", failed_ms=failed_ms)
        headers: Headers = letter_headers(source, refusal)
        broker.append(Topic.HAKUNA_DEAD_LETTERS, 0, b"o", b"{}", headers, AT_MS)


def resolve(broker: FakeBroker, *offsets: int) -> None:
    for offset in offsets:
        key = resolution_key(Position(Topic.HAKUNA_DEAD_LETTERS, 0, offset))
        value = encode_resolution(Resolution(how=How.REPLAYED, at_ms=1, by="me"))
        broker.append(Topic.RESOLUTIONS, 0, key, value)


def purge(broker: FakeBroker) -> Purge:
    return Purge(reading_of(broker, "c"), Deletion(broker), Topic.RESOLUTIONS)


def test_what_is_resolved_goes_up_to_the_oldest_open_letter_and_its_resolutions_with_it(broker: FakeBroker) -> None:
    letters(broker, [1, 2, 3, 4, 5])
    resolve(broker, 0, 1, 3)
    work = purge(broker)
    (cut,) = work.cuts(Topic.HAKUNA_DEAD_LETTERS, 1_000)
    assert (cut.deleted, cut.stays, cut.because, cut.letter) == (2, 3, "open: http_400", "hakuna.dead-letters/0/2")
    work.delete([cut])
    assert [record.offset for record in broker.records(Topic.HAKUNA_DEAD_LETTERS)] == [2, 3, 4]
    ledger, _ = ledger_on(broker)
    assert work.forget(Topic.HAKUNA_DEAD_LETTERS, ledger) == 2
    left = {record.key: record.value for record in broker.records(Topic.RESOLUTIONS)}
    assert {key for key, value in left.items() if value is not None} == {b"hakuna.dead-letters/0/3"}
    assert work.forget(Topic.HAKUNA_DEAD_LETTERS, ledger) == 0


def test_what_is_young_stays_though_it_is_resolved(broker: FakeBroker) -> None:
    letters(broker, [1, 2_000, 3])
    resolve(broker, 0, 1, 2)
    (cut,) = purge(broker).cuts(Topic.HAKUNA_DEAD_LETTERS, 1_000)
    assert (cut.deleted, cut.stays, cut.because) == (1, 2, "younger")
