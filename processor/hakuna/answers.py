"""What Hakuna answers, as a verdict. Pure; the same for the Events API and the Order feed.

An accepted event is answered with `{"event_id": …}`, an array of orders with 202 and nothing: any 2xx is
accepted, whatever its body is, unless that is HTML or an error. A refusal carries

    {"error": {"error_code": "…", "validation_errors": ["…"]}}

as "Using the API" has it, or the inner object alone: its text shows the one without its outer braces. An
error code that the reference does not know, JSON of another shape: the reason is `http_<status>`. A refusal that is no
JSON, a redirect, or a 404 or 405 that says no more than that there is no such route, may be somebody else's, and is
doubted.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec.structs import replace

from processor.api.bodies import NO_ROUTE, Body, is_a_firewalls, read
from processor.api.verdicts import (
    NEVER_THE_APIS,
    Answer,
    Delivered,
    Denied,
    Doubted,
    KeyRefused,
    NoAnswer,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    described,
    pause_after_success,
    unless_final,
)
from processor.records import Reason, http_reason

ERROR_CODES: Final = frozenset(
    {
        Reason.INVALID_REQUEST_PARAMETERS.value,
        Reason.PRODUCT_UNSUPPORTED.value,
        Reason.LOCATION_UNSUPPORTED.value,
        Reason.CANCEL_DECLINE.value,
    }
)
"""The reference's; each is a reason of its own."""

_NOT_THERE: Final = re.compile(
    r'"(?:(?:the )?(?:requested )?(?:resource )?(?:was )?not found\.?"|(?:http )?method not allowed\.?")', re.IGNORECASE
)
"""The same of Azure, Spring and FastAPI, who say no more; of an API that has objects to be found it may be its own."""


class _Accepted(msgspec.Struct, gc=False):
    event_id: object = None
    error: object = None
    error_code: object = None
    validation_errors: object = None

    @property
    def may_be_an_error(self) -> bool:
        return self.error is not None or self.error_code is not None or self.validation_errors is not None


_ACCEPTED: Final = msgspec.json.Decoder(_Accepted)


def verdict(answer: Answer | NoAnswer, now_ms: int) -> Verdict:
    """Total: every status, every body, every way to have no answer."""
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        return _accepted(answer, now_ms)
    undecided = unless_final(answer, now_ms)
    if isinstance(undecided, RetryLater) and undecided.reason is RetryReason.IN_PROGRESS:
        assert isinstance(answer, Answer), "a conflict is an answer"
        return replace(undecided, at_last=_rejected(answer, read(answer.body, answer.headers)))
    if undecided is not None:
        return undecided
    assert isinstance(answer, Answer)
    return _refused(answer, read(answer.body, answer.headers))


def _accepted(answer: Answer, now_ms: int) -> Delivered | Doubted:
    body = answer.body
    event_id = None
    if is_a_firewalls(answer.headers):
        said = read(body, answer.headers)
        return Doubted(answer.status, _rejected(answer, said), described(answer, said))
    if body:
        try:
            accepted = _ACCEPTED.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (doubted := _doubted(answer, read(body, answer.headers))) is not None:
                return doubted
        else:
            if accepted.may_be_an_error and (doubted := _doubted(answer, read(body, answer.headers))) is not None:
                return doubted
            event_id = accepted.event_id if isinstance(accepted.event_id, str) else None
    return Delivered(answer.status, event_id, pause_after_success(answer.headers, now_ms) if answer.headers else None)


def _doubted(answer: Answer, body: Body) -> Doubted | None:
    """An accepted request whose answer is a page or an error."""
    if not (body.html or body.envelope):
        return None
    return Doubted(answer.status, _rejected(answer, body), described(answer, body))


def _refused(answer: Answer, body: Body) -> Rejected | KeyRefused | Denied | Doubted:
    rejected = _rejected(answer, body)
    words = described(answer, body)
    match answer.status:
        case 401:
            return KeyRefused(401, words)
        case 403:
            return KeyRefused(403, words) if body.envelope else Denied(rejected, words)
        case status if status in NEVER_THE_APIS or not body.json:
            return Doubted(status, rejected, words)
        case 404 | 405 if not body.envelope and (NO_ROUTE.search(body.words) or _NOT_THERE.search(body.words)):
            return Doubted(answer.status, rejected, words)
        case _:
            return rejected


def _rejected(answer: Answer, body: Body) -> Rejected:
    known = body.code in ERROR_CODES and 400 <= answer.status < 500
    reason = body.code if known and body.code is not None else http_reason(answer.status)
    message = f"Hakuna refused it: HTTP {answer.status}" + (f", {reason}" if known else "")
    if not body.envelope and body.words:
        message += f"; it said: {body.words}"
    return Rejected(reason, message, answer.status, body.code, body.errors)
