"""An API, its key, its clock, and what stands on the way to it.

No API has a request that only looks at a key. A request that changes nothing there is: an empty object (the Order feed
and Hako: an empty array), which names nothing and is refused after the key has been looked at, so that 401 and 403 mean
a bad key and a refusal in the API's own form a good one. It is a request all the same: it counts in the API's quota and
not in the worker's pace, so it is left out where a quota is set, unless it is asked for; then only the connection is
tried. Both go as the worker's requests do: the same client, proxy, authorities and certificate.

The answer's `Date` tells that machine's clock, to a second.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, NamedTuple

import httpx

from processor.api.credentials import AuthHeader
from processor.api.verdicts import (
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    Rejected,
    RetryLater,
    Verdict,
    kept,
    words_of,
)
from processor.config import KeySource, Settings
from processor.edges.clock import SystemClock
from processor.edges.http.choice import transport_for
from processor.edges.http.exchange import Transport, ask
from processor.edges.http.pool import LeanTransport
from processor.edges.http.proxies import proxy_for
from processor.edges.http.request import RawHeaders, RequestTemplate
from processor.edges.http.tls import Tls, TlsFiles, hako_tls, hakuna_tls
from processor.edges.keys import key_of
from processor.errors import KeyMissing, Unusable
from processor.hako import answers as hako
from processor.hakuna import Api
from processor.hakuna import answers as hakuna
from processor.moments import CLOCK_S_MAX
from processor.operate.check.findings import Area, Finding, found_of, note, problem, sound

_USER_AGENT: Final = "hakuna-processor-check"
_ANSWER_S_MAX: Final = 10.0
_DATE_S: Final = 1.0


class Place(NamedTuple):
    """An API: the settings that hold its key and its address, that address, its certificates, and how the key is
    sent."""

    key_setting: str
    url_settings: str
    url: str
    files: TlsFiles
    auth: AuthHeader
    judge: Callable[[Answer, int], Verdict]


def check_hakuna(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: where no quota is set."""
    place = Place(
        "HAKUNA_API_KEY",
        "HAKUNA_BASE_URL, HAKUNA_ENVIRONMENT",
        settings.hakuna_url,
        hakuna_tls(settings),
        settings.hakuna_auth_header,
        hakuna.verdict,
    )
    tries = settings.hakuna_quota is None if try_key is None else try_key
    return _check(settings, place, settings.hakuna_key, partial(_hakuna, settings), tries=tries)


