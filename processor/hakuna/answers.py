"""What Hakuna answers, as a verdict. Pure; the same for the Events API and the Order feed.

An accepted event is answered with `{"event_id": …}`, an array of orders with 202 and nothing: any 2xx is
accepted, whatever its body is. A refusal carries

    {"error": {"error_code": "…", "validation_errors": ["…"]}}

as "Using the API" has it, or the inner object alone: its text shows the one without its outer braces. An
error code that the reference does not know, a body of another shape, HTML or none at all: the reason is
`http_<status>`.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from processor.records import Reason, http_reason
from processor.verdicts import (
    Answer,
    Delivered,
    NoAnswer,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    pause_after_success,
    unless_final,
)

ERROR_CODES: Final = frozenset(
    {
        Reason.INVALID_REQUEST_PARAMETERS.value,
        Reason.PRODUCT_UNSUPPORTED.value,
        Reason.LOCATION_UNSUPPORTED.value,
        Reason.CANCEL_DECLINE.value,
    }
)
"""The reference's; each is a reason of its own."""

ERROR_CODE_CHARS_MAX: Final = 200
VALIDATION_ERRORS_MAX: Final = 50
VALIDATION_ERROR_CHARS_MAX: Final = 500
"""They become headers of a dead letter: a page of HTML in JSON's clothes must not make a record that no
broker takes."""


class _Accepted(msgspec.Struct, gc=False):
    event_id: str | None = None


class _Error(msgspec.Struct, gc=False):
    error_code: object = None
    validation_errors: object = None


class _Refused(msgspec.Struct, gc=False):
    error: object = None
    error_code: object = None
    validation_errors: object = None


_ACCEPTED: Final = msgspec.json.Decoder(_Accepted)
_REFUSED: Final = msgspec.json.Decoder(_Refused)


def verdict(answer: Answer | NoAnswer, now_ms: int) -> Verdict:
    """Total: every status, every body, every way to have no answer."""
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        return Delivered(answer.status, _event_id(answer.body), pause_after_success(answer.headers, now_ms))
    undecided = unless_final(answer, now_ms)
    if isinstance(undecided, RetryLater) and undecided.reason is RetryReason.IN_PROGRESS:
        assert isinstance(answer, Answer), "a conflict is an answer"
        return replace(undecided, at_last=_rejected(answer))
    if undecided is not None:
        return undecided
    assert isinstance(answer, Answer)
    return _rejected(answer)


def _event_id(body: bytes) -> str | None:
    if not body:
        return None
    try:
        return _ACCEPTED.decode(body).event_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _rejected(answer: Answer) -> Rejected:
    code, errors = _error(answer.body)
    known = code in ERROR_CODES
    reason = code if known and code is not None else http_reason(answer.status)
    return Rejected(
        reason,
        f"Hakuna refused it: HTTP {answer.status}" + (f", {reason}" if known else ""),
        answer.status,
        code,
        errors,
    )


def _error(body: bytes) -> tuple[str | None, tuple[str, ...]]:
    try:
        refused = _REFUSED.decode(body)
        inner = refused if refused.error is None else msgspec.convert(refused.error, _Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, ()
    code = inner.error_code
    code = None if not isinstance(code, str) or not code else code[:ERROR_CODE_CHARS_MAX]
    errors = inner.validation_errors
    if not isinstance(errors, list):
        errors = [] if errors is None else [errors]
    texts = (
        one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in errors[:VALIDATION_ERRORS_MAX]
    )
    return code, tuple(text[:VALIDATION_ERROR_CHARS_MAX] for text in texts)
