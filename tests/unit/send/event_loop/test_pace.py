"""The quota: never above it in any window at the server, whoever comes, goes or dies; nothing wasted in peace."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.config import Quota
from processor.send.event_loop.pace import (
    CLOCK_DRIFT,
    GRANULARITY_S,
    ON_THE_WAY_S_MAX,
    Bucket,
    Pace,
    quota_problem,
    slots_of,
    useful_replicas,
)

QUOTA = Quota(120, 60.0)


@given(st.integers(1, 500), st.integers(1, 60))
def test_the_partitions_slots_add_up_to_the_quota(requests: int, partitions: int) -> None:
    quota = Quota(requests, 60.0)
    slots = [slots_of(partition, quota, partitions) for partition in range(partitions)]
    assert sum(slots) == requests
    assert max(slots) - min(slots) <= 1


def test_a_quota_smaller_than_the_partitions_is_a_problem_with_a_remedy() -> None:
    assert quota_problem(Quota(12, 60.0), 12, "HAKUNA_QUOTA") is None
    problem = quota_problem(Quota(11, 60.0), 12, "HAKUNA_QUOTA")
    assert problem is not None
    assert "HAKUNA_QUOTA: 11/60s" in str(problem)
    assert "fewer partitions" in str(problem)


@pytest.mark.parametrize(
    ("quota", "replicas"), [(None, 12), (QUOTA, 1), (Quota(5_000, 1.0), 5), (Quota(100_000, 1.0), 12)]
)
def test_no_more_workers_are_useful_than_the_quota_and_the_partitions_can_use(
    quota: Quota | None, replicas: int
) -> None:
    assert useful_replicas(quota, 12, in_flight_max=1_024) == replicas


def test_slower_requests_need_more_workers() -> None:
    quota = Quota(1_000, 10.0)
    assert [useful_replicas(quota, 12, 50, request_s) for request_s in (0.1, 1.0, 2.0, 4.0)] == [1, 2, 4, 8]


def test_a_slot_comes_back_one_window_after_the_answer() -> None:
    pace = Pace(Quota(1, 10.0), 1)
    pace.open(1, 0, used=0, assigned_s=0.0)
    assert pace.is_free(0.0)
    bucket = pace.take()
    assert not pace.is_free(100.0)  # still under way
    assert pace.next_s() is None
    pace.answered(bucket, 100.0)
    assert not pace.is_free(110.0)
    free_s = pace.next_s()
    assert free_s is not None
    assert free_s == pytest.approx(110.0 + 10.0 * CLOCK_DRIFT + GRANULARITY_S), "no earlier, and nothing wasted"
    assert pace.is_free(free_s)


def test_a_partition_without_a_word_counts_after_one_window() -> None:
    pace = Pace(QUOTA, 1)
    pace.open(1, 0, used=None, assigned_s=5.0)
    assert not pace.is_free(65.0 + ON_THE_WAY_S_MAX), "what the last owner sent may have been on its way"
    assert pace.is_free(65.1 + ON_THE_WAY_S_MAX)
    assert pace.share == 120


def test_a_mark_leaves_the_rest_free_at_once() -> None:
    pace = Pace(QUOTA, 1)
    pace.open(1, 0, used=119, assigned_s=5.0)
    assert pace.is_free(5.0)
    pace.take()
    assert not pace.is_free(5.0)
    assert pace.next_s() == pytest.approx(5.0 + 60.0 * (1 + CLOCK_DRIFT) + GRANULARITY_S), "one window, and no longer"


def test_free_slots_of_a_partition_that_has_gone_are_nobodys_and_those_of_others_stay() -> None:
    pace = Pace(Quota(4, 10.0), 2)
    pace.open(1, 0, used=0, assigned_s=0.0)
    pace.open(2, 1, used=0, assigned_s=0.0)
    assert pace.close(2, 1.0) == 0
    for _ in range(2):
        assert pace.is_free(1.0)
        assert pace.take().ours
    assert not pace.is_free(1.0)
    assert pace.close(1, 1.0) == 2


def test_slots_of_a_partition_that_has_gone_do_not_come_back() -> None:
    pace = Pace(Quota(4, 10.0), 2)
    pace.open(1, 0, used=0, assigned_s=0.0)
    pace.open(2, 1, used=0, assigned_s=0.0)
    under_way = [pace.take() for _ in range(4)]
    assert pace.close(2, 1.0) == 2
    for bucket in under_way:
        pace.answered(bucket, 2.0)
    free_at = pace.next_s()
    assert free_at is not None
    assert pace.is_free(free_at)
    pace.take()
    pace.take()
    assert not pace.is_free(1_000.0)
    assert pace.close(7, 1.0) is None


@dataclass
class Member:
    """A worker in the simulation, busy without end: what it has, and what it has under way as (bucket, answer at)."""

    pace: Pace
    owned: dict[int, int] = field(default_factory=dict)
    under_way: list[tuple[Bucket, float]] = field(default_factory=list)


@dataclass
class Group:
    """Partitions that move between members, cleanly or not; arrivals at the server, for the checker."""

    quota: Quota
    partitions: int
    random: Random
    now_s: float = 0.0
    epochs: int = 0
    members: list[Member] = field(default_factory=list)
    marks: dict[int, int | None] = field(default_factory=dict)
    arrivals: list[float] = field(default_factory=list)

    def join(self) -> None:
        self.members.append(Member(Pace(self.quota, self.partitions)))

    def give(self, partition: int, member: Member) -> None:
        self.epochs += 1
        used = self.marks.pop(partition, None)  # read, and overwritten before the first request
        member.owned[partition] = self.epochs
        member.pace.open(self.epochs, partition, used, self.now_s)

    def take_from(self, partition: int, member: Member) -> None:
        """Revoked: what is in flight is answered or given up; then the mark is left."""
        for bucket, _ in member.under_way:
            member.pace.answered(bucket, self.now_s)
        member.under_way = []
        self.marks[partition] = member.pace.close(member.owned.pop(partition), self.now_s)

    def step(self) -> None:
        self.now_s += self.random.uniform(0.0, self.quota.window_s / 40)
        for member in self.members:
            for bucket, at_s in [flight for flight in member.under_way if flight[1] <= self.now_s]:
                member.under_way.remove((bucket, at_s))
                member.pace.answered(bucket, self.now_s)
            while member.pace.is_free(self.now_s):
                latency_s = self.random.uniform(0.001, self.quota.window_s / 10)
                self.arrivals.append(self.now_s + latency_s * self.random.random())
                member.under_way.append((member.pace.take(), self.now_s + latency_s))

    def befall(self) -> None:
        what = self.random.random()
        partition = self.random.randrange(self.partitions)
        owner = next((member for member in self.members if partition in member.owned), None)
        if what < 0.05:
            self.join()
        elif owner is None:
            self.give(partition, self.random.choice(self.members))
        elif what < 0.4:
            self.take_from(partition, owner)
        elif what < 0.45 and len(self.members) > 1:  # kill -9: nothing is left
            self.members.remove(owner)

    def most_in_a_window(self) -> int:
        arrivals = sorted(self.arrivals)
        most, first = 0, 0
        for last, at_s in enumerate(arrivals):
            while at_s - arrivals[first] > self.quota.window_s:
                first += 1
            most = max(most, last - first + 1)
        return most


@pytest.mark.parametrize("seed", range(60))
def test_never_above_the_quota_in_any_window_whoever_comes_goes_or_dies(seed: int) -> None:
    random = Random(seed)
    partitions = random.randint(1, 8)
    group = Group(Quota(random.randint(partitions, 50), random.choice((1.0, 5.0, 60.0))), partitions, random)
    group.join()
    group.give(0, group.members[0])
    for _ in range(600):
        if random.random() < 0.1:
            group.befall()
        group.step()
    assert group.most_in_a_window() <= group.quota.requests


def test_in_peace_nothing_of_the_quota_is_wasted() -> None:
    """Short answers, three workers, seven partitions: the quota's rate but for the latency and the drift
    allowed for."""
    random = Random(3)
    group = Group(Quota(100, 10.0), 7, random)
    for _ in range(3):
        group.join()
    for partition in range(7):
        group.marks[partition] = 0
        group.give(partition, group.members[partition % 3])
    while group.now_s < 200.0:
        group.step()
    assert group.most_in_a_window() == 100
    assert len(group.arrivals) >= 0.9 * 100 * 200 / 10.5


def test_a_clean_move_costs_no_pause() -> None:
    group = Group(Quota(10, 10.0), 1, Random(1))
    group.join()
    group.join()
    group.marks[0] = 0
    group.give(0, group.members[0])
    assert group.members[0].pace.is_free(0.0)
    group.take_from(0, group.members[0])
    group.now_s = 1.0
    group.give(0, group.members[1])
    assert group.members[1].pace.is_free(1.0)
