"""Pace: the quota, kept by any number of workers that never speak to one another.

    quota 120/60s, 7 partitions:   slots  18 17 17 17 17 17 17      partition 0 … 6

A request takes a slot of one of the worker's partitions, whichever is free, and the slot comes back one
window after the answer. Two requests in one slot thus reach the server more than a window apart, so that no
window ever sees more requests than there are slots, and the partitions' slots add up to the quota: the
worker that has the partitions has the slots.

    a partition moves, cleanly:  the last owner leaves how many of its slots are in use; the new one counts as many
                                 as in use until one window after it was assigned
    without a word (kill -9):    all of them count as in use for so long, and as long as a request may be on its way

Clocks of two machines are never compared, only trusted to run alike within `CLOCK_DRIFT`.

Owned by the sender's event loop; pure but for the state announced in `Pace`.

Not chosen: a token bucket (lets twice the quota through some window: a full bucket, then its refill); slots
per worker (the number of workers is known to nobody at the moment that counts); a slot that comes back a
window after the send (the server counts when the request arrives, which is anywhere before the answer).

The replay share: what an operator's replays may take of a destination, so that live traffic goes first.

    quota 120/60s, a worker with half of the partitions, share 0.5:    60 slots, replays hold 30 of them at most

Two rules, kept by each worker for itself, so that they hold over any number of them without a coordinator:
- a request of a replay goes only while no live entry could go (`lanes.py` hands those out first);
- replays hold no more than their share of the worker's slots, one window after the answer included. So whatever a
  replay does, the rest of the quota is there for live traffic in every window. Without a quota the same is said of the
  requests at once.

A worker whose share is less than one slot lets one request of a replay go and then waits for as many windows as make
that its share.

Owned by the sender's event loop; pure but for the state announced in `ReplayShare`.

Not chosen: the rate of the `replay` command alone (it knows of no retries, of no other command's letters on their way
through transform, and nothing of what is live at the moment); slots put aside for live traffic (a slot is a
partition's, and a worker may have one).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil, floor, inf
from typing import Final

from processor.config import Quota
from processor.errors import Problem

CLOCK_DRIFT: Final = 0.001
"""NTP slews a clock by at most 500 ppm; two of them against each other by twice that."""
GRANULARITY_S: Final = 0.002
"""An event loop's timers and a server's clock count in milliseconds."""
ON_THE_WAY_S_MAX: Final = 2.0
"""Requests of an owner that died may reach the server this long after its partition has moved."""


def slots_of(partition: int, quota: Quota, partitions_total: int) -> int:
    """The slots of one partition. The remainder goes to the first ones, so that together they are the
    quota."""
    assert 0 <= partition < partitions_total
    whole, rest = divmod(quota.requests, partitions_total)
    return whole + (1 if partition < rest else 0)


def quota_problem(quota: Quota, partitions_total: int, setting: str) -> Problem | None:
    """Why this quota cannot be kept with so many partitions, and what to do; None where it can."""
    if quota.requests >= partitions_total:
        return None
    what = (
        f"{quota} is less than one request a window for each of {partitions_total} partitions, so some would never be "
        "sent"
    )
    return Problem(setting, what, "allow more requests over a longer window in proportion, or use fewer partitions")


def useful_replicas(quota: Quota | None, partitions_total: int, in_flight_max: int, request_s: float = 1.0) -> int:
    """How many workers can help. Without a quota one per partition; with one, as many as keep it spent at
    `in_flight_max` requests each, should each take as long as `request_s`."""
    if quota is None:
        return partitions_total
    return min(partitions_total, max(1, ceil(quota.requests / quota.window_s * request_s / in_flight_max)))


class Bucket:
    """The slots of one partition. Mutable, by `Pace` alone: `in_use` counts those under way and those that
    rest; `ours` until the partition goes, which a request under way may outlive."""

    __slots__ = ("in_use", "ours", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.in_use = 0
        self.ours = True


class Pace:
    """The slots of a worker's partitions.

    Mutable. `_buckets` by epoch; `_resting` a heap of (free again at, number, bucket), one for each slot in
    use that is not under way. `free` is the number of slots of open buckets that are not in use.
    """

    def __init__(self, quota: Quota, partitions_total: int) -> None:
        assert quota_problem(quota, partitions_total, "quota") is None
        self.quota = quota
        self._partitions_total = partitions_total
        self.rest_s = quota.window_s * (1 + CLOCK_DRIFT) + GRANULARITY_S
        self._buckets: dict[int, Bucket] = {}
        self._resting: list[tuple[float, int, Bucket]] = []
        self._numbered = 0
        self._free: list[Bucket] = []

    @property
    def share(self) -> int:
        """Requests a window that are this worker's."""
        return sum(bucket.slots for bucket in self._buckets.values())

    def open(self, epoch: int, partition: int, used: int | None, assigned_s: float) -> None:
        """A partition has become ours at `assigned_s`; its last owner left `used` (None: without a word)."""
        assert epoch not in self._buckets
        bucket = self._buckets[epoch] = Bucket(slots_of(partition, self.quota, self._partitions_total))
        until_s = assigned_s + self.rest_s + (ON_THE_WAY_S_MAX if used is None else 0.0)
        used = bucket.slots if used is None else min(used, bucket.slots)
        for _ in range(used):
            bucket.in_use += 1
            self._rest(bucket, until_s)
        self._free += [bucket] * (bucket.slots - used)

    def close(self, epoch: int, now_s: float) -> int | None:
        """The partition goes. Returns how many of its slots are in use; None where it was never opened, and
        they are not ours to speak of."""
        bucket = self._buckets.pop(epoch, None)
        if bucket is None:
            return None
        self._release(now_s)
        bucket.ours = False
        self._free = [free for free in self._free if free is not bucket]
        self._resting = [resting for resting in self._resting if resting[2] is not bucket]
        self._resting.sort()
        return bucket.in_use

    @property
    def has_free(self) -> bool:
        """True if there was a free slot when it was last looked at."""
        return bool(self._free)

    def is_free(self, now_s: float) -> bool:
        """Returns true if a request may go now."""
        if self._resting and self._resting[0][0] <= now_s:
            self._release(now_s)
        return bool(self._free)

    def take(self) -> Bucket:
        """Takes a slot for the request that goes now. `is_free` has returned true before."""
        bucket = self._free.pop()
        bucket.in_use += 1
        assert bucket.in_use <= bucket.slots, "more slots than the partition has"
        return bucket

    def answered(self, bucket: Bucket, now_s: float) -> None:
        """The request in this slot has ended, one way or the other."""
        if bucket.ours:
            self._rest(bucket, now_s + self.rest_s)

    def next_s(self) -> float | None:
        """When a slot comes back; None while all that are in use are under way."""
        return self._resting[0][0] if self._resting else None

    def _rest(self, bucket: Bucket, until_s: float) -> None:
        self._numbered += 1
        heappush(self._resting, (until_s, self._numbered, bucket))

    def _release(self, now_s: float) -> None:
        while self._resting and self._resting[0][0] <= now_s:
            bucket = heappop(self._resting)[2]
            bucket.in_use -= 1
            assert bucket.in_use >= 0
            self._free.append(bucket)


