"""Which partition numbers a worker holds, and how each gets its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from processor.errors import BrokerOutage, Fatal, StateCorrupt, StateTooNew, Unusable
from processor.interfaces import Polled
from processor.records import OrderId, TopicPartition
from processor.transform import partitions as module
from processor.transform.book import BOOK_KEY, Here, encode_book, new_book
from processor.transform.order_state import encode
from processor.transform.partitions import Partitions
from tests.fakes.broker import FakeBroker
from tests.fakes.kafka import FakeReader
from tests.fakes.stores import DictStore, Disk
from tests.fakes.topology import newest_book
from tests.unit.order_events import fulfilled, placed, product
from tests.unit.transform.histories import take

TOPICS = ("placed", "fulfilled")
CHANGELOG = "changelog"
DAY_S = 86_400
STATE = take(None, placed(product("l"))).state
assert STATE is not None
VALUE = encode(STATE)
_waiting = take(None, fulfilled(("l", 1))).state
assert _waiting is not None
WAITING = encode(_waiting)


class World:
    """A broker with a changelog, a disk, and the partitions of one worker on top of them."""

    def __init__(self, partitions: int = 2) -> None:
        self.broker = FakeBroker()
        self.broker.create(CHANGELOG, partitions=partitions)
        self.disk = Disk()
        self.reader = FakeReader(self.broker, client_id="w")
        self.held = self.worker()

    def worker(self, reader: FakeReader | None = None, identity: str = "id") -> Partitions:
        here = Here("cluster", identity, len(self.broker.partitions(CHANGELOG)))
        return Partitions(
            TOPICS,
            CHANGELOG,
            here,
            DAY_S * 1000,
            self.disk,
            reader or self.reader,
            self.broker.clock,
            lambda number: newest_book(self.broker, CHANGELOG, number),
        )

    def book(self, partition: int, **fields: Any) -> None:
        book = msgspec.structs.replace(new_book(Here("cluster", "id", 2)), **fields)
        self.broker.append(CHANGELOG, partition, BOOK_KEY, encode_book(book))

    def write(self, partition: int, *order_ids: str, value: bytes | None = VALUE) -> None:
        for order_id in order_ids:
            self.broker.append(CHANGELOG, partition, order_id.encode(), value)

    def assigned(self, *numbers: int) -> None:
        self.held.assigned([where for number in numbers for where in sources(number)])
        self.held.take_over(self.held.gained)

    def restored(self, *numbers: int) -> None:
        self.assigned(*numbers)
        while self.held.restoring:
            self.held.restore()

    def again(self, identity: str = "id") -> None:
        """Another life of the worker, which restores partition 0."""
        self.held.close()
        self.held = self.worker(identity=identity)
        self.restored(0)

    def erase(self, number: int, order_id: str) -> None:
        state = self.held.held[number].state
        state.erase(OrderId(order_id))
        state.changes(new_book(Here("cluster", "id", 2)))
        state.commit(0, self.broker.clock.now_ms())

    def corrupt(self, call: Callable[[], object], number: int = 0) -> StateCorrupt:
        """What the call raises of this partition's store."""
        with pytest.raises(StateCorrupt) as corrupt:
            call()
        assert corrupt.value.partition == TopicPartition(CHANGELOG, number)
        return corrupt.value

    def orders(self, number: int) -> list[str]:
        return [key[1:].decode() for key, _ in self.held.held[number].state._store.scan(b"o", 99)]


def sources(number: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in TOPICS]


def test_a_number_is_held_once_all_of_its_topics_are_here() -> None:
    world = World()
    world.held.assigned([TopicPartition("placed", 0), *sources(1)])
    assert (world.held.gained, world.held.gathering) == ([1], [0])
    assert world.held.incomplete == [TopicPartition("placed", 0)]
    world.held.take_over(world.held.gained)
    assert world.held.gained == []
    world.held.assigned([TopicPartition("fulfilled", 0)])
    assert (world.held.gained, world.held.gathering) == ([0], [])


def test_a_number_runs_when_its_store_has_reached_the_end_of_the_changelog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTORE_RECORDS_MAX", 3)
    world = World()
    world.write(0, "a", "b", "c", "d")
    world.assigned(0)
    assert (world.held.running, world.held.held[0].restore_remaining) == ([], 4)
    assert world.held.restore() == []
    assert world.held.held[0].restore_remaining == 1
    assert world.held.restore() == [0]
    assert (world.held.running, world.held.restored, world.orders(0)) == ([0], 4, ["a", "b", "c", "d"])


