"""Lanes: FIFO per order, one under way per order, whatever is taken, finished, retried, split or withdrawn."""

from __future__ import annotations

from math import log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor.letters.letter import Refusal, letter_headers
from processor.records import Record, Stage
from processor.send.event_loop.lanes import READY_MIN, READY_ROUNDS, Lanes, LaneState, Parcel
from processor.send.event_loop.pace import ReplayShare
from processor.send.pending import Pending

EPOCH = 1


def pending(order: str, number: int, epoch: int = EPOCH, size: int = 10, replayed: bool = False) -> Pending[int]:
    record = Record("hakuna.outbox", 0, number, 0, order.encode(), b"{}", [])
    return Pending(order, f"e{number}", number, record, epoch, size, 0, 0, None, replayed)


def copy(order: str, number: int, of: int) -> Pending[int]:
    """The copy of a dead letter whose record stood at the offset `of`."""
    refused = Record("hakuna.outbox", 0, of, 0, order.encode(), b"{}", [])
    refusal = Refusal(stage=Stage.SEND, reason="http_422", message="", group="g", failed_ms=0)
    record = Record("hakuna.outbox", 0, number, 0, order.encode(), b"{}", letter_headers(refused, refusal))
    return Pending(order, f"e{number}", number, record, EPOCH, 10, 0, 0, "r1", True)


def lanes(
    *orders: str,
    entries_max: int = 1,
    linger_s: float = 0.0,
    supersedes: bool = False,
    bytes_max: int = 1_000,
    share: ReplayShare | None = None,
) -> Lanes[int]:
    """With entries 1, 2 … of these orders, pushed at 0.0."""
    made: Lanes[int] = Lanes(entries_max, bytes_max, linger_s, supersedes, share)
    made.open(EPOCH)
    for number, order in enumerate(orders, 1):
        made.push(pending(order, number), 0.0)
    return made


def take(made: Lanes[int], now_s: float = 0.0) -> Parcel[int]:
    """What there is to be taken."""
    parcel = made.take(now_s)
    assert parcel is not None
    return parcel


def taken(parcel: Parcel[int] | None) -> list[int]:
    return [] if parcel is None else [entry.entry for entry in parcel.entries]


def test_an_order_that_fails_again_and_again_leaves_every_second_turn_to_the_others() -> None:
    """With a quota of one request a window it would else be the only one that is ever sent."""
    made = lanes()
    for number in range(4):
        made.push(pending(f"o{number}", number), 0.0)
    sent = []
    for now_s in range(0, 60, 10):
        parcel = take(made, float(now_s))
        sent += taken(parcel)
        if taken(parcel) == [0]:
            made.retry(parcel, now_s + 2.0)
        else:
            made.finish(parcel, now_s + 1.0, delivered=True)
    assert sent == [0, 0, 1, 0, 2, 0]


def test_orders_that_are_ready_are_enough_for_some_rounds_of_requests_and_those_that_wait_are_none() -> None:
    made = lanes()
    for number in range(READY_MIN + READY_ROUNDS * 10):
        assert not made.has_enough(10)
        made.push(pending(f"o{number}", number), 0.0)
    assert made.has_enough(10)
    assert not made.has_enough(11)
    parcel = take(made)
    made.retry(parcel, 60.0)
    assert not made.has_enough(10)


def test_with_snapshots_there_are_never_enough() -> None:
    made = feed_lanes()
    for number in range(2 * READY_MIN):
        made.push(pending(f"o{number}", number), 0.0)
    assert not made.has_enough(1)


def test_a_probe_takes_the_order_that_became_ready_last() -> None:
    made = lanes("a", "b", "c")
    assert taken(made.take(0.0, fresh_first=True)) == [3]
    assert taken(made.take(0.0)) == [1]


def test_another_order_does_not_wait_for_one_that_is_under_way() -> None:
    made = lanes("a", "a", "b")
    first, second = take(made), take(made)
    assert (taken(first), taken(second)) == ([1], [3])
    assert made.take(0.0) is None
    made.finish(first, 0.0, delivered=True)
    assert taken(made.take(0.0)) == [2]


