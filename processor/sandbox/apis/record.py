"""The requests that a stand-in has seen: what it accepted of each order, mistakes, overlaps, and the rate.

Owned by one stand-in. Its loop writes and other threads read, so there is a lock. It counts facts and judges nothing:
the test says whether 3 repeats are too many.

`Recent` bounds its memory, so that a stand-in can run for days.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final, TypeVar

V = TypeVar("V")

RECENT_MAX = 200_000
"""Orders or keys that a stand-in remembers. Without a limit, one left running over a weekend eats the machine."""


class Recent(dict[str, V]):
    """A dict that drops its oldest name when a new one would be more than `size_max`. `forgotten` counts them."""

    def __init__(self, size_max: int = RECENT_MAX) -> None:
        super().__init__()
        self._size_max = size_max
        self.forgotten = 0

    def __setitem__(self, name: str, value: V) -> None:
        if name not in self and len(self) >= self._size_max:
            del self[next(iter(self))]
            self.forgotten += 1
        super().__setitem__(name, value)


ARRIVALS_MAX: Final = 1_000_000
"""Arrival times kept, 8 MB. Beyond it the older half is dropped, and `most_in` counts the newer half only."""
MISTAKES_MAX: Final = 1_000
"""Mistakes kept as text; all are counted."""
SUMMARY_LINES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted request about a subject: its time (seconds, monotonic), verb and path (`POST /events`), body, and
    idempotency key."""

    at_s: float
    verb: str
    body: bytes
    key: str | None


@dataclass(slots=True)
class Presence:
    """A request that is being served. Mutable: `gone` once its client has hung up."""

    subjects: tuple[str, ...]
    gone: bool = False


class Record:
    """The requests that a stand-in has seen.

    Mutable throughout, and written under `_lock`. The counts are public: `requests` all requests, `repeats` requests
    with key and body of an accepted one, `key_conflicts` requests with the key of an accepted one and another body,
    `overlap_count` requests that arrived while another one about the same subject was being served, `mistake_count`
    mistakes that the API would refuse. `_present` is, by subject, the request that is being served.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self._statuses: Counter[str] = Counter()
        self._error_codes: Counter[str] = Counter()
        self._mistakes: deque[str] = deque(maxlen=MISTAKES_MAX)
        self.mistake_count = 0
        self.repeats = 0
        self.key_conflicts = 0
        self._overlaps: deque[str] = deque(maxlen=MISTAKES_MAX)
        self.overlap_count = 0
        self._accepted: Recent[list[Accepted]] = Recent()
        self._accepted_count = 0
        self._arrivals = array("d")
        self._present: dict[str, Presence] = {}

    def arrived(self, at_s: float) -> None:
        with self._lock:
            self.requests += 1
            if len(self._arrivals) >= ARRIVALS_MAX:
                del self._arrivals[: ARRIVALS_MAX // 2]
            self._arrivals.append(at_s)

    def entered(self, presence: Presence) -> list[tuple[str, Presence]]:
        """Returns each subject about which another request is being served, with that request."""
        with self._lock:
            others = [(name, other) for name in presence.subjects if (other := self._present.get(name)) is not None]
            for name in presence.subjects:
                self._present[name] = presence
            return others

    def left(self, presence: Presence) -> None:
        with self._lock:
            for name in presence.subjects:
                if self._present.get(name) is presence:
                    del self._present[name]

    def overlapped(self, subject: str) -> None:
        with self._lock:
            self.overlap_count += 1
            self._overlaps.append(subject)

    def answered(self, status: str, error_code: str | None = None) -> None:
        """`status` is the HTTP status, or the name of the fault if there was no answer."""
        with self._lock:
            self._statuses[status] += 1
            if error_code is not None:
                self._error_codes[error_code] += 1

    def mistaken(self, problem: str) -> None:
        with self._lock:
            self.mistake_count += 1
            self._mistakes.append(problem)

    def repeated(self) -> None:
        with self._lock:
            self.repeats += 1

    def key_reused(self) -> None:
        with self._lock:
            self.key_conflicts += 1

    def accepted(self, subject: str, accepted: Accepted) -> None:
        with self._lock:
            self._accepted_count += 1
            if subject not in self._accepted:
                self._accepted[subject] = []
            self._accepted[subject].append(accepted)

    def statuses(self) -> dict[str, int]:
        """Returns the requests by HTTP status, or by fault (`reset`, `lost_answer`, `hang`) if there was no answer."""
        with self._lock:
            return dict(self._statuses)

    def error_codes(self) -> dict[str, int]:
        with self._lock:
            return dict(self._error_codes)

    def mistakes(self) -> list[str]:
        """Returns the last mistakes, in the words of the answers."""
        with self._lock:
            return list(self._mistakes)

    def overlaps(self) -> list[str]:
        """Returns the last subjects about which two requests were being served at once."""
        with self._lock:
            return list(self._overlaps)

    def subjects(self) -> list[str]:
        """Returns the subjects (orders; for Hako, objects) of accepted requests, in order of their first."""
        with self._lock:
            return list(self._accepted)

    def history(self, subject: str) -> list[Accepted]:
        """Returns the accepted requests about `subject`, in order, without repeats."""
        with self._lock:
            return list(self._accepted.get(subject) or ())

    def most_in(self, window_s: float) -> int:
        """Returns the most requests that arrived in any window of that length. A window is half-open: a request exactly
        one window after another is in the next one."""
        with self._lock:
            arrivals = self._arrivals[:]
        most = first = 0
        for last, at_s in enumerate(arrivals):
            while at_s - arrivals[first] >= window_s:
                first += 1
            most = max(most, last - first + 1)
        return most

    def summary(self, window_s: float) -> dict[str, object]:
        """Returns all counts as JSON values; the lists are cut to their last lines."""
        most = self.most_in(window_s)
        with self._lock:
            return {
                "requests": self.requests,
                "statuses": dict(self._statuses),
                "error_codes": dict(self._error_codes),
                "accepted": self._accepted_count,
                "subjects": len(self._accepted),
                "subjects_forgotten": self._accepted.forgotten,
                "repeats": self.repeats,
                "key_conflicts": self.key_conflicts,
                "overlap_count": self.overlap_count,
                "overlaps": list(self._overlaps)[-SUMMARY_LINES_MAX:],
                "mistake_count": self.mistake_count,
                "mistakes": list(self._mistakes)[-SUMMARY_LINES_MAX:],
                "most_in_window": {"window_s": window_s, "requests": most},
            }
