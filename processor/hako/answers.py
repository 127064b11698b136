"""What Hako answers, as a verdict; and what a refusal means for objects that may be there already, or not yet. Pure.

    POST    400, 409, 422: it may be there already  ─► PUT      inventory, 404: what it names is unknown ─► it waits
    PUT     404 or 400: it may not be there         ─► POST
    DELETE  404: it is gone                         ─► that is what was wanted
    both verbs refused: an array is split; of a single object it is a dead letter, with the answer that says more

Hako's reference names no status and no form of an error, so the verb is tried whichever of the likely ones came, and
nothing is read out of its text. An array is all accepted or all refused: it changes its verb as a whole once, for
most often all of it was told before (a restart that forgot), and is split after that. It waits as a whole a few times
before it is split to find the one object that has nothing to stand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from processor.hako.changes import Change, Table, Verb
from processor.records import http_reason
from processor.verdicts import (
    OTHERWISE,
    Answer,
    Delivered,
    NoAnswer,
    Otherwise,
    Rejected,
    RetryLater,
    RetryReason,
    Verdict,
    pause_after_success,
    unless_final,
)

UNSURE: Final = frozenset({400, 404, 409, 410, 422})
"""Refusals that the other verb may not meet."""
ARRAY_TRIALS_MAX: Final = 3
"""How often an array waits for what it names before it is split: at a start, what it names is usually on its way."""
WAIT_MS_MIN: Final = 600_000
"""How long an old level waits at least, counted from its first refusal: the item that it names may be as old, and next
in line."""
MESSAGE_CHARS_MAX: Final = 500

_GONE: Final = (404, 410)


class _Error(msgspec.Struct, gc=False):
    message: object = None
    error: object = None


_ERROR: Final = msgspec.json.Decoder(_Error)


def verdict(answer: Answer | NoAnswer, now_ms: int) -> Verdict:
    """Total: every status, every body, every way to have no answer."""
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        return Delivered(answer.status, None, pause_after_success(answer.headers, now_ms))
    undecided = unless_final(answer, now_ms)
    if isinstance(undecided, RetryLater) and undecided.reason is RetryReason.IN_PROGRESS:
        undecided = None  # 409 here: Hako knows no idempotency, so it speaks of the object
    if undecided is not None:
        return undecided
    assert isinstance(answer, Answer)
    reason = http_reason(answer.status)
    return Rejected(reason, f"Hako refused it: HTTP {answer.status}", answer.status, None, _said(answer.body))


def reconsidered(
    changes: Sequence[Change], rejected: Rejected, now_ms: int, park_for_ms: int
) -> Rejected | Delivered | Otherwise:
    """What becomes of an array that was refused. Says in each change what is to be tried next."""
    first = changes[0]
    status = rejected.http_status
    assert status is not None, "a refusal without an answer"
    if status not in UNSURE:
        return rejected
    if first.verb is Verb.DELETE:
        return Delivered(status) if status in _GONE and len(changes) == 1 else rejected
    if first.table is Table.INVENTORY and first.verb is Verb.POST and status in _GONE:
        return _unknown(changes, rejected, now_ms, park_for_ms)
    other = Verb.PUT if first.verb is Verb.POST else Verb.POST
    before = first.refused
    for change in changes:
        change.verb = other
        change.refused = rejected if before is None else None
    if before is None:
        return OTHERWISE
    return rejected if before.http_status in _GONE else before


def _unknown(changes: Sequence[Change], rejected: Rejected, now_ms: int, park_for_ms: int) -> Rejected | Otherwise:
    """Levels of an item or a warehouse that Hako does not know, one of them at least."""
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


def _said(body: bytes) -> tuple[str, ...]:
    """Hako's own words, for the dead letter."""
    try:
        error = _ERROR.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    said = error.message if error.message is not None else error.error
    return (said[:MESSAGE_CHARS_MAX],) if isinstance(said, str) and said else ()
