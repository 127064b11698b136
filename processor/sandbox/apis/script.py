"""The behaviour of a stand-in as values: how slow it is, how often it fails, whom it refuses.

A script is frozen. To change the behaviour, give the running stand-in another script: `StandIn.script = …` in the same
process, or `POST /_sandbox/script` with the changed fields from outside.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec

from processor.config import Quota
from processor.sandbox.apis.gateway import Gateway

SANDBOX_KEY: Final = "sk_test_sandbox"

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Fault(StrEnum):
    """How a correct request can fail. With each fault but `LOST_ANSWER`, nothing was done."""

    TOO_MANY = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    RESET = "reset"  # the connection is reset instead of an answer
    LOST_ANSWER = "lost_answer"  # the request is done, then the connection is reset
    HANG = "hang"  # no answer, for as long as the client waits
    PAGE = "page"  # 200 with the HTML page of a proxy


class LimitHeader(StrEnum):
    """The header by which a 429 says how long to wait."""

    RETRY_AFTER_SECONDS = "retry-after-seconds"
    RETRY_AFTER_DATE = "retry-after-date"
    RATELIMIT = "ratelimit"
    X_RATELIMIT = "x-ratelimit"
    NONE = "none"


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The time to an answer: `median_ms`, or a log-normal distribution if `p99_ms` is above it."""

    median_ms: NotNegative = 0.0
    p99_ms: NotNegative = 0.0

    def seconds(self, normal: float) -> float:
        """Returns the latency for `normal`, a draw from the standard normal distribution."""
        if self.median_ms == 0 or self.p99_ms <= self.median_ms:
            return self.median_ms / 1000
        sigma = math.log(self.p99_ms / self.median_ms) / 2.326
        return self.median_ms * math.exp(sigma * normal) / 1000


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From `from_s` to `until_s` seconds after its start, the stand-in answers every request with `fault`."""

    from_s: NotNegative
    until_s: NotNegative
    fault: Fault = Fault.UNAVAILABLE


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The defaults are an API that is quick, healthy and refuses nobody."""

    key: str = SANDBOX_KEY
    revoked: bool = False
    """The key is no longer valid: every request is answered 401."""
    gateway: Gateway | None = None
    """A gateway before the API, which answers in its place or changes its answers."""
    latency: Latency = Latency()
    quota: Quota | None = None
    """Requests beyond it are answered 429 and do not count."""
    limit_header: LimitHeader = LimitHeader.RETRY_AFTER_SECONDS
    retry_after_s: dict[Fault, NotNegative] = {}
    """The time to wait in answers with these faults (429, 503), except the quota's own 429."""
    shares: dict[Fault, Share] = {}
    """The share of requests that meet this fault, by chance. Together at most 1."""
    outages: tuple[Outage, ...] = ()
    answers: dict[str, Annotated[int, msgspec.Meta(ge=300, le=599)]] = {}
    """Requests about this order (Hako: object) are always answered with this status."""
    refused_countries: frozenset[str] = frozenset()
    """Hakuna: orders to these countries (lowercase) are `location_unsupported`."""
    refused_products: frozenset[str] = frozenset()
    """Hakuna: orders with one of these product IDs are `product_unsupported`."""
    refused_skus: frozenset[str] = frozenset()
    """Hako: an array with an object that names one of these is refused with 400."""
    body_bytes_max: int = 1_048_576
    seed: int = 1

    def __post_init__(self) -> None:
        if sum(self.shares.values()) > 1:
            raise ValueError("the shares of faults add up to more than 1")


def changed(script: Script, changes: dict[str, Any]) -> Script:
    """Returns `script` with the fields in `changes` (plain JSON values) replaced. Raises `msgspec.ValidationError`."""
    return msgspec.convert(msgspec.to_builtins(script) | changes, Script)
