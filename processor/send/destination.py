"""Destination: what the sender must know about an API.

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
        """The error codes of the API's reference; metrics show any other as `other`."""

    @property
    def parcel_entries_max(self) -> int: ...

    @property
    def parcel_bytes_max(self) -> int:
        """The most bytes of a request's entries together; a single entry may be larger."""

    @property
    def linger_s(self) -> float:
        """Seconds that an entry may wait for others to fill its request, when nothing else holds it."""

    @property
    def supersedes(self) -> bool:
        """True if an entry replaces an earlier one of its order that is not in flight."""

    def headers(self, key: str) -> RawHeaders:
        """Returns the headers of all requests, including the authorization."""

    @property
    def sent_as(self) -> str:
        """The header and scheme of the authorization, without the key."""

    def request(self, entries: Sequence[EntryContra]) -> Request:
        """Returns the request of these entries: always the same one, unless `reconsidered` has changed them."""

    def verdict(self, answer: Answer | NoAnswer, now_ms: int) -> Verdict: ...

    def reconsidered(
        self, entries: Sequence[EntryContra], rejected: Rejected, now_ms: int
    ) -> Rejected | Delivered | Otherwise:
        """Returns what a refusal means for these entries. After `Otherwise` the entries themselves hold their next
        form."""

    def holds(self, reason: str) -> bool:
        """True if a refusal for this reason makes the order's later entries wait."""


class Key(Protocol):
    """The API key. Both methods are called on the event loop and must not wait for a network."""

    def current(self) -> str: ...

    def reread(self) -> bool:
        """Reads the key again. Returns true if `current` has changed."""
