"""verdicts: what an answer means for the entries it answers. A closed set, whatever a server may say.

    2xx                                              Delivered
    401 403                                          KeyRefused     the key is wrong, not the order
    408 409 425 429 5xx, no answer, none of HTTP's   RetryLater     nobody's fault; uses up no attempt
    3xx and every other 4xx                          Rejected       a redirect is never followed with the key

Pure. Each API has a module that reads its own bodies (`hakuna/answers.py`, `hako/answers.py`); what holds for
any HTTP API stands here, once, and the sender acts on the verdict alone. Two rules need more than one answer
and are the sender's: 409 is rejected after ten of them, and 5xx on one entry while others pass makes it
poison (`send/poison.py`).

A final answer below 200 or above 599 is no HTTP and counts as a connection that broke.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from processor.advice import USED_UP_S_MAX, quota_reset_s, retry_after_s

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
