"""verdicts: what an answer means for the entries it answers. A closed set, whatever a server may say.

    2xx                                              Delivered
    401 403                                          KeyRefused     the key is wrong, not the order
    408 409 425 429 5xx, no answer, none of HTTP's   RetryLater     nobody's fault; uses up no attempt
    3xx and every other 4xx                          Rejected       a redirect is never followed with the key

Pure. Each API has a module that reads its own bodies (`hakuna/answers.py`, `hako/answers.py`); what holds for
any HTTP API stands here, once, and the sender acts on the verdict alone. Two rules need more than one answer
and are the sender's: 409 is rejected after ten of them, and 5xx on one entry while others pass makes it
poison (`send/event_loop/poison.py`).

A final answer below 200 or above 599 is no HTTP and counts as a connection that broke.

advice: when a server says that it may be asked again, as far as it can be believed.

Pure. Owned by the verdicts; the sender asks it about accepted requests too, so that a quota that is used up
is heard of before it is broken.

    Retry-After (seconds, or a date)                          RFC 9110, 10.2.3
      else RateLimit, with RateLimit-Policy                   draft-ietf-httpapi-ratelimit-headers-10
      else RateLimit: limit=…, remaining=…, reset=…           draft 7
      else RateLimit-Remaining and -Reset                     drafts 0 to 6
      else X-RateLimit-Remaining and -Reset                   custom: a number of seconds, or an epoch (s or
      ms)

Invariants: never raises, whatever stands in a header; what is malformed is as good as absent; a wait is never
negative and never longer than `WAIT_S_MAX`.

Not chosen: a library for structured fields. One list of items with two whole numbers in it is read here, and
an error in one of a server's policies must not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import msgspec

WAIT_S_MAX: Final = 3600.0
"""A server that says `a year` by mistake would stop every order until somebody restarts us."""

USED_UP_S_MAX: Final = 60.0
"""The longest pause for a remainder of 0 on an accepted request: it is a hint, not a refusal."""

HEADER_CHARS_MAX: Final = 1000
"""Longer ones are not read: they are no advice, and a pattern would take its time over them."""

ADVICE_HEADERS: Final = frozenset(
    {
        "date",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-remaining",
        "ratelimit-reset",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    }
)
"""All that is read of an answer's headers, in lower case."""

_SECONDS: Final = re.compile(r"\d{1,18}(?:\.\d{1,9})?")
_WHOLE: Final = re.compile(r"\d{1,15}")
_ITEM: Final = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|([A-Za-z*][^\s;,="]*))\s*((?:;[^;,"]*(?:"[^"]*"[^;,"]*)?)*)(?:,|$)"""
)
_PARAMETER: Final = re.compile(r";\s*([a-z*][a-z0-9_.*-]*)\s*=\s*(\d{1,15})\s*(?=;|$)")
_MEMBER: Final = re.compile(r"(?:^|,)\s*(remaining|reset)\s*=\s*(\d{1,15})\s*(?=[,;]|$)")
_EPOCH_S_MIN: Final = 1_000_000_000
_EPOCH_MS_MIN: Final = 1_000_000_000_000


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """What `Retry-After` says, in seconds from now; None where it says nothing.

    A date is measured from the answer's own `Date` where there is one: the two clocks may differ by minutes.
    """
    text = _read(headers, "retry-after")
    if text is None:
        return None
    if _SECONDS.fullmatch(text):
        return _bounded(float(text))
    until_ms = _date_ms(text)
    if until_ms is None:
        return None
    said_at = _read(headers, "date")
    said_at_ms = _date_ms(said_at) if said_at is not None else None
    return _bounded((until_ms - (now_ms if said_at_ms is None else said_at_ms)) / 1000)


def quota_reset_s(headers: Mapping[str, str], now_ms: int, refused: bool) -> float | None:
    """When a used-up quota is there again, in seconds from now; None where no header says that it is used up.

    `refused`: the answer was a refusal for being too many, so that a missing remainder means none.
    """
    said = _draft_10(headers)
    if said is None:
        said = _draft_7(headers, refused)
    if said is not None:
        return said
    for prefix in ("ratelimit-", "x-ratelimit-"):
        remaining = _read(headers, prefix + "remaining")
        reset = _read(headers, prefix + "reset")
        if reset is None or not _SECONDS.fullmatch(reset):
            continue
        used_up = refused if remaining is None else _WHOLE.fullmatch(remaining) and int(remaining) == 0
        if not used_up:
            continue
        value = float(reset)
        if value >= _EPOCH_MS_MIN:
            value = (value - now_ms) / 1000
        elif value >= _EPOCH_S_MIN:
            value -= now_ms / 1000
        return _bounded(value)
    return None


def _draft_10(headers: Mapping[str, str]) -> float | None:
    """The longest wait among the policies of which nothing remains."""
    text = _read(headers, "ratelimit")
    if text is None:
        return None
    policies = _items(_read(headers, "ratelimit-policy") or "")
    waits = []
    for name, parameters in _items(text).items():
        if parameters.get("r") == 0:
            wait = parameters.get("t", policies.get(name, {}).get("w"))
            if wait is not None:
                waits.append(wait)
    return _bounded(float(max(waits))) if waits else None


def _draft_7(headers: Mapping[str, str], refused: bool) -> float | None:
    """One header for what were three: a dictionary where draft 10 has a list."""
    members = {name: int(value) for name, value in _MEMBER.findall(_read(headers, "ratelimit") or "")}
    reset = members.get("reset")
    if reset is None or members.get("remaining", 0 if refused else 1) != 0:
        return None
    return _bounded(float(reset))


def _items(text: str) -> dict[str, dict[str, int]]:
    """A list of strings or tokens with parameters; of the parameters those that are whole numbers."""
    found: dict[str, dict[str, int]] = {}
    at = 0
    while at < len(text):
        item = _ITEM.match(text, at)
        if item is None:
            at = text.find(",", at) + 1 or len(text)
            continue
        name = item[1] if item[1] is not None else item[2]
        found[name] = {key: int(value) for key, value in _PARAMETER.findall(item[3])}
        at = item.end()
    return found


def _read(headers: Mapping[str, str], name: str) -> str | None:
    text = headers.get(name)
    if text is None or len(text) > HEADER_CHARS_MAX or not text.isascii():
        return None
    return text.strip()


def _date_ms(text: str) -> int | None:
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_S_MAX)


BODY_BYTES_MAX: Final = 64 * 1024
"""All that is read of an answer's body: more would be a mistake of the server's, and memory of ours."""

NO_HEADERS: Final[Mapping[str, str]] = {}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What came back. `headers` are those of `ADVICE_HEADERS` that were there; `body` is at most
    BODY_BYTES_MAX."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(StrEnum):
    """Why there is no answer; the values are also the `status` label of the request metrics."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"