def test_a_retry_waits_for_its_time_and_holds_its_own_lane_only() -> None:
    made = lanes("a", "a")
    parcel = take(made)
    made.retry(parcel, due_s=5.0)
    made.push(pending("b", 3), 0.0)
    assert taken(made.take(0.0)) == [3]
    assert made.take(4.9) is None
    assert made.next_s() == 5.0
    again = made.take(5.0)
    assert again is parcel
    assert taken(again) == [1]


def test_a_probe_is_made_with_an_order_that_has_not_failed() -> None:
    made = lanes("a")
    parcel = take(made)
    made.retry(parcel, due_s=0.0)
    made.push(pending("b", 2), 0.0)
    assert taken(made.take(1.0, fresh_first=True)) == [2]
    assert taken(made.take(1.0, fresh_first=True)) == [1]


def test_a_newer_entry_takes_the_place_of_one_that_waits_also_for_a_retry() -> None:
    made = lanes("a", entries_max=10, supersedes=True)
    replaced = made.push(pending("a", 2), 0.0)
    assert replaced is not None
    assert replaced.entry == 1
    parcel = take(made)
    assert made.push(pending("a", 3), 0.0) is None  # 2 is under way
    assert [entry.entry for entry in made.retry(parcel, due_s=1.0)] == [2]
    assert [old.entry for old in [made.push(pending("a", 4), 0.0)] if old] == [3]
    assert taken(made.take(1.0)) == [4]


def test_what_is_live_goes_before_a_replay_and_a_replay_waits_for_its_share() -> None:
    share = ReplayShare(0.5, lambda: 2, 10.0)
    made = lanes(share=share)
    for order, number in (("a", 1), ("b", 2), ("c", 3)):
        made.push(pending(order, number, replayed=number < 3), 0.0)
    made.push(pending("a", 4), 0.0)  # behind the replay of its order, in its place
    assert taken(made.take(0.0)) == [3]
    assert made.state("a") is LaneState.YIELDING
    first = take(made)
    assert taken(first) == [1]
    share.taken()
    assert made.take(0.0) is None
    assert made.next_s() is None
    share.answered(1.0)
    made.finish(first, 1.0, delivered=True)
    assert taken(made.take(1.0)) == [4]
    assert made.take(1.0) is None
    assert made.next_s() == 11.0
    assert taken(made.take(11.0)) == [2]


def test_a_replay_that_is_tried_again_goes_behind_what_is_live_too() -> None:
    made = lanes(share=ReplayShare(0.5, lambda: 2, 0.0))
    made.push(pending("a", 1, replayed=True), 0.0)
    parcel = take(made)
    made.retry(parcel, due_s=1.0)
    made.push(pending("b", 2), 0.0)
    assert [taken(made.take(2.0)) for _ in range(3)] == [[2], [1], []]


def test_replays_have_arrays_of_their_own() -> None:
    made = lanes(entries_max=10, share=ReplayShare(0.5, lambda: 4, 0.0))
    for number in range(6):
        made.push(pending(f"o{number}", number, replayed=number % 2 == 1), 0.0)
    assert [taken(made.take(0.0)) for _ in range(3)] == [[0, 2, 4], [1, 3, 5], []]


def feed_lanes() -> Lanes[int]:
    return lanes(entries_max=10, supersedes=True, share=ReplayShare(0.5, lambda: 4, 0.0))


@pytest.mark.parametrize("under_way", [False, True])
def test_the_copy_of_a_dead_snapshot_gives_way_to_another_of_its_order_whichever_came_first(under_way: bool) -> None:
    made = feed_lanes()
    late = copy("a", 12, of=5)
    made.push(pending("a", 11), 0.0)
    if under_way:
        assert taken(made.take(0.0)) == [11]
    assert made.push(late, 0.0) is late
    other, newer = copy("b", 13, of=6), pending("b", 14)
    made.push(other, 0.0)
    assert made.push(newer, 0.0) is other
    assert made.state("b") is LaneState.READY
    assert taken(made.take(0.0)) == ([14] if under_way else [11, 14])
    assert made.take(0.0) is None


