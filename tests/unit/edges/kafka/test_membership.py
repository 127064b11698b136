"""A member believes in its partitions for as long as librdkafka's statistics prove that its group answered."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

from processor.edges.kafka.membership import Membership


class Link:
    """A connection to a coordinator, second by second. Mutable, as a test says."""

    def __init__(self, *, kind: str = "Heartbeat") -> None:
        self.membership = Membership()
        self.now_s = 100.0
        self.kind = kind
        self.fields: dict[str, Any] = {"state": "UP", "connects": 1, "tx": 1, "outbuf_cnt": 0, "waitresp_cnt": 0}
        self.req = {"ApiVersion": 1}
        self.join_state = "steady"

    def sent(self, kind: str, *, answered: bool = True) -> None:
        self.fields["tx"] += 1
        self.fields["waitresp_cnt"] += not answered
        if kind != "ConsumerGroupHeartbeat":  # the statistics have no name for it
            self.req[kind] = self.req.get(kind, 0) + 1

    def beat(self, *, answered: bool = True) -> None:
        self.sent(self.kind, answered=answered)

    def sample(self, seconds: float = 0.5) -> float:
        self.now_s += seconds
        brokers = {"GroupCoordinator": {**self.fields, "req": self.req}, "b:1/1": {"tx": 7}}
        told = {"ts": int(self.now_s * 1e6), "brokers": brokers, "cgrp": {"join_state": self.join_state}, "topics": {}}
        self.membership.heard(msgspec.json.encode(told).decode())
        return self.membership.answered_s


def test_a_heartbeat_counts_from_before_it_was_sent_and_when_its_answer_has_been_dealt_with() -> None:
    link = Link()
    assert link.sample() == -inf
    link.beat()
    assert link.sample() == -inf, "its answer may not have been dealt with"
    assert link.sample() == 100.5
    link.beat()
    link.sample()
    assert link.sample() == 101.5


def test_the_heartbeat_of_kip_848_which_has_no_name_in_the_statistics_counts_as_well() -> None:
    link = Link(kind="ConsumerGroupHeartbeat")
    link.sample()
    link.beat()
    link.sample()
    assert link.sample() == 100.5


def test_what_is_no_heartbeat_proves_nothing() -> None:
    """A coordinator answers questions about offsets whoever asks."""
    link = Link()
    for _ in range(10):
        link.sent("OffsetFetch")
        assert link.sample() == -inf


def test_a_heartbeat_without_an_answer_proves_nothing_and_earlier_ones_go_on_to() -> None:
    link = Link()
    link.sample()
    link.beat()
    link.sample()
    link.beat(answered=False)
    for _ in range(30):
        assert link.sample() == 100.5
    link.fields["waitresp_cnt"] = 0
    link.sample()
    assert link.sample() == 101.0


def test_a_slow_coordinator_that_always_owes_an_answer_proves_by_those_that_it_gave() -> None:
    link = Link()
    answered_s = link.sample()
    for _ in range(20):
        link.beat(answered=False)
        link.fields["waitresp_cnt"] = 1
        answered_s = link.sample()
    assert link.now_s - answered_s <= 2.0


def test_after_a_stop_the_answer_that_had_come_before_it_renews_nothing() -> None:
    """SIGSTOP for 9.3 s: the first sample after it finds the heartbeat of before answered, the next one no member."""
    link = Link()
    link.sample()
    link.beat()
    link.sample()
    link.sample()
    link.beat()  # sent, then stopped; its answer lies in the socket
    assert link.sample(9.3) == 100.5
    link.join_state = "wait-unassign-call"
    assert link.sample() == 100.5


def test_the_answer_you_are_no_member_is_seen_by_the_state_that_follows_it() -> None:
    link = Link()
    link.sample()
    link.sample(9.3)
    link.beat()  # the first after the stop; answered UNKNOWN_MEMBER_ID
    link.sample()
    link.join_state = "init"
    assert link.sample() == -inf


def test_a_new_connection_begins_anew() -> None:
    """What was asked on the one that broke is no longer waited for, and was perhaps never answered."""
    link = Link()
    link.sample()
    link.beat(answered=False)
    link.fields.update(connects=2, waitresp_cnt=0)
    link.sent("ApiVersion")
    for _ in range(3):
        assert link.sample() == -inf
    link.beat()
    link.sample()
    assert link.sample() == link.now_s - 1.0
