"""Hakuna's two APIs as the sender needs them: a path, a body, headers, and what an answer means.

Pure. A setting says which of the two an installation uses; an outbox holds the entries of one of them.

The `Idempotency-Key` is the entry's ID as a structured-field string (draft-ietf-httpapi-idempotency-key-header), the
same for every attempt, restart and replay of the same bytes. The key of an array is derived from the IDs of its
entries, in their order: the same array has the same key, another array another key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from processor.api.credentials import BEARER, AuthHeader
from processor.api.verdicts import Answer, NoAnswer, Rejected, Verdict
from processor.hakuna import answers, feed
from processor.records import EntryType, OutboxEntry, Reason

_RawHeaders = Sequence[tuple[bytes, bytes]]
_Request = tuple[str, str, bytes, _RawHeaders]

_TRACEPARENT: Final = re.compile(rb"[\x21-\x7e]{1,256}")
"""What may stand in an HTTP header as it is. Whether it is a trace is its readers' to judge: W3C has them begin a new
one where it is not valid."""


@dataclass(frozen=True, slots=True)
class HakunaEvents:
    """The Events API: one request an event."""

    version: str
    user_agent: str
    auth: AuthHeader = BEARER
    name: str = "hakuna"
    error_codes: frozenset[str] = answers.ERROR_CODES
    entry_types: frozenset[EntryType] = frozenset(EntryType) - {EntryType.ORDER}
    parcel_entries_max: int = 1
    parcel_bytes_max: int = 1
    linger_s: float = 0.0
    supersedes: bool = False

    def headers(self, key: str) -> _RawHeaders:
        return _headers(self.auth, key, self.version, self.user_agent)

    def request(self, entries: Sequence[OutboxEntry]) -> _Request:
        (entry,) = entries
        own = [(b"Idempotency-Key", _quoted(entry.entry_id))]
        traceparent = _traceparent(entry)
        if traceparent is not None:
            own.append((b"traceparent", traceparent))
        return "POST", "/events", entry.body, own

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict:
        return answers.verdict(answer, now_ms)

    def reconsidered(self, entries: Sequence[OutboxEntry], rejected: Rejected, now_ms: int) -> Rejected:
        """An event is told in one way."""
        return rejected

    @property
    def sent_as(self) -> str:
        return str(self.auth)

    def holds(self, reason: str) -> bool:
        """`cancel_decline` is an answer, not a fault: the order goes on."""
        return reason != Reason.CANCEL_DECLINE


@dataclass(frozen=True, slots=True)
class HakunaFeed:
    """The Order feed: arrays of whole orders, the newest snapshot of each."""

    version: str
    user_agent: str
    parcel_entries_max: int
    parcel_bytes_max: int
    linger_s: float
    auth: AuthHeader = BEARER
    name: str = "hakuna"
    error_codes: frozenset[str] = answers.ERROR_CODES
    entry_types: frozenset[EntryType] = frozenset({EntryType.ORDER})
    supersedes: bool = True

    def headers(self, key: str) -> _RawHeaders:
        return _headers(self.auth, key, self.version, self.user_agent)

    def request(self, entries: Sequence[OutboxEntry]) -> _Request:
        if len(entries) == 1:
            key = _quoted(entries[0].entry_id)
        else:
            key = _quoted("array/" + sha256("\n".join(entry.entry_id for entry in entries).encode()).hexdigest())
        own = [(b"Idempotency-Key", key)]
        traceparent = _traceparent(entries[0]) if len(entries) == 1 else None
        if traceparent is not None:
            own.append((b"traceparent", traceparent))
        return "POST", "/feeds/order", feed.array([entry.body for entry in entries]), own

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict:
        return answers.verdict(answer, now_ms)

    def reconsidered(self, entries: Sequence[OutboxEntry], rejected: Rejected, now_ms: int) -> Rejected:
        """An order is told in one way."""
        return rejected

    @property
    def sent_as(self) -> str:
        return str(self.auth)

    def holds(self, reason: str) -> bool:
        """A newer snapshot is whole by itself, and is tried."""
        return False


def _headers(auth: AuthHeader, key: str, version: str, user_agent: str) -> _RawHeaders:
    return (
        auth.field(key),
        (b"Content-Type", b"application/json"),
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"Hakuna-Version", version.encode("ascii")),
        (b"User-Agent", user_agent.encode("ascii")),
    )


def _quoted(text: str) -> bytes:
    """A structured-field string (RFC 9651, 3.3.3); `text` is printable ASCII."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'.encode("ascii")


def _traceparent(entry: OutboxEntry) -> bytes | None:
    """The last one, as Kafka's `lastHeader`: who hands a record on may add its own behind."""
    for name, value in reversed(entry.headers):
        if name == "traceparent":
            return value if value is not None and _TRACEPARENT.fullmatch(value) else None
    return None
