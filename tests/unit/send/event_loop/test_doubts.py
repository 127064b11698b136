"""What the sender makes of answers that may be somebody else's: a gateway's, a login page, a firewall's 403."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from processor.api.verdicts import Delivered, Rejected
from processor.config import Quota
from processor.send.event_loop.gate import SAY_S
from processor.send.pending import Held
from tests.unit.send.loop_side import Answered, Seen, answers, by_entry, many

PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body>Who are you?</body></html>"
TLS = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
NGINX = {"Server": "nginx/1.22.1", "Content-Type": "text/html"}
NO_API: list[Answered] = [
    (302, {"Location": "https://login.test/?next=secret", "Server": "nginx"}),
    (200, NGINX, PAGE),
    (200, {}, b'{"error": {"error_code": "unauthorized", "validation_errors": []}}'),
    (400, NGINX, TLS),
    (400, {}, b"Client sent an HTTP request to an HTTPS server.\n"),
    (404, NGINX, b"<html><head><title>404 Not Found</title></head></html>"),
    (405, {}, b""),
    (404, {"Server": "kong/3.4.0"}, b'{"message":"no Route matched with those values"}'),
    (407, {"Server": "squid/5.7"}, b'{"message":"proxy authentication required"}'),
    (202, {"x-amzn-waf-action": "challenge"}, b""),
]
TOO_LARGE: Answered = (413, NGINX, b"<html><head><title>413 Request Entity Too Large</title></head></html>")
BLOCKED: Answered = (403, NGINX, b"<html><head><title>403 Forbidden</title></head></html>")
ENVELOPED: Answered = (403, {}, b'{"error": {"error_code": "forbidden", "validation_errors": []}}')


class Gateway:
    """Before the API: what it answers while it is broken, or to some orders; `down` may be changed."""

    def __init__(self, answer: Answered, only: frozenset[str] = frozenset()) -> None:
        self.answer = answer
        self.only = only
        self.down = True

    def __call__(self, seen: Seen) -> Answered:
        if self.down and (not self.only or self.only & set(seen.orders)):
            return self.answer
        return 200, {}, b"{}"


@pytest.mark.parametrize("answer", NO_API)
@pytest.mark.parametrize("feed", [False, True])
def test_what_no_api_answers_before_anything_was_accepted_holds_the_destination_and_ends_nothing(
    sides: Any, answer: Any, feed: bool
) -> None:
    gateway = Gateway(answer)
    side = sides(gateway, *many(200), feed=feed, run_s=120.0)
    assert side.ended == {}
    assert len(side.api.seen) <= 30
    status = side.standing.status()
    assert status.doubted
    assert f"HTTP {answer[0]}" in (status.trouble or "")
    assert "what answers is not the API" in side.standing.standstills()[0]
    gateway.down = False
    side.run_for(60.0)
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 200
    assert side.standing.standstills() == []
    assert side.standing.status().trouble is None


def test_the_words_name_the_server_and_the_page_and_hide_what_a_redirect_carries(sides: Any) -> None:
    side = sides(lambda seen: (400, NGINX, TLS), "a", run_s=5.0)
    (standstill,) = side.standing.standstills()
    assert "HTTP 400, Server nginx/1.22.1: 400 The plain HTTP request was sent to HTTPS port" in standstill
    redirected = sides(lambda seen: NO_API[0], "a", run_s=5.0)
    (standstill,) = redirected.standing.standstills()
    assert "HTTP 302, Server nginx, to https://login.test" in standstill
    assert "secret" not in standstill


@pytest.mark.parametrize("answer", NO_API)
def test_a_gateway_that_breaks_in_the_midst_of_traffic_makes_no_dead_letter(sides: Any, answer: Any) -> None:
    gateway = Gateway(answer)
    gateway.down = False
    side = sides(gateway, *many(50), run_s=2.0)
    assert len(side.ended) == 50
    gateway.down = True
    side.give(*many(400, "p"), run_s=300.0)
    assert len(side.ended) == 50
    assert side.standing.status().doubted
    gateway.down = False
    side.run_for(60.0)
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 450


@pytest.mark.parametrize("answer", [*NO_API, TOO_LARGE])
@pytest.mark.parametrize("others", [True, False])
def test_one_of_a_kind_on_one_order_is_rejected_as_its_status_and_holds_that_order_alone(
    sides: Any, answer: Any, others: bool
) -> None:
    side = sides(Gateway(answer, frozenset({"bad"})), "good", run_s=1.0)
    side.give("bad", "bad")
    for number in range(30):
        if others:
            side.give(f"o{number}")
        side.run_for(1.0)
    refused, held = side.ended["e2"], side.ended["e3"]
    assert isinstance(refused, Rejected)
    assert refused.reason == f"http_{answer[0]}"
    assert held == Held("e2")
    assert sum(isinstance(ending, Delivered) for ending in side.ended.values()) == (31 if others else 1)
    assert not side.standing.status().doubted


def test_orders_that_a_gateway_refuses_among_many_that_pass_are_rejected_and_no_others(sides: Any) -> None:
    bad = frozenset({"o7", "o8", "o60", "o99"})
    side = sides(Gateway(NO_API[3], bad))
    for number in range(100):
        side.give(f"o{number}", run_s=0.1)
    side.run_for(120.0)
    rejected = {seen.orders[0] for seen in side.api.seen if isinstance(side.ended.get(seen.entries[0]), Rejected)}
    assert rejected == bad
    assert len(side.ended) == 100


def test_a_node_of_two_that_shows_a_page_makes_no_dead_letter(sides: Any) -> None:
    """Every second answer is a page, whichever order it is about."""
    nodes: cycle[Answered] = cycle(((200, NGINX, PAGE), (200, {}, b"{}")))
    side = sides(lambda seen: next(nodes), *many(300), run_s=600.0)
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 300


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_an_array_that_a_gateway_refuses_for_some_of_its_orders_is_split_and_the_others_are_delivered(
    sides: Any, share: float
) -> None:
    orders = many(300)
    bad = frozenset(orders[:: round(1 / share)])
    side = sides(Gateway(NO_API[3], bad), *orders, feed=True)
    for number in range(300):
        side.give(f"later{number}", run_s=2.0)
    rejected = [ending for ending in side.ended.values() if isinstance(ending, Rejected)]
    assert len(rejected) == len(bad)
    assert len(side.ended) == 600


def test_an_array_that_is_too_large_for_a_gateway_is_split_at_once(sides: Any) -> None:
    side = sides(
        lambda seen: (413, NGINX, PAGE) if len(seen.orders) > 30 else (202, {}), *many(300), feed=True, run_s=5.0
    )
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 300


def test_a_403_for_one_order_is_its_own_and_no_word_of_the_key(sides: Any) -> None:
    side = sides(Gateway(BLOCKED, frozenset({"bad"})), "bad", poison_after_s=60.0)
    for number in range(150):
        side.give(f"o{number}", run_s=1.0)
        assert not side.standing.status().key_refused
        assert side.standing.standstills() == []
    refused = side.ended["e1"]
    assert isinstance(refused, Rejected)
    assert refused.reason == "http_403"
    assert "403 Forbidden" in refused.message
    assert len(side.ended) == 151
    assert len(side.api.seen) < 180
    rejected = next(one for one in side.endings if one.pending.entry_id == "e1")
    assert rejected.at_ms - side.endings[0].pending.taken_ms >= 60_000


@pytest.mark.parametrize("blocked", [BLOCKED, ENVELOPED])
def test_a_403_of_every_order_is_the_key(sides: Any, blocked: Any) -> None:
    side = sides(lambda seen: blocked, *many(20), run_s=30.0)
    assert side.ended == {}
    assert side.standing.status().key_refused
    (standstill,) = side.standing.standstills()
    assert "the key is refused" in standstill
    assert "`Authorization: Bearer …`" in standstill
    assert "HTTP 403" in standstill
    assert "key-1" not in standstill


def test_a_403_in_the_apis_form_is_the_key_though_others_were_accepted(sides: Any) -> None:
    side = sides(answers((200, {}), then=ENVELOPED), "a", run_s=1.0)
    side.give("b", run_s=1.0)
    assert side.standing.status().key_refused


def test_a_gateway_that_denies_what_is_too_many_is_slowed_down_for_and_nothing_is_lost(sides: Any) -> None:
    """As HAProxy's stick table does: 403 without a word above 50 requests in 10 s."""
    passed: list[float] = []

    def answer(seen: Seen) -> Answered:
        passed[:] = [at_s for at_s in passed if at_s > seen.at_s - 10.0]
        if len(passed) >= 50:
            return BLOCKED
        passed.append(seen.at_s)
        return 200, {}, b"{}"

    side = sides(answer, *many(200), in_flight_max=128)
    for _ in range(90):
        side.run_for(1.0)
        assert not side.standing.status().key_refused
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 200
    assert len(side.api.seen) < 600


