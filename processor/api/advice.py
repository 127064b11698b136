"""advice: when a server says that it may be asked again, if its words are plausible.

Pure. The sender also reads the advice of accepted requests, so that it stops before a used-up quota is exceeded.

    Retry-After, and what is named like it                    RFC 9110, 10.2.3 (`Retry-After-long`, `retry-after-ms`)
      else RateLimit, with RateLimit-Policy                   draft-ietf-httpapi-ratelimit-headers-10
      else RateLimit: limit=…, remaining=…, reset=…           draft 7
      else …RateLimit…Remaining… and …Reset…                  drafts 0 to 6, and what the libraries made of them:
                                                              X-Rate-Limit-Reset, X-RateLimit-Remaining-long,
                                                              X-RateLimit-UserReset, x-ratelimit-reset-after

A wait is written as seconds, as milliseconds if the name says so, as `30s`, as a date of HTTP or of ISO 8601, or as an
epoch, which is recognised by its size. Dates and epochs are measured from the answer's own `Date`, because the two
clocks may differ by minutes. A repeated header has one value a line; the longest wait counts.

Invariants: never raises, whatever a header has; a malformed value counts as absent; a wait is never negative and never
longer than `WAIT_S_MAX`.

Not chosen: a library for structured fields (an error in one policy must not hide the others).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

WAIT_S_MAX: Final = 3600.0
"""A server that says `a year` by mistake would stop every order until a person restarts the worker."""

USED_UP_S_MAX: Final = 60.0
"""The longest pause for a remainder of 0 on an accepted request: it is a hint, not a refusal."""

HEADER_CHARS_MAX: Final = 1000
"""The longest header that is read: a longer one is not advice, and takes a pattern long."""

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
"""From 2001 to 5138: no wait is that long, so a number in between is a time."""
_EPOCHS_MS: Final = (1_000_000_000_000, 100_000_000_000_000)


def is_advice(name: str) -> bool:
    """True if a header of this name, in lower case, may be read here."""
    if len(name) > _NAME_CHARS_MAX:
        return False
    if name in ("date", "ratelimit", "ratelimit-policy"):
        return True
    return _RETRY.fullmatch(name) is not None or _QUOTA.fullmatch(name) is not None


def retry_after_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Returns the wait of `Retry-After` in seconds from now; None if there is none."""
    if not headers:
        return None
    at_ms = _said_at_ms(headers, now_ms)
    waits: list[float] = []
    for name in headers:
        if (named := _RETRY.fullmatch(name) if len(name) <= _NAME_CHARS_MAX else None) is not None:
            waits += _waits(_read(headers, name), at_ms, in_ms=named[1] in _MS)
    return max(waits, default=None)


def quota_reset_s(headers: Mapping[str, str], now_ms: int, refused: bool) -> float | None:
    """Returns in how many seconds a used-up quota is renewed; None if no header says that it is used up. `refused` is
    true if the answer refuses too many requests, so that a missing remainder counts as 0."""
    if not headers:
        return None
    for draft in (_draft_10, _draft_7):
        if (wait_s := draft(headers, refused)) is not None:
            return wait_s
    return _by_names(headers, _said_at_ms(headers, now_ms), refused)


def pause_after_success(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Returns the seconds to wait after an accepted request if it was the last one of the quota; None otherwise."""
    pause_s = quota_reset_s(headers, now_ms, refused=False)
    return None if pause_s is None else min(pause_s, USED_UP_S_MAX)


def _by_names(headers: Mapping[str, str], at_ms: int, refused: bool) -> float | None:
    """Returns the longest wait of the used-up quotas; a quota is known by the words around `remaining` and `reset`."""
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
    """Returns the longest wait of the used-up policies. If none is used up and the request was refused, returns the
    shortest wait: the request needed more than was left."""
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
    """Reads one header in place of three: a dictionary, where draft 10 has a list."""
    waits = []
    for text in _read(headers, "ratelimit").split("\n"):
        members = {name: int(value) for name, value in _MEMBER.findall(text)}
        if "reset" in members and members.get("remaining", 0 if refused else 1) == 0:
            waits.append(float(members["reset"]))
    return _bounded(max(waits)) if waits else None


def _items(text: str) -> dict[str, dict[str, int]]:
    """Returns a list of strings or tokens with those of their parameters that are whole numbers."""
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
    waits = (_wait(value, at_ms, in_ms) for value in _values(text))
    return (wait for wait in waits if wait is not None)


def _values(text: str) -> list[str]:
    """Returns the values of a header: a date has a comma in it, two numbers have one between them."""
    values = []
    for line in text.split("\n")[:_VALUES_MAX]:
        whole = line.strip()
        if "," in whole and _date_ms(whole) is None:
            values += [part.strip() for part in whole.split(",")[:_VALUES_MAX]]
        else:
            values.append(whole)
    return values


def _wait(text: str, at_ms: int, in_ms: bool) -> float | None:
    """Returns the seconds from `at_ms` on, in any notation."""
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
    """Returns when the answer was made, by the server's clock if it has a `Date`."""
    date = _read(headers, "date").partition("\n")[0]
    said_ms = _date_ms(date) if date else None
    return now_ms if said_ms is None else said_ms


def _date_ms(text: str) -> int | None:
    """Reads a date of HTTP or of ISO 8601."""
    try:
        at = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), WAIT_S_MAX)