def test_a_restart_reads_only_the_tail() -> None:
    world = World()
    world.write(0, "a", "b")
    world.restored(0)
    world.held.unassigned(sources(0))
    world.write(0, "c")
    world.again()
    assert (world.held.restored, world.orders(0)) == (1, ["a", "b", "c"])
    assert world.disk.wiped == 0


def test_what_comes_back_after_a_rebalance_reads_only_the_tail() -> None:
    """The eager protocol takes everything away and gives it back: the store stays open meanwhile."""
    world = World()
    world.write(0, "a", "b")
    world.restored(0, 1)
    state = world.held.held[0].state
    world.held.unassigned(sources(0) + sources(1))
    world.write(0, "c")
    world.restored(0)
    assert world.held.held[0].state is state
    assert world.held.restored == 3
    assert world.held._kept == {}, "the store of what went elsewhere is closed"


def test_staged_changes_of_a_revoked_number_are_forgotten() -> None:
    world = World()
    world.restored(0)
    world.held.held[0].state.stage(OrderId("a"), STATE)
    world.held.unassigned([TopicPartition("placed", 0)])
    assert world.held.running == []
    world.held.assigned([TopicPartition("placed", 0)])
    world.held.take_over(world.held.gained)
    assert world.held.held[0].state.get(OrderId("a")) is None


@pytest.mark.parametrize("how", ["empty", "corrupt"])
def test_a_store_that_cannot_be_trusted_is_restored_from_the_beginning(how: str) -> None:
    world = World()
    world.write(0, "a", "b", "c")
    world.restored(0)
    if how == "empty":
        world.disk.partitions.clear()
    else:
        world.disk.broken.add(0)
    world.again()
    assert world.orders(0) == ["a", "b", "c"]
    assert world.disk.wiped == (0 if how == "empty" else 1)


@pytest.mark.parametrize("how", ["made again", "shorter", "cut before the store", "cut behind the store"])
def test_a_store_is_never_wiped_for_a_changelog_that_has_less_than_it(how: str) -> None:
    """It may be the last copy of the state: the start is refused, with the remedy, and the store left alone."""
    world = World()
    world.write(0, "a", "b", "c")
    world.restored(0)
    before = dict(world.disk.partitions[0])
    log = world.broker.logs[TopicPartition(CHANGELOG, 0)]
    identity = "id"
    match how:
        case "made again":
            identity = "another"
        case "shorter":
            log.high_watermark = 2
            del log.entries[2:]
        case "cut before the store":
            world.broker.delete_before(CHANGELOG, 0, 2)
        case "cut behind the store":
            world.write(0, "d", "e")
            world.broker.delete_before(CHANGELOG, 0, 4)
    with pytest.raises(Unusable, match="rebuild-changelog"):
        world.again(identity)
    kept = {key: value for key, value in world.disk.partitions[0].items() if key != b"m"}
    assert kept == {key: value for key, value in before.items() if key != b"m"}
    assert world.disk.wiped == 0


def test_a_store_of_another_changelog_goes_once_somebody_has_decided_what_the_state_is() -> None:
    world = World()
    world.write(0, "a", "b")
    world.restored(0)
    world.broker.make_again(CHANGELOG)
    world.write(0, "c")
    world.book(0, changelog="another", decided_ms=1)
    world.again(identity="another")
    assert (world.orders(0), world.disk.wiped) == (["c"], 1)


def test_a_changelog_that_was_written_again_behind_its_cut_is_whole() -> None:
    world = World()
    world.write(0, "a", "b", "c", "a", "b")
    world.book(0, whole_from=3)
    world.broker.delete_before(CHANGELOG, 0, 3)
    world.restored(0)
    assert world.orders(0) == ["a", "b"]


def test_state_that_was_made_with_other_partition_counts_is_not_taken_from() -> None:
    world = World()
    world.book(0, partitions=1)
    with pytest.raises(Unusable, match=r"made with 1 partitions.* have 2 now.*topics grow --partitions 2"):
        world.restored(0)