@pytest.mark.parametrize("status", [429, 503])
def test_a_share_of_503_cuts_the_requests_at_once_as_429_does(sides: Any, status: int) -> None:
    """As nginx's limit_req does: so many a second, a burst, and no word of when."""
    level, last_s = 0.0, 0.0

    def answer(seen: Seen) -> Answered:
        nonlocal level, last_s
        level, last_s = max(0.0, level - 100 * (seen.at_s - last_s)), seen.at_s
        if level >= 20:
            return status, {}, b"<html>Service Temporarily Unavailable</html>"
        level += 1
        return 200, {}, b"{}"

    side = sides(answer, *many(1_000), in_flight_max=128, latency_s=0.02, run_s=120.0)
    assert len(side.ended) == 1_000
    assert len(side.api.seen) - 1_000 < 1_000
    assert side.standing.status().limit < 64


def test_an_order_that_is_denied_when_nothing_else_is_sent_is_its_own_once_others_have_passed(sides: Any) -> None:
    side = sides(Gateway(BLOCKED, frozenset({"bad"})), "good", poison_after_s=300.0, run_s=1.0)
    side.give("bad", run_s=1.0)
    side.give("good", run_s=5.0)
    side.give("good", run_s=200.0)
    assert not side.standing.status().key_refused


def test_a_quota_does_not_change_what_a_doubt_holds(sides: Any) -> None:
    side = sides(lambda seen: NO_API[3], *many(50), quota=Quota(100, 10.0), run_s=60.0)
    assert side.ended == {}
    assert len(side.api.seen) < 30


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("api.test:443: [SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"), "has expired"),
        (httpx.ConnectError("api.test:443: [Errno -2] Name or service not known"), "Name or service not known"),
        (httpx.ConnectError("api.test:443: the proxy p:3128 answers 407 Who are you?"), "the proxy p:3128 answers 407"),
        (NO_API[3], "400 The plain HTTP request"),
        (ENVELOPED, "HTTP 403"),
    ],
)
def test_the_log_says_why_in_the_words_that_were_heard_and_seldom(sides: Any, answer: Answered, words: str) -> None:
    with capture_logs() as logs:
        side = sides(lambda seen: answer, *many(50), run_s=300.0)
    said = [str(line.get("said")) for line in logs if line["log_level"] in ("warning", "error")]
    assert said
    assert all(words in line for line in said)
    assert len(said) <= 300.0 / SAY_S + 1
    assert len(side.api.seen) > len(said)


