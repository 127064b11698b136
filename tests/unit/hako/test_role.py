"""The shared Kafka thread with Hako's intake: what is read, what an outage of the registry costs, what moves leave."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, TypeVar

import msgspec
import pytest

from processor.api.verdicts import Delivered, Rejected
from processor.errors import RegistryOutage
from processor.hako.changes import Change, Table
from processor.hako.intake import StockIntake
from processor.hako.sent import SentPast
from processor.interfaces import Committed
from processor.letters.letter import letter_head
from processor.letters.resolutions import How, decode_resolution, letter_of
from processor.records import Outcome, Record, TopicPartition
from processor.send.handover import Assigned, CaughtUp, Handover, Paced, PastRead, Released
from processor.send.kafka_thread.offsets import Note, read_note, write_note
from processor.send.kafka_thread.role import SendEdges, SendRole
from processor.send.pending import STALE, Ended, Ending, Pending
from processor.send.settings import SendSettings, SendTopics
from tests.chaos.send_world import RecordingMeter
from tests.fakes.broker import FakeBroker
from tests.fakes.clock import FakeClock
from tests.fakes.kafka import FakeConsumer, FakeProducer, FakeReader, FakeTopics

LEVELS, ITEMS, WAREHOUSES = TOPICS = "inventory.levels", "catalog.items", "catalog.warehouses"
GROUP = "hakuna-processor.hako"
CATCH_UP_S_MAX = 60.0
SINCE_MS = 1_600_000_000_000
OTHER = b'{"sku":"b","warehouse_id":"w","quantity":1,"occurred_at":1600000000001}'
REFUSED = Rejected("http_400", "no", 400)
Message = TypeVar("Message")


class Tick:
    """A signal that makes time pass instead of waiting."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def is_set(self) -> bool:
        return False

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float) -> object:
        self._clock.advance(timeout)
        return None


class Quiet:
    """The event loop's side, of which nothing is asked here."""

    def why(self, pending: Pending[Change]) -> str:
        return "its turn"

    def waits(self, pending: Pending[Change]) -> bool:
        return False

    def standstills(self) -> list[str]:
        return []

    def has_enough(self) -> bool:
        return False

    def held_orders(self, epoch: int) -> int:
        return 0