def test_the_copy_of_a_snapshot_that_is_older_than_what_was_just_delivered_is_not_sent() -> None:
    made = feed_lanes()
    made.push(pending("a", 11), 0.0)
    parcel = take(made)
    made.finish(parcel, 0.0, delivered=True)
    stale, newer = copy("a", 21, of=5), copy("a", 22, of=15)
    assert made.push(stale, 0.0) is stale
    assert made.push(newer, 0.0) is None
    parcel = take(made)
    assert taken(parcel) == [22]
    made.finish(parcel, 0.0, delivered=True)
    assert made.push(copy("a", 23, of=18), 0.0) is None  # a copy is as old as its letter, not as its place


def test_a_snapshot_that_a_replay_sent_through_transform_is_as_new_as_any() -> None:
    made = feed_lanes()
    live, through = pending("a", 11), pending("a", 12, replayed=True)
    made.push(live, 0.0)
    assert made.push(through, 0.0) is live
    late = copy("a", 13, of=5)
    assert made.push(late, 0.0) is late
    assert taken(made.take(0.0)) == [12]


def test_a_quiet_array_lingers_and_a_full_one_does_not() -> None:
    made = lanes("a", entries_max=3, linger_s=0.2)
    made.push(pending("b", 2), 0.1)
    assert made.take(0.1) is None
    assert made.next_s() == pytest.approx(0.2)
    assert taken(made.take(0.2)) == [1, 2]
    for number in range(3, 7):
        made.push(pending(f"o{number}", number), 1.0)
    assert taken(made.take(1.0)) == [3, 4, 5]


def test_an_array_stays_below_its_bytes_unless_one_entry_alone_is_larger() -> None:
    made = lanes(entries_max=10, bytes_max=25)
    for number, size in enumerate((10, 10, 10, 99, 1)):
        made.push(pending(f"o{number}", number, size=size), 0.0)
    assert [taken(made.take(0.0)) for _ in range(4)] == [[0, 1], [2], [3], [4]]


def isolate(made: Lanes[int], refused: set[int]) -> tuple[int, list[int], list[int]]:
    """Requests after the first, entries delivered, entries refused alone."""
    requests, delivered, alone = -1, [], []
    while (parcel := made.take(0.0)) is not None:
        requests += 1
        entries = taken(parcel)
        if not refused & set(entries):
            delivered += entries
            made.finish(parcel, 0.0, delivered=True)
        elif len(entries) == 1:
            alone += entries
            made.finish(parcel, 0.0, delivered=False)
        else:
            made.split(parcel, 0.0)
    return requests, delivered, alone


@given(st.integers(2, 100), st.sets(st.integers(0, 99), min_size=1, max_size=12))
def test_k_refused_of_n_are_found_with_at_most_2_k_log2_n_requests_more(n: int, picked: set[int]) -> None:
    refused = {number % n for number in picked}
    made = lanes(entries_max=n, bytes_max=10**9)
    for number in range(n):
        made.push(pending(f"o{number}", number), 0.0)
    requests, delivered, alone = isolate(made, refused)
    assert sorted(alone) == sorted(refused)
    assert sorted(delivered) == sorted(set(range(n)) - refused)
    assert requests <= 2 * len(refused) * log2(n)
    assert len(made) == 0


def test_the_second_half_is_released_when_the_partition_of_the_first_has_gone() -> None:
    made = lanes(entries_max=4)
    made.open(2)
    for number in range(4):
        made.push(pending(f"o{number}", number, epoch=2 if number < 2 else EPOCH), 0.0)
    parcel = take(made)
    made.split(parcel, 0.0)
    made.drop({2})
    assert taken(made.take(0.0)) == [2, 3]


def test_what_is_under_way_of_a_dropped_partition_does_not_come_back() -> None:
    made = lanes("a")
    parcel = take(made)
    made.drop({EPOCH})
    made.open(2)
    made.push(pending("a", 1, epoch=2), 0.0)
    assert made.take(0.0) is None  # the old request is still under way
    made.retry(parcel, due_s=0.0)
    assert taken(made.take(0.0)) == [1]
    assert len(made) == 1


