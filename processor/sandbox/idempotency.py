"""The same key, the same answer: a ledger of idempotency keys, as the IETF's draft describes it.

    unknown ──claim──► BUSY ──settle──► the answer, given again to every repeat
                         └───withdraw──► unknown (it was refused or never done: the same request may come
                         again)

Only successes are kept. A refusal that were kept could never be cured: a request that is repeated after the
API was mended would get the old refusal again.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from processor.sandbox.recent import Recent

A = TypeVar("A")


class Claim(Enum):
    """What a key that has no answer yet can be."""

    NEW = "new"
    BUSY = "busy"
    REUSED = "reused"


@dataclass(frozen=True, slots=True)
class _Line(Generic[A]):
    fingerprint: bytes
    answer: A | None


class Ledger(Generic[A]):
    """Answers by key. Mutable: a line without an answer belongs to the request that claimed it."""

    def __init__(self) -> None:
        self._lines: Recent[_Line[A]] = Recent()

    def claim(self, key: str, fingerprint: bytes) -> Claim | A:
        """NEW: the caller has it now and must `settle` or `withdraw` it. Else nothing changed."""
        line = self._lines.get(key)
        if line is None:
            self._lines.put(key, _Line(fingerprint, None))
            return Claim.NEW
        if line.fingerprint != fingerprint:
            return Claim.REUSED
        return Claim.BUSY if line.answer is None else line.answer

    def settle(self, key: str, fingerprint: bytes, answer: A) -> None:
        line = self._lines.get(key)
        assert line is None or line.answer is None, "settled twice"
        self._lines.put(key, _Line(fingerprint, answer))

    def withdraw(self, key: str) -> None:
        self._lines.remove(key)
