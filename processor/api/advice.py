"""advice: when a server says that it may be asked again, as far as it can be believed.

Pure. The sender asks it about accepted requests too, so that a quota that is used up is heard of before it is broken.

    Retry-After, and what is named like it                    RFC 9110, 10.2.3 (`Retry-After-long`, `retry-after-ms`)
      else RateLimit, with RateLimit-Policy                   draft-ietf-httpapi-ratelimit-headers-10
      else RateLimit: limit=…, remaining=…, reset=…           draft 7
      else …RateLimit…Remaining… and …Reset…                  drafts 0 to 6, and what the libraries made of them:
                                                              X-Rate-Limit-Reset, X-RateLimit-Remaining-long,
                                                              X-RateLimit-UserReset, x-ratelimit-reset-after

A wait is written as seconds, as milliseconds where the name says so, as `30s`, as a date of HTTP's or of ISO 8601, or
as an epoch, which its size tells. Dates and epochs are measured from the answer's own `Date`: the two clocks may
differ by minutes. A header that stands several times is its values on lines of their own; the longest wait counts.

Invariants: never raises, whatever stands in a header; what is malformed is as good as absent; a wait is never
negative and never longer than `WAIT_S_MAX`.

Not chosen: a library for structured fields. One list of items with two whole numbers in it is read here, and
an error in one of a server's policies must not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

WAIT_S_MAX: Final = 3600.0
"""A server that says `a year` by mistake would stop every order until somebody restarts us."""

USED_UP_S_MAX: Final = 60.0
"""The longest pause for a remainder of 0 on an accepted request: it is a hint, not a refusal."""

HEADER_CHARS_MAX: Final = 1000
"""Longer ones are not read: they are no advice, and a pattern would take its time over them."""

_NAME_CHARS_MAX: Final = 80
_VALUES_MAX: Final = 8
"""Values of one header: a server sends it once, a careless one twice."""

_RETRY: Final = re.compile(r"(?:x-)?(?:[a-z0-9]{1,20}-){0,3}?retry-(?:after|in)(?:-([a-z0-9_.-]+))?")
_QUOTA: Final = re.compile(
    r"(?:x-)?rate-?limit(?:-?([a-z][a-z0-9_]*?))??-?(remaining|reset(?:-after)?)(?:-([a-z0-9_.-]+))?"
)
_MS: Final = frozenset({"ms", "millis", "milliseconds"})

_NUMBER: Final = re.compile(r"\d{1,18}(?:\.\d{1,9})?")
_SIGNED: Final = re.compile(r"-?\d{1,15}(?:\.\d{1,9})?")
_DURATION: Final = re.compile(
    r"(?=\d)(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,12}(?:\.\d{1,9})?)ms)?"
)
_ITEM: Final = re.compile(
    r"""\s*(?:"((?:[^"\\]|\\.)*)"|([A-Za-z*][^\s;,="]*))\s*((?:;[^;,"]*(?:"[^"]*"[^;,"]*)?)*)(?:,|$)"""
)
_PARAMETER: Final = re.compile(r";\s*([a-z*][a-z0-9_.*-]*)\s*=\s*(\d{1,15})\s*(?=;|$)")
_MEMBER: Final = re.compile(r"(?:^|,)\s*(remaining|reset)\s*=\s*(\d{1,15})\s*(?=[,;]|$)")
_EPOCHS_S: Final = (1_000_000_000, 100_000_000_000)
"""From 2001 to 5138: no wait is as long, so a number between them is a time."""
_EPOCHS_MS: Final = (1_000_000_000_000, 100_000_000_000_000)


def is_advice(name: str) -> bool:
    """True if a header of this name, in lower case, may be read here."""
    if len(name) > _NAME_CHARS_MAX:
        return False
    if name in ("date", "ratelimit", "ratelimit-policy"):
        return True
    return _RETRY.fullmatch(name) is not None or _QUOTA.fullmatch(name) is not None


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """What `Retry-After` says, in seconds from now; None where it says nothing."""
    if not headers:
        return None
    at_ms = _said_at_ms(headers, now_ms)
    waits: list[float] = []
    for name in headers:
        named = _RETRY.fullmatch(name) if len(name) <= _NAME_CHARS_MAX else None
        if named is not None:
            waits += _waits(_read(headers, name), at_ms, in_ms=named[1] in _MS)
    return max(waits, default=None)


def quota_reset_s(headers: Mapping[str, str], now_ms: int, refused: bool) -> float | None:
    """When a used-up quota is there again, in seconds from now; None where no header says that it is used up.

    `refused`: the answer was a refusal for being too many, so that a missing remainder means none.
    """
    if not headers:
        return None
    said = _draft_10(headers, refused)
    if said is None:
        said = _draft_7(headers, refused)
    return _by_names(headers, _said_at_ms(headers, now_ms), refused) if said is None else said


def pause_after_success(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds to wait after an accepted request, where the server says that it was the last of its quota."""
    pause_s = quota_reset_s(headers, now_ms, refused=False)
    return None if pause_s is None else min(pause_s, USED_UP_S_MAX)


def _by_names(headers: Mapping[str, str], at_ms: int, refused: bool) -> float | None:
    """The longest wait among the quotas of which nothing remains; what comes before and after tells them apart."""
    resets: dict[tuple[str, str], list[float]] = {}
    used_up: dict[tuple[str, str], bool] = {}
    for name in headers:
        named = _QUOTA.fullmatch(name) if len(name) <= _NAME_CHARS_MAX else None
        if named is None:
            continue
        in_ms = named[3] in _MS
        quota = named[1] or "", "" if in_ms else named[3] or ""
        if named[2] == "remaining":
            left = [float(value) for value in _values(_read(headers, name)) if _SIGNED.fullmatch(value)]
            used_up[quota] = used_up.get(quota, False) or any(value < 1 for value in left)
        else:
            resets.setdefault(quota, []).extend(_waits(_read(headers, name), at_ms, in_ms))
    waits = [max(waits) for quota, waits in resets.items() if waits and used_up.get(quota, refused)]
    return max(waits, default=None)


def _draft_10(headers: Mapping[str, str], refused: bool) -> float | None:
    """The longest wait among the policies of which nothing remains; of a refusal by one that has something left, the
    shortest: the request was worth more than that."""
    text = _read(headers, "ratelimit").replace("\n", ", ")
    policies = _items(_read(headers, "ratelimit-policy").replace("\n", ", "))
    waits: list[int] = []
    others: list[int] = []
    for name, parameters in _items(text).items():
        wait = parameters.get("t", policies.get(name, {}).get("w"))
        if wait is not None and "r" in parameters:
            (waits if parameters["r"] == 0 else others).append(wait)
    if not waits and refused and others:
        waits = [min(others)]
    return _bounded(float(max(waits))) if waits else None


def _draft_7(headers: Mapping[str, str], refused: bool) -> float | None:
    """One header for what were three: a dictionary where draft 10 has a list."""
    waits = []
    for text in _read(headers, "ratelimit").split("\n"):
        members = {name: int(value) for name, value in _MEMBER.findall(text)}
        if "reset" in members and members.get("remaining", 0 if refused else 1) == 0:
            waits.append(float(members["reset"]))
    return _bounded(max(waits)) if waits else None


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


def _waits(text: str, at_ms: int, in_ms: bool = False) -> Iterator[float]:
    for value in _values(text):
        wait = _wait(value, at_ms, in_ms)
        if wait is not None:
            yield wait


def _values(text: str) -> list[str]:
    """Each of the values of a header: a date has a comma in it, two numbers have one between them."""
    values = []
    for line in text.split("\n")[:_VALUES_MAX]:
        whole = line.strip()
        if "," in whole and _date_ms(whole) is None:
            values += [part.strip() for part in whole.split(",")[:_VALUES_MAX]]
        else:
            values.append(whole)
    return values


def _wait(text: str, at_ms: int, in_ms: bool) -> float | None:
    """Seconds from `at_ms` on, however they are written."""
    if _NUMBER.fullmatch(text):
        value = float(text)
        if in_ms:
            value /= 1000
        if _EPOCHS_S[0] <= value < _EPOCHS_S[1]:
            value -= at_ms / 1000
        elif _EPOCHS_MS[0] <= value < _EPOCHS_MS[1]:
            value = (value - at_ms) / 1000
        return _bounded(value)
    parts = _DURATION.fullmatch(text)
    if parts is not None:
        hours, minutes, seconds, ms = (float(part or 0) for part in parts.groups())
        return _bounded(hours * 3600 + minutes * 60 + seconds + ms / 1000)
    until_ms = _date_ms(text)
    return None if until_ms is None else _bounded((until_ms - at_ms) / 1000)


def _read(headers: Mapping[str, str], name: str) -> str:
    text = headers.get(name, "")
    return "" if len(text) > HEADER_CHARS_MAX or not text.isascii() else text.strip()


def _said_at_ms(headers: Mapping[str, str], now_ms: int) -> int:
    """When the answer was made, by the server's clock where it says so."""
    date = _read(headers, "date").partition("\n")[0]
    said_ms = _date_ms(date) if date else None
    return now_ms if said_ms is None else said_ms


def _date_ms(text: str) -> int | None:
    """A date of HTTP's or of ISO 8601."""
    try:
        at = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_S_MAX)
