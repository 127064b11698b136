"""What stands before a stand-in answers as the real ones do, and the verdicts see through it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import orjson
import pytest

from processor.api.verdicts import Answer, Delivered, Denied, Doubted, Rejected, Verdict, is_kept
from processor.config import Quota
from processor.hakuna import answers
from processor.sandbox.apis.gateway import Gateway
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import StandIn
from tests.support.loopback import LOOPBACK
from tests.unit.sandbox.apis.reference import HEADERS, PLACED

BODY = orjson.dumps(PLACED)


@pytest.fixture
def hakuna() -> Iterator[tuple[StandIn, str]]:
    stand_in = StandIn(HakunaApi())
    with Loopback(stand_in) as loopback:
        yield stand_in, f"{loopback.url}/events"


def asked(url: str, content: bytes = BODY) -> tuple[httpx.Response, Verdict]:
    """The raw answer's verdict: httpx would decompress it."""
    with httpx.stream("POST", url, content=content, headers=HEADERS) as response:
        body = b"".join(response.iter_raw())
        headers = {name: value for name, value in response.headers.items() if is_kept(name)}
    return response, answers.verdict(Answer(response.status_code, headers, body), 0)


@pytest.mark.parametrize(
    ("gateway", "status"), [(Gateway.TLS, 400), (Gateway.NOT_FOUND, 404), (Gateway.LOGIN, 302), (Gateway.DENY, 403)]
)
def test_a_gateway_answers_in_the_apis_place_and_nothing_is_done(
    hakuna: tuple[StandIn, str], gateway: Gateway, status: int
) -> None:
    stand_in, url = hakuna
    stand_in.script = Script(gateway=gateway)
    response, verdict = asked(url)
    assert response.status_code == status
    assert isinstance(verdict, Denied if gateway is Gateway.DENY else Doubted)
    assert stand_in.record.subjects() == []
    assert stand_in.record.statuses() == {str(status): 1}


def test_a_login_page_is_what_a_followed_redirect_leads_to(hakuna: tuple[StandIn, str]) -> None:
    stand_in, url = hakuna
    stand_in.script = Script(gateway=Gateway.LOGIN)
    response = LOOPBACK.post(url, content=BODY, headers=HEADERS, follow_redirects=True)
    assert (response.status_code, "Sign in" in response.text) == (200, True)


def test_deny_lets_the_quota_through(hakuna: tuple[StandIn, str]) -> None:
    stand_in, url = hakuna
    stand_in.script = Script(gateway=Gateway.DENY, quota=Quota(1, 60.0))
    assert isinstance(asked(url)[1], Delivered)
    assert isinstance(asked(url)[1], Denied)


def test_gzip_packs_what_the_api_says_and_it_is_read_all_the_same(hakuna: tuple[StandIn, str]) -> None:
    stand_in, url = hakuna
    stand_in.script = Script(gateway=Gateway.GZIP)
    response, verdict = asked(url)
    assert response.headers["content-encoding"] == "gzip"
    assert isinstance(verdict, Delivered)
    _, refused = asked(url, b"{}")
    assert isinstance(refused, Rejected)
    assert refused.error_code == "invalid_request_parameters"
    assert refused.validation_errors
