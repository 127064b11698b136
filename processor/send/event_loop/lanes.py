"""Lanes: one FIFO per order ID, and the parcels that are taken from their heads.

    push ──► READY ──take──► UNDER_WAY ──finish──► READY, or gone if nothing is left in it
               ▲                │  │
               │                │  └─split─┐
               └── (due: take) ─┴── WAITING ◄┘   retry: until a time; split: until its turn

    READY is YIELDING if a replay's entry is the next: it goes when no live one can, within its share.

A parcel is the content of one request: one entry for the Events API, many for arrays. The caller takes a parcel and
gives it back by `finish`, `retry` or `split`.

    split:  a refused parcel becomes two halves. The first goes; the second may go only after it has ended. If the first
            was delivered, the fault is in the second, which is then split again without a request of its own. So k
            refused of n cost at most 2·k·log2(n) more requests.

Owned by the event loop; pure, except the announced state.

Invariants
- at most one parcel holds an order ID: an order is never twice in one request, nor in two at once;
- the entries of an order leave in the order of their arrival;
- a lane that waits holds up nothing but itself and the parcel that it is bound to: no slot, no other lane;
- with `supersedes` a lane has at most one entry beside the one under way, always the newest, and the copy of a dead
  letter never replaces or follows another entry, unless the caller knows that it is newer;
- a parcel is live or a replay's: entries of a replay are likely to be refused again, and would spoil an array of
  others.

Not chosen: a task per lane (thousands of them, 3 µs an entry); a priority queue over all entries (the heap is only for
waiting ones: an entry that goes at once never sees it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from enum import Enum
from heapq import heappop, heappush
from typing import Any, Final, Generic

from processor.letters.letter import letter_head
from processor.send.destination import EntryT
from processor.send.event_loop.pace import ReplayShare
from processor.send.event_loop.poison import Suspicion
from processor.send.meter import WaitsFor
from processor.send.pending import Pending

READY_ROUNDS: Final = 4
READY_MIN: Final = 500
"""Ready orders in addition to those rounds of requests: three times as many as a loop at full speed sends until the
outbox is read again. A whole backlog would be 60 MB that are cold when their turn comes."""
TOLD_MAX: Final = 20_000
"""Deliveries in memory. A replay learns of a delivery within a second or two, and then sends no older copy."""


class LaneState(Enum):
    """The state of a lane; drawn above."""

    READY = "ready"
    YIELDING = "yielding"
    UNDER_WAY = "under_way"
    WAITING = "waiting"


# In Python 3.11 each mention of an enum's member costs 0.1 µs, and there are five an entry.
_READY: Final = LaneState.READY
_UNDER_WAY: Final = LaneState.UNDER_WAY
_WAITING: Final = LaneState.WAITING


class Lane(Generic[EntryT]):
    """The entries of one order that are not under way, oldest first. Only `Lanes` changes it. `copied` is true if the
    entry that was last taken for an array is the copy of a dead letter."""

    __slots__ = ("copied", "order_id", "queue", "ready_s", "state")

    def __init__(self, order_id: str, ready_s: float) -> None:
        self.order_id = order_id
        self.queue: deque[Pending[EntryT]] = deque()
        self.state = _READY
        self.ready_s = ready_s
        self.copied = False


class Parcel(Generic[EntryT]):
    """The entries of one request, one from each of `lanes`. Mutable: the sender counts its answers on it.

    `second` is the half that waits for this one to end; `replayed` is true for a replay's entries.
    """

    __slots__ = ("entries", "failures", "lanes", "replayed", "second", "suspicion")

    def __init__(self, lanes: list[Lane[EntryT]], entries: list[Pending[EntryT]], replayed: bool) -> None:
        self.lanes = lanes
        self.entries = entries
        self.replayed = replayed
        self.failures = 0
        self.suspicion: Suspicion | None = None
        self.second: Parcel[EntryT] | None = None


class Queue(Generic[EntryT]):
    """The lanes of live traffic, or of replays, that can be taken. Only `Lanes` changes it.

    `ready` are the lanes in READY or YIELDING, in the order in which they became so, and some that have been emptied
    since; `waiting` is a heap of (due, number, parcel), whose lanes are WAITING, like those of the second halves behind
    them; `turned` is true if the last parcel had waited.
    """

    __slots__ = ("ready", "turned", "waiting")

    def __init__(self) -> None:
        self.ready: deque[Lane[EntryT]] = deque()
        self.waiting: list[tuple[float, int, Parcel[EntryT]]] = []
        self.turned = False


class Lanes(Generic[EntryT]):
    """All lanes of a worker.

    Mutable. `_lanes` has every order with an entry here; `_live` and `_replays` are those that can be taken; `_epochs`
    are the present assignments; `_told` is, with `supersedes`, the offset of the newest delivered snapshot of some
    orders, the latest delivery last.
    """

    def __init__(
        self,
        parcel_entries_max: int,
        parcel_bytes_max: int,
        linger_s: float,
        supersedes: bool,
        share: ReplayShare | None = None,
    ) -> None:
        """`share` is the share of replays. None: replays are treated like live traffic, and the caller knows which
        entry is newer."""
        assert parcel_entries_max >= 1
        self._entries_max = parcel_entries_max
        self._bytes_max = parcel_bytes_max
        self._linger_s = linger_s
        self._supersedes = supersedes
        self._lanes: dict[str, Lane[EntryT]] = {}
        self._share = share
        self._told: dict[str, int] = {}
        self._live: Queue[EntryT] = Queue()
        self._replays: Queue[EntryT] = Queue()
        self._numbered = 0
        self._epochs: set[int] = set()

    def open(self, epoch: int) -> None:
        """Accepts entries of a new assignment."""
        assert epoch not in self._epochs
        self._epochs.add(epoch)

    def push(self, pending: Pending[EntryT], now_s: float) -> Pending[EntryT] | None:
        """Takes a new entry. Returns the entry that it replaces."""
        assert pending.epoch in self._epochs, "an entry of a partition that has gone"
        lane = self._lanes.get(pending.order_id)
        if self._told and pending.replay_id is not None and self._is_told(pending):
            return pending
        if lane is None:
            lane = self._lanes[pending.order_id] = Lane(pending.order_id, now_s)
            lane.queue.append(pending)
            if pending.replayed:
                self._make_ready(lane, now_s)
            else:
                self._live.ready.append(lane)
            return None
        queue = lane.queue
        if self._supersedes and (queue or pending.replay_id is not None):
            return self._supersede(lane, pending)
        queue.append(pending)
        return None

    def take(self, now_s: float, fresh_first: bool = False) -> Parcel[EntryT] | None:
        """Returns the next parcel: a live one if there is any, else a replay's within its share. Parcels that have
        waited and ready ones take turns, because an order that fails again and again must not take each slot of a small
        quota.

        `fresh_first` is for a probe: it prefers an entry that has not failed before, and the lane that became ready
        last, because it is least like the refused ones (a hundred orders that crash the server would be a hundred
        probes)."""
        parcel = self._take(self._live, now_s, fresh_first)
        if parcel is None and self._may_replay(now_s):
            return self._take(self._replays, now_s, fresh_first)
        return parcel

    def next_s(self) -> float | None:
        """Returns when a parcel can be taken, if nothing else happens; a past time means now."""
        live_s = self._next_s(self._live)
        if self._share is None or not (self._replays.ready or self._replays.waiting):
            return live_s
        replays_s, free_s = self._next_s(self._replays), self._share.next_s()
        if replays_s is None or free_s is None:
            return live_s
        return max(replays_s, free_s) if live_s is None else min(live_s, max(replays_s, free_s))

    def _may_replay(self, now_s: float) -> bool:
        """True if a replay's entry waits and the replays' share is not used up."""
        replays = self._replays
        return bool(replays.ready or replays.waiting) and self._share is not None and self._share.is_free(now_s)

    def _take(self, queue: Queue[EntryT], now_s: float, fresh_first: bool) -> Parcel[EntryT] | None:
        if fresh_first:
            return self._take_ready(queue, now_s, last=True) or self._take_due(queue, now_s)
        if not queue.waiting or queue.waiting[0][0] > now_s:
            queue.turned = False
            return self._take_ready(queue, now_s)
        queue.turned = not queue.turned
        if queue.turned:
            return self._take_due(queue, now_s) or self._take_ready(queue, now_s)
        return self._take_ready(queue, now_s) or self._take_due(queue, now_s)

    def _next_s(self, queue: Queue[EntryT]) -> float | None:
        ready = queue.ready
        due_s = queue.waiting[0][0] if queue.waiting else None
        while ready and not ready[0].queue:
            self._forget(ready.popleft())
        if not ready:
            return due_s
        full = len(ready) >= self._entries_max
        ready_s = ready[0].ready_s + (0.0 if full else self._linger_s)
        return ready_s if due_s is None else min(ready_s, due_s)

    def _take_due(self, queue: Queue[EntryT], now_s: float) -> Parcel[EntryT] | None:
        while queue.waiting and queue.waiting[0][0] <= now_s:
            parcel = heappop(queue.waiting)[2]
            filled = []
            for lane in parcel.lanes:
                assert lane.state is _WAITING, "a lane of a waiting parcel is elsewhere"
                if lane.queue:
                    lane.state = _UNDER_WAY
                    lane.copied = lane.queue[0].replay_id is not None
                    parcel.entries.append(lane.queue.popleft())
                    filled.append(lane)
                else:  # its partition has gone
                    self._forget(lane)
            parcel.lanes = filled
            if filled:
                return parcel
            self._release_second(parcel, now_s, first_passed=False)
        return None

    def _take_ready(self, queue: Queue[EntryT], now_s: float, last: bool = False) -> Parcel[EntryT] | None:
        ready = queue.ready
        if self._entries_max == 1:
            while ready:
                lane = ready.pop() if last else ready.popleft()
                if lane.queue:
                    lane.state = _UNDER_WAY
                    return Parcel([lane], [lane.queue.popleft()], queue is self._replays)
                self._forget(lane)
            return None
        return self._gather(queue, now_s)

    def _gather(self, queue: Queue[EntryT], now_s: float) -> Parcel[EntryT] | None:
        ready = queue.ready
        while ready and not ready[0].queue:
            self._forget(ready.popleft())
        if not ready or (len(ready) < self._entries_max and now_s < ready[0].ready_s + self._linger_s):
            return None
        parcel: Parcel[EntryT] = Parcel([], [], queue is self._replays)
        size = 0
        while ready and len(parcel.entries) < self._entries_max:
            lane = ready[0]
            if lane.queue:
                size += lane.queue[0].size
                if parcel.entries and size > self._bytes_max:
                    break
                lane.state = _UNDER_WAY
                lane.copied = lane.queue[0].replay_id is not None
                parcel.lanes.append(lane)
                parcel.entries.append(lane.queue.popleft())
            else:
                self._forget(lane)
            ready.popleft()
        return parcel

    def finish(self, parcel: Parcel[EntryT], now_s: float, delivered: bool) -> None:
        """The entries of a parcel have ended."""
        if delivered and self._supersedes and self._share is not None:
            self._tell(parcel)
        for lane in parcel.lanes:
            assert lane.state is _UNDER_WAY, "finished twice"
            if lane.queue:
                self._make_ready(lane, now_s)
            else:
                del self._lanes[lane.order_id]
        if parcel.second is not None:
            self._release_second(parcel, now_s, delivered)

    def retry(self, parcel: Parcel[EntryT], due_s: float) -> list[Pending[EntryT]]:
        """Tries the same orders again, together, from `due_s` on. Returns the entries that newer ones have replaced."""
        replaced = self._put_back(parcel)
        self._wait(parcel, due_s)
        return replaced

    def split(self, parcel: Parcel[EntryT], now_s: float) -> list[Pending[EntryT]]:
        """Halves a refused parcel to find the refused entry. Returns the entries that newer ones have replaced."""
        assert len(parcel.lanes) > 1, "one entry is refused for itself"
        replaced = self._put_back(parcel)
        if parcel.second is not None:
            self._release_second(parcel, now_s, first_passed=False)
        self._halve(parcel, now_s)
        return replaced

    def withdraw(self, order_id: str) -> Pending[EntryT] | None:
        """Removes the waiting entry of a superseding lane. The empty lane is cleaned up later."""
        lane = self._lanes.get(order_id)
        return lane.queue.pop() if lane is not None and lane.queue else None

    def drop(self, epochs: Collection[int]) -> None:
        """Drops the entries of assignments that have ended; those in flight as soon as they come back."""
        self._epochs.difference_update(epochs)
        for lane in self._lanes.values():
            if any(pending.epoch in epochs for pending in lane.queue):
                lane.queue = deque(pending for pending in lane.queue if pending.epoch not in epochs)

    def caught_up(self, epochs: Collection[int]) -> None:
        """Does nothing: entries leave while others are still being read."""

    def __len__(self) -> int:
        """The number of orders with an entry here."""
        return len(self._lanes)

    def queued(self, order_id: str) -> Pending[EntryT] | None:
        """Returns the next entry of a lane that is not under way."""
        lane = self._lanes.get(order_id)
        return lane.queue[0] if lane is not None and lane.queue else None

    def has_enough(self, at_once: int) -> bool:
        """Returns true if that many requests at once need no more entries now. Never true with `supersedes`, because an
        entry that is read now may replace one that waits."""
        return not self._supersedes and len(self._live.ready) >= READY_ROUNDS * at_once + READY_MIN

    def oldest_s(self) -> float | None:
        """Returns None: the lag shows the age of the oldest entry."""
        return None

    def waits(self) -> Mapping[WaitsFor, int]:
        """Returns nothing: it is not kept here."""
        return {}

    def state(self, order_id: str) -> LaneState | None:
        lane = self._lanes.get(order_id)
        return None if lane is None else lane.state

    def _make_ready(self, lane: Lane[EntryT], now_s: float) -> None:
        lane.ready_s = now_s
        if lane.queue[0].replayed and self._share is not None:
            lane.state = LaneState.YIELDING
            self._replays.ready.append(lane)
        else:
            lane.state = _READY
            self._live.ready.append(lane)

    def _tell(self, parcel: Parcel[EntryT]) -> None:
        told = self._told
        for pending in parcel.entries:
            offset = _first_offset(pending)
            if offset is not None:
                told[pending.order_id] = max(offset, told.pop(pending.order_id, offset))
        while len(told) > TOLD_MAX:
            del told[next(iter(told))]

    def _is_told(self, pending: Pending[EntryT]) -> bool:
        """True if a newer snapshot of the order was delivered while this copy of a replay was on its way."""
        offset = _first_offset(pending)
        return offset is not None and self._told.get(pending.order_id, -1) > offset

    def _supersede(self, lane: Lane[EntryT], pending: Pending[EntryT]) -> Pending[EntryT] | None:
        """Pushes a snapshot to a lane that may hold one. Keeps the newer one and returns the other. If replays are told
        apart from live traffic, a copy of a dead letter is older than every live entry of its order; an entry that a
        replay sent through transform counts as new."""
        queue = lane.queue
        assert len(queue) < 2, "a superseding lane holds one entry"
        before = queue[0] if queue else None
        if pending.replay_id is not None and self._share is not None:
            under_way = lane.state is _UNDER_WAY and not lane.copied
            if under_way if before is None else before.replay_id is None:
                return pending
        if before is not None:
            queue.clear()
        queue.append(pending)
        if lane.state is LaneState.YIELDING and not pending.replayed:
            self._replays.ready.remove(lane)
            self._make_ready(lane, lane.ready_s)
        return before

    def _put_back(self, parcel: Parcel[EntryT]) -> list[Pending[EntryT]]:
        replaced = []
        for lane, pending in zip(parcel.lanes, parcel.entries, strict=True):
            assert lane.state is _UNDER_WAY, "given back twice"
            lane.state = _WAITING
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
        queue = self._replays if parcel.replayed else self._live
        heappush(queue.waiting, (due_s, self._numbered, parcel))

    def _halve(self, parcel: Parcel[EntryT], now_s: float) -> None:
        middle = len(parcel.lanes) // 2
        first: Parcel[EntryT] = Parcel(parcel.lanes[:middle], [], parcel.replayed)
        first.second = Parcel(parcel.lanes[middle:], [], parcel.replayed)
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


def _first_offset(pending: Pending[Any]) -> int | None:
    """Returns an entry's first offset in the outbox. A replay's copy has it in its letter's headers, or not: None."""
    if pending.replay_id is None:
        return pending.record.offset
    head = letter_head(pending.record)
    return None if head is None else head.origin.offset
