"""Where rekey reads its sources from when a cluster has changed: nothing skipped, nothing repeated without a word."""

from __future__ import annotations

import pytest

from processor.errors import OutcomeUnknown, TransactionAborted
from processor.interfaces import Committed
from processor.records import TopicPartition
from processor.rekey.beginnings import Note, decode_note, encode_note
from processor.rekey.rekeyer import Rekeyer
from processor.sources.starts import Correction
from tests.chaos.rekey_world import GROUP, SOURCES, TARGETS, Traits, World

PLACED = SOURCES[0]
ALL = TopicPartition(PLACED, 0)
WORKER = "0123456789abcdef"


class Shop:
    """A world of five topics with one partition each, and one worker at work."""

    def __init__(self) -> None:
        self.world = World(1, Traits())
        self.broker = self.world.broker
        self._numbers = 0

    @property
    def loop(self) -> Rekeyer:
        return self.world.workers[0].rekeyer

    def place(self, count: int) -> None:
        for _ in range(count):
            self._numbers += 1
            value = b'{"order_id": "ord-%d"}' % self._numbers
            self.broker.append(PLACED, 0, None, value, [("number", b"%d" % self._numbers)])

    def stop(self) -> None:
        self.world.workers.pop().rekeyer.stop()

    def start(self) -> None:
        self.world.start()
        self.world.settle()

    def restart(self) -> None:
        self.stop()
        self.start()

    def notices(self) -> list[tuple[str, int, int, str]]:
        return [(one.topic, one.offset, one.missed, one.why) for one in self.loop.notices]

    def written(self) -> list[bytes | None]:
        return [record.key for record in self.broker.records(TARGETS[PLACED])]


def orders(*numbers: int) -> list[bytes]:
    return [b"ord-%d" % number for number in numbers]


@pytest.fixture
def shop() -> Shop:
    shop = Shop()
    shop.place(4)
    shop.world.settle()
    assert shop.written() == orders(1, 2, 3, 4)
    assert shop.notices() == []
    return shop


def test_a_commit_says_of_which_log_it_is_and_who_wrote_it(shop: Shop) -> None:
    committed = shop.broker.group(GROUP).committed[ALL]
    assert decode_note(committed.metadata) == Note("cluster-1", shop.broker.topic_ids[PLACED])
    assert decode_note(encode_note(WORKER, Note("c", "t"))) == Note("c", "t")
    assert [decode_note(other) for other in ("", WORKER, "a b c d")] == [None] * 3


def test_a_restart_is_nothing_out_of_the_ordinary(shop: Shop) -> None:
    shop.place(1)
    shop.restart()
    assert shop.written() == orders(1, 2, 3, 4, 5)
    assert shop.notices() == []


def made_again_under_offsets_of_the_old_one(shop: Shop) -> None:
    """While no worker runs."""
    kept = shop.broker.group(GROUP).committed[ALL]
    shop.stop()
    shop.broker.make_again(PLACED)
    shop.broker.group(GROUP).committed[ALL] = kept


def test_a_topic_made_again_under_offsets_of_the_old_one_is_read_from_its_beginning(shop: Shop) -> None:
    made_again_under_offsets_of_the_old_one(shop)
    shop.place(6)
    shop.start()
    assert shop.written() == orders(*range(1, 11)), "the first four were skipped in silence"
    assert shop.notices() == [(PLACED, 0, 0, Correction.MADE_AGAIN)]
    shop.restart()
    assert shop.notices() == [], "and it is over then"


def test_a_topic_made_again_with_nothing_in_it_yet_is_noted_at_once(shop: Shop) -> None:
    made_again_under_offsets_of_the_old_one(shop)
    shop.start()
    committed = shop.broker.group(GROUP).committed[ALL]
    assert committed.next_offset == 0
    assert decode_note(committed.metadata) == Note("cluster-1", shop.broker.topic_ids[PLACED])


