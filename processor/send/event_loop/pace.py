"""Pace: the quota, kept by any number of workers that never speak to one another.

    quota 120/60s, 7 partitions:   slots  18 17 17 17 17 17 17      partition 0 … 6

A request takes a free slot of one of the worker's partitions, and the slot comes back one window after the answer. So
two requests in one slot reach the server more than a window apart, and no window ever has more requests than there are
slots. The slots of all partitions add up to the quota: the worker that has the partitions has the slots.

    a partition moves, cleanly:  the last owner leaves how many of its slots are in use; the new one counts as many
                                 as in use until one window after its assignment
    without a mark (kill -9):    all of them count as in use for that time, and as long as a request may be on its way

Clocks of two machines are never compared, only trusted to run alike within `CLOCK_DRIFT`.

`ReplayShare` bounds the part of a destination that an operator's replays may take, so that live traffic goes first.

    quota 120/60s, a worker with half of the partitions, share 0.5:    60 slots, replays hold 30 of them at most

Each worker keeps two rules for itself, so they hold over any number of workers without a coordinator:
- a request of a replay goes only while no live entry could go (`lanes.py` hands those out first);
- replays hold no more than their share of the worker's slots, until one window after the answer. So the rest of the
  quota
  is there for live traffic in every window. Without a quota the same holds for the requests at once.

A worker whose share is less than one slot sends one request of a replay and then waits for as many windows as make that
its share.

Owned by the sender's event loop; pure, except the announced state.

Not chosen: a token bucket (it lets twice the quota through some window: a full bucket, then its refill); slots per
worker (nobody knows the number of workers at the moment that counts); a slot that comes back a window after the send
(the server counts when the request arrives, which is any time before the answer); only the rate of the `replay` command
(it does not know retries, the letters of another command on their way through transform, or the live traffic); reserved
slots for live traffic (a slot belongs to a partition, and a worker may have one).
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
    """Returns the slots of one partition. The first ones get the remainder, so that all add up to the quota."""
    assert 0 <= partition < partitions_total
    whole, rest = divmod(quota.requests, partitions_total)
    return whole + (1 if partition < rest else 0)


def quota_problem(quota: Quota, partitions_total: int, setting: str) -> Problem | None:
    """Returns why this quota cannot be kept with this many partitions. Returns None if it can."""
    if quota.requests >= partitions_total:
        return None
    what = (
        f"{quota} is less than one request a window for each of {partitions_total} partitions, so some would never be "
        "sent"
    )
    return Problem(setting, what, "allow more requests over a longer window in proportion, or use fewer partitions")


def useful_replicas(quota: Quota | None, partitions_total: int, in_flight_max: int, request_s: float = 1.0) -> int:
    """Returns how many workers are useful. Without a quota one per partition; with one, as many as use it up with
    `in_flight_max` requests each, if each request takes `request_s`."""
    if quota is None:
        return partitions_total
    return min(partitions_total, max(1, ceil(quota.requests / quota.window_s * request_s / in_flight_max)))


class Bucket:
    """The slots of one partition. Only `Pace` changes it: `in_use` counts slots under way and resting ones; `ours` is
    true until the partition goes, which a request under way may outlive."""

    __slots__ = ("in_use", "ours", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.in_use = 0
        self.ours = True


class Pace:
    """The slots of a worker's partitions.

    Mutable. `_buckets` are by epoch; `_resting` is a heap of (free again at, number, bucket), one for each slot in use
    that is not under way; `_free` has the bucket of each free slot.
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
        """This worker's requests a window."""
        return sum(bucket.slots for bucket in self._buckets.values())

    def open(self, epoch: int, partition: int, used: int | None, assigned_s: float) -> None:
        """A partition has become ours at `assigned_s`; its last owner left `used` slots in use (None: no mark)."""
        assert epoch not in self._buckets
        bucket = self._buckets[epoch] = Bucket(slots_of(partition, self.quota, self._partitions_total))
        until_s = assigned_s + self.rest_s + (ON_THE_WAY_S_MAX if used is None else 0.0)
        used = bucket.slots if used is None else min(used, bucket.slots)
        for _ in range(used):
            bucket.in_use += 1
            self._rest(bucket, until_s)
        self._free += [bucket] * (bucket.slots - used)

    def close(self, epoch: int, now_s: float) -> int | None:
        """The partition goes. Returns how many of its slots are in use; None if it was never opened."""
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
        """The request in this slot has ended, with or without an answer."""
        if bucket.ours:
            self._rest(bucket, now_s + self.rest_s)

    def next_s(self) -> float | None:
        """Returns when a slot comes back; None while all used slots are under way."""
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
    """Mutable. `_under_way` counts requests without an answer; `_answered` are the times of resting ones' answers,
    oldest first; `has_free` is the result of the last check, for other threads."""

    def __init__(self, share_max: float, slots: Callable[[], int], rest_s: float) -> None:
        """`slots` returns the worker's present slots; a slot counts as in use for `rest_s` after its answer."""
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
        """Returns when the next request may go, if nothing else happens; None: not before an answer or another slot."""
        allowed = self._share_max * self._slots()
        left = max(1, floor(allowed)) - self._under_way
        if left < 1 or allowed <= 0:
            return None
        if len(self._answered) < left:
            return -inf
        return self._answered[-left] + self._rests_s(allowed)

    def taken(self) -> None:
        """A request of a replay goes out; `is_free` has returned true before."""
        self._under_way += 1

    def answered(self, now_s: float) -> None:
        """The request has ended, with or without an answer."""
        assert self._under_way > 0, "answered twice"
        self._under_way -= 1
        self._answered.append(now_s)
        rests_s = self._rests_s(self._share_max * self._slots())
        while self._answered[0] + rests_s <= now_s and len(self._answered) > 1:
            self._answered.popleft()

    def _rests_s(self, allowed: float) -> float:
        return self._rest_s if allowed >= 1 or not self._rest_s else self._rest_s / max(allowed, 1e-9)
