"""What the sender makes of answers: whose turn it is, who waits, who is held, and that it comes back by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle, pairwise
from typing import Any

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from processor.api.verdicts import Delivered, Rejected
from processor.config import Quota
from processor.letters.holds import Hold
from processor.records import EntryId, OrderId, Reason
from processor.send.event_loop.sender import SENT_AT_ONCE_MAX
from processor.send.handover import Halt, Lost, PastRead, Withdrawn
from processor.send.pending import Held, Superseded
from tests.unit.send.loop_side import SESSION_S, Answered, LoopSide, Seen, answers, by_entry, many

REFUSED: Answered = (422, {}, b'{"error": {"error_code": "product_unsupported"}}')
DECLINED: Answered = (422, {}, b'{"error": {"error_code": "cancel_decline"}}')


def test_an_entry_is_posted_with_its_headers_and_its_receipt_knows_the_event(sides: Any) -> None:
    side = sides(answers((201, {}, b'{"event_id": "evt-9"}')), "a", run_s=1.0)
    (ended,) = side.endings
    assert ended.ending == Delivered(201, "evt-9")
    assert ended.pending.attempts == 1
    headers = side.api.seen[0].headers
    assert headers["Idempotency-Key"] == '"e1"'
    assert headers["Authorization"] == "Bearer key-1"
    assert headers["Hakuna-Version"] == "v1.2"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"] == "test/1"


def test_a_stamp_in_seconds_never_comes_into_the_latency(sides: Any) -> None:
    """One record of 1970 makes a sum of 1.8e9 seconds."""
    side = sides(answers())
    (pending,) = side.give("a")
    in_seconds = [
        msgspec.structs.replace(pending, entry_id=f"s{number}", order_id=f"s{number}", occurred_at_ms=occurred_at_ms)
        for number, occurred_at_ms in enumerate((side.clock.now_ms() // 1000, -1, 0))
    ]
    side.handover.give(in_seconds)
    side.run_for(3.0)
    assert len(side.endings) == 4
    (latency_s,) = side.meter.latencies_s
    assert 0 <= latency_s < 1


def test_orders_go_side_by_side_and_the_entries_of_one_after_another(sides: Any) -> None:
    side = sides(answers(), "a", "a", "b", "c", latency_s=1.0, run_s=3.0)
    assert side.sent() == [(0.0, "e1"), (0.0, "e3"), (0.0, "e4"), (1.0, "e2")]
    assert side.api.most == 3


def test_a_lone_5xx_delays_its_own_order_only_and_holds_no_slot(sides: Any) -> None:
    side = sides(by_entry({"e1": (503, {})}), "a", *["b"] * 20, in_flight_max=1, run_s=1.0)
    assert [entry for entry in side.ended if entry != "e1"] == [f"e{number}" for number in range(2, 22)]
    assert side.entries().count("e1") >= 2


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("slow"), httpx.ConnectError("down"), httpx.RemoteProtocolError("?")]
)
def test_no_answer_is_retried_and_makes_no_dead_letter(sides: Any, error: Exception) -> None:
    side = sides(answers(*[error] * 30), "a", run_s=600.0)
    assert side.ended == {"e1": Delivered(200)}
    assert side.endings[0].pending.attempts == 31


@pytest.mark.parametrize(
    "refusal",
    [
        (429, {"Retry-After": "3"}),
        (503, {"Retry-After": "3"}),
        (429, {"RateLimit": '"d";r=0;t=3'}),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "3"}),
    ],
)
def test_a_pause_that_was_asked_for_is_kept_by_every_order(sides: Any, refusal: Any) -> None:
    side = sides(answers(refusal), "a", run_s=0.5)
    side.give("b", "c", run_s=2.4)
    assert side.sent() == [(0.0, "e1")]
    assert side.standing.status().paused_until is not None
    side.run_for(2.0)
    assert sorted(side.ended) == ["e1", "e2", "e3"]
    assert min(at_s for at_s, _ in side.sent()[1:]) >= 3.0


def test_a_quota_that_an_accepted_request_used_up_is_waited_for(sides: Any) -> None:
    side = sides(answers((200, {"RateLimit": '"d";r=0;t=4'})), "a", run_s=0.5)
    side.give("b", run_s=6.0)
    assert side.sent()[1][0] >= 4.0


def test_a_year_of_retry_after_is_an_hour(sides: Any) -> None:
    side = sides(answers((503, {"Retry-After": "31536000"})), "a", run_s=3_610.0)
    assert side.ended == {"e1": Delivered(200)}


def test_refusals_in_a_row_of_different_orders_open_the_circuit_and_one_probe_at_a_time_closes_it(sides: Any) -> None:
    down = True
    side = sides(lambda seen: (500, {}) if down else (200, {}), *many(40), run_s=20.0)
    assert side.standing.status().circuit != "closed"
    before = len(side.api.seen)
    side.api.most = 0
    side.run_for(30.0)
    assert 1 <= len(side.api.seen) - before <= 10
    assert side.api.most == 1
    assert side.ended == {}
    down = False
    side.run_for(60.0)
    assert len(side.ended) == 40
    assert side.standing.status().circuit == "closed"


def test_one_order_that_always_fails_opens_no_circuit(sides: Any) -> None:
    side = sides(by_entry({"e1": (500, {})}), "a", run_s=60.0)
    assert side.standing.status().circuit == "closed"


def test_a_refused_entry_holds_its_order_and_no_other(sides: Any) -> None:
    side = sides(by_entry({"e1": REFUSED}), "a", "a", "b", "a", run_s=1.0)
    assert side.entries() == ["e1", "e3"]
    assert side.ended["e2"] == side.ended["e4"] == Held("e1")
    (refused,) = [ended for ended in side.endings if isinstance(ended.ending, Rejected)]
    assert refused.hold == Hold(OrderId("a"), EntryId("e1"), Reason.PRODUCT_UNSUPPORTED, refused.at_ms)
    side.run_for(2.0)
    assert side.meter.error_codes == {"product_unsupported": 1}
    assert side.standing.held_orders(1) == 1


def test_a_declined_cancellation_is_an_answer_and_holds_nothing(sides: Any) -> None:
    side = sides(by_entry({"e1": DECLINED}), "a", "a", run_s=1.0)
    assert side.ended["e2"] == Delivered(200)
    assert side.endings[0].hold is None


def test_a_released_order_goes_on_at_once_and_a_replay_passes_its_hold(sides: Any) -> None:
    side = sides(by_entry({"e1": REFUSED}), "a", run_s=1.0)
    side.give("a", replay_id="r1")
    side.give("a", run_s=1.0)
    assert side.ended["e2"] == Delivered(200)
    assert side.ended["e3"] == Held("e1")
    hold = side.endings[0].hold
    side.handover.give(PastRead(1, [(OrderId("a"), hold), (OrderId("a"), None)]))
    side.give("a", run_s=1.0)
    assert side.ended["e4"] == Delivered(200)


def test_a_replay_that_is_refused_again_holds_what_follows_in_it(sides: Any) -> None:
    side = sides(by_entry({"e1": REFUSED}))
    side.give("a", replay_id="r1")
    side.give("a", replay_id="r1")
    side.give("a", replay_id="r2", run_s=1.0)
    assert side.ended["e2"] == Held("e1")
    assert side.ended["e3"] == Delivered(200)


def test_many_held_entries_end_without_a_request(sides: Any) -> None:
    side = sides(by_entry({"e1": REFUSED}), *["a"] * 2_000, run_s=1.0)
    assert len(side.ended) == 2_000
    assert side.entries() == ["e1"]


def test_409_is_retried_and_rejected_after_ten(sides: Any) -> None:
    side = sides(lambda seen: (409, {}), "a", run_s=300.0)
    assert side.entries() == ["e1"] * 10
    assert side.ended["e1"].reason == "http_409"


def test_the_tenth_409_is_rejected_with_the_code_that_it_carries(sides: Any) -> None:
    late: Answered = (409, {}, b'{"error": {"error_code": "cancel_decline", "validation_errors": ["late"]}}')
    side = sides(lambda seen: late, "a", "a", run_s=300.0)
    last = side.ended["e1"]
    assert (last.reason, last.http_status, last.error_code) == ("cancel_decline", 409, "cancel_decline")
    assert last.validation_errors == ("late",)
    assert side.ended["e2"].reason == "cancel_decline", "an answer, not a fault: nothing waits behind it"


def test_a_redirect_is_never_followed(sides: Any) -> None:
    side = sides(lambda seen: (302, {"Location": "http://elsewhere.test/"}), "a", run_s=5.0)
    assert {seen.orders for seen in side.api.seen} == {("a",)}
    assert side.ended == {}


# ---- the key ----------------------------------------------------------------------------------------------


def by_key(key: str, otherwise: int = 401) -> Callable[[Seen], Answered]:
    return lambda seen: (200 if seen.headers["Authorization"] == f"Bearer {key}" else otherwise, {})


def test_a_refused_key_holds_everything_and_a_new_one_is_taken_without_a_restart(sides: Any) -> None:
    side = sides(by_key("key-2"), *many(10), run_s=30.0)
    assert side.ended == {}
    assert side.standing.status().key_refused
    assert "the key is refused" in side.standing.standstills()[0]
    probes = [seen for seen in side.api.seen if seen.at_s - side.start_s > 1.0]
    assert 1 <= len(probes) <= 12
    side.key.file = "key-2"
    side.run_for(2.0)
    assert len(side.ended) == 10
    assert side.standing.standstills() == []


def test_a_key_that_was_replaced_already_is_used_at_once(sides: Any) -> None:
    side = sides(by_key("key-2", 403))
    side.run_for(0.1)
    side.key.file = "key-2"
    side.give("a", run_s=0.2)
    assert side.ended == {"e1": Delivered(200)}
    assert side.endings[0].pending.attempts == 2


def test_a_probe_in_flight_with_the_old_key_does_not_stop_the_probes(sides: Any) -> None:
    """The key changes while a probe with the old one is under way, and its answer comes late."""
    side = sides(by_key("key-3"), "a", run_s=3.0)
    side.api.latency_s = 4.0
    side.run_for(3.0)
    side.key.file = "key-2"
    side.run_for(1.5)
    side.key.file = "key-3"
    side.api.latency_s = 0.01
    side.run_for(20.0)
    assert side.ended == {"e1": Delivered(200)}


# ---- poison -----------------------------------------------------------------------------------------------


def trickle(side: LoopSide, seconds: int) -> None:
    for second in range(seconds):
        side.give(f"other-{second % 5}", run_s=1.0)


def test_one_order_that_crashes_the_server_is_poison_and_does_not_stop_the_others(sides: Any) -> None:
    side = sides(by_entry({"e1": (500, {})}), "a", "a", poison_after_s=60.0)
    trickle(side, 50)
    assert "e1" not in side.ended
    trickle(side, 250)
    assert side.ended["e1"].reason == Reason.SERVER_ERROR
    assert side.endings[0].pending.attempts >= 1
    assert side.ended["e2"] == Held("e1")
    assert sum(ending == Delivered(200) for ending in side.ended.values()) == 300


def test_an_outage_makes_no_poison_however_long(sides: Any) -> None:
    side = sides(lambda seen: (500, {}), "a", "b", "c", poison_after_s=10.0, run_s=3_600.0)
    assert side.ended == {}


def test_orders_that_crash_the_server_do_not_stop_those_behind_them_however_many_they_are(sides: Any) -> None:
    side = sides(lambda seen: (500 if "bad" in seen.orders[0] else 200, {}), poison_after_s=3_600.0)
    side.give(*many(100, "bad"), *many(60, "good"), run_s=30.0)
    assert sum(isinstance(ending, Delivered) for ending in side.ended.values()) == 60


def test_a_server_that_fails_most_requests_makes_no_poison_of_bad_luck(sides: Any) -> None:
    statuses = cycle((500, 500, 500, 500, 200))
    side = sides(lambda seen: (next(statuses), {}), poison_after_s=5.0)
    for _ in range(300):
        side.give(*many(3), run_s=1.0)
    assert all(isinstance(ending, Delivered) for ending in side.ended.values())


# ---- the feed ---------------------------------------------------------------------------------------------


def test_the_feed_sends_arrays_and_the_newest_snapshot_only(sides: Any) -> None:
    side = sides(answers((202, {})), "a", "b", "a", feed=True, run_s=1.0)
    assert side.sent() == [(0.2, "e3,e2")]
    assert side.ended == {"e1": Superseded(), "e2": Delivered(202), "e3": Delivered(202)}
    assert side.api.seen[0].headers["Idempotency-Key"].startswith('"array/')


def test_a_refused_order_is_found_and_its_next_snapshot_is_tried(sides: Any) -> None:
    side = sides(by_entry({"e7": REFUSED}), *many(32), feed=True, run_s=2.0)
    assert isinstance(side.ended["e7"], Rejected)
    assert side.endings[0].hold is None
    assert sum(isinstance(ending, Delivered) for ending in side.ended.values()) == 31
    assert len(side.api.seen) <= 1 + 2 * 5
    side.give("o6", run_s=1.0)
    assert side.ended["e33"] == Delivered(200)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_an_array_that_is_refused_whole_ends_in_one_refusal_for_each(sides: Any, status: int) -> None:
    side = sides(lambda seen: (status, {}, b'{"message": "no"}'), "a", "b", "c", "d", feed=True, run_s=2.0)
    assert [ending.reason for ending in side.ended.values()] == [f"http_{status}"] * 4


@pytest.mark.parametrize("answer", [(429, {"Retry-After": "1"}), (401, {}), (503, {})])
def test_an_array_is_not_split_for_what_is_nobodys_fault(sides: Any, answer: Any) -> None:
    side = sides(answers(answer), "a", "b", feed=True, run_s=10.0)
    assert side.entries() == ["e1", "e2"] * 2
    keys = {seen.headers["Idempotency-Key"] for seen in side.api.seen}
    assert len(keys) == 1


def test_a_newer_snapshot_replaces_one_that_waits_for_its_retry(sides: Any) -> None:
    side = sides(answers((503, {"Retry-After": "2"})), "a", "b", feed=True, run_s=1.0)
    side.give("a", run_s=5.0)
    assert [entries for _, entries in side.sent()] == ["e1,e2", "e3,e2"]
    assert side.ended["e1"] == Superseded()


def test_a_poisonous_order_does_not_hold_a_hundred(sides: Any) -> None:
    side = sides(by_entry({"e3": (500, {})}), *many(50), feed=True, poison_after_s=10.0, run_s=200.0)
    assert sum(isinstance(ending, Delivered) for ending in side.ended.values()) == 49


# ---- moves, and what must not be waited for ---------------------------------------------------------------


def test_a_withdrawn_partition_is_released_when_its_last_answer_is_there(sides: Any) -> None:
    side = sides(answers(), "a", "a", "b", latency_s=1.0, run_s=0.5)
    side.handover.give(Withdrawn(frozenset({1}), side.clock.monotonic_s() + 3.0))
    side.run_for(0.25)
    assert side.released == []
    side.run_for(1.0)
    assert [released.epochs for released in side.released] == [frozenset({1})]
    assert side.ended == {"e1": Delivered(200), "e3": Delivered(200)}
    assert len(side.api.seen) == 2


def test_what_does_not_answer_by_the_deadline_is_given_up(sides: Any) -> None:
    side = sides(answers(), "a", latency_s=1_000.0, run_s=0.5)
    side.handover.give(Withdrawn(frozenset({1}), side.clock.monotonic_s() + 2.0))
    side.run_for(2.5)
    assert len(side.released) == 1
    assert side.ended == {}
    assert side.api.under_way == 0
    assert side.standing.in_flight == 0


def test_a_lost_partition_leaves_nothing_behind_and_blocks_nobody(sides: Any) -> None:
    side = sides(answers(), "a", "a", latency_s=3.0, run_s=0.5)
    side.handover.give(Lost(frozenset({1})))
    side.assign(2)
    side.give("a", epoch=2)
    side.api.latency_s = 0.01
    side.run_for(1.0)
    assert side.ended == {"e3": Delivered(200)}
    assert side.released == []


def test_the_slots_in_use_are_told_when_a_partition_leaves(sides: Any) -> None:
    side = sides(answers(), *"abc", quota=Quota(5, 60.0), run_s=1.0)
    side.handover.give(Withdrawn(frozenset({1}), side.clock.monotonic_s() + 2.0))
    side.run_for(0.5)
    assert side.released[0].used == {1: 3}


def test_the_quota_lets_no_more_through_and_says_how_long_it_was_waited_for(sides: Any) -> None:
    side = sides(answers(), *many(12), quota=Quota(5, 10.0), run_s=5.0)
    assert len(side.api.seen) == 5
    side.run_for(20.0)
    assert len(side.api.seen) == 12
    assert side.meter.latest.quota_share == 5
    assert side.meter.quota_wait_s == pytest.approx(20.0, abs=1.0)


def test_what_an_entry_waits_for_is_said_with_how_much_until_when_and_the_last_answer(sides: Any) -> None:
    side = sides(answers(), quota=Quota(5, 10.0))
    *_, last = side.give(*many(12), run_s=4.0)
    quota = side.standing.why(last)
    assert quota.startswith("the quota 5/10s, of which 5 requests are this worker's; the next goes in ")
    assert 5.9 < float(quota.rpartition(" in ")[2].removesuffix(" s")) < 6.5

    side = sides(answers(then=(503, {})))
    (pending,) = side.give("a", run_s=1.0)
    side.api.latency_s = 0.0
    seen = {side.standing.why(pending)}
    for _ in range(40):
        side.run_for(0.25)
        seen.add(side.standing.why(pending))
    assert any(why.startswith("retry after") and why.endswith("; last HTTP 503") for why in seen), seen

    side = sides(answers((429, {"Retry-After": "30"})))
    (pending,) = side.give("a", run_s=5.0)
    why = side.standing.why(pending)
    assert why.startswith("the destination asked for a pause, 2")
    assert why.endswith(" s more; last HTTP 429")

    for answer, what in (
        ((503, {"Server": "nginx"}), "the destination is held, circuit open: HTTP 503, Server nginx"),
        ((401, {}), "the key is refused: HTTP 401"),
        ((302, {"Location": "https://login.test/"}), "what answers is not the API: HTTP 302, to https://login.test"),
    ):
        side = sides(answers(then=answer))
        *_, last = side.give(*many(200), run_s=20.0)
        assert side.standing.why(last) == what


def test_the_tenth_retry_is_one_line_with_a_place_and_others_of_that_minute_are_counted(sides: Any) -> None:
    broken: dict[str, Answered] = {f"e{number}": (500, {}) for number in (1, 2, 3)}
    side = sides(by_entry(broken), poison_after_s=10_000.0)
    with capture_logs() as logs:
        side.give("a", "b", "c")
        for _ in range(60):
            side.give("good", run_s=5.0)
    said = [one for one in logs if "refused ten times" in one["event"]]
    assert (said[0]["count"], said[0]["last"], said[0]["to"]) == (1, "HTTP 500", "hakuna")
    assert said[0]["record"] in {f"hakuna.outbox/0/{number}" for number in (1, 2, 3)}
    assert len(said) < 3


def test_a_replay_leaves_live_traffic_its_part_of_the_quota_in_every_window_and_gives_way_to_it(sides: Any) -> None:
    side = sides(answers(), quota=Quota(10, 10.0))
    replayed = side.give(*many(40, "r"), replay_id="r1", run_s=5.0)
    assert len(side.api.seen) == 5  # though nothing live wants the others
    assert side.standing.why(replayed[-1]).startswith("a replay's turn")
    assert side.standing.waits(replayed[-1])
    side.give(*many(5, "l"), run_s=0.5)
    assert side.entries()[5:] == [f"e{number}" for number in range(41, 46)]
    side.give(*many(30, "m"), run_s=20.0)
    sent = side.entries()
    assert len(sent) == 30
    assert set(sent[10:]) <= {f"e{number}" for number in range(46, 76)}  # live traffic needs all of it now
    side.run_for(130.0)
    assert sorted(side.ended, key=lambda entry: int(entry[1:])) == [f"e{number}" for number in range(1, 76)]
    at_s = [seen.at_s for seen in side.api.seen if seen.orders[0].startswith("r")]
    assert all(sum(first_s <= second_s < first_s + 10.0 for second_s in at_s) <= 5 for first_s in at_s)


def test_without_a_quota_a_replay_has_half_of_the_requests_at_once(sides: Any) -> None:
    side = sides(answers(), in_flight_max=4, latency_s=1.0)
    side.give(*many(6, "r"), replay_id="r1", run_s=0.5)
    side.give("l0", "l1", "l2", run_s=0.25)
    assert side.entries() == ["e1", "e2", "e7", "e8"]
    side.run_for(4.0)
    assert side.entries()[4] == "e9"
    assert len(side.ended) == 9


def test_the_orders_of_a_replay_are_split_within_its_share(sides: Any) -> None:
    side = sides(by_entry({"e2": REFUSED}), feed=True, quota=Quota(4, 10.0))
    side.give(*"abcd", replay_id="r1", run_s=5.0)
    assert side.entries() == ["e1", "e2", "e3", "e4", "e1", "e2"]
    side.give("x", run_s=1.0)
    assert side.entries()[-1] == "e5"
    side.run_for(40.0)
    assert side.ended["e4"] == Delivered(200)
    assert type(side.ended["e2"]) is Rejected


def test_a_transport_that_hangs_in_spite_of_its_timeouts_is_given_up(sides: Any) -> None:
    hangs = True

    async def hang(seen: Seen) -> Any:
        if hangs:
            await asyncio.sleep(10_000)
        return (200, {})

    side = sides(hang, "a", run_s=6.0)
    hangs = False
    side.run_for(5.0)
    assert side.ended == {"e1": Delivered(200)}
    assert side.meter.statuses["timeout"] == 1


def test_nothing_is_sent_from_a_session_after_the_groups_last_answer_on(sides: Any) -> None:
    """Another worker may have the partitions: a stopped process that goes on, a thread that has died, a coordinator
    that does not answer."""
    side = sides(answers())
    side.run_for(1.0)
    side.silent = True
    side.give("a", run_s=SESSION_S - 0.5)
    assert side.entries() == ["e1"], "less than a session: still ours"
    side.run_for(0.5)
    side.give("b", run_s=5.0)
    assert side.entries() == ["e1"]
    side.silent = False
    side.run_for(1.0)
    assert side.entries() == ["e1", "e2"]


@pytest.mark.parametrize("stop", ["advance", "jump"])
def test_a_machine_that_stood_still_sends_nothing_before_the_group_has_answered_again(sides: Any, stop: str) -> None:
    """By the monotonic clock (SIGSTOP), or by the wall clock alone (a suspended machine, whose other clock stood)."""
    side = sides(answers())
    side.run_for(1.0)
    side.give("a")
    getattr(side.clock, stop)(SESSION_S + 1.3)
    side.loop.run_for(0.5)
    assert side.entries() == []
    side.handover.renew(side.clock.monotonic_s() + SESSION_S, side.clock)
    side.run_for(0.5)
    assert side.entries() == ["e1"]


def test_a_stop_between_an_entrys_turn_and_its_request_is_seen_too(sides: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    side = sides(answers())
    side.run_for(1.0)
    destination = side.sender._destination
    build = type(destination).request
    stops = [SESSION_S + 1.0]

    def request(self: Any, entries: Any) -> Any:
        if stops:
            side.clock.advance(stops.pop())
        return build(self, entries)

    monkeypatch.setattr(type(destination), "request", request)
    side.give("a")
    side.loop.run_for(0.2)
    assert side.entries() == []
    assert side.standing.in_flight == 0
    side.run_for(1.0)
    assert side.entries() == ["e1"]
    assert side.ended == {"e1": Delivered(200)}


def test_a_halt_is_for_good(sides: Any) -> None:
    side = sides(answers())
    side.handover.give(Halt())
    side.give("a", run_s=60.0)
    assert side.api.seen == []


def test_a_mistake_of_ours_ends_the_loop_instead_of_hiding() -> None:
    side = LoopSide(answers(ZeroDivisionError("ours")))
    side.give("a")
    with pytest.raises(ZeroDivisionError):
        side.run_for(1.0)
    side.loop.close()


def test_a_burst_goes_out_in_slices_so_that_nothing_else_waits_for_all_of_it(sides: Any) -> None:
    """The loop is never blocked for 50 ms: what goes out between two of its rounds has a bound."""
    side = sides(answers(), quota=Quota(10_000, 60.0), in_flight_max=1_000)
    a_round: list[int] = [0]

    def next_round() -> None:
        a_round.append(len(side.api.seen))
        if a_round[-1] < 1_000:
            side.loop.call_soon(next_round)

    side.loop.call_soon(next_round)
    side.handover.renew(side.clock.monotonic_s() + SESSION_S, side.clock)
    side.give(*[f"order-{number}" for number in range(1_000)])
    side.loop.run_for(0.0)
    while len(side.api.seen) < 1_000 and len(a_round) < 10_000:
        side.loop.run_for(0.0)
    assert len(side.api.seen) == 1_000
    assert max(later - earlier for earlier, later in pairwise(a_round)) <= SENT_AT_ONCE_MAX
    assert side.standing.in_flight == 1_000, "none of them waited for an answer"
