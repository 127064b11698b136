"""answers: what an answer of Hako means, and what a refusal means for objects that may exist already, or not yet. Pure.

    a level that names an unknown object, any 4xx               ─► it waits
    POST    400, 404, 409, 410, 422: the object may exist       ─► PUT
    PUT     the same: the object may not exist                  ─► POST
    DELETE  404, 410: the object is gone                        ─► delivered

If both verbs are refused, an array is split; a single object becomes a dead letter, with the answer that says more.

Hako's reference names no status and no form of an error. So the other verb is tried for each likely status, and the
text of an error is only kept for the dead letter. HTML, a redirect, or a gateway's message that it has no route is not
Hako's answer and is doubted whole. A refusal without JSON is doubted when no other verb is left. An array is accepted
or refused as a whole. It changes its verb as a whole once, because most often all of it was sent before (after a
restart that forgot), and is split after that. It waits as a whole a few times before it is split to find the one object
whose item or warehouse is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from processor.api.bodies import ERROR_CODE_CHARS_MAX, NO_ROUTE, Body, is_a_firewalls, read
from processor.api.verdicts import (
    OTHERWISE,
    Answer,
    Delivered,
    Doubted,
    NoAnswer,
    Otherwise,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    described,
    pause_after_success,
    refused,
    unless_final,
)
from processor.hako.changes import Change, Table, Verb
from processor.records import http_reason

UNSURE: Final = frozenset({400, 404, 409, 410, 422})
"""Refusals after which the other verb may be accepted."""
TOO_LARGE: Final = 413
"""The array is too large, whatever is in it."""
ARRAY_TRIALS_MAX: Final = 3
"""How often an array waits before it is split: at a start the objects that it names are usually on their way."""
WAIT_MS_MIN: Final = 600_000
"""How long an old level waits at least, from its first refusal on: its item may be as old, and next in line."""
MESSAGE_CHARS_MAX: Final = 500

_GONE: Final = (404, 410)
_CODES: Final = ("error_code", "errorCode", "code", "type", "name")
"""Fields in which APIs name an error."""


def verdict(answer: Answer | NoAnswer, now_ms: int) -> Verdict:
    """Returns the verdict for any status, any body, and for no answer."""
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        if (doubted := _page_or_error(answer)) is not None:
            return doubted
        pause_s = pause_after_success(answer.headers, now_ms) if answer.headers else None
        return Delivered(answer.status, None, pause_s)
    undecided = unless_final(answer, now_ms)
    if isinstance(undecided, RetryLater) and undecided.reason is RetryReason.IN_PROGRESS:
        undecided = None  # 409 here: Hako knows no idempotency, so it speaks of the object
    if undecided is not None:
        return undecided
    assert isinstance(answer, Answer)
    body = read(answer.body, answer.headers)
    no_route = bool(NO_ROUTE.search(body.words))
    found = refused(answer, body, _rejected(answer, body), own=body.json, foreign=body.html, no_route=no_route)
    if isinstance(found, Rejected) and not body.json:
        return Doubted(answer.status, found, described(answer, body), whole=False)
    return found


def _page_or_error(answer: Answer) -> Doubted | None:
    """Returns the verdict if a 2xx is a gateway's page or an error. Hako itself answers with the array."""
    firewall = is_a_firewalls(answer.headers)
    if not firewall and (not answer.body or (answer.body[:1] == b"[" and b'"error_code"' not in answer.body)):
        return None
    body = read(answer.body, answer.headers)
    if not (firewall or body.html or body.envelope):
        return None
    return Doubted(answer.status, _rejected(answer, body), described(answer, body))


def _rejected(answer: Answer, body: Body) -> Rejected:
    code, said = _said(body.value)
    message = f"Hako refused it: HTTP {answer.status}"
    if not said and body.words:
        message += f"; it said: {body.words}"
    return Rejected(http_reason(answer.status), message, answer.status, body.code or code, said)


def reconsidered(
    changes: Sequence[Change], rejected: Rejected, now_ms: int, park_for_ms: int, grounded: Callable[[Change], bool]
) -> Rejected | Delivered | Otherwise:
    """Returns what a refusal means for an array, and notes in each change what to try next. `grounded` returns true if
    the objects that a level names were accepted, as far as this worker knows."""
    first = changes[0]
    status = rejected.http_status
    assert status is not None, "a refusal without an answer"
    level = first.table is Table.INVENTORY and first.verb is not Verb.DELETE
    if status not in UNSURE:
        if level and status != TOO_LARGE and not all(map(grounded, changes)):
            return _unknown(changes, rejected, now_ms, park_for_ms)
        return rejected
    if first.verb is Verb.DELETE:
        return Delivered(status) if status in _GONE and len(changes) == 1 else rejected
    before = first.refused
    if level and (
        (first.verb is Verb.POST and status in _GONE) or (before is not None and not all(map(grounded, changes)))
    ):
        return _unknown(changes, rejected if before is None else _telling(before, rejected), now_ms, park_for_ms)
    other = Verb.PUT if first.verb is Verb.POST else Verb.POST
    for change in changes:
        change.verb = other
        change.refused = rejected if before is None else None
    return OTHERWISE if before is None else _telling(before, rejected)


def _telling(before: Rejected, rejected: Rejected) -> Rejected:
    """Returns the refusal of either verb that says more."""
    return rejected if before.http_status in _GONE else before


def _unknown(changes: Sequence[Change], rejected: Rejected, now_ms: int, park_for_ms: int) -> Rejected | Otherwise:
    """Makes levels wait: Hako does not know the item or the warehouse of at least one of them."""
    overdue = False
    for change in changes:
        change.refused = None
        change.trials += 1
        if change.wait_until_ms is None:
            change.wait_until_ms = max(change.at_ms + park_for_ms, now_ms + min(park_for_ms, WAIT_MS_MIN))
        overdue = overdue or now_ms >= change.wait_until_ms
    if len(changes) == 1:
        if overdue:
            message = f"Hako does not know the item or the warehouse: HTTP {rejected.http_status}, and it waited"
            return msgspec.structs.replace(rejected, message=message)
    elif overdue or all(change.trials >= ARRAY_TRIALS_MAX for change in changes):
        return rejected
    for change in changes:
        change.waits = True
    return OTHERWISE


def _said(value: object) -> tuple[str | None, tuple[str, ...]]:
    """Returns Hako's own code and words, wherever they stand, for the dead letter."""
    outer = value[0] if isinstance(value, list) and value else value
    levels: list[object] = []
    if isinstance(outer, dict):
        errors = outer.get("errors")
        levels = [outer.get("error"), *(errors[:1] if isinstance(errors, list) else ()), outer]
    code: str | None = None
    words: str | None = None
    for level in levels:
        if isinstance(level, str):
            words = words or level
        if not isinstance(level, dict):
            continue
        for name in _CODES:
            if code is None and isinstance(level.get(name), str | int) and level[name]:
                code = str(level[name])[:ERROR_CODE_CHARS_MAX]
        message = level.get("message")
        if isinstance(message, str) and message:
            return code, (message[:MESSAGE_CHARS_MAX],)
    return code, (words[:MESSAGE_CHARS_MAX],) if words else ()