def check_hako(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: not, for Hako always has a quota."""
    place = Place(
        "HAKO_API_KEY",
        "HAKO_BASE_URL",
        settings.hako_base_url,
        hako_tls(settings),
        settings.hako_auth_header,
        hako.verdict,
    )
    return _check(settings, place, settings.hako_key, partial(_hako, settings), tries=bool(try_key))


def _check(
    settings: Settings, place: Place, source: KeySource | None, request: Callable[[str], Asked], *, tries: bool
) -> list[Finding]:
    if source is None:
        return []  # complained of with the settings
    try:
        key = key_of(source, f"{place.key_setting}_FILE").current()
    except KeyMissing as missing:
        return [problem(Area.KEYS, missing.setting, missing.what, KeyMissing.REMEDY)]
    except Unusable as unusable:
        return [found_of(Area.KEYS, one) for one in unusable.named]
    try:
        url = httpx.URL(place.url)
        proxy = proxy_for(url, settings.proxies)
        transport = transport_for(settings.http_transport, Tls(place.files), proxy)
    except Unusable as unusable:
        return [
            found_of(Area.SETTINGS, one._replace(remedy=one.remedy or f"correct {one.subject}, or leave it out"))
            for one in unusable.named
        ]
    if tries:
        return asyncio.run(_try(place, request(key), transport))
    if proxy is not None and url.scheme == "http":
        why = f"not tried: the proxy {proxy} passes requests on, and a request would not be counted in the quota"
        return [note(Area.KEYS, place.url, why, "--try-key makes one")]
    why = "not tried: the request would not be counted in the quota; a wrong key shows with the first one"
    found = asyncio.run(_reach(place, transport))
    return [found, note(Area.KEYS, place.key_setting, why, "--try-key tries it")]


class Asked(NamedTuple):
    """A request that changes nothing."""

    method: str
    url: str
    headers: RawHeaders
    body: bytes


def _hako(settings: Settings, key: str) -> Asked:
    """An update of nothing: an empty array, where one or more objects are needed."""
    headers = [
        settings.hako_auth_header.field(key),
        (b"Content-Type", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", _USER_AGENT.encode()),
    ]
    return Asked("PUT", f"{settings.hako_base_url}/items", headers, b"[]")


def _hakuna(settings: Settings, key: str) -> Asked:
    path, body = ("/events", b"{}") if settings.hakuna_api is Api.EVENTS else ("/feeds/order", b"[]")
    headers = [
        settings.hakuna_auth_header.field(key),
        (b"Content-Type", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"Hakuna-Version", settings.hakuna_version.encode()),
        (b"Idempotency-Key", f'"check-{uuid.uuid4()}"'.encode()),
        (b"User-Agent", _USER_AGENT.encode()),
    ]
    return Asked("POST", settings.hakuna_url + path, headers, body)


async def _try(place: Place, asked: Asked, transport: Transport) -> list[Finding]:
    clock = SystemClock()
    before_ms = clock.now_ms()
    timeouts = {"connect": _ANSWER_S_MAX, "read": _ANSWER_S_MAX, "total": _ANSWER_S_MAX}
    template = RequestTemplate(asked.method, httpx.URL(asked.url), asked.headers, timeouts)
    async with aclosing(transport):
        try:
            answered = await ask(transport, template, asked.body)
        except httpx.HTTPError as broken:
            return [_unreachable(place, broken)]
    date = httpx.Headers(answered.fields).get("date")
    skew = _skew(place.url, date, before_ms, clock.now_ms())
    answer = Answer(answered.status, kept(answered.fields), answered.body)
    return [judged(answer, str(template.url), place), *skew]


def judged(answer: Answer, url: str, place: Place) -> Finding:
    """What an answer says of the key and of who gave it."""
    setting = place.key_setting
    said = f"{url} answers {words_of(answer)}"
    match place.judge(answer, 0):
        case KeyRefused() | Denied():
            refused = f"{said}: the key is refused, sent as `{place.auth}`"
            header = f"{setting.removesuffix('_API_KEY')}_AUTH_HEADER"
            return problem(Area.KEYS, setting, refused, f"set {setting} to a key of that environment, or {header}")
        case Doubted(status):
            plain = status == 400 and url.startswith("http://")
            why = "is plain HTTP sent to a TLS port?" if plain else "does a gateway, a proxy or a login page answer?"
            return problem(Area.KEYS, setting, f"{said}: that is not the API", f"correct {place.url_settings}: {why}")
        case Rejected(http_status=404 | 405):
            return problem(Area.KEYS, setting, f"{said}: there is no such API there", f"correct {place.url_settings}")
        case Delivered() | Rejected() | RetryLater(status=409):
            what = f"{url} answers HTTP {answer.status} to a request that changes nothing: it takes the key"
            return sound(Area.KEYS, setting, what)
        case RetryLater():
            return note(Area.KEYS, setting, f"{said}, which says nothing of the key", "check again later")


async def _reach(place: Place, transport: Transport) -> Finding:
    """Whether somebody listens there, without a request."""
    async with aclosing(transport):
        if not isinstance(transport, LeanTransport):
            what = "not tried: httpx's own client connects with a request only"
            return note(Area.KEYS, place.url, what, "--try-key makes one")
        try:
            await transport.reach(httpx.URL(place.url))
        except httpx.HTTPError as refused:
            return _unreachable(place, refused)
    return sound(Area.KEYS, place.url, "takes connections")


def _unreachable(place: Place, why: Exception) -> Finding:
    what = f"does not answer: {str(why) or type(why).__name__}"
    prefix = place.key_setting.removesuffix("_API_KEY")
    through = f"proxy: HTTPS_PROXY, firewall, CA: {prefix}_CA_FILE"
    remedy = f"let this machine through to it ({through}), or correct {place.url_settings}"
    return problem(Area.KEYS, place.url, what, remedy)


def _skew(url: str, date: str | None, before_ms: int, after_ms: int) -> Sequence[Finding]:
    host = httpx.URL(url).host
    if date is None:
        return [note(Area.CLOCK, host, "its answer has no Date, so its clock is not known")]
    try:
        told_ms = parsedate_to_datetime(date).timestamp() * 1000
    except (ValueError, TypeError, OverflowError):
        return [note(Area.CLOCK, host, "its answer's Date is not a date, so its clock is not known")]
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