def test_connections_that_fail_say_why_and_a_server_that_is_busy_is_no_standstill(sides: Any) -> None:
    error = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired")
    side = sides(lambda seen: error, *many(20), run_s=20.0)
    (standstill,) = side.standing.standstills()
    assert "certificate has expired" in standstill
    assert "certificate has expired" in (side.standing.status().trouble or "")
    busy = sides(lambda seen: (503, {}, b"<html>try later</html>"), *many(20), run_s=20.0)
    assert busy.standing.standstills() == []
    assert "HTTP 503" in (busy.standing.status().trouble or "")


def test_entries_of_a_doubted_order_keep_their_order(sides: Any) -> None:
    side = sides(answers(*[NO_API[3]] * 6), "a", "a", "b", "a", run_s=120.0)
    assert [type(ending) for ending in side.ended.values()] == [Delivered] * 4
    of_a = [entry for entry in side.entries() if entry != "e3"]
    assert of_a == sorted(of_a, key=lambda entry: int(entry[1:]))


def test_a_refusal_in_the_apis_own_form_is_never_doubted(sides: Any) -> None:
    refused: Answered = (422, {}, b'{"error": {"error_code": "product_unsupported"}}')
    side = sides(by_entry({f"e{number}": refused for number in range(1, 21)}), *many(20), run_s=2.0)
    assert all(isinstance(ending, Rejected) for ending in side.ended.values())
    assert len(side.ended) == 20
