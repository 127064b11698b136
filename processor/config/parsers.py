"""How a setting's text becomes its value. Pure.

A parser returns the value, or raises `ValueError` with what it expected instead. A `Kind` is a parser and the unit that
the settings table shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `requests` in any window of `window_s` seconds; written `120/60s`."""

    requests: int
    window_s: float

    def __str__(self) -> str:
        return f"{self.requests}/{self.window_s:g}s"


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where an API key comes from: its value, or a file that is read again when it changes. Never printed."""

    value: str = field(default="", repr=False)
    file: Path | None = None


class Kind(NamedTuple):
    """A parser, and the unit of what it reads."""

    parse: Callable[[str], Any]
    unit: str


_Number = TypeVar("_Number", int, float)

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)\Z")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """`500ms`, `5s`, `5m`, `24h`, `400d` in seconds."""
    match = _DURATION.match(text)
    if match is None:
        raise ValueError("a duration such as 500ms, 5s, 5m, 24h or 400d")
    return float(match[1]) * _SECONDS[match[2]]


def some_duration_s(text: str) -> float:
    """A duration of a millisecond or more, in seconds."""
    value_s = duration_s(text)
    if value_s < 0.001:
        raise ValueError("a duration of 1ms or more")
    return value_s


def quota(text: str) -> Quota:
    count, _, window = text.partition("/")
    try:
        parsed = Quota(int(count), duration_s(window))
    except ValueError:
        raise ValueError("a quota such as 120/60s: requests, a slash, a window") from None
    if parsed.requests < 1 or parsed.window_s <= 0:
        raise ValueError("a quota of at least one request in a window longer than nothing")
    return parsed


def boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in {"true", "1", "yes", "on"}:
        return True
    if lowered in {"false", "0", "no", "off"}:
        return False
    raise ValueError("true or false")


def _within(number: type[_Number], what: str, fits: Callable[[_Number], bool]) -> Callable[[str], _Number]:
    def parse(text: str) -> _Number:
        try:
            value = number(text)
        except ValueError:
            raise ValueError(what) from None
        if not fits(value):
            raise ValueError(what)
        return value

    return parse


def whole(low: int, high: int, unit: str) -> Kind:
    return Kind(_within(int, f"a whole number from {low} to {high}", lambda value: low <= value <= high), unit)


def seconds(low: float, high: float) -> Kind:
    return Kind(_within(float, f"seconds from {low:g} to {high:g}", lambda value: low <= value <= high), "s")


_NUMBERS: Final = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*")
_METADATA: Final = frozenset({ip_address("fd00:ec2::254"), ip_address("100.100.100.200")})
"""Of clouds that do not keep it at a link-local address: Amazon's over IPv6, and Alibaba's."""


def url(text: str) -> str:
    if not re.match(r"https?://[^/\s?#@]+(/[^\s?#]*)?\Z", text):
        raise ValueError("a URL that starts with http:// or https:// and has neither a query nor a user and password")
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        if "[" in parts.netloc or _NUMBERS.fullmatch(host):
            ip_address(host)  # to a resolver 2852039166 is one too, and so is 0xa9.254.43518: not here
        if parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError("a URL whose host and port are ones: a port is a number from 1 to 65535") from None
    if _is_metadata(text):
        raise ValueError(
            "a URL of an API: this is a cloud's metadata (link-local, mostly), which would be told the key"
        )
    return text.rstrip("/")


def _is_metadata(text: str) -> bool:
    try:
        address = ip_address(urlsplit(text).hostname or "")
    except ValueError:
        return False  # a name, which the network's policy is for
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_link_local or address in _METADATA


def urls(text: str) -> str:
    """One or more registry URLs, separated by commas, as confluent's client takes them."""
    return ",".join(url(part.strip()) for part in text.split(","))


def api_key(text: str) -> str:
    """An API key as a header can carry it. A newline would let its bytes become headers of their own."""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("an API key: printable ASCII without spaces or newlines")
    return text


def prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", text):
        raise ValueError("at most 100 of letters, digits, dot, underscore and hyphen")
    return text


def one_line(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("at most 200 printable characters")
    return text


def host_port(text: str) -> str:
    if not all(part.strip() for part in text.split(",")):
        raise ValueError("brokers such as kafka-1:9092,kafka-2:9092")
    return text


def one_of(choices: type[StrEnum]) -> Kind:
    def parse(text: str) -> StrEnum:
        try:
            return choices(text)
        except ValueError:
            raise ValueError("one of " + ", ".join(choices)) from None

    return Kind(parse, " | ".join(choices))


TEXT: Final = Kind(str, "text")
PATH: Final = Kind(str, "path")
URL: Final = Kind(url, "URL")
KEY: Final = Kind(api_key, "text")
PREFIX: Final = Kind(prefix, "text")
DURATION: Final = Kind(duration_s, "duration")
SOME_DURATION: Final = Kind(some_duration_s, "duration")
QUOTA: Final = Kind(quota, "requests/window")
BOOLEAN: Final = Kind(boolean, "true | false")
SHARE: Final = Kind(_within(float, "a share from 0 to 1", lambda value: 0 <= value <= 1), "share")
SOME_SHARE: Final = Kind(_within(float, "a share above 0, up to 1", lambda value: 0 < value <= 1), "share")