class Side:
    """A role of one worker on a fake broker; `messages` is what its event loop was told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, chance=Random(1))
        self.broker.chance = None
        for topic in (*TOPICS, "hako.sent", "hako.dead-letters", "resolutions"):
            self.broker.create(topic, partitions=1)
        self.down = False
        self.entries_max = 100
        self.meter = RecordingMeter()

    def start(self, turns: int = 10) -> None:
        self.handover: Handover[Change] = Handover(Tick(self.clock))
        decode = self._decode
        intake = StockIntake(
            {LEVELS: (Table.INVENTORY, decode), ITEMS: (Table.ITEMS, decode), WAREHOUSES: (Table.WAREHOUSES, decode)}
        )
        topics = SendTopics(
            TOPICS, "hako.sent", "hako.dead-letters", None, None, "resolutions", resolution_partitions=1
        )
        self.role: SendRole[Change] = SendRole(
            SendSettings(
                topics=topics,
                group=GROUP,
                partitions=len(self.broker.partitions(TOPICS[0])),
                poll_records_max=3,
                poll_s_max=0.0,
                catch_up_s_max=CATCH_UP_S_MAX,
                entries_max=self.entries_max,
                partition_share=1,
            ),
            SendEdges(
                consumer=FakeConsumer(self.broker, group=GROUP, client_id="a", eager=True, resets=False),
                producer=FakeProducer(self.broker, client_id="a", queue_max=40),
                reader=FakeReader(self.broker, client_id="a"),
                topics=FakeTopics(self.broker, [*TOPICS, "hako.sent", "hako.dead-letters"]),
                clock=self.clock,
                meter=self.meter,
            ),
            self.handover,
            Quiet(),
            intake,
            SentPast("hako.sent", {"inventory": LEVELS, "items": ITEMS, "warehouses": WAREHOUSES}),
        )
        self.role.start()
        self.turn(turns)

    def _decode(self, record: Record) -> dict[str, Any]:
        if self.down and record.topic == LEVELS:
            raise RegistryOutage("the registry does not answer")
        return msgspec.json.decode(record.value or b"", type=dict[str, Any])

    def level(self, sku: str, quantity: int, ending: Delivered | Rejected | None = None) -> None:
        """Is written; with an `ending`, the loop reports that of it."""
        said = {"sku": sku, "warehouse_id": "w", "quantity": quantity, "occurred_at": SINCE_MS + quantity}
        self.broker.append(LEVELS, 0, f"w/{sku}".encode(), msgspec.json.encode(said), [])
        if ending is not None:
            self.turn()
            self.end(ending, quantity)

    def item(self, sku: str) -> None:
        said = {"sku": sku, "name": sku, "expires": None, "price": None}
        self.broker.append(ITEMS, 0, sku.encode(), msgspec.json.encode(said), [])

    def turn(self, times: int = 10) -> None:
        for _ in range(times):
            self.role.turn()
            self.clock.advance(0.5)

    def told(self, kind: type[Message]) -> list[Message]:
        """What of this kind the event loop was told, in order."""
        return [message for message in self.handover._messages if isinstance(message, kind)]

    @property
    def taken(self) -> list[Pending[Change]]:
        return [pending for given in self.told(list) for pending in given]

    def end(self, ending: Ending, quantity: int | None = None) -> None:
        """What the loop reports of the level with this quantity, or of what was taken last."""
        found = [one for one in self.taken if one.entry.fields == b'"quantity":%d' % (quantity or 0)]
        (pending,) = self.taken[-1:] if quantity is None else found
        self.handover.report(Ended(pending, ending, self.clock.now_ms()))
        self.turn(3)

    def superseded(self) -> list[int]:
        """The offsets of the letters that are marked so, in the order in which they were."""
        found = []
        for record in self.broker.records("resolutions"):
            letter, resolution = letter_of(record.key), decode_resolution(record.value or b"")
            assert letter is not None
            assert letter.topic == "hako.dead-letters"
            assert resolution is not None
            assert (resolution.how, resolution.by) == (How.SUPERSEDED, "hako")
            found.append(letter.offset)
        return found

    def through(self) -> dict[str, int]:
        """How many of its entries the loop had been told of when it heard that a topic's partition is through."""
        topics = {message.epoch: topic for message, topic in zip(self.told(Assigned), sorted(TOPICS), strict=True)}
        told: dict[str, int] = dict.fromkeys(TOPICS, 0)
        through: dict[str, int] = {}
        for message in self.handover._messages:
            match message:
                case list():
                    for pending in message:
                        told[pending.record.topic] += 1
                case CaughtUp(epochs):
                    through |= {topics[epoch]: told[topics[epoch]] for epoch in epochs}
        return through

    def committed(self, topic: str) -> Committed:
        return self.broker.group(GROUP).committed[TopicPartition(topic, 0)]


@pytest.fixture
def side() -> Iterator[Side]:
    made = Side()
    yield made
    made.role.stop()


def test_an_outage_of_the_registry_loses_nothing_and_holds_the_rest(side: Side) -> None:
    side.start()
    side.down = True
    for number in range(7):
        side.level("a", number)
    side.item("a")
    side.turn()
    assert any("registry" in reason for reason in side.role.standing.unready())
    assert [pending for pending in side.taken if pending.entry.table is Table.INVENTORY] == []
    side.down = False
    side.turn()
    levels = [pending.record.offset for pending in side.taken if pending.entry.table is Table.INVENTORY]
    assert levels == list(range(7))
    assert [pending.order_id for pending in side.taken if pending.entry.table is Table.ITEMS] == ["items/a"]
    assert side.role.standing.unready() == []


def test_an_accepted_change_stands_on_hako_sent_before_its_offset_is_finished(side: Side) -> None:
    side.item("a")
    side.start()
    assert len(side.taken) == 1
    assert side.committed(ITEMS).next_offset == 0
    side.end(Delivered(200))
    (record,) = side.broker.records("hako.sent")
    assert record.key == b"items/a"
    assert msgspec.json.decode(record.value or b"")["object"] == {"sku": "a", "name": "a"}
    assert side.committed(ITEMS).next_offset == 1
    assert side.meter.ended == {Outcome.DELIVERED: 1}