class AnyUse(RuleBasedStateMachine):
    """Whatever happens in whatever sequence; the model is a list per order."""

    def __init__(self) -> None:
        super().__init__()
        self.entries_max = 1
        self.supersedes = False
        self.now_s = 0.0
        self.number = 0
        self.epoch = EPOCH
        self.share = ReplayShare(0.5, lambda: 4, 1.0)
        self.lanes = self.made()
        self.queued: dict[str, list[int]] = {}
        self.out: list[Parcel[int]] = []

    def made(self) -> Lanes[int]:
        return lanes(entries_max=self.entries_max, supersedes=self.supersedes, share=self.share)

    @rule(order=st.sampled_from("abcdef"), replayed=st.booleans())
    def push(self, order: str, replayed: bool) -> None:
        self.number += 1
        replaced = self.lanes.push(pending(order, self.number, self.epoch, replayed=replayed), self.now_s)
        queue = self.queued.setdefault(order, [])
        queue.append(self.number)
        if replaced is not None:
            queue.remove(replaced.entry)

    @rule(fresh_first=st.booleans())
    def take(self, fresh_first: bool) -> None:
        parcel = self.lanes.take(self.now_s, fresh_first)
        if parcel is None:
            return
        under_way = {lane.order_id for other in self.out for lane in other.lanes}
        if parcel.replayed:
            self.share.taken()
            assert not any(self.lanes.state(order) is LaneState.READY and queue for order, queue in self.queued.items())
        orders = [entry.order_id for entry in parcel.entries]
        assert len(orders) == len(set(orders))
        assert not under_way & set(orders)
        for entry in parcel.entries:
            if entry.epoch == self.epoch:
                assert self.queued[entry.order_id][0] == entry.entry
        self.out.append(parcel)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 99), delivered=st.booleans())
    def finish(self, which: int, delivered: bool) -> None:
        parcel = self.back(which)
        for entry in parcel.entries:
            if entry.epoch == self.epoch:
                self.queued[entry.order_id].remove(entry.entry)
        self.lanes.finish(parcel, self.now_s, delivered)

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 99), after_s=st.floats(0, 3))
    def retry(self, which: int, after_s: float) -> None:
        self.replaced(self.lanes.retry(self.back(which), self.now_s + after_s))

    def back(self, which: int) -> Parcel[int]:
        parcel = self.out.pop(which % len(self.out))
        if parcel.replayed:
            self.share.answered(self.now_s)
        return parcel

    @precondition(lambda self: any(len(parcel.entries) > 1 for parcel in self.out))
    @rule()
    def split(self) -> None:
        which = next(place for place, parcel in enumerate(self.out) if len(parcel.entries) > 1)
        self.replaced(self.lanes.split(self.back(which), self.now_s))

    def replaced(self, entries: list[Pending[int]]) -> None:
        for entry in entries:
            assert self.supersedes
            self.queued[entry.order_id].remove(entry.entry)

    @rule()
    def move(self) -> None:
        """The partition goes and comes again; what is under way stays under way for now."""
        self.lanes.drop({self.epoch})
        self.epoch += 1
        self.lanes.open(self.epoch)
        self.queued = {}

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def nothing_is_lost(self) -> None:
        for order, queue in self.queued.items():
            assert not queue or self.lanes.state(order) is not None
            assert queue == sorted(queue)

    def teardown(self) -> None:
        """Everything can be brought to an end."""
        while self.out:
            self.finish(0, True)
        self.now_s += 10.0
        for _ in range(1_000):
            self.now_s += 1.0
            self.take(False)
            if not self.out:
                break
            self.finish(0, True)
        assert not any(self.queued.values())
        assert self.lanes.next_s() is None
        assert len(self.lanes) == 0
        assert all(self.lanes.state(order) is not LaneState.READY for order in "abcdef")


class AnyUseOfArrays(AnyUse):
    def made(self) -> Lanes[int]:
        self.entries_max = 4
        return super().made()


class AnyUseOfTheFeed(AnyUse):
    def made(self) -> Lanes[int]:
        self.entries_max, self.supersedes = 4, True
        return super().made()


TestAnyUse = AnyUse.TestCase
TestAnyUseOfArrays = AnyUseOfArrays.TestCase
TestAnyUseOfTheFeed = AnyUseOfTheFeed.TestCase
for case in (TestAnyUse, TestAnyUseOfArrays, TestAnyUseOfTheFeed):
    case.settings = settings(max_examples=60, stateful_step_count=40)