def test_a_store_older_than_the_tombstones_of_the_changelog_is_restored_from_the_beginning() -> None:
    """An order was erased while the worker was away, and compaction has let go of the tombstone since: the tail alone
    would leave the order in the store for good."""
    world = World()
    world.write(0, "kept", "erased")
    world.restored(0)
    world.write(0, "erased", value=None)
    world.write(0, "new")
    world.broker.compact(CHANGELOG)
    log = world.broker.logs[TopicPartition(CHANGELOG, 0)]
    log.entries = [entry for entry in log.entries if entry.record.value is not None]
    world.broker.clock.advance(DAY_S * 0.6)
    world.again()
    assert world.orders(0) == ["kept", "new"]


def test_a_worker_that_was_idle_for_a_day_keeps_its_store() -> None:
    """Nobody else has written while it held the partition: neither a rebalance nor a restart costs a restore."""
    world = World()
    world.write(0, "a")
    world.restored(0)
    world.broker.clock.advance(DAY_S)
    world.held.unassigned(sources(0))
    world.restored(0)
    world.broker.clock.advance(DAY_S)
    world.held.unassigned(sources(0))
    world.again()
    assert world.disk.wiped == 0


def test_a_store_from_the_future_is_not_trusted_either() -> None:
    world = World()
    world.write(0, "a")
    world.broker.clock.jump(10 * DAY_S)
    world.restored(0)
    world.broker.clock.jump(-10 * DAY_S)
    world.again()
    assert world.disk.wiped == 1


def test_an_outage_leaves_everything_to_be_called_again() -> None:
    world = World()
    world.write(0, "a")
    world.broker.down = True
    with pytest.raises(BrokerOutage):
        world.assigned(0)
    assert world.held.gained == [0]
    world.broker.down = False
    world.restored(0)
    assert world.orders(0) == ["a"]


class TornReader(FakeReader):
    """Reads ahead and then finds that one partition's position is gone, as a client with one queue for all does."""

    torn: TopicPartition | None = TopicPartition(CHANGELOG, 1)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        polled = super().poll(records_max, timeout_s)
        if self.torn is not None:
            torn, self.torn = self.torn, None
            raise StateCorrupt("the position is gone", torn)
        return polled


def test_what_was_read_in_the_poll_that_failed_is_read_again() -> None:
    world = World()
    world.write(0, "a", "b")
    world.write(1, "c")
    world.held = world.worker(TornReader(world.broker, client_id="w"))
    world.assigned(0, 1)
    world.held.wipe(1, world.corrupt(world.held.restore, 1))
    while world.held.restoring:
        world.held.restore()
    assert (world.orders(0), world.orders(1)) == (["a", "b"], ["c"])


def test_a_changelog_that_holds_rubbish_ends_the_process_instead_of_being_restored_for_ever() -> None:
    world = World()
    world.write(0, "a", value=b"rubbish")
    world.write(1, "b")
    world.assigned(0, 1)
    for _ in range(module.WIPES_MAX):
        world.held.wipe(0, world.corrupt(world.held.restore))
    once_more = world.corrupt(world.held.restore)
    with pytest.raises(Fatal, match="changelog/0 was restored 3 times in a row"):
        world.held.wipe(0, once_more)


def test_a_changelog_of_a_later_version_ends_the_process_and_wipes_nothing() -> None:
    """A rollout, or a step back over one: the workers of that version go on with it."""
    world = World()
    world.write(0, "a", value=b"\x03" + WAITING[1:])
    world.assigned(0)
    before = dict(world.disk.partitions[0])
    with pytest.raises(StateTooNew, match=r"version 3 was met.*a newer version may have written it"):
        world.held.restore()
    assert issubclass(StateTooNew, Fatal)
    assert world.disk.partitions[0] == before


def test_a_batch_that_was_committed_proves_a_store() -> None:
    world = World()
    world.restored(0)
    for _ in range(3 * module.WIPES_MAX):
        world.held.wipe(0, StateCorrupt("a bad block"))
        world.held.restore()
        world.held.proven(0)
    assert world.held.running == [0]


def test_an_empty_store_that_cannot_be_opened_ends_the_process() -> None:
    class Hopeless(Disk):
        def wipe(self, partition: int) -> None: ...

    world = World()
    world.disk = Hopeless()
    world.disk.broken.add(0)
    world.held = world.worker()
    with pytest.raises(Fatal, match="empty store of partition 0"):
        world.assigned(0)


