"""Verdicts: what an answer means for the entries of its request. The set is closed, whatever a server may answer.

    2xx                                              Delivered, unless it is HTML or an error: Doubted
    401                                              KeyRefused     the key is wrong, not the order
    403 with advice to wait                          RetryLater     too many
    403 in the API's form                            KeyRefused
    403 of another form                              Denied         the key, the order or the rate: others tell
    408 409 425 429 5xx, no answer, none of HTTP's   RetryLater     not the entry's fault; not counted as an attempt
    3xx, 407, 421, HTML, a 4xx of no form            Doubted        something else may have answered
    every other 4xx                                  Rejected

Pure. Each API has a module that reads its own bodies (`hakuna/answers.py`, `hako/answers.py`); the rules of any HTTP
API are here. The sender decides by more than one answer (`send/event_loop/retries.py`): ten answers of 409 are a
rejection; 5xx and 403 reject an entry if others pass meanwhile; a doubted answer counts against the order or the
destination, depending on the answers to others. A redirect is never followed with the key. A final status below 200 or
above 599 is not HTTP and counts as a broken connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from processor.api import bodies
from processor.api.advice import WAIT_S_MAX, is_advice, pause_after_success, quota_reset_s, retry_after_s
from processor.api.bodies import BODY_BYTES_MAX

__all__ = ["BODY_BYTES_MAX", "WAIT_S_MAX", "is_kept", "kept", "pause_after_success", "quota_reset_s", "retry_after_s"]

NO_HEADERS: Final[Mapping[str, str]] = {}
_HEADERS_MAX: Final = 64
_HEADER_CHARS_MAX: Final = 64 * 1024

NEVER_THE_APIS: Final = frozenset({*range(300, 400), 407, 421})
"""A redirect, a proxy that does not know us, a server that is not the one meant."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer. `headers` has the headers that `is_kept` names, by lower-case name; the values of a repeated
    header are separated by line breaks. `body` is the raw body, cut to BODY_BYTES_MAX."""

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
    DENIED = "denied"
    DOUBTED = "doubted"


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """Accepted. `event_id` is the API's own ID; `pause_s` is how long to wait if the quota is now used up."""

    status: int
    event_id: str | None = None
    pause_s: float | None = None


class RetryLater(msgspec.Struct, frozen=True, gc=False):
    """Not now. `after_s` is the wait that the server asks for (None: our own backoff). `pauses_destination` is true if
    all requests must wait, not only this one. `at_last` is what the body means if no later answer comes."""

    reason: RetryReason
    status: int | None = None
    after_s: float | None = None
    pauses_destination: bool = False
    at_last: Rejected | None = None


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Never. `message` is our own text, constant except for status and code, without personal data."""

    reason: str
    message: str
    http_status: int | None = None
    error_code: str | None = None
    validation_errors: tuple[str, ...] = ()


class Otherwise(msgspec.Struct, frozen=True, gc=False):
    """Refused in this form, to be sent in another. A destination decides this; its entries hold the new form."""


OTHERWISE: Final = Otherwise()


class KeyRefused(msgspec.Struct, frozen=True, gc=False):
    """The API refuses the key, and so every request with it. `words` are the first words of the answer, masked."""

    status: int
    words: str = ""


class Denied(msgspec.Struct, frozen=True, gc=False):
    """A 403 not in the API's form: too many requests or this order alone while others pass, otherwise the key. The
    sender decides. `rejected` is the ending of an entry that is denied for good."""

    rejected: Rejected
    words: str


class Doubted(msgspec.Struct, frozen=True, gc=False):
    """An answer that may not come from the API but from a gateway, a proxy, a login page or a wrong address. The sender
    knows whether other orders get the same answer. `rejected` is the ending of an entry that alone gets it; `words` say
    who answered and what, masked. `whole` is true if not even the status may be believed."""

    status: int
    rejected: Rejected
    words: str
    whole: bool = True


_RETRIED: Final = {
    403: RetryReason.THROTTLED,
    408: RetryReason.TIMEOUT,
    409: RetryReason.IN_PROGRESS,
    425: RetryReason.TOO_EARLY,
    429: RetryReason.THROTTLED,
}

Verdict = Delivered | RetryLater | Rejected | KeyRefused | Denied | Doubted


def is_kept(name: str) -> bool:
    """True if the header of this name, in lower case, stands in an `Answer`."""
    return name in bodies.HEADERS or is_advice(name)


def kept(fields: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Returns the header fields that an `Answer` keeps."""
    found: dict[str, str] = {}
    for raw, value in fields:
        name = raw.decode("latin-1").lower()
        if is_kept(name) and len(found) < _HEADERS_MAX:
            text = value.decode("latin-1")
            found[name] = f"{found[name]}\n{text}"[:_HEADER_CHARS_MAX] if name in found else text
    return found or NO_HEADERS


def unless_final(answer: Answer | NoAnswer, now_ms: int) -> RetryLater | None:
    """Returns the verdict of an answer that any HTTP API means alike; None if the API's own module must read it."""
    if isinstance(answer, NoAnswer):
        return RetryLater(RetryReason.TIMEOUT if answer is NoAnswer.TIMEOUT else RetryReason.CONNECTION)
    status = answer.status
    if not 200 <= status < 600:
        return RetryLater(RetryReason.CONNECTION, status)
    reason = RetryReason.SERVER_ERROR if status >= 500 else _RETRIED.get(status)
    if reason is None:
        return None
    after_s = retry_after_s(answer.headers, now_ms)
    if after_s is not None:
        return RetryLater(reason, status, after_s, status != 409)
    after_s = quota_reset_s(answer.headers, now_ms, refused=status == 429)
    if status == 403 and after_s is None:
        return None
    return RetryLater(reason, status, after_s, status in (403, 429))


def refused(
    answer: Answer, body: bodies.Body, rejected: Rejected, *, own: bool, foreign: bool, no_route: bool
) -> Rejected | KeyRefused | Denied | Doubted:
    """Returns the verdict of a final refusal. `own` is true if its body is the API's, `foreign` if it cannot be, and
    `no_route` if it only says that there is no such route."""
    status, words = answer.status, described(answer, body)
    if status == 401 or (status == 403 and own):
        return KeyRefused(status, words)
    if status == 403:
        return Denied(rejected, words)
    unrouted = no_route and status in (404, 405) and not body.envelope
    return Doubted(status, rejected, words) if status in NEVER_THE_APIS or foreign or unrouted else rejected


def words_of(answer: Answer) -> str:
    """Returns who answered and what, masked, in one line: `HTTP 404, Server nginx/1.22.1: 404 Not Found`."""
    return described(answer, bodies.read(answer.body, answer.headers))


def described(answer: Answer, body: bodies.Body) -> str:
    """Returns the same line for a body that has been read already."""
    by = bodies.sent_by(answer.headers)
    head = f"HTTP {answer.status}" + (f", {by}" if by else "")
    return f"{head}: {body.words[: bodies.FIRST_WORDS_CHARS_MAX]}" if body.words else head
