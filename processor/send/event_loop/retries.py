"""retries: decides about a parcel whose request was not accepted: another attempt, or its end.

    decide(parcel, verdict, witness, now)  ─► Again(after_s)     wait this long; None: our own backoff
                                           └► Give(rejected)     an array is split, an entry is a dead letter

    Denied    nothing accepted for a minute     the key (`weighed`)
              else                              its own, after `poison_after`; an array is split after three
    Doubted   the destination is held by it     nothing ends
              an array                          is split: the others of it are delivered
              an entry that alone gets it       its own
    409       ten times                         its own
    5xx       poison                            its own

Pure: `count` notes a refusal, `decide` reads the notes and changes nothing.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec

from processor.api.verdicts import Denied, Doubted, KeyRefused, Rejected, RetryLater, RetryReason, Verdict
from processor.records import Reason, http_reason
from processor.send.event_loop.lanes import Parcel
from processor.send.event_loop.poison import DENIED_TIMES_MIN, FRESH_TIMES, TIMES_MIN, Suspicion, Witness

IN_PROGRESS_MAX: Final = 10
"""409 says that an earlier attempt is in progress. A server that says so for ever would hold the order for ever."""
ARRAY_REFUSALS_MAX: Final = 3
"""5xx or 403 on one array, while others pass, before it is split."""
ARRAY_FAILURES_MAX: Final = 10
"""The same without other requests: one order that crashes the server would hold the others of its array for ever. A
split is not a verdict, and costs an array in an outage only a few requests."""
ACCEPTED_S: Final = 60.0
"""If something was accepted within this time, a 403 without the API's envelope is not about the key."""
TOO_LARGE: Final = 413


class Again(msgspec.Struct, frozen=True):
    """Another attempt, after these seconds; None: after our own backoff."""

    after_s: float | None


class Give(msgspec.Struct, frozen=True):
    """No further attempt: an array is split, an entry ends."""

    rejected: Rejected


def weighed(verdict: Verdict, parcel: Parcel[Any], accepted_s: float, now_s: float) -> Verdict:
    """Returns the verdict with regard to other answers. `accepted_s` is the time of the last acceptance."""
    match verdict:
        case Denied(rejected, words):
            known = parcel.suspicion is not None and parcel.suspicion.times > 1  # others passed between two of them
            if known or now_s - accepted_s <= ACCEPTED_S:
                return RetryLater(RetryReason.DENIED, rejected.http_status, at_last=rejected)
            return KeyRefused(rejected.http_status or 403, words)
        case Doubted(status) if status == TOO_LARGE and len(parcel.entries) > 1:
            return verdict.rejected  # it speaks of the array
        case _:
            return verdict


def count(parcel: Parcel[Any], verdict: RetryLater | Doubted, witness: Witness, now_s: float, now_ms: int) -> None:
    """Notes another refusal."""
    reason = reason_of(verdict)
    parcel.failures += 1
    last = reason.value if verdict.status is None else f"HTTP {verdict.status}"
    for pending in parcel.entries:
        pending.last = last
        if pending.first_failed_ms is None:
            pending.first_failed_ms = now_ms
        if reason is RetryReason.IN_PROGRESS:
            pending.in_progress += 1
    if reason in _TESTIFY:
        witness.failed += sum(pending.attempts <= FRESH_TIMES for pending in parcel.entries)
    if reason in _SUSPECT:
        suspicion = parcel.suspicion
        newer = parcel.entries[0].attempts == 1  # than the entry that was refused before
        if suspicion is None or newer or suspicion.reason is not reason:
            parcel.suspicion = Suspicion(reason, witness, now_s)
        else:
            suspicion.again(witness)


def decide(
    parcel: Parcel[Any],
    verdict: RetryLater | Doubted,
    witness: Witness,
    now_s: float,
    *,
    poison_after_s: float,
    held: bool,
) -> Again | Give:
    """Returns the decision. `held` is true if doubted answers hold the destination."""
    if isinstance(verdict, Doubted):
        return _doubted(parcel, verdict, witness, now_s, held)
    rejected = None
    match verdict.reason:
        case RetryReason.IN_PROGRESS:
            rejected = _still_in_progress(parcel, verdict)
        case RetryReason.SERVER_ERROR:
            if _is_poison(parcel, witness, now_s, poison_after_s, TIMES_MIN):
                times = 0 if parcel.suspicion is None else parcel.suspicion.times
                message = f"HTTP {verdict.status} {times} times while others were accepted"
                rejected = Rejected(Reason.SERVER_ERROR, message, verdict.status)
        case RetryReason.DENIED:
            if _is_poison(parcel, witness, now_s, poison_after_s, DENIED_TIMES_MIN):
                rejected = verdict.at_last
        case RetryReason.TIMEOUT | RetryReason.CONNECTION | RetryReason.THROTTLED | RetryReason.TOO_EARLY:
            pass
        case RetryReason.DOUBTED:
            raise AssertionError("a doubted answer is a verdict of its own")
        case _:
            assert_never(verdict.reason)
    return Again(verdict.after_s) if rejected is None else Give(rejected)


def reason_of(verdict: RetryLater | Doubted) -> RetryReason:
    return RetryReason.DOUBTED if isinstance(verdict, Doubted) else verdict.reason


_SUSPECT: Final = frozenset({RetryReason.SERVER_ERROR, RetryReason.DENIED, RetryReason.DOUBTED})
_TESTIFY: Final = _SUSPECT | {RetryReason.TIMEOUT, RetryReason.CONNECTION}


def _doubted(parcel: Parcel[Any], doubted: Doubted, witness: Witness, now_s: float, held: bool) -> Again | Give:
    if len(parcel.entries) > 1:
        # A smaller array is more likely to pass: if none ever did, each may have a refused order.
        return Give(doubted.rejected) if not held or not witness.accepted else Again(0.0)
    if held:
        return Again(0.0)
    assert parcel.suspicion is not None, "counted before it is judged"
    return Give(doubted.rejected) if parcel.suspicion.is_own(witness, now_s) else Again(None)


def _still_in_progress(parcel: Parcel[Any], verdict: RetryLater) -> Rejected | None:
    if max(pending.in_progress for pending in parcel.entries) < IN_PROGRESS_MAX:
        return None
    message = f"HTTP 409 {IN_PROGRESS_MAX} times: still in progress"
    said = verdict.at_last
    if said is None:
        return Rejected(http_reason(409), message, 409)
    return Rejected(said.reason, message, 409, said.error_code, said.validation_errors)


def _is_poison(parcel: Parcel[Any], witness: Witness, now_s: float, after_s: float, times_min: int) -> bool:
    """True if an entry is poison, or an array shall be split."""
    suspicion = parcel.suspicion
    assert suspicion is not None, "counted before it is judged"
    if len(parcel.entries) > 1:
        return suspicion.times >= ARRAY_REFUSALS_MAX or parcel.failures >= ARRAY_FAILURES_MAX
    return suspicion.is_proven(witness, now_s, after_s, times_min)
