"""Breaker, poison and backoff: what a row of refusals means, and what it does not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from processor.api.verdicts import RetryReason
from processor.send.event_loop.breaker import Admission, Breaker
from processor.send.event_loop.gate import backoff_s
from processor.send.event_loop.poison import CHANCE_MAX, TIMES_MIN, Suspicion, Witness, times_beyond_chance
from processor.send.meter import BreakerState


def breaker(trip_after: int = 5) -> Breaker:
    return Breaker(trip_after, 1.0, 30.0, Random(1))


def test_it_opens_after_refusals_in_a_row_of_different_orders() -> None:
    made = breaker()
    for number in range(4):
        assert not made.refused(f"o{number}", 0.0, was_probe=False)
    made.passed()
    for number in range(4):
        assert not made.refused(f"o{number}", 0.0, was_probe=False)
    assert not made.refused("o3", 0.0, was_probe=False)
    assert made.refused("o4", 0.0, was_probe=False)
    assert made.admits(0.4) is Admission.NONE


def test_half_open_lets_one_probe_through_and_waits_longer_after_each_refusal() -> None:
    made = breaker(1)
    made.refused("a", 0.0, was_probe=False)
    waits = []
    now_s = 0.0
    for _ in range(8):
        waits.append(made.until_s - now_s)
        now_s = made.until_s
        assert made.admits(now_s) is Admission.PROBE
        made.probe()
        assert made.admits(now_s) is Admission.NONE
        assert not made.refused("late", now_s, was_probe=False), "sent before it opened"
        made.refused("a", now_s, was_probe=True)
    assert 0.5 <= waits[0] <= 1.0
    assert 15.0 <= waits[-1] <= 30.0
    assert made.admits(made.until_s) is Admission.PROBE
    made.probe()
    assert made.passed()
    assert made.admits(now_s) is Admission.ALL


def test_a_probe_that_proves_nothing_is_made_again_no_later() -> None:
    made = breaker(1)
    made.refused("a", 0.0, was_probe=False)
    for _ in range(5):
        assert made.admits(made.until_s) is Admission.PROBE
        at_s = made.until_s
        made.probe()
        made.unclear(at_s)
        assert made.until_s - at_s <= 1.0


class AnySequence(RuleBasedStateMachine):
    """Whatever happens: never two probes at once, and a way out of every state."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = breaker(2)
        self.now_s = 0.0
        self.probes = 0

    @rule()
    def send(self) -> None:
        admission = self.breaker.admits(self.now_s)
        if admission is Admission.PROBE:
            assert self.probes == 0
            self.probes = 1
            self.breaker.probe()

    @rule(order=st.sampled_from("ab"), probe=st.booleans())
    def refused(self, order: str, probe: bool) -> None:
        was_probe = probe and self.probes == 1
        self.probes -= was_probe
        self.breaker.refused(order, self.now_s, was_probe)

    @rule(probe=st.booleans())
    def passed(self, probe: bool) -> None:
        """An answer to a probe, or to what was sent before it opened: the probe that is out counts no more."""
        self.probes = 0
        self.breaker.passed()

    @rule()
    def unclear(self) -> None:
        if self.probes:
            self.probes = 0
            self.breaker.unclear(self.now_s)

    @rule()
    def hurry(self) -> None:
        self.breaker.hurry()

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def has_a_way_out(self) -> None:
        if self.breaker.state is BreakerState.OPEN:
            assert self.breaker.until_s <= self.now_s + 30.0
        if self.breaker.state is BreakerState.HALF_OPEN and self.probes == 0:
            assert self.breaker.admits(self.now_s) is Admission.PROBE


TestAnySequence = AnySequence.TestCase


@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_backoff_is_anything_up_to_its_bound(failures: int, seed: int) -> None:
    waited = backoff_s(failures, 0.2, 30.0, Random(seed))
    assert 0.0 <= waited <= min(30.0, 0.2 * 2 ** min(failures - 1, 30))


def suspected(rounds: int, accepted: int, failed: int, every_s: float = 60.0) -> bool:
    """An entry that is answered 5xx each time, with so many of the others accepted and failed in between."""
    witness = Witness()
    suspicion = Suspicion(RetryReason.SERVER_ERROR, witness, 0.0)
    for number in range(1, rounds):
        witness.accepted += accepted
        witness.failed += failed
        suspicion.again(witness)
        if suspicion.is_proven(witness, number * every_s, 300.0, TIMES_MIN):
            return True
    return False


def test_ten_times_over_the_time_while_others_pass_is_poison() -> None:
    assert suspected(10, accepted=20, failed=0)
    assert not suspected(9, accepted=20, failed=0)
    assert not suspected(10, accepted=20, failed=0, every_s=1.0), "poison_after has not passed"


def test_an_outage_is_none_however_long_and_a_brown_out_needs_more() -> None:
    assert not suspected(1_000, accepted=0, failed=50)
    assert not suspected(15, accepted=10, failed=10)
    assert suspected(25, accepted=10, failed=10)
    assert not suspected(100, accepted=1, failed=9)


@pytest.mark.parametrize("failed", [0, 10, 50, 90, 99])
def test_bad_luck_convicts_one_in_a_million_at_most(failed: int) -> None:
    odds = (failed + 1) / 102
    assert odds ** times_beyond_chance(100 - failed, failed) == pytest.approx(CHANCE_MAX)
