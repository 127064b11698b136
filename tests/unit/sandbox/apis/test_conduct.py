"""What befalls a request follows from the script, the clock and the seed, and from nothing else."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.config import Quota
from processor.sandbox.apis.conduct import Conduct
from processor.sandbox.apis.script import Fault, Latency, Outage, Script, changed


def fates(script: Script, times_s: list[float]) -> list[Fault | None]:
    conduct = Conduct(script, 0.0)
    return [conduct.decide(now_s).fault for now_s in times_s]


def test_the_default_script_lets_everything_pass_at_once() -> None:
    assert all(fate.fault is None and fate.delay_s == 0 for fate in [Conduct(Script(), 0.0).decide(1.0)])


@given(st.lists(st.floats(0, 5, allow_nan=False), max_size=200), st.integers(1, 5))
def test_no_window_ever_holds_more_than_the_quota(gaps_s: list[float], requests: int) -> None:
    conduct = Conduct(Script(quota=Quota(requests, 10.0)), 0.0)
    now_s = 0.0
    admitted: list[float] = []
    for gap_s in gaps_s:
        now_s += gap_s
        fate = conduct.decide(now_s)
        if fate.fault is None:
            admitted.append(now_s)
            assert len([at_s for at_s in admitted if at_s > now_s - 10.0]) <= requests
        else:
            assert fate.fault is Fault.TOO_MANY
            assert fate.retry_after_s is not None
            assert 0 < fate.retry_after_s <= 10.0


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    conduct = Conduct(Script(quota=Quota(2, 10.0)), 0.0)
    assert [conduct.decide(at_s).fault for at_s in (0.0, 4.0)] == [None, None]
    wait_s = conduct.decide(5.0).retry_after_s
    assert wait_s == 5.0
    assert conduct.decide(5.0 + wait_s).fault is None
    assert conduct.decide(10.0).retry_after_s == 4.0


def test_an_outage_has_a_beginning_and_an_end() -> None:
    script = Script(outages=(Outage(2, 4, Fault.RESET),))
    assert fates(script, [1.9, 2.0, 3.9, 4.0]) == [None, Fault.RESET, Fault.RESET, None]


def test_faults_come_in_their_shares_and_the_same_for_the_same_seed() -> None:
    script = Script(shares={Fault.UNAVAILABLE: 0.3, Fault.HANG: 0.1}, seed=5)
    met = Counter(fates(script, [0.0] * 5_000))
    assert 1_350 < met[Fault.UNAVAILABLE] < 1_650
    assert 400 < met[Fault.HANG] < 600
    assert fates(script, [0.0] * 100) == fates(script, [0.0] * 100)


def test_a_change_of_script_keeps_what_was_used_of_the_quota() -> None:
    conduct = Conduct(Script(quota=Quota(2, 10.0)), 0.0)
    assert [conduct.decide(0.0).fault for _ in range(2)] == [None, None]
    conduct.follow(Script(quota=Quota(1, 10.0)))
    assert conduct.decide(9.0).fault is Fault.TOO_MANY
    assert conduct.decide(10.0).fault is None


def test_latency_is_fixed_or_log_normal() -> None:
    assert Latency(20).seconds(3.0) == 0.02
    assert Latency(20, 200).seconds(0.0) == pytest.approx(0.02)
    assert Latency(20, 200).seconds(2.326) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "changes",
    [
        {"shares": {"503": 0.6, "500": 0.6}},
        {"shares": {"418": 0.1}},
        {"shares": {"503": 1.5}},
        {"latency": {"median_ms": -1}},
        {"answers": {"ord-1": 200}},
        {"quotas": 1},
    ],
)
def test_a_script_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        changed(Script(), changes)


def test_a_script_is_changed_field_by_field() -> None:
    script = changed(Script(revoked=True), {"quota": {"requests": 20, "window_s": 2}})
    assert script == Script(revoked=True, quota=Quota(20, 2))
