"""destination: Hako as the sender needs it: path, method, body, credentials, and the meaning of an answer. Pure.

Hako's reference sets no size for an array. An array has hundreds of objects, for Hako allows 120 requests a minute, in
less than the 100 kB that a web framework usually takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processor.api.credentials import BASIC, AuthHeader
from processor.api.verdicts import Answer, Delivered, NoAnswer, Otherwise, Rejected, Verdict
from processor.hako import answers
from processor.hako.changes import Change, array

_RawHeaders = Sequence[tuple[bytes, bytes]]
_Request = tuple[str, str, bytes, _RawHeaders]


@dataclass(frozen=True, slots=True)
class Hako:
    """A level may wait for `park_for_ms`; `grounded` returns true if its item and warehouse are known as accepted."""

    user_agent: str
    parcel_entries_max: int
    parcel_bytes_max: int
    linger_s: float
    park_for_ms: int
    grounded: Callable[[Change], bool]
    auth: AuthHeader = BASIC
    name: str = "hako"
    error_codes: frozenset[str] = frozenset()
    supersedes: bool = True

    def headers(self, key: str) -> _RawHeaders:
        return (
            self.auth.field(key),
            (b"Content-Type", b"application/json"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", self.user_agent.encode("ascii")),
        )

    def request(self, entries: Sequence[Change]) -> _Request:
        first = entries[0]
        assert all(change.table is first.table and change.verb is first.verb for change in entries), "a mixed array"
        return first.verb.value, f"/{first.table.value}", array([change.body() for change in entries]), ()

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict:
        return answers.verdict(answer, now_ms)

    def reconsidered(
        self, entries: Sequence[Change], rejected: Rejected, now_ms: int
    ) -> Rejected | Delivered | Otherwise:
        return answers.reconsidered(entries, rejected, now_ms, self.park_for_ms, self.grounded)

    @property
    def sent_as(self) -> str:
        return str(self.auth)

    def holds(self, reason: str) -> bool:
        """Returns False: the next value of an object is whole by itself, and is tried."""
        return False
