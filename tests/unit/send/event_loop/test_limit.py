"""The limit finds what the server can do, follows it when it changes, and shares it with another worker."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from processor.send.event_loop.limit import ROUND_MIN, Limit


@dataclass
class Client:
    """A worker that always has something to send."""

    limit: Limit
    joins_s: float
    in_flight: int = 0


def simulate(
    capacity: Callable[[float], int],
    until_s: float,
    joins_s: tuple[float, ...] = (0.0,),
    seed: int = 1,
    service: Callable[[float], float] = lambda now_s: 0.05,
    refused: Callable[[float], float] = lambda now_s: 0.0,
) -> list[tuple[float, list[int]]]:
    """A server that does so many requests at once and lets the others queue; the limits, ten times a second."""
    random = Random(seed)
    clients = [Client(Limit(1_024, Random(seed + number)), at_s) for number, at_s in enumerate(joins_s)]
    queue: deque[tuple[Client, float]] = deque()
    events: list[tuple[float, int, Client | None, float]] = []
    number = busy = 0
    history = []
    for tick in range(int(until_s * 10)):
        heapq.heappush(events, (tick / 10, number := number + 1, None, 0.0))
    while events[0][0] < until_s:
        now_s, _, client, sent_s = heapq.heappop(events)
        if client is None:
            history.append((now_s, [each.limit.value for each in clients]))
        else:
            busy -= 1
            if random.random() < refused(now_s):
                client.limit.refused(now_s - sent_s, now_s)
            else:
                client.limit.answered(now_s - sent_s, client.in_flight, now_s)
            client.in_flight -= 1
        for each in clients:
            while each.joins_s <= now_s and each.in_flight < each.limit.value:
                each.in_flight += 1
                queue.append((each, now_s))
        while queue and busy < capacity(now_s):
            each, sent_s = queue.popleft()
            busy += 1
            done_s = now_s + service(now_s) * max(random.gauss(1.0, 0.1), 0.1)
            heapq.heappush(events, (done_s, number := number + 1, each, sent_s))
    return history


def mean(history: list[tuple[float, list[int]]], from_s: float, to_s: float, client: int = 0) -> float:
    values = [limits[client] for at_s, limits in history if from_s <= at_s < to_s]
    return sum(values) / len(values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("best", [4, 20, 100])
def test_it_settles_within_a_fifth_of_the_best_limit(best: int, seed: int) -> None:
    history = simulate(lambda now_s: best, 20.0, seed=seed)
    assert mean(history, 10.0, 20.0) == pytest.approx(best, rel=0.2, abs=1)


@pytest.mark.parametrize("seed", range(3))
def test_it_follows_a_capacity_that_changes_and_gives_way_within_two_seconds(seed: int) -> None:
    history = simulate(lambda now_s: 50 if now_s < 10 else 100 if now_s < 20 else 50, 30.0, seed=seed)
    assert mean(history, 5.0, 10.0) == pytest.approx(50, rel=0.2)
    assert mean(history, 15.0, 20.0) == pytest.approx(100, rel=0.2)
    assert min(limits[0] for at_s, limits in history if 20.0 <= at_s <= 22.0) <= 60
    assert mean(history, 22.0, 30.0) == pytest.approx(50, rel=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_becomes_slow_by_itself_keeps_its_limit(seed: int) -> None:
    history = simulate(lambda now_s: 40, 30.0, seed=seed, service=lambda now_s: 0.05 if now_s < 10 else 0.15)
    assert mean(history, 18.0, 30.0) == pytest.approx(40, rel=0.25)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stumbles_s", [0.3, 0.6, 1.0])
def test_a_far_server_that_stumbles_once_has_its_requests_back_in_seconds(stumbles_s: float, seed: int) -> None:
    """A slow answer or two in the first second end the doubling early; the server can do far more."""

    def service(now_s: float) -> float:
        return 0.15 if stumbles_s <= now_s < stumbles_s + 0.2 else 0.1

    history = simulate(lambda now_s: 2_000, 12.0, seed=seed, service=service)
    assert mean(history, 6.0, 12.0) >= 800


@pytest.mark.parametrize("seed", range(3))
def test_two_workers_share_and_neither_starves(seed: int) -> None:
    history = simulate(lambda now_s: 50, 60.0, joins_s=(0.0, 10.0), seed=seed)
    shares = [mean(history, 25.0, 60.0, client) for client in (0, 1)]
    assert min(shares) >= 50 / 2 * 0.5
    assert sum(shares) <= 50 * 1.6


def test_refusals_that_are_many_cut_it_and_lone_ones_do_not() -> None:
    many = simulate(lambda now_s: 1_000, 5.0, refused=lambda now_s: 0.3)
    few = simulate(lambda now_s: 50, 20.0, refused=lambda now_s: 0.03)
    assert many[-1][1][0] <= 5
    assert mean(few, 10.0, 20.0) == pytest.approx(50, rel=0.25)


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    limit = Limit(1_024, Random(1), initial=16)
    for number in range(1_000):
        limit.answered(0.05, in_flight=3, now_s=number / 100)
    assert limit.value == 16


def a_round(limit: Limit, now_s: float, *, duration_s: float = 0.1, refused: int = 0, full: int = 1) -> list[int]:
    """A round of answers at one moment, the last of them refusals; `full` of them fill the limit. Returns the limit
    before its last answer and after it."""
    count = max(limit.value, ROUND_MIN)
    before = limit.value
    for number in range(count):
        before = limit.value
        if number >= count - refused:
            limit.refused(duration_s, now_s)
        else:
            limit.answered(duration_s, limit.value - (number >= full), now_s)
    return [before, limit.value]


def test_it_doubles_round_by_round_up_to_its_maximum_and_judges_nothing_before_a_round_is_over() -> None:
    limit = Limit(100, Random(1), initial=16)
    doubled = [a_round(limit, float(number)) for number in range(4)]
    assert doubled == [[16, 32], [32, 64], [64, 100], [100, 100]]
    assert Limit(8, Random(1), initial=16).value == 8


def test_one_answer_that_fills_the_limit_makes_a_round_that_speaks_for_more() -> None:
    limit = Limit(100, Random(1), initial=16)
    assert a_round(limit, 0.0, full=0) == [16, 16]
    assert a_round(limit, 1.0, full=1) == [16, 32]


def test_answers_to_requests_from_before_a_cut_are_not_judged() -> None:
    limit = Limit(100, Random(1), initial=40)
    assert a_round(limit, 10.0, refused=40) == [40, 28]
    for _ in range(100):
        limit.refused(0.5, 10.4)
        limit.answered(0.5, limit.value, 10.4)
    assert limit.value == 28
    assert a_round(limit, 10.5, duration_s=0.5, refused=28) == [28, 20]  # sent in the moment of the cut


@pytest.mark.parametrize(("refused", "after"), [(4, 28), (3, 80)])
def test_a_round_of_which_a_tenth_is_refused_is_cut(refused: int, after: int) -> None:
    limit = Limit(1_024, Random(1), initial=40)
    assert a_round(limit, 0.0, refused=refused) == [40, after]


def test_after_a_cut_it_grows_a_little_each_round_and_faster_after_calm_ones() -> None:
    limit = Limit(1_024, Random(1), initial=1_000)
    a_round(limit, 0.0, refused=1_000)
    a_round(limit, 1.0)  # the first full round tells the best latency, and doubles
    a_round(limit, 2.0, refused=1_000)
    rounds = [a_round(limit, 3.0 + number / 100) for number in range(10)]
    grown = [after - before for before, after in rounds]
    assert 0 < grown[0] < rounds[0][0] / 20
    assert grown[9] > 1.5 * grown[0]


@pytest.mark.parametrize(("late_s", "round_s", "after"), [(0.026, 0.0, 90), (0.025, 0.049, 200), (0.0, 0.051, 90)])
def test_a_round_in_which_our_own_loop_was_full_is_cut_a_little(late_s: float, round_s: float, after: int) -> None:
    limit = Limit(1_024, Random(1), initial=100)
    limit.late_s, limit.round_s = late_s, round_s
    assert a_round(limit, 0.0) == [100, after]


@pytest.mark.parametrize("initial", [5, ROUND_MIN, ROUND_MIN + 1])
def test_a_full_loop_of_ours_cuts_to_no_less_than_a_round(initial: int) -> None:
    limit = Limit(1_024, Random(1), initial=initial)
    limit.late_s = 1.0
    for number in range(5):
        a_round(limit, float(number))
    assert limit.value == min(initial, ROUND_MIN)


def test_some_requests_that_hang_are_no_queue() -> None:
    limit = Limit(1_024, Random(1), initial=100)
    a_round(limit, 0.0)
    for number in range(200):
        limit.answered(0.1 if number < 190 else 19.9, 200, 20.0)
    assert limit.value == 400


def test_what_our_own_loop_takes_is_not_laid_to_the_server() -> None:
    """Beside a server that answers at once, a latency in proportion to the limit is our own queue."""
    limit = Limit(1_024, Random(1), initial=16)
    now_s = 0.0
    for _ in range(5_000):
        now_s += 0.0001
        limit.answered(limit.value * 0.00005, limit.value, now_s)
    assert limit.value >= 100


def test_while_our_own_loop_is_late_there_is_no_more_at_once_and_afterwards_there_is() -> None:
    limit = Limit(1_024, Random(1), initial=512)

    def answers(seconds: float) -> None:
        for number in range(int(seconds * 2_000)):
            limit.answered(0.05, limit.value, start_s + number / 2_000)

    start_s = 0.0
    limit.late_s = 0.1
    answers(30.0)
    assert limit.value <= ROUND_MIN + 2
    limit.late_s, start_s = 0.001, 30.0
    answers(10.0)
    assert limit.value >= 200


@pytest.mark.parametrize(
    ("latency_s", "most", "busy"),
    [(0.0003, 50, 0.95), (0.001, 100, 0.95), (0.01, 200, 0.7), (0.03, 300, 0.95), (0.1, 1_000, 0.95)],
)
def test_our_own_loop_is_kept_busy_and_they_do_not_wait_in_it(latency_s: float, most: int, busy: float) -> None:
    """A server without a bound, and a loop that reads what has been answered (40 µs each), deals with it (60), sends as
    many again (30), and stands still for 8 ms after each 20 (`handover.py`). At 10 ms, where
    its own standing still looks like a queue at the server, it is not kept busy all the time."""
    random = Random(1)
    limit = Limit(1_024, Random(1), initial=16)
    under_way: list[tuple[float, float]] = []
    limits: list[int] = []
    answers = 0
    now_s = still_s = 0.0
    while now_s < 20.0:
        if now_s >= still_s + 0.02:
            now_s += 0.008
            still_s = now_s
        answered = sorted(each for each in under_way if each[0] <= now_s)
        now_s += len(answered) * 0.00004
        before_s = now_s
        for each in answered:
            limit.answered(now_s - each[1], len(under_way), now_s)
            under_way.remove(each)
        now_s += len(answered) * 0.00006
        if answered:
            limit.round_s = now_s - before_s
        for _ in range(limit.value - len(under_way)):
            now_s += 0.00003
            under_way.append((now_s + latency_s * max(random.gauss(1.0, 0.1), 0.1), now_s))
        if under_way and not answered:
            now_s = max(now_s, min(under_way)[0])
        if now_s > 10.0:
            limits.append(limit.value)
            answers += len(answered)
    assert sum(limits) / len(limits) <= most
    assert answers * 0.00013 >= busy * 10.0 * 20 / 28


def test_it_never_leaves_its_bounds() -> None:
    random = Random(1)
    limit = Limit(8, random)
    for number in range(5_000):
        now_s = number / 100
        if random.random() < 0.2:
            limit.refused(0.01, now_s)
        else:
            limit.answered(random.random(), limit.value, now_s)
        assert 1 <= limit.value <= 8
