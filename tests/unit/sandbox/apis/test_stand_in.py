"""A stand-in over real HTTP: its faults look like those of the network, its record like what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import pytest

from processor.config import Quota
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import Fault, Latency, LimitHeader, Outage, Script
from processor.sandbox.apis.stand_in import StandIn
from tests.unit.sandbox.apis.reference import CANCELLED, FULFILLED, HEADERS, PLACED, Json, put


@pytest.fixture
def hakuna() -> StandIn:
    return StandIn(HakunaApi())


@pytest.fixture
def url(hakuna: StandIn) -> Iterator[str]:
    with Loopback(hakuna) as loopback:
        yield loopback.url


@pytest.fixture(scope="module", autouse=True)
def http() -> Iterator[None]:
    """One client for all: making one loads certificates, which takes longer than any test here."""
    with CLIENT:
        yield


CLIENT = httpx.Client(verify=False)


def post(url: str, body: Json, key: str = "k1", timeout_s: float = 5.0, **headers: str) -> httpx.Response:
    return CLIENT.post(
        f"{url}/events",
        content=orjson.dumps(body),
        headers=HEADERS | {"idempotency-key": f'"{key}"'} | headers,
        timeout=timeout_s,
    )


def record(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = CLIENT.get(f"{url}/_sandbox/record").json()
    return answer


def test_an_accepted_request_is_answered_and_recorded(hakuna: StandIn, url: str) -> None:
    answer = post(url, PLACED)
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert "date" in answer.headers
    assert [one.body for one in hakuna.record.history("ord-123")] == [orjson.dumps(PLACED)]
    told = record(url)
    assert (told["api"], told["requests"], told["statuses"], told["accepted"]) == ("hakuna", 1, {"201": 1}, 1)
    (one,) = CLIENT.get(f"{url}/_sandbox/history", params={"subject": "ord-123"}).json()
    assert (one["verb"], one["key"], one["body"]) == ("POST /events", "k1", PLACED)
    assert "ord-123" in CLIENT.get(f"{url}/_sandbox/contents").json()["events"]


def test_a_mistake_is_answered_and_recorded_in_the_same_words(hakuna: StandIn, url: str) -> None:
    answer = post(url, put(PLACED, "payload.order_currency", "EUR"))
    (problem,) = answer.json()["error"]["validation_errors"]
    assert hakuna.record.mistakes() == [f"POST /events: {problem}"]
    assert hakuna.record.error_codes() == {"invalid_request_parameters": 1}
    assert hakuna.record.subjects() == []


def test_the_same_key_and_body_get_the_first_answer_again_and_change_nothing(hakuna: StandIn, url: str) -> None:
    first, second = post(url, PLACED), post(url, PLACED)
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert hakuna.record.repeats == 1
    assert len(hakuna.record.history("ord-123")) == 1


def test_the_same_key_with_another_body_is_refused(hakuna: StandIn, url: str) -> None:
    post(url, PLACED)
    assert post(url, FULFILLED).status_code == 422
    assert hakuna.record.key_conflicts == 1


def test_a_refusal_is_not_kept_so_the_same_request_may_succeed_later(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(refused_countries=frozenset({"de"}))
    assert post(url, PLACED).json()["error"]["error_code"] == "location_unsupported"
    hakuna.script = Script()
    assert post(url, PLACED).status_code == 201


def test_a_reset_connection_does_nothing_and_a_lost_answer_has_done_it(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(shares={Fault.RESET: 1.0})
    with pytest.raises(httpx.ReadError):
        post(url, PLACED)
    assert hakuna.record.subjects() == []
    hakuna.script = Script(shares={Fault.LOST_ANSWER: 1.0})
    with pytest.raises(httpx.ReadError):
        post(url, PLACED)
    assert hakuna.record.subjects() == ["ord-123"]
    assert hakuna.record.statuses() == {"reset": 1, "lost_answer": 1}


def test_a_request_that_hangs_ends_when_its_client_gives_up(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(shares={Fault.HANG: 1.0})
    with pytest.raises(httpx.ReadTimeout):
        post(url, PLACED, timeout_s=0.05)
    hakuna.script = Script()
    assert post(url, PLACED).status_code == 201
    assert hakuna.record.overlap_count == 0, "the first request was over"


def test_a_page_of_a_proxy_is_no_answer_of_the_api(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(shares={Fault.PAGE: 1.0})
    answer = post(url, PLACED)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert hakuna.record.subjects() == []


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.TOO_MANY])
def test_an_answer_of_a_gateway_has_no_body(hakuna: StandIn, url: str, fault: Fault) -> None:
    hakuna.script = Script(shares={fault: 1.0})
    answer = post(url, PLACED)
    assert (answer.status_code, answer.content) == (int(fault), b"")
    assert hakuna.record.mistake_count == 0


@pytest.mark.parametrize("how", list(LimitHeader))
def test_a_quota_says_how_long_to_wait_in_the_way_it_was_told_to(hakuna: StandIn, url: str, how: LimitHeader) -> None:
    hakuna.script = Script(quota=Quota(1, 30.0), limit_header=how)
    assert post(url, PLACED).status_code == 201
    answer = post(url, PLACED)
    assert answer.status_code == 429
    told = {name for name in answer.headers if "limit" in name or "retry" in name}
    match how:
        case LimitHeader.RETRY_AFTER_SECONDS:
            assert answer.headers["retry-after"] in ("29", "30")
        case LimitHeader.RETRY_AFTER_DATE:
            at = parsedate_to_datetime(answer.headers["retry-after"]).timestamp()
            assert 25 < at - time.time() < 32
        case LimitHeader.RATELIMIT:
            assert answer.headers["ratelimit"] in ('"default";r=0;t=29', '"default";r=0;t=30')
        case LimitHeader.X_RATELIMIT:
            assert told == {"x-ratelimit-remaining", "x-ratelimit-reset"}
        case LimitHeader.NONE:
            assert told == set()
    assert record(url)["most_in_window"] == {"window_s": 30.0, "requests": 2}


def test_a_subject_can_be_answered_the_same_for_ever(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(answers={"ord-123": 500})
    assert [post(url, PLACED).status_code for _ in range(2)] == [500, 500]
    assert post(url, put(PLACED, "payload.order_id", "ord-2"), key="k2").status_code == 201


def test_a_body_that_is_too_large_is_413(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(body_bytes_max=100)
    assert post(url, PLACED).status_code == 413


def test_two_requests_about_one_order_at_once_are_an_overlap(hakuna: StandIn, url: str) -> None:
    hakuna.script = Script(latency=Latency(150))

    async def both() -> list[int]:
        async with httpx.AsyncClient(headers=HEADERS, verify=False) as client:
            answers = await asyncio.gather(
                client.post(f"{url}/events", json=PLACED, headers={"idempotency-key": '"a"'}),
                client.post(f"{url}/events", json=CANCELLED, headers={"idempotency-key": '"b"'}),
                client.post(f"{url}/events", json=PLACED, headers={"idempotency-key": '"a"'}),
            )
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(both()) == [201, 201, 409]
    assert hakuna.record.overlaps() == ["ord-123", "ord-123"]


def test_a_client_that_hangs_up_is_served_all_the_same(hakuna: StandIn, url: str) -> None:
    """Its retry, when it comes too early, hears that the first is being served; later, the first answer again."""
    hakuna.script = Script(latency=Latency(300))
    with pytest.raises(httpx.ReadTimeout):
        post(url, PLACED, timeout_s=0.02)
    assert post(url, PLACED).status_code == 409
    assert hakuna.record.subjects() == ["ord-123"]
    assert post(url, PLACED).status_code == 201
    assert (hakuna.record.repeats, hakuna.record.overlap_count) == (1, 0)


def test_the_script_is_read_and_changed_from_outside(hakuna: StandIn, url: str) -> None:
    answer = CLIENT.post(f"{url}/_sandbox/script", json={"revoked": True})
    assert answer.json()["revoked"] is True
    assert CLIENT.get(f"{url}/_sandbox/script").json() == answer.json()
    refused = post(url, PLACED)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert CLIENT.post(f"{url}/_sandbox/script", json={"revoke": True}).status_code == 400
    assert CLIENT.post(f"{url}/_sandbox/script", content=b"x").status_code == 400
    assert CLIENT.get(f"{url}/_sandbox/record?window_s=x").status_code == 400
    assert CLIENT.get(f"{url}/_sandbox/nothing").status_code == 404


def test_an_api_that_is_stopped_refuses_connections_and_comes_back_on_its_port(hakuna: StandIn) -> None:
    loopback = Loopback(hakuna).start()
    assert post(loopback.url, PLACED).status_code == 201
    loopback.stop()
    with pytest.raises(httpx.ConnectError):
        post(loopback.url, PLACED)
    with loopback:
        assert post(loopback.url, PLACED).status_code == 201
    assert hakuna.record.repeats == 1


def test_a_port_that_is_taken_is_an_error(hakuna: StandIn, url: str) -> None:
    with pytest.raises(OSError, match="in use"):
        Loopback(hakuna, int(url.rpartition(":")[2])).start()


def test_outages_count_from_the_start(hakuna: StandIn) -> None:
    now = [100.0]
    stand_in = StandIn(HakunaApi(), Script(outages=(Outage(1, 2),)), lambda: now[0])
    with Loopback(stand_in) as loopback:
        assert post(loopback.url, PLACED).status_code == 201
        now[0] = 101.5
        assert post(loopback.url, PLACED).status_code == 503
        now[0] = 102.0
        assert post(loopback.url, PLACED).status_code == 201
