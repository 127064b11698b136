"""answers: what an answer of Hakuna means. Pure; the same for the Events API and the order feed.

Hakuna answers an accepted event with `{"event_id": …}`, an array of orders with 202 and no body. Any 2xx is accepted,
unless its body is HTML or an error. A refusal has

    {"error": {"error_code": "…", "validation_errors": ["…"]}}

as "Using the API" has it, or the inner object alone: its example shows the object without its outer braces. The reason
is `http_<status>` for an error code that the reference does not have, and for JSON of another shape. A refusal that is
not JSON, a redirect, or a 404 or 405 whose only message is that there is no such route, may come from something else
and is doubted.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec.structs import replace

from processor.api.bodies import NO_ROUTE, Body, is_a_firewalls, read
from processor.api.verdicts import (
    Answer,
    Delivered,
    Doubted,
    NoAnswer,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    described,
    pause_after_success,
    refused,
    unless_final,
)
from processor.records import Reason, http_reason

ERROR_CODES: Final = frozenset(
    {Reason.INVALID_REQUEST_PARAMETERS.value, Reason.PRODUCT_UNSUPPORTED.value}
    | {Reason.LOCATION_UNSUPPORTED.value, Reason.CANCEL_DECLINE.value}
)
"""The error codes of the reference; each is a reason of its own."""

_NOT_THERE: Final = re.compile(
    r'"(?:(?:the )?(?:requested )?(?:resource )?(?:was )?not found\.?"|(?:http )?method not allowed\.?")', re.IGNORECASE
)
"""The same message of Azure, Spring and FastAPI, without more; an API that has objects to be found may write it too."""


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
    """Returns the verdict for any status, any body, and for no answer."""
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        return _accepted(answer, now_ms)
    undecided = unless_final(answer, now_ms)
    if isinstance(undecided, RetryLater) and undecided.reason is RetryReason.IN_PROGRESS:
        assert isinstance(answer, Answer), "a conflict is an answer"
        return replace(undecided, at_last=_rejected(answer, read(answer.body, answer.headers)))
    if undecided is not None:
        return undecided
    assert isinstance(answer, Answer)
    body = read(answer.body, answer.headers)
    no_route = bool(NO_ROUTE.search(body.words) or _NOT_THERE.search(body.words))
    rejected = _rejected(answer, body)
    return refused(answer, body, rejected, own=body.envelope, foreign=not body.json, no_route=no_route)


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
    """Returns the verdict of a 2xx whose body is a page or an error."""
    found = body.html or body.envelope
    return Doubted(answer.status, _rejected(answer, body), described(answer, body)) if found else None


def _rejected(answer: Answer, body: Body) -> Rejected:
    known = body.code in ERROR_CODES and 400 <= answer.status < 500
    reason = body.code if known and body.code is not None else http_reason(answer.status)
    message = f"Hakuna refused it: HTTP {answer.status}" + (f", {reason}" if known else "")
    if not body.envelope and body.words:
        message += f"; it said: {body.words}"
    return Rejected(reason, message, answer.status, body.code, body.errors)