class ReplayShare:
    """Mutable. `_under_way` requests without an answer; `_answered` when those that rest were answered, oldest first;
    `has_free` what the last look found, for other threads."""

    def __init__(self, share_max: float, slots: Callable[[], int], rest_s: float) -> None:
        """`slots` are the worker's as they are now, `rest_s` how long one counts as in use after its answer."""
        assert 0 < share_max <= 1, f"no share: {share_max}"
        self._share_max = share_max
        self._slots = slots
        self._rest_s = rest_s
        self._under_way = 0
        self._answered: deque[float] = deque()
        self.has_free = True

    def is_free(self, now_s: float) -> bool:
        """Returns true if a request of a replay may go now."""
        next_s = self.next_s()
        self.has_free = next_s is not None and next_s <= now_s
        return self.has_free

    def next_s(self) -> float | None:
        """From when on the next may go, if nothing else happens; None: not before an answer, or a slot more."""
        allowed = self._share_max * self._slots()
        left = max(1, floor(allowed)) - self._under_way
        if left < 1 or allowed <= 0:
            return None
        if len(self._answered) < left:
            return -inf
        return self._answered[-left] + self._rests_s(allowed)

    def taken(self) -> None:
        """A request of a replay goes out: `is_free` said that it may."""
        self._under_way += 1

    def answered(self, now_s: float) -> None:
        """It has ended, one way or the other."""
        assert self._under_way > 0, "answered twice"
        self._under_way -= 1
        self._answered.append(now_s)
        rests_s = self._rests_s(self._share_max * self._slots())
        while self._answered[0] + rests_s <= now_s and len(self._answered) > 1:
            self._answered.popleft()

    def _rests_s(self, allowed: float) -> float:
        return self._rest_s if allowed >= 1 or not self._rest_s else self._rest_s / max(allowed, 1e-9)
