"""An API, its key and its clock.

No API has a request that only looks at a key. A request that changes nothing there is: an empty object (the Order feed
and Hako: an empty array), which names nothing and is refused after the key has been looked at, so that 401 and 403 mean
a bad key and any other 4xx a good one. It is a request all the same: it counts in the API's quota and not in the
worker's pace, so it is left out where a quota is set, unless it is asked for; then only the connection is tried.

The answer's `Date` tells that machine's clock, to a second.
"""

from __future__ import annotations

import base64
import socket
import uuid
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NamedTuple

import httpx

from processor.config import KeySource, Settings
from processor.edges.clock import SystemClock
from processor.edges.http.choice import tls_context
from processor.edges.keys import key_of
from processor.errors import KeyMissing, Unusable
from processor.hakuna import Api
from processor.operate.check.findings import Area, Finding, note, problem, sound

CLOCK_S_MAX: Final = 60.0
"""What an hour-long wait or a parked event may be wrong by without anybody noticing."""
_USER_AGENT: Final = "hakuna-processor-check"
_ANSWER_S_MAX: Final = 10.0
_DATE_S: Final = 1.0


class Place(NamedTuple):
    """An API: the settings that hold its key and its address, and that address."""

    key_setting: str
    url_settings: str
    url: str


def check_hakuna(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: where no quota is set."""
    place = Place("HAKUNA_API_KEY", "HAKUNA_BASE_URL, HAKUNA_ENVIRONMENT", settings.hakuna_url)
    tries = settings.hakuna_quota is None if try_key is None else try_key
    return _check(place, settings.hakuna_key, partial(_hakuna, settings), tries=tries)


def check_hako(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: not, for Hako always has a quota."""
    place = Place("HAKO_API_KEY", "HAKO_BASE_URL", settings.hako_base_url)
    return _check(place, settings.hako_key, partial(_hako, settings), tries=bool(try_key))


def _check(
    place: Place, source: KeySource | None, request: Callable[[str], httpx.Request], *, tries: bool
) -> list[Finding]:
    if source is None:
        return []  # complained of with the settings
    try:
        key = key_of(source, f"{place.key_setting}_FILE").current()
    except KeyMissing as missing:
        return [problem(Area.KEYS, missing.setting, missing.what, KeyMissing.REMEDY)]
    except Unusable as unusable:
        (complaint,) = unusable.problems
        name, _, what = complaint.partition(": ")
        return [problem(Area.KEYS, name, what.removesuffix(f"; {KeyMissing.REMEDY}"), KeyMissing.REMEDY)]
    if tries:
        return _try(place, request(key))
    why = "not tried: the request would not be counted in the quota; a wrong key shows with the first one"
    return [*_reach(place), note(Area.KEYS, place.key_setting, why, "--try-key tries it")]


def _hako(settings: Settings, key: str) -> httpx.Request:
    """An update of nothing: an empty array, where one or more objects are needed."""
    headers = {
        "Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}",
        "Content-Type": "application/json",
        "User-Agent": _USER_AGENT,
    }
    return httpx.Request("PUT", f"{settings.hako_base_url}/items", content=b"[]", headers=headers)


def _hakuna(settings: Settings, key: str) -> httpx.Request:
    path, body = ("/events", b"{}") if settings.hakuna_api is Api.EVENTS else ("/feeds/order", b"[]")
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Hakuna-Version": settings.hakuna_version,
        "Idempotency-Key": f'"check-{uuid.uuid4()}"',
        "User-Agent": _USER_AGENT,
    }
    return httpx.Request("POST", settings.hakuna_url + path, content=body, headers=headers)


def _try(place: Place, request: httpx.Request) -> list[Finding]:
    clock = SystemClock()
    before_ms = clock.now_ms()
    try:
        with httpx.Client(verify=tls_context(), timeout=_ANSWER_S_MAX) as client:
            answer = client.send(request)
    except httpx.HTTPError as broken:
        return [_unreachable(place, broken)]
    skew = _skew(place.url, answer.headers.get("date"), before_ms, clock.now_ms())
    return [judged(answer.status_code, str(request.url), place), *skew]


def judged(status: int, url: str, place: Place) -> Finding:
    """What an answer says of the key."""
    setting = place.key_setting
    said = f"{url} answers HTTP {status}"
    if status in (401, 403):
        return problem(Area.KEYS, setting, f"{said}: the key is refused", f"set {setting} to a key of that environment")
    if status in (404, 405) or 300 <= status < 400:
        return problem(Area.KEYS, setting, f"{said}: there is no such API there", f"correct {place.url_settings}")
    if status < 500 and status not in (408, 425, 429):
        return sound(Area.KEYS, setting, f"{said} to a request that changes nothing: it takes the key")
    return note(Area.KEYS, setting, f"{said}, which says nothing of the key", "check again later")


def _reach(place: Place) -> list[Finding]:
    """Whether somebody listens there, without a request."""
    target = httpx.URL(place.url)
    port = target.port or (443 if target.scheme == "https" else 80)
    try:
        with socket.create_connection((target.host, port), timeout=_ANSWER_S_MAX) as connection:
            if target.scheme == "https":
                with tls_context().wrap_socket(connection, server_hostname=target.host):
                    pass
    except OSError as refused:
        return [_unreachable(place, refused)]
    return [sound(Area.KEYS, place.url, "takes connections")]


def _unreachable(place: Place, why: Exception) -> Finding:
    what = f"does not answer: {str(why) or type(why).__name__}"
    remedy = f"let this machine through to it (proxy, firewall, CA), or correct {place.url_settings}"
    return problem(Area.KEYS, place.url, what, remedy)


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
