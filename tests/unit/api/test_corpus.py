"""Answers as real servers gave them (`corpus.jsonl`: who, status, headers, body), judged: what each must be taken to
mean. Times stand beside an answer's own `Date`; a header that came several times is a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, assert_never

import pytest

from processor.api.verdicts import (
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    Rejected,
    RetryLater,
    Verdict,
    is_kept,
)
from processor.hakuna.answers import verdict

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


def test_the_corpus_is_that_of_many_servers() -> None:
    assert len({one["from"] for one in CORPUS}) > 50


@pytest.mark.parametrize("one", CORPUS, ids=[f"{one['from']} {one['status']}" for one in CORPUS])
def test_a_real_answer_means_what_its_server_meant(one: dict[str, Any]) -> None:
    headers = {
        name.lower(): "\n".join(value) if isinstance(value, list) else value
        for name, value in one["headers"].items()
        if is_kept(name.lower())
    }
    assert shown(verdict(Answer(one["status"], headers, one["body"].encode()), NOW_MS)) == one["says"]
