"""Answers as real servers gave them, or as their documents have them ("…'s form"; `corpus.jsonl`: who, status, headers,
body), judged: what each must be taken to mean. Times stand beside an answer's own `Date`; a header that came several
times is a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, assert_never

import pytest

from processor.api.verdicts import Answer, Delivered, Denied, Doubted, KeyRefused, Rejected, RetryLater, Verdict
from processor.edges.http.pool import LeanTransport
from processor.edges.http.request import RequestTemplate
from processor.edges.http.tls import tls_context
from processor.hako import answers as hako
from processor.hakuna import answers as hakuna
from processor.send.event_loop.endpoint import Endpoint
from tests.fakes.clock import FakeClock

NOW_MS = 1_700_000_000_000
CORPUS: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
]


def shown(found: Verdict) -> str:
    match found:
        case Delivered(pause_s=pause_s):
            return "delivered" if pause_s is None else f"delivered pause {round(pause_s, 1):g}"
        case RetryLater(reason=reason, after_s=after_s):
            return reason.value if after_s is None else f"{reason.value} {after_s:g}"
        case Rejected(reason=rejected):
            return f"rejected {rejected}"
        case Denied() | Doubted():
            return type(found).__name__.lower()
        case KeyRefused():
            return "key"
        case _:
            assert_never(found)


def judged(one: dict[str, Any], judge: Callable[[Answer, int], Verdict]) -> str:
    """As the worker does: from the bytes of the head."""
    fields = [
        f"{name}: {value}"
        for name, values in one["headers"].items()
        for value in (values if isinstance(values, list) else [values])
    ]
    head = "\r\n".join([f"HTTP/1.1 {one['status']} X", *fields, "", ""]).encode()
    endpoint = Endpoint(LeanTransport(tls_context), RequestTemplate, "https://api.test", 5.0, FakeClock())
    if "pause" not in one["says"]:
        endpoint._look_at_s = inf  # advice on an accepted request is read now and then only
    return shown(judge(endpoint.answer(one["status"], [head], one["body"].encode()), NOW_MS))


def test_the_corpus_is_that_of_many_servers() -> None:
    assert len({one["from"] for one in CORPUS}) > 100


@pytest.mark.parametrize("one", CORPUS, ids=[f"{one['from']} {one['status']}" for one in CORPUS])
def test_a_real_answer_means_what_its_server_meant(one: dict[str, Any]) -> None:
    assert judged(one, hakuna.verdict) == one["says"]


@pytest.mark.parametrize("one", CORPUS, ids=[f"{one['from']} {one['status']}" for one in CORPUS])
def test_what_is_nobodys_fault_or_somebody_elses_means_the_same_of_hako(one: dict[str, Any]) -> None:
    """Its own refusals have another form, and may be met by the other verb."""
    mine, its = one["says"], judged(one, hako.verdict)
    if mine.split()[0] in ("rejected", "key", "denied"):
        assert its.split()[0] in ("rejected", "key", "denied")
    else:
        assert its == mine or (mine == "doubted" and one["body"].startswith("{") and its.startswith("rejected"))