def test_a_stale_change_is_counted_as_ignored_and_finished(side: Side) -> None:
    side.level("a", 1)
    side.start()
    assert len(side.taken) == 1
    side.end(STALE)
    assert side.committed(LEVELS).next_offset == 1
    assert side.meter.ended == {Outcome.IGNORED: 1}


def test_a_takeover_reads_what_was_sent_for_the_topic_that_it_came_from(side: Side) -> None:
    value = b'{"rank":4,"occurred_at":9,"verb":"PUT","status":200,"attempts":1,"sent_at":1,"entry_id":"e"}'
    side.broker.append("hako.sent", 0, b"inventory/w/a", value, [])
    side.broker.append("hako.sent", 0, b"items/a", None, [])
    side.start()
    past = {message.epoch: message.past for message in side.told(PastRead)}
    paced = side.told(Paced)
    assert len(side.told(Assigned)) == 3
    assert len(paced) == 1, "the first source shares the quota out"
    assert past[paced[0].epoch][0][0] == "inventory/w/a"
    assert sorted(len(read) for read in past.values()) == [1, 1]


@pytest.mark.parametrize(("shared_by", "counts"), [(1, 2), (None, 2), (4, None)])
def test_a_mark_of_slots_that_were_shared_out_otherwise_is_not_believed(
    side: Side, shared_by: int | None, counts: int | None
) -> None:
    """The topics have grown since: of a fourth of the quota all may have been in use, and of the whole more."""
    place = side.broker.seen([LEVELS])[LEVELS].place
    note = write_note(Note(2, [], place, shared_by=shared_by))
    side.broker.group(GROUP).committed[TopicPartition(LEVELS, 0)] = Committed(0, note or "")
    side.start()
    (paced,) = side.told(Paced)
    assert paced.used == counts


def test_who_leaves_says_by_how_many_partitions_its_slots_were_shared_out(side: Side) -> None:
    side.start()
    (paced,) = side.told(Paced)
    epochs = frozenset(one.epoch for one in side.told(Assigned))
    side.handover.report(Released(epochs, {paced.epoch: 3}))
    side.role.stop()
    note = read_note(side.committed(LEVELS).metadata)
    assert note is not None
    assert (note.used, note.shared_by) == (3, 1)


def test_a_key_that_names_nothing_is_a_dead_letter(side: Side) -> None:
    side.broker.append(LEVELS, 0, b"no-slash", None, [("trace", b"1")])
    side.start()
    (record,) = side.broker.records("hako.dead-letters")
    letter = letter_head(record)
    assert letter is not None
    assert (letter.reason, letter.stage, record.key, record.value) == ("key_mismatch", "transform", b"no-slash", None)
    assert side.committed(LEVELS).next_offset == 1


def test_a_newer_accepted_value_supersedes_the_letter_of_its_object_and_of_no_other(side: Side) -> None:
    side.level("a", 1)
    side.level("b", 2)
    side.start()
    side.end(REFUSED, 1)
    side.end(REFUSED, 2)
    side.level("a", 3)
    side.turn()
    assert side.superseded() == []
    side.end(Delivered(200), 3)
    assert side.superseded() == [0]
    side.level("a", 4, Delivered(200))
    assert side.superseded() == [0], "once"


def test_an_accepted_value_that_is_older_supersedes_nothing(side: Side) -> None:
    side.level("a", 5)
    side.level("a", 2)
    side.start()
    side.end(REFUSED, 5)
    side.end(Delivered(200), 2)
    assert side.superseded() == []
    side.level("a", 6, Delivered(200))
    assert side.superseded() == [0]


def test_a_deletion_that_is_accepted_supersedes_too(side: Side) -> None:
    side.start()
    side.level("a", 1, REFUSED)
    side.broker.append(LEVELS, 0, b"w/a", None, [])
    side.turn()
    side.end(Delivered(200))
    assert side.superseded() == [0]


