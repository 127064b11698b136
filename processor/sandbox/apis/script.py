"""How a stand-in behaves, as values: how slow it is, how often it fails, whom it refuses.

A script is frozen. A running stand-in is given another script to change what it does: `StandIn.script = …` in the same
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
    """How a request can go wrong without being wrong. In all but `LOST_ANSWER` nothing was done."""

    TOO_MANY = "429"
    SERVER_ERROR = "500"
    UNAVAILABLE = "503"
    RESET = "reset"  # the connection is reset instead of an answer
    LOST_ANSWER = "lost_answer"  # it was done, and then the connection is reset
    HANG = "hang"  # no answer, for as long as the client waits
    PAGE = "page"  # 200 with the HTML page of some proxy


class LimitHeader(StrEnum):
    """Which of the customary ways a 429 uses to say how long to wait."""

    RETRY_AFTER_SECONDS = "retry-after-seconds"
    RETRY_AFTER_DATE = "retry-after-date"
    RATELIMIT = "ratelimit"
    X_RATELIMIT = "x-ratelimit"
    NONE = "none"


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long an answer takes: `median_ms`, or a log-normal distribution when `p99_ms` lies above it."""

    median_ms: NotNegative = 0.0
    p99_ms: NotNegative = 0.0

    def seconds(self, normal: float) -> float:
        """The latency that belongs to `normal`, a draw from the standard normal distribution."""
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
    """All of it. The defaults are an API that is quick, healthy and refuses nobody."""

    key: str = SANDBOX_KEY
    revoked: bool = False
    """The key is no longer valid: 401 for everybody."""

    gateway: Gateway | None = None
    """What stands before the API and answers in its place, or changes its answers."""

    latency: Latency = Latency()
    quota: Quota | None = None
    """Requests past it are answered 429; refused ones do not count."""
    limit_header: LimitHeader = LimitHeader.RETRY_AFTER_SECONDS
    retry_after_s: dict[Fault, NotNegative] = {}
    """How long these faults (429, 503), when they are not the quota's, tell the client to wait."""

    shares: dict[Fault, Share] = {}
    """Of the requests, by chance, this share meets this fault. Together at most 1."""
    outages: tuple[Outage, ...] = ()
    answers: dict[str, Annotated[int, msgspec.Meta(ge=300, le=599)]] = {}
    """Requests about this order (Hako: this object) are always answered with this status."""

    refused_countries: frozenset[str] = frozenset()
    """Hakuna: orders to these are `location_unsupported`. Lowercase, as they are sent."""
    refused_products: frozenset[str] = frozenset()
    """Hakuna: orders with one of these product IDs are `product_unsupported`."""
    refused_skus: frozenset[str] = frozenset()
    """Hako: objects that name one of these are refused with 400, and the array with them."""

    body_bytes_max: int = 1_048_576
    seed: int = 1

    def __post_init__(self) -> None:
        if sum(self.shares.values()) > 1:
            raise ValueError("the shares of faults add up to more than 1")


def changed(script: Script, changes: dict[str, Any]) -> Script:
    """`script` with the fields in `changes` (plain JSON values) replaced. Raises
    `msgspec.ValidationError`."""
    return msgspec.convert(msgspec.to_builtins(script) | changes, Script)
