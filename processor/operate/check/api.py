"""An API, its key, its clock, and the way to it.

No API has a request that only checks a key, but each has one that changes nothing: an empty object (the Order feed and
Hako: an empty array). It is refused after the key is checked, so that 401 and 403 mean a bad key, and a refusal in the
API's own form a good one. This request counts in the API's quota and not in the worker's pace. So with a quota it is
made only if it is asked for; otherwise only the connection is tried. Both use what a worker's requests use: the same
client, proxy, authorities and certificate.

The answer's `Date` shows that machine's clock, to a second.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import httpx

from processor.api import verdicts
from processor.api.credentials import AuthHeader
from processor.api.verdicts import Answer, Delivered, Rejected, RetryLater, Verdict
from processor.config import KeySource, Settings
from processor.edges.clock import SystemClock
from processor.edges.http.exchange import Transport, ask
from processor.edges.http.pool import LeanTransport, transport_for
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

_ANSWER_S_MAX: Final = 10.0
_DATE_S: Final = 1.0


class Asked(NamedTuple):
    """A request that changes nothing, without the key."""

    method: str
    path: str
    headers: RawHeaders
    body: bytes


class Place(NamedTuple):
    """An API: its address, its certificates, how the key is sent, and the settings for the key and the address."""

    key_setting: str
    url_settings: str
    url: str
    files: TlsFiles
    auth: AuthHeader
    judge: Callable[[Answer, int], Verdict]


def check_hakuna(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: tried if there is no quota."""
    url, auth, names = settings.hakuna_url, settings.hakuna_auth_header, "HAKUNA_BASE_URL, HAKUNA_ENVIRONMENT"
    place = Place("HAKUNA_API_KEY", names, url, hakuna_tls(settings), auth, hakuna.verdict)
    path, body = ("/events", b"{}") if settings.hakuna_api is Api.EVENTS else ("/feeds/order", b"[]")
    key = f'"check-{uuid.uuid4()}"'.encode()
    headers = [(b"Hakuna-Version", settings.hakuna_version.encode()), (b"Idempotency-Key", key)]
    tries = settings.hakuna_quota is None if try_key is None else try_key
    return _check(settings, place, settings.hakuna_key, Asked("POST", path, headers, body), tries=tries)


def check_hako(settings: Settings, *, try_key: bool | None) -> list[Finding]:
    """`try_key` None: not tried, because Hako always has a quota."""
    url, auth = settings.hako_base_url, settings.hako_auth_header
    place = Place("HAKO_API_KEY", "HAKO_BASE_URL", url, hako_tls(settings), auth, hako.verdict)
    # An update of nothing: an empty array, where one or more objects are needed.
    return _check(settings, place, settings.hako_key, Asked("PUT", "/items", [], b"[]"), tries=bool(try_key))


def _check(settings: Settings, place: Place, source: KeySource | None, asked: Asked, *, tries: bool) -> list[Finding]:
    if source is None:
        return []  # the settings have this problem already
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
        return asyncio.run(_try(place, key, asked, transport))
    if proxy is not None and url.scheme == "http":
        why = f"not tried: the proxy {proxy} passes requests on, and a request would not be counted in the quota"
        return [note(Area.KEYS, place.url, why, "--try-key makes one")]
    why = "not tried: the request would not be counted in the quota; a wrong key shows with the first one"
    found = asyncio.run(_reach(place, transport))
    return [found, note(Area.KEYS, place.key_setting, why, "--try-key tries it")]


async def _try(place: Place, key: str, asked: Asked, transport: Transport) -> list[Finding]:
    clock = SystemClock()
    before_ms = clock.now_ms()
    timeouts = {"connect": _ANSWER_S_MAX, "read": _ANSWER_S_MAX, "total": _ANSWER_S_MAX}
    headers = [
        place.auth.field(key),
        (b"Content-Type", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        *asked.headers,
        (b"User-Agent", b"hakuna-processor-check"),
    ]
    template = RequestTemplate(asked.method, httpx.URL(place.url + asked.path), headers, timeouts)
    async with aclosing(transport):
        try:
            answered = await ask(transport, template, asked.body)
        except httpx.HTTPError as broken:
            return [_unreachable(place, broken)]
    date = httpx.Headers(answered.fields).get("date")
    skew = _skew(place.url, date, before_ms, clock.now_ms())
    answer = Answer(answered.status, verdicts.kept(answered.fields), answered.body)
    return [judged(answer, str(template.url), place), *skew]


def judged(answer: Answer, url: str, place: Place) -> Finding:
    """Returns what an answer shows of the key and of the server."""
    setting = place.key_setting
    said = f"{url} answers {verdicts.words_of(answer)}"
    match place.judge(answer, 0):
        case verdicts.KeyRefused() | verdicts.Denied():
            refused = f"{said}: the key is refused, sent as `{place.auth}`"
            header = f"{setting.removesuffix('_API_KEY')}_AUTH_HEADER"
            return problem(Area.KEYS, setting, refused, f"set {setting} to a key of that environment, or {header}")
        case verdicts.Doubted(status):
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
    """Tries a connection, without a request."""
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
    what = f"its clock is {off_s:.0f} s {side} this machine's: waits, parked events and delivery times would be wrong"
    return [problem(Area.CLOCK, host, what, "set this machine's clock by NTP")]