def test_a_record_that_cannot_be_read_is_superseded_by_the_next_of_its_key_if_that_names_an_object(side: Side) -> None:
    for key in (b"w/a", b"no-slash", None):
        side.broker.append(LEVELS, 0, key, OTHER, [])
    side.start()
    assert len(side.broker.records("hako.dead-letters")) == 3
    side.level("a", 2, Delivered(200))
    assert side.superseded() == [0]


def test_a_level_of_a_time_in_microseconds_is_a_dead_letter_and_makes_no_later_one_old(side: Side) -> None:
    said = b'{"sku":"a","warehouse_id":"w","quantity":7,"occurred_at":1600000000000000}'
    side.broker.append(LEVELS, 0, b"w/a", said, [])
    side.level("a", 0)
    side.start()
    (letter,) = side.broker.records("hako.dead-letters")
    assert dict(letter.headers)["__dlq.errors.reason"] == b"time_implausible"
    assert [pending.entry.fields for pending in side.taken] == [b'"quantity":0']


def test_what_a_replay_brings_marks_nothing_which_the_replay_itself_has_done(side: Side) -> None:
    side.start()
    side.level("a", 1, REFUSED)
    (letter,) = side.broker.records("hako.dead-letters")
    side.broker.append(LEVELS, 0, letter.key, letter.value, [*letter.headers, ("replay-id", b"r1")])
    side.turn()
    side.end(Delivered(200))
    side.level("a", 2, Delivered(200))
    assert side.superseded() == []


def test_the_loop_hears_of_an_end_after_all_that_stood_before_it(side: Side) -> None:
    for number in range(10):
        side.level(str(number), number)
    side.item("a")
    side.start(3)
    side.level("later", 1)
    assert LEVELS not in side.through()
    assert any("reading 1 partitions to their ends first" in reason for reason in side.role.standing.unready())
    assert {lag.topic: lag.restore_remaining for lag in side.meter.lags}[LEVELS] > 0
    side.turn()
    assert side.through()[ITEMS] == 1
    assert side.through()[WAREHOUSES] == 0
    assert 10 <= side.through()[LEVELS] <= 11, "what came later is not waited for"
    assert side.role.standing.unready() == []
    assert {lag.restore_remaining for lag in side.meter.lags} == {0}


def test_a_restart_with_nothing_left_over_waits_for_nothing(side: Side) -> None:
    for topic in TOPICS:
        for _ in range(5):
            side.broker.append(topic, 0, b"k", b"v", [])
        side.broker.group(GROUP).committed[TopicPartition(topic, 0)] = Committed(5, "v1")
    side.start(2)
    assert side.through() == dict.fromkeys(TOPICS, 0)


def test_an_end_that_an_open_transaction_hides_is_not_waited_for(side: Side) -> None:
    side.level("a", 1)
    side.broker.take_over("a producer")
    side.broker.open_transaction("a producer", 600.0).touched.add(TopicPartition(LEVELS, 0))
    side.level("b", 2)
    side.start()
    assert LEVELS in side.through()


def test_a_partition_that_cannot_be_read_is_given_up_and_holds_the_others_no_longer(side: Side) -> None:
    side.level("a", 1)
    side.item("a")
    side.down = True
    side.start()
    assert ITEMS in side.through()
    assert LEVELS not in side.through()
    side.turn(100)
    assert side.through()[LEVELS] == 0
    assert not any("to their ends" in reason for reason in side.role.standing.unready())


def test_what_is_full_is_sent_though_more_stands_there(side: Side) -> None:
    side.entries_max = 6
    for number in range(50):
        side.level(str(number), number)
    side.start(20)
    assert 6 <= side.through()[LEVELS] < 50


def test_reading_ends_at_its_limit_though_it_goes_on(side: Side) -> None:
    """A topic with more than can be read in the time."""
    for number in range(1000):
        side.level("a", number)
    side.entries_max = 10_000
    side.start(int(CATCH_UP_S_MAX / 0.5) + 2)
    assert 0 < side.through()[LEVELS] < 1000


def test_partitions_that_go_while_they_are_read_are_forgotten(side: Side) -> None:
    for number in range(30):
        side.level("a", number)
    side.start(3)
    side.role.lost([TopicPartition(topic, 0) for topic in TOPICS])
    side.turn(3)
    assert not any("to their ends" in reason for reason in side.role.standing.unready())
