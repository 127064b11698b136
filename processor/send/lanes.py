"""Lanes: one FIFO per order ID, and the parcels that are taken from their heads.

    push ──► READY ──take──► UNDER_WAY ──finish──► READY, or gone when nothing is left in it
               ▲                │  │
               │                │  └─split─┐
               └── (due: take) ─┴── WAITING ◄┘   retry: until a time; split: until its turn

A parcel is what one request carries: one entry for the Events API, many for arrays. Whoever takes a parcel
gives it back by `finish`, `retry` or `split`.

    split:  a refused parcel becomes two halves. The first goes; only when it has ended the second may go.
            Where the first was delivered, the fault is in the second, which is then split again without a
            request of its own. So k refused of n cost at most 2·k·log2(n) requests more.

Owned by the event loop; pure but for the state announced in `Lanes`.

Invariants
- one parcel at most holds an order ID: an order is never twice in one request, nor in two at once;
- entries of an order leave in the order in which they came;
- a lane that waits holds nothing but itself: no slot, no worker, no other lane (but for the parcel it is
  bound to);
- with `supersedes` a lane has one entry at most beside the one under way, always the newest.

Not chosen: a task per lane (thousands of them, 3 µs an entry); a priority queue over all entries (the heap is
only for those that wait: an entry that goes at once never sees it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from enum import Enum
from heapq import heappop, heappush
from typing import Generic

from processor.send.destination import EntryT
from processor.send.meter import WaitsFor
from processor.send.pending import Pending
from processor.send.poison import Suspicion


class LaneState(Enum):
    """Where a lane is; the picture is in the module's docstring."""

    READY = "ready"
    UNDER_WAY = "under_way"
    WAITING = "waiting"


class Lane(Generic[EntryT]):
    """The entries of one order that are not under way, oldest first. Mutable, by `Lanes` alone."""

    __slots__ = ("order_id", "queue", "ready_s", "state")

    def __init__(self, order_id: str, ready_s: float) -> None:
        self.order_id = order_id
        self.queue: deque[Pending[EntryT]] = deque()
        self.state = LaneState.READY
        self.ready_s = ready_s


class Parcel(Generic[EntryT]):
    """What one request carries: an entry from each of `lanes`. Mutable: the sender counts on it what it was
    answered.

    `second` is the half that waits for this one to end.
    """

    __slots__ = ("entries", "failures", "lanes", "second", "suspicion")

    def __init__(self, lanes: list[Lane[EntryT]], entries: list[Pending[EntryT]]) -> None:
        self.lanes = lanes
        self.entries = entries
        self.failures = 0
        self.suspicion: Suspicion | None = None
        self.second: Parcel[EntryT] | None = None


