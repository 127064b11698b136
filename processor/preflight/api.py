"""An API, its key and its clock.

Neither API has a request that only looks at a key. A request that changes nothing there is: an empty object (the Order
feed: an empty array), which names no order and is refused after the key has been looked at. So 401 and 403 mean a bad
key, and any other 4xx a good one. It is a request all the same: it counts in the API's quota and not in the worker's
pace, so it is left out where a quota is set, unless it is asked for; then only the connection is tried.

The answer's `Date` tells that machine's clock, to a second.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from processor.config import KeySource, Settings
from processor.edges.clock import SystemClock
from processor.edges.http_choice import tls_context
from processor.edges.keys import key_of
from processor.errors import Unusable
from processor.hakuna import Api
from processor.preflight.findings import Area, Finding, note, problem, sound

CLOCK_S_MAX: Final = 60.0
_ANSWER_S_MAX: Final = 10.0
_DATE_S: Final = 1.0


def check_hakuna(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: where no quota is set."""
    source = settings.hakuna_key
    if source is None:
        return []  # complained of with the settings
    read = _read(source, "HAKUNA_API_KEY")
    if isinstance(read, Finding):
        return [read]
    if try_key is False or (try_key is None and settings.hakuna_quota is not None):
        return [*_reach(settings.hakuna_url), _not_tried("HAKUNA_API_KEY", settings.hakuna_quota is not None)]
    path, body = ("/events", b"{}") if settings.hakuna_api is Api.EVENTS else ("/feeds/order", b"[]")
    headers = {
        "Authorization": f"Bearer {read}",
        "Content-Type": "application/json",
        "Hakuna-Version": settings.hakuna_version,
    }
    return _try(settings.hakuna_url + path, body, headers, "HAKUNA_API_KEY", "HAKUNA_BASE_URL, HAKUNA_ENVIRONMENT")


def _read(source: KeySource, setting: str) -> str | Finding:
    try:
        return key_of(source, f"{setting}_FILE").current()
    except Unusable as unusable:
        (complaint,) = unusable.problems
        name, _, what = complaint.partition(": ")
        return problem(Area.KEYS, name, what, "put the key, and nothing else, into that file, readable for this user")


def _not_tried(setting: str, quota: bool) -> Finding:
    why = "a quota is set, and this request would not be counted in it" if quota else "as asked"
    return note(Area.KEYS, setting, f"not tried: {why}; it shows with the first request", "--try-key tries it")


def _try(url: str, body: bytes, headers: dict[str, str], setting: str, place: str) -> list[Finding]:
    clock = SystemClock()
    before_ms = clock.now_ms()
    try:
        with httpx.Client(verify=tls_context(), timeout=_ANSWER_S_MAX) as client:
            answer = client.post(url, content=body, headers=headers)
    except httpx.HTTPError as broken:
        return [_unreachable(url, broken, place)]
    skew = _skew(url, answer.headers.get("date"), before_ms, clock.now_ms())
    return [_judged(answer.status_code, url, setting, place), *skew]


def _judged(status: int, url: str, setting: str, place: str) -> Finding:
    if status in (401, 403):
        return problem(
            Area.KEYS,
            setting,
            f"{url} answers HTTP {status}: the key is refused",
            f"set {setting} to a key of that environment",
        )
    if status in (404, 405) or 300 <= status < 400:
        return problem(
            Area.KEYS, setting, f"{url} answers HTTP {status}: there is no such API there", f"correct {place}"
        )
    if status < 500 and status not in (408, 425, 429):
        return sound(
            Area.KEYS, setting, f"{url} accepts the key (HTTP {status} to an empty request, which changes nothing)"
        )
    return note(Area.KEYS, setting, f"{url} answers HTTP {status}, which says nothing of the key", "check again later")


def _reach(url: str) -> list[Finding]:
    """Whether somebody listens there, without a request."""
    target = httpx.URL(url)
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        with socket.create_connection((target.host, port), timeout=_ANSWER_S_MAX) as connection:
            if target.scheme == "https":
                with tls_context().wrap_socket(connection, server_hostname=target.host):
                    pass
    except OSError as refused:
        return [_unreachable(url, refused, "HAKUNA_BASE_URL, HAKUNA_ENVIRONMENT")]
    return [sound(Area.KEYS, url, "takes connections")]


def _unreachable(url: str, why: Exception, place: str) -> Finding:
    what = f"does not answer: {str(why) or type(why).__name__}"
    return problem(Area.KEYS, url, what, f"let this machine through to it (proxy, firewall, CA), or correct {place}")


def _skew(url: str, date: str | None, before_ms: int, after_ms: int) -> Sequence[Finding]:
    host = httpx.URL(url).host
    if date is None:
        return [note(Area.CLOCK, host, "its answer has no Date, so its clock is not known")]
    try:
        told_ms = parsedate_to_datetime(date).timestamp() * 1000
    except (ValueError, TypeError, OverflowError):
        return [note(Area.CLOCK, host, "its answer's Date is none, so its clock is not known")]
    off_s = max(before_ms - told_ms - _DATE_S * 1000, told_ms - after_ms, 0.0) / 1000
    if off_s <= CLOCK_S_MAX:
        return [sound(Area.CLOCK, host, f"its clock and this machine's differ by {off_s:.0f} s at most")]
    side = "behind" if told_ms < before_ms else "ahead of"
    return [
        problem(
            Area.CLOCK,
            host,
            f"its clock is {off_s:.0f} s {side} this machine's: waits, parked events and delivery times would be wrong",
            "set this machine's clock by NTP",
        )
    ]
