"""Destination: what an API must say of itself to be sent to.

The sender knows requests, answers and verdicts; a destination knows paths, bodies and error codes. `hakuna/`
and `hako/` hold the real ones, which satisfy this by their shape and import nothing from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from processor.api.verdicts import Answer, Delivered, NoAnswer, Otherwise, Rejected, Verdict

RawHeaders = Sequence[tuple[bytes, bytes]]

Request = tuple[str, str, bytes, RawHeaders]
"""Method, path (from the base URL on), body, and the headers that are this request's own."""

EntryT = TypeVar("EntryT")
EntryContra = TypeVar("EntryContra", contravariant=True)


class Destination(Protocol[EntryContra]):
    """One API, and how entries become requests to it."""

    @property
    def name(self) -> str:
        """The `destination` label."""

    @property
    def error_codes(self) -> frozenset[str]:
        """Those that the API's reference knows; any other is `other` in metrics."""

    @property
    def parcel_entries_max(self) -> int: ...

    @property
    def parcel_bytes_max(self) -> int:
        """Of the entries' bodies together; a single entry may be larger."""

    @property
    def linger_s(self) -> float:
        """How long an entry may wait for others to fill its request, when nothing else holds it."""

    @property
    def supersedes(self) -> bool:
        """Whether an entry replaces an earlier one of its order that is not under way."""

    def headers(self, key: str) -> RawHeaders:
        """What all requests have in common, the authorization among it."""

    @property
    def sent_as(self) -> str:
        """The header and scheme of the authorization, without the key."""

    def request(self, entries: Sequence[EntryContra]) -> Request:
        """The same entries make the same request, however often, unless they were reconsidered in between."""

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict: ...

    def reconsidered(
        self, entries: Sequence[EntryContra], rejected: Rejected, now_ms: int
    ) -> Rejected | Delivered | Otherwise:
        """What a refusal means for these entries. `Otherwise`: they say themselves how they are to be sent next."""

    def holds(self, reason: str) -> bool:
        """Whether a refusal for this reason makes the order's later entries wait."""


class Key(Protocol):
    """The API key, from wherever it comes. Both are called on the event loop and must not wait for a
    network."""

    def current(self) -> str: ...

    def reread(self) -> bool:
        """Looks again; whether `current` has changed."""