class Lanes(Generic[EntryT]):
    """All lanes of a worker.

    Mutable. `_lanes` has every order that has an entry here; `_ready` the lanes in READY, in the order in
    which they became so, and some that have been emptied since; `_waiting` a heap of (due, number, parcel),
    whose lanes are WAITING, as are those of the second halves behind them; `_epochs` the assignments whose
    entries are wanted.
    """

    def __init__(self, parcel_entries_max: int, parcel_bytes_max: int, linger_s: float, supersedes: bool) -> None:
        assert parcel_entries_max >= 1
        self._entries_max = parcel_entries_max
        self._bytes_max = parcel_bytes_max
        self._linger_s = linger_s
        self._supersedes = supersedes
        self._lanes: dict[str, Lane[EntryT]] = {}
        self._ready: deque[Lane[EntryT]] = deque()
        self._waiting: list[tuple[float, int, Parcel[EntryT]]] = []
        self._numbered = 0
        self._epochs: set[int] = set()

    # ---- in -----------------------------------------------------------------------------------------------

    def open(self, epoch: int) -> None:
        """A new assignment of a partition: its entries may come."""
        assert epoch not in self._epochs
        self._epochs.add(epoch)

    def push(self, pending: Pending[EntryT], now_s: float) -> Pending[EntryT] | None:
        """A new entry. Returns the one that it takes the place of."""
        assert pending.epoch in self._epochs, "an entry of a partition that has gone"
        lane = self._lanes.get(pending.order_id)
        if lane is None:
            lane = self._lanes[pending.order_id] = Lane(pending.order_id, now_s)
            lane.queue.append(pending)
            self._ready.append(lane)
            return None
        queue = lane.queue
        if self._supersedes and queue:
            assert len(queue) == 1, "a superseding lane holds one entry"
            replaced = queue[0]
            queue[0] = pending
            return replaced
        queue.append(pending)
        return None

    # ---- out ----------------------------------------------------------------------------------------------

    def take(self, now_s: float, fresh_first: bool = False) -> Parcel[EntryT] | None:
        """The next parcel. Those that have waited go first, unless `fresh_first`: a probe is better made with
        an entry that has not failed before."""
        if fresh_first:
            return self._take_ready(now_s) or self._take_due(now_s)
        if self._waiting and self._waiting[0][0] <= now_s:
            return self._take_due(now_s) or self._take_ready(now_s)
        return self._take_ready(now_s)

    def next_s(self) -> float | None:
        """When there will be something to take, if nothing else happens; a time that is past: now."""
        due_s = self._waiting[0][0] if self._waiting else None
        while self._ready and not self._ready[0].queue:
            self._forget(self._ready.popleft())
        if not self._ready:
            return due_s
        full = len(self._ready) >= self._entries_max
        ready_s = self._ready[0].ready_s + (0.0 if full else self._linger_s)
        return ready_s if due_s is None else min(ready_s, due_s)

    def has_more(self, now_s: float) -> bool:
        """Whether another `take` is worth trying."""
        return bool(self._ready) or (bool(self._waiting) and self._waiting[0][0] <= now_s)

    def _take_due(self, now_s: float) -> Parcel[EntryT] | None:
        while self._waiting and self._waiting[0][0] <= now_s:
            parcel = heappop(self._waiting)[2]
            filled = []
            for lane in parcel.lanes:
                assert lane.state is LaneState.WAITING, "a lane of a waiting parcel is elsewhere"
                if lane.queue:
                    lane.state = LaneState.UNDER_WAY
                    parcel.entries.append(lane.queue.popleft())
                    filled.append(lane)
                else:  # its partition has gone
                    self._forget(lane)
            parcel.lanes = filled
            if filled:
                return parcel
            self._release_second(parcel, now_s, first_passed=False)
        return None

    def _take_ready(self, now_s: float) -> Parcel[EntryT] | None:
        ready = self._ready
        if self._entries_max == 1:
            while ready:
                lane = ready.popleft()
                if lane.queue:
                    lane.state = LaneState.UNDER_WAY
                    return Parcel([lane], [lane.queue.popleft()])
                self._forget(lane)
            return None
        return self._gather(now_s)

    def _gather(self, now_s: float) -> Parcel[EntryT] | None:
        ready = self._ready
        while ready and not ready[0].queue:
            self._forget(ready.popleft())
        if not ready or (len(ready) < self._entries_max and now_s < ready[0].ready_s + self._linger_s):
            return None
        parcel: Parcel[EntryT] = Parcel([], [])
        size = 0
        while ready and len(parcel.entries) < self._entries_max:
            lane = ready[0]
            if lane.queue:
                size += lane.queue[0].size
                if parcel.entries and size > self._bytes_max:
                    break
                lane.state = LaneState.UNDER_WAY
                parcel.lanes.append(lane)
                parcel.entries.append(lane.queue.popleft())
            else:
                self._forget(lane)
            ready.popleft()
        return parcel

    # ---- back ---------------------------------------------------------------------------------------------

    def finish(self, parcel: Parcel[EntryT], now_s: float, delivered: bool) -> None:
        """Its entries have ended."""
        for lane in parcel.lanes:
            assert lane.state is LaneState.UNDER_WAY, "finished twice"
            if lane.queue:
                lane.state = LaneState.READY
                lane.ready_s = now_s
                self._ready.append(lane)
            else:
                del self._lanes[lane.order_id]
        if parcel.second is not None:
            self._release_second(parcel, now_s, delivered)

    def retry(self, parcel: Parcel[EntryT], due_s: float) -> list[Pending[EntryT]]:
        """The same orders again, together, from `due_s` on. Returns the entries that newer ones have
        replaced."""
        replaced = self._put_back(parcel)
        self._wait(parcel, due_s)
        return replaced

    def split(self, parcel: Parcel[EntryT], now_s: float) -> list[Pending[EntryT]]:
        """Was refused: find out which of them. Returns the entries that newer ones have replaced."""
        assert len(parcel.lanes) > 1, "one entry is refused for itself"
        replaced = self._put_back(parcel)
        if parcel.second is not None:
            self._release_second(parcel, now_s, first_passed=False)
        self._halve(parcel, now_s)
        return replaced

    def withdraw(self, order_id: str) -> Pending[EntryT] | None:
        """Takes the entry of a superseding lane that waits out of it. What is left of the lane goes by and by."""
        lane = self._lanes.get(order_id)
        return lane.queue.pop() if lane is not None and lane.queue else None

    def drop(self, epochs: Collection[int]) -> None:
        """These assignments have ended: their entries leave, those under way as soon as they come back."""
        self._epochs.difference_update(epochs)
        for lane in self._lanes.values():
            if any(pending.epoch in epochs for pending in lane.queue):
                lane.queue = deque(pending for pending in lane.queue if pending.epoch not in epochs)

    # ---- what is there ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Orders that have an entry here."""
        return len(self._lanes)

    def queued(self, order_id: str) -> Pending[EntryT] | None:
        """The next entry of a lane that is not under way."""
        lane = self._lanes.get(order_id)
        return lane.queue[0] if lane is not None and lane.queue else None

    def oldest_s(self) -> float | None:
        """Since when the oldest entry is unsent; None where that is not kept (the lag tells it, record by record)."""
        return None

    def waits(self) -> Mapping[WaitsFor, int]:
        """Objects by what they wait for; empty where that is not kept."""
        return {}

    def state(self, order_id: str) -> LaneState | None:
        lane = self._lanes.get(order_id)
        return None if lane is None else lane.state

    # ---- within -------------------------------------------------------------------------------------------

    def _put_back(self, parcel: Parcel[EntryT]) -> list[Pending[EntryT]]:
        replaced = []
        for lane, pending in zip(parcel.lanes, parcel.entries, strict=True):
            assert lane.state is LaneState.UNDER_WAY, "given back twice"
            lane.state = LaneState.WAITING
            if pending.epoch not in self._epochs:
                continue
            if self._supersedes and lane.queue:
                replaced.append(pending)
            else:
                lane.queue.appendleft(pending)
        parcel.entries = []
        return replaced

    def _wait(self, parcel: Parcel[EntryT], due_s: float) -> None:
        self._numbered += 1
        heappush(self._waiting, (due_s, self._numbered, parcel))

    def _halve(self, parcel: Parcel[EntryT], now_s: float) -> None:
        middle = len(parcel.lanes) // 2
        first: Parcel[EntryT] = Parcel(parcel.lanes[:middle], [])
        first.second = Parcel(parcel.lanes[middle:], [])
        self._wait(first, now_s)

    def _release_second(self, first: Parcel[EntryT], now_s: float, first_passed: bool) -> None:
        second = first.second
        if second is None:
            return
        first.second = None
        if first_passed and len(second.lanes) > 1:
            self._halve(second, now_s)
        else:
            self._wait(second, now_s)

    def _forget(self, lane: Lane[EntryT]) -> None:
        assert not lane.queue
        del self._lanes[lane.order_id]
