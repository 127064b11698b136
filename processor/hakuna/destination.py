"""destination: Hakuna's two APIs as the sender needs them: path, body, headers, and the meaning of an answer.

Pure. A setting says which of the two an installation uses; an outbox has the entries of one of them.

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
"""What may stand in an HTTP header. Readers judge whether it is a trace: if not, they begin a new one (W3C)."""


@dataclass(frozen=True, slots=True)
class Hakuna:
    """One of Hakuna's APIs. The feed (`supersedes`) takes arrays of orders, the Events API one event a request."""

    version: str
    user_agent: str
    auth: AuthHeader
    path: str
    entry_types: frozenset[EntryType]
    supersedes: bool
    parcel_entries_max: int = 1
    parcel_bytes_max: int = 1
    linger_s: float = 0.0
    name: str = "hakuna"
    error_codes: frozenset[str] = answers.ERROR_CODES

    def headers(self, key: str) -> _RawHeaders:
        return (
            self.auth.field(key),
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Hakuna-Version", self.version.encode("ascii")),
            (b"User-Agent", self.user_agent.encode("ascii")),
        )

    def request(self, entries: Sequence[OutboxEntry]) -> _Request:
        first = entries[0]
        body = first.body
        if self.supersedes:
            body = feed.array([entry.body for entry in entries])
            if len(entries) > 1:
                digest = sha256("\n".join(entry.entry_id for entry in entries).encode()).hexdigest()
                return "POST", self.path, body, [(b"Idempotency-Key", _quoted(f"array/{digest}"))]
        own = [(b"Idempotency-Key", _quoted(first.entry_id))]
        for name, value in reversed(first.headers):  # the last, as Kafka's `lastHeader`
            if name == "traceparent":
                if value is not None and _TRACEPARENT.fullmatch(value):
                    own.append((b"traceparent", value))
                break
        return "POST", self.path, body, own

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict:
        return answers.verdict(answer, now_ms)

    def reconsidered(self, entries: Sequence[OutboxEntry], rejected: Rejected, now_ms: int) -> Rejected:
        """Returns the refusal: an event or an order has one form only."""
        return rejected

    @property
    def sent_as(self) -> str:
        return str(self.auth)

    def holds(self, reason: str) -> bool:
        """`cancel_decline` is an answer, not a fault; a newer snapshot is whole by itself. Both go on."""
        return not self.supersedes and reason != Reason.CANCEL_DECLINE


def events_api(version: str, user_agent: str, auth: AuthHeader = BEARER) -> Hakuna:
    return Hakuna(version, user_agent, auth, "/events", frozenset(EntryType) - {EntryType.ORDER}, supersedes=False)


def order_feed(
    version: str, user_agent: str, entries_max: int, bytes_max: int, linger_s: float, auth: AuthHeader = BEARER
) -> Hakuna:
    """`entries_max` and `bytes_max` limit one array."""
    types = frozenset({EntryType.ORDER})
    return Hakuna(version, user_agent, auth, "/feeds/order", types, True, entries_max, bytes_max, linger_s)


def _quoted(text: str) -> bytes:
    """A structured-field string (RFC 9651, 3.3.3); `text` is printable ASCII."""
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'.encode("ascii")
