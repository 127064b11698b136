"""What a stand-in has seen: what it accepted of each order, what was wrong, what overlapped, how much came at a time.

Owned by one stand-in. Its loop writes, other threads read, hence the lock. It counts facts and judges nothing: whether
3 repeats are too many is for the test to say.

`Recent` is a dict that forgets its oldest entry, so that a stand-in can run for days.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

V = TypeVar("V")

RECENT_MAX = 200_000
"""Orders or keys that a stand-in remembers. Without it, one left running over a weekend eats the machine."""


class Recent(Generic[V]):
    """Values by name; past `size_max` the entry made first goes. Mutable; `forgotten` counts those that
    went."""

    def __init__(self, size_max: int = RECENT_MAX) -> None:
        assert size_max > 0, "a memory of nothing"
        self._values: dict[str, V] = {}
        self._size_max = size_max
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> V | None:
        return self._values.get(name)

    def put(self, name: str, value: V) -> None:
        if name not in self._values and len(self._values) >= self._size_max:
            del self._values[next(iter(self._values))]
            self.forgotten += 1
        self._values[name] = value

    def remove(self, name: str) -> None:
        self._values.pop(name, None)


ARRIVALS_MAX: Final = 1_000_000
"""Arrival times kept, 8 MB. Past it the older half goes: `most_in` then speaks of the newer half only."""
MISTAKES_MAX: Final = 1_000
"""Mistakes kept word for word; all of them are counted."""
SUMMARY_LINES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Accepted:
    """Something that was accepted of a subject: when (seconds, monotonic), how (`POST /events`), what, and
    its idempotency key."""

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
    """What a stand-in has seen.

    Mutable throughout, and written under `_lock`. The counts are public: `requests` all that arrived, `repeats` those
    with the key and body of an accepted one, `key_conflicts` those with the key of an accepted one and another body,
    `overlap_count` those that arrived while another one about the same subject was being served, `mistake_count` those
    that the API would not understand. `_present` has the request that is being served of each subject.
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

    # ---- written by the stand-in --------------------------------------------------------------------------

    def arrived(self, at_s: float) -> None:
        with self._lock:
            self.requests += 1
            if len(self._arrivals) >= ARRIVALS_MAX:
                del self._arrivals[: ARRIVALS_MAX // 2]
            self._arrivals.append(at_s)

    def entered(self, presence: Presence) -> list[tuple[str, Presence]]:
        """The subjects that another request is being served for, each with that request."""
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
        """`status` is the HTTP status, or the fault's name where there was no answer."""
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
            known = self._accepted.get(subject)
            if known is None:
                self._accepted.put(subject, [accepted])
            else:
                known.append(accepted)

    # ---- read by whoever wants to know --------------------------------------------------------------------

    def statuses(self) -> dict[str, int]:
        """Requests by HTTP status, or by fault (`reset`, `lost_answer`, `hang`) where there was no answer."""
        with self._lock:
            return dict(self._statuses)

    def error_codes(self) -> dict[str, int]:
        with self._lock:
            return dict(self._error_codes)

    def mistakes(self) -> list[str]:
        """The last of them: what was wrong with a request, in the words of the answer."""
        with self._lock:
            return list(self._mistakes)

    def overlaps(self) -> list[str]:
        """The last subjects of which two requests were being served at once."""
        with self._lock:
            return list(self._overlaps)

    def subjects(self) -> list[str]:
        """Those of which something was accepted (orders; for Hako, objects), in order of their first."""
        with self._lock:
            return list(self._accepted)

    def history(self, subject: str) -> list[Accepted]:
        """What was accepted of `subject`, in order; repeats are not among it."""
        with self._lock:
            return list(self._accepted.get(subject) or ())

    def most_in(self, window_s: float) -> int:
        """The most requests that arrived in any window of that length (half-open: a request exactly one
        window after another is in the next one)."""
        with self._lock:
            arrivals = self._arrivals[:]
        most = first = 0
        for last, at_s in enumerate(arrivals):
            while at_s - arrivals[first] >= window_s:
                first += 1
            most = max(most, last - first + 1)
        return most

    def summary(self, window_s: float) -> dict[str, object]:
        """All counts, for a person or for JSON; the lists are cut to their last lines."""
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