class RetryReason(StrEnum):
    """Why an entry is sent again (`processor_retries_total`)."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    THROTTLED = "throttled"
    TOO_EARLY = "too_early"
    IN_PROGRESS = "in_progress"
    SERVER_ERROR = "server_error"


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """Accepted. `event_id` is the API's own name for what it made of it; `pause_s`: its quota is now used
    up."""

    status: int
    event_id: str | None = None
    pause_s: float | None = None


class RetryLater(msgspec.Struct, frozen=True, gc=False):
    """Not now. `after_s` is the server's word (None: our own backoff); `pauses_destination`: it speaks of
    everyone; `at_last` is what its body says, should there be no later answer."""

    reason: RetryReason
    status: int | None = None
    after_s: float | None = None
    pauses_destination: bool = False
    at_last: Rejected | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Never. `message` is ours, constant but for status and code, and holds nothing of the customer's."""

    reason: str
    message: str
    http_status: int | None = None
    error_code: str | None = None
    validation_errors: tuple[str, ...] = ()


class Otherwise(msgspec.Struct, frozen=True, gc=False):
    """Refused as it was sent, and to be sent in another way: what a destination makes of a refusal, never of an
    answer by itself. How is the destination's own business, and its entries say it."""


OTHERWISE: Final = Otherwise()


class KeyRefused(msgspec.Struct, frozen=True, gc=False):
    """The key is refused, and with it everything that is sent with it."""

    status: int


Verdict = Delivered | RetryLater | Rejected | KeyRefused


def unless_final(answer: Answer | NoAnswer, now_ms: int) -> RetryLater | KeyRefused | None:
    """The verdict where any HTTP API would mean the same; None where the answer is final and the API's own to
    read."""
    if isinstance(answer, NoAnswer):
        return RetryLater(RetryReason.TIMEOUT if answer is NoAnswer.TIMEOUT else RetryReason.CONNECTION)
    status = answer.status
    if 200 <= status < 400:
        return None
    if status in (401, 403):
        return KeyRefused(status)
    if status == 429:
        reason = RetryReason.THROTTLED
    elif status == 408:
        reason = RetryReason.TIMEOUT
    elif status == 409:
        reason = RetryReason.IN_PROGRESS
    elif status == 425:
        reason = RetryReason.TOO_EARLY
    elif 500 <= status < 600:
        reason = RetryReason.SERVER_ERROR
    elif 400 <= status < 500:
        return None
    else:
        return RetryLater(RetryReason.CONNECTION, status)
    after_s = retry_after_s(answer.headers, now_ms)
    if after_s is not None:
        return RetryLater(reason, status, after_s, pauses_destination=status != 409)
    after_s = quota_reset_s(answer.headers, now_ms, refused=status == 429)
    return RetryLater(reason, status, after_s, pauses_destination=status == 429)


def pause_after_success(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds to wait after an accepted request, where the server says that it was the last of its quota."""
    if not headers:
        return None
    pause_s = quota_reset_s(headers, now_ms, refused=False)
    return None if pause_s is None else min(pause_s, USED_UP_S_MAX)