def test_a_wipe_in_an_outage_is_finished_later() -> None:
    world = World()
    world.write(0, "a")
    world.restored(0)
    world.broker.down = True
    with pytest.raises(BrokerOutage):
        world.held.wipe(0, StateCorrupt("a bad block"))
    assert world.disk.wiped == 0
    world.broker.down = False
    world.held.wipe(0, StateCorrupt("a bad block"))
    world.restored()
    assert world.orders(0) == ["a"]


def test_a_resync_reads_on_from_what_the_store_reflects() -> None:
    world = World()
    world.write(0, "a")
    world.restored(0)
    world.write(0, "b")  # of a transaction whose outcome nobody told us
    world.held.begin_restore([0])
    assert world.reader.position(TopicPartition(CHANGELOG, 0)) == 1
    world.held.restore()
    assert (world.held.running, world.orders(0)) == ([0], ["a", "b"])


def test_erased_orders_leave_the_disk_one_by_one_and_take_a_hundredth_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Purging stands in the way of all else."""
    world = World()
    world.restored(0, 1)
    clock = world.broker.clock
    purged: list[bytes] = []

    def purge(_store: DictStore, key: bytes) -> None:
        purged.append(key)
        clock.advance(0.5)

    monkeypatch.setattr(DictStore, "purge", purge)
    for number in (0, 1):
        world.erase(number, f"o-{number}")
    world.held.purge()
    world.held.purge()
    assert purged == [b"oo-0"]
    clock.advance(49.4)
    world.held.purge()
    assert purged == [b"oo-0"]
    clock.advance(0.2)
    world.held.purge()
    clock.advance(60.0)
    world.held.purge()
    assert purged == [b"oo-0", b"oo-1"]


def test_a_store_that_breaks_while_an_order_leaves_it_is_named() -> None:
    world = World()
    world.restored(0)
    world.erase(0, "o")

    def broken(_how: str) -> None:
        raise StateCorrupt("a table is damaged")

    world.disk.touched = broken
    assert "damaged" in str(world.corrupt(world.held.purge))


def test_a_store_that_breaks_while_its_orders_are_counted_is_named_and_comes_back_from_the_changelog() -> None:
    world = World()
    world.write(0, "a", "b")
    world.assigned(0)

    def broken(how: str) -> None:
        if how == "read":
            raise StateCorrupt("a table is damaged")

    world.disk.touched = broken
    corrupt = world.corrupt(world.held.restore)
    assert "damaged" in str(corrupt)
    world.disk.touched = lambda _how: None
    world.held.wipe(0, corrupt)
    world.restored()
    assert (world.held.running, world.orders(0), world.disk.wiped) == ([0], ["a", "b"], 1)


def lying_by() -> World:
    """A worker that has lost the second of its partitions for good."""
    world = World()
    world.write(0, "a")
    world.write(1, "b")
    world.restored(0, 1)
    world.held.unassigned(sources(1))
    world.held.take_over([])
    return world


def test_a_store_that_lies_by_until_nobody_would_trust_it_is_wiped() -> None:
    """Its orders may have been erased where the partition is now."""
    world = lying_by()
    world.broker.clock.advance(DAY_S / 2 - 60)
    world.held.purge()
    assert world.disk.numbers() == [0, 1]
    world.broker.clock.advance(3_000)
    world.held.purge()
    assert world.disk.numbers() == [0, 1], "once an hour"
    world.broker.clock.advance(700)
    world.held.purge()
    assert world.disk.numbers() == [0], "what is held is never of no use"
    assert world.orders(0) == ["a"]


@pytest.mark.parametrize("lost", ["made again", "cut off at its beginning", "its store is broken"])
def test_a_store_that_lies_by_and_may_be_the_last_copy_stays(lost: str) -> None:
    world = lying_by()
    match lost:
        case "made again":
            world.broker.make_again(CHANGELOG)
        case "cut off at its beginning":
            world.broker.delete_before(CHANGELOG, 1, 1)
        case _:
            world.disk.broken.add(1)
    world.broker.clock.advance(DAY_S)
    world.held.purge()
    assert world.disk.numbers() == [0, 1]