def test_a_start_whose_commit_nobody_confirmed_is_not_committed_over_what_was_taken_with_it(shop: Shop) -> None:
    made_again_under_offsets_of_the_old_one(shop)
    shop.place(6)
    shop.world.start()
    shop.broker.points.spare()
    shop.broker.points.fail("transaction.commit", TransactionAborted("timed out"))
    shop.broker.points.fail("transaction.commit", OutcomeUnknown("no answer"), done=True)
    for _ in range(400):
        shop.loop.turn()
    assert shop.broker.group(GROUP).committed[ALL].next_offset == 6
    assert shop.written() == orders(*range(1, 11))


def test_offsets_that_are_gone_are_told_and_what_is_written_again_is_all_of_it(shop: Shop) -> None:
    shop.broker.forget(GROUP)
    shop.place(1)
    shop.restart()
    assert shop.written() == orders(1, 2, 3, 4, 1, 2, 3, 4, 5)
    assert shop.notices() == [(PLACED, 0, 0, Correction.OFFSETS_GONE)], "the other topics were never read"


def test_what_retention_took_while_the_groups_offsets_were_gone_is_counted(shop: Shop) -> None:
    """Exactly: of what was taken last nothing may be an event, and none of the partition may be remembered."""
    shop.broker.append(PLACED, 0, b"ord-1", None, [("number", b"0")])
    shop.world.settle()
    shop.stop()
    shop.broker.forget(GROUP)
    shop.place(5)
    shop.broker.delete_before(PLACED, 0, 8)
    shop.start()
    assert shop.written() == orders(1, 2, 3, 4, 1, 8, 9)
    assert shop.notices() == [(PLACED, 8, 3, f"{Correction.OFFSETS_GONE}, {Correction.OVERTAKEN}")]
    shop.restart()
    assert shop.notices() == []


def test_of_offsets_that_are_gone_nothing_is_missed_where_retention_took_only_what_was_taken(shop: Shop) -> None:
    shop.stop()
    shop.broker.forget(GROUP)
    shop.broker.delete_before(PLACED, 0, 3)
    shop.start()
    assert shop.notices() == [(PLACED, 3, 0, Correction.OFFSETS_GONE)]


def test_partitions_of_a_topic_that_has_grown_are_new(shop: Shop) -> None:
    shop.broker.grow(PLACED, 2)
    shop.broker.append(PLACED, 1, None, b'{"order_id": "ord-9"}', [("number", b"9")])
    shop.restart()
    assert shop.written() == orders(1, 2, 3, 4, 9)
    assert shop.notices() == []


def test_what_retention_took_before_a_start_is_counted_once(shop: Shop) -> None:
    shop.stop()
    shop.place(5)
    shop.broker.delete_before(PLACED, 0, 7)
    shop.start()
    assert shop.written() == orders(1, 2, 3, 4, 8, 9)
    assert shop.notices() == [(PLACED, 7, 3, Correction.OVERTAKEN)]
    shop.restart()
    assert shop.notices() == []


def test_what_retention_takes_from_under_a_worker_is_counted(shop: Shop) -> None:
    shop.place(5)
    shop.broker.delete_before(PLACED, 0, 6)
    shop.world.settle()
    assert shop.written() == orders(1, 2, 3, 4, 7, 8, 9)
    assert shop.notices() == [(PLACED, 6, 2, Correction.OVERTAKEN)]


def test_offsets_that_were_translated_into_another_cluster_are_believed(shop: Shop) -> None:
    shop.stop()
    note = encode_note(WORKER, Note("cluster-0", "topic-of-there"))
    shop.broker.group(GROUP).committed[ALL] = Committed(2, note)
    shop.start()
    assert shop.written() == orders(1, 2, 3, 4, 3, 4)
    assert shop.notices() == [(PLACED, 2, 0, Correction.OTHER_CLUSTER)]


@pytest.mark.parametrize("metadata", ["", WORKER])
def test_an_operators_offset_and_an_older_versions_are_obeyed(shop: Shop, metadata: str) -> None:
    shop.stop()
    shop.broker.group(GROUP).committed[ALL] = Committed(2, metadata)
    shop.start()
    assert shop.written() == orders(1, 2, 3, 4, 3, 4)
    assert shop.notices() == []
