"""What Hakuna's answer to a request that changes nothing says of its key; the stand-in on loopback."""

from __future__ import annotations

import pytest

from processor.config import load
from processor.operate.check.api import Place, check_hakuna, judged
from processor.operate.check.findings import Area, Verdict, problems
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from tests.support.children import free_ports

PLACE = Place("HAKUNA_API_KEY", "HAKUNA_BASE_URL", "https://api.example")


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 202, 400, 409, 415, 422), Verdict.SOUND),
        ((401, 403, 301, 302, 404, 405), Verdict.PROBLEM),
        ((408, 425, 429, 500, 502, 503), Verdict.NOTE),
    ],
)
def test_what_a_status_says_of_a_key(statuses: tuple[int, ...], verdict: Verdict) -> None:
    assert {judged(status, "https://api.example/events", PLACE).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize("api", ["events", "feed"])
def test_hakuna_takes_or_refuses_the_key_and_hears_of_no_order(api: str) -> None:
    stand_in = StandIn(HakunaApi(), Script())
    with Loopback(stand_in) as loopback:
        given = {"HAKUNA_BASE_URL": loopback.url, "HAKUNA_API": api}
        good = check_hakuna(load(given | {"HAKUNA_API_KEY": SANDBOX_KEY}), try_key=None)
        assert [one.verdict for one in good if one.area is Area.KEYS] == [Verdict.SOUND]
        bad = check_hakuna(load(given | {"HAKUNA_API_KEY": "sk_other"}), try_key=None)
        assert [one.subject for one in problems(bad)] == ["HAKUNA_API_KEY"]
        assert stand_in.record.requests == 2
        assert stand_in.record.mistakes() == []


def test_an_api_that_is_gone_is_a_problem_with_and_without_a_request() -> None:
    (port,) = free_ports(1)
    settings = load({"HAKUNA_BASE_URL": f"http://127.0.0.1:{port}", "HAKUNA_API_KEY": "sk"})
    for try_key in (True, False):
        assert [one.subject for one in problems(check_hakuna(settings, try_key=try_key))] == [
            f"http://127.0.0.1:{port}"
        ]


def test_a_key_file_that_is_not_there_is_told_by_its_setting() -> None:
    settings = load({"HAKUNA_API_KEY_FILE": "/nonexistent/key"})
    assert [one.subject for one in problems(check_hakuna(settings, try_key=True))] == ["HAKUNA_API_KEY_FILE"]
