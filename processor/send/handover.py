"""handover: where the Kafka thread and the event loop meet. Two queues, and one wait.

    Kafka thread ──give──► messages ──(one `call_soon_threadsafe` a batch)──► the loop's `receive`
    Kafka thread ◄─collect── reports ◄──report── the loop

One count bounds both queues: at most `entries_max` entries are given and not yet collected (`role.py` pauses its
partitions before that), and the loop makes one report of each. So neither can grow while the other side stands still.

Mutable: one side appends to `_messages` and `_reports` and the other pops (a deque's ends are safe for that); the Kafka
thread sets `_called` before it calls the loop, and the loop resets it before it pops, so that no message is left
behind; `_given` and `_received` count entries, one side each; `lease` is the time until which our partitions are ours,
and the Kafka thread replaces it whole.

`Turns`: the Kafka thread and the event loop run one after the other, not against each other.

    Kafka thread   take ─ ask ┄┄┄┄┄┄┄┄┄┄► [ poll, settle, produce ] ─ give_back
    event loop     … callbacks … ─► stands still ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄► … callbacks …

Python lets one thread run at a time. A loop with a thousand answers to read releases the interpreter for some
microseconds after each, and so does librdkafka's binding for each acknowledged record. Two such threads wake each other
ten thousand times a second, mostly for nothing: the other has gone on before the woken one runs. So the one with the
larger steps asks, and the loop stands still while it works: 1.4 voluntary context switches an entry become 0.15, and
200 µs CPU 160, side by side in one hour.

Turns only save time; no correctness rests on them. If the loop does not answer in time, the Kafka thread works without
a turn; a loop that has stood still for long enough goes on.

Not chosen: a longer switch interval (the loop releases the interpreter long before its end); acknowledgements in the
loop's thread (half of the waking remains, and a producer has two owners); one thread for both (a rebalance waits inside
`poll` for requests in flight).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final, Generic, NamedTuple, Protocol

from processor.interfaces import Clock
from processor.records import OrderId
from processor.send.destination import EntryT
from processor.send.pending import Ended, Pending


class Signal(Protocol):
    """The event that the Kafka thread waits for: a `threading.Event`, or a simulation's."""

    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float) -> object: ...


class Assigned(NamedTuple):
    """A partition was assigned. Its entries follow when its holds have been read."""

    epoch: int
    partition: int


class PastRead(NamedTuple):
    """Records of the topic of holds (for hako: of what was sent), in order; None is a tombstone."""

    epoch: int
    past: list[tuple[OrderId, Any]]


class Paced(NamedTuple):
    """The slots of a partition may be used; its last owner left `used` of them in use (None: perhaps all)."""

    epoch: int
    partition: int
    used: int | None
    assigned_s: float


class CaughtUp(NamedTuple):
    """These partitions have been read to the ends that they had when they were assigned."""

    epochs: frozenset[int]


class Withdrawn(NamedTuple):
    """These partitions go to another worker: let requests in flight end until `deadline_s`, then report `Released`."""

    epochs: frozenset[int]
    deadline_s: float


class Lost(NamedTuple):
    """These partitions are lost: give up their requests in flight."""

    epochs: frozenset[int]


class Halt(NamedTuple):
    """Send no more requests, but keep running."""


class Stop(NamedTuple):
    """The Kafka thread has ended."""


class Released(NamedTuple):
    """These partitions have no request in flight. `used` has their slots in use by epoch (None: never opened)."""

    epochs: frozenset[int]
    used: dict[int, int | None]


class Lease(NamedTuple):
    """Until when no other worker can have our partitions, by both clocks. The monotonic clock stops while the machine
    is suspended; the wall clock may be set at any moment. The lease ends as soon as one of them is over; a wall clock
    that jumps ahead costs a second without sending."""

    until_s: float
    until_ms: float

    def is_over(self, clock: Clock) -> bool:
        return clock.monotonic_s() >= self.until_s or clock.now_ms() >= self.until_ms


NO_LEASE: Final = Lease(-inf, -inf)


class Handover(Generic[EntryT]):
    """See the module. The Kafka thread calls `give`, `collect`, `wait` and `renew`; the event loop calls the others."""

    def __init__(self, reported: Signal | None = None) -> None:
        self._messages: deque[Message[EntryT]] = deque()
        self._reports: deque[Ended[EntryT] | Released] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive: Callable[[Message[EntryT]], None] | None = None
        self._called = False
        self._given = self._received = 0
        self._reported: Signal = threading.Event() if reported is None else reported
        self.lease = NO_LEASE

    def give(self, message: Message[EntryT]) -> None:
        if type(message) is list:
            self._given += len(message)
        self._messages.append(message)
        loop = self._loop
        if loop is not None and not self._called:
            self._called = True
            try:
                loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop has closed
                self._loop = None

    def collect(self, at_most: int) -> list[Ended[EntryT] | Released]:
        reports = self._reports
        return [reports.popleft() for _ in range(min(at_most, len(reports)))]

    @property
    def undelivered(self) -> int:
        """Entries that the loop has not received yet."""
        return self._given - self._received

    def wait(self, timeout_s: float) -> None:
        """Waits until there is a report, at most `timeout_s`."""
        self._reported.clear()
        if not self._reports:
            self._reported.wait(timeout_s)

    def renew(self, until_s: float, clock: Clock) -> None:
        """Sets until when the group keeps this member."""
        if until_s != self.lease.until_s:
            self.lease = Lease(until_s, clock.now_ms() + (until_s - clock.monotonic_s()) * 1000)

    def attach(self, loop: asyncio.AbstractEventLoop, receive: Callable[[Message[EntryT]], None]) -> None:
        """Makes `receive` get all messages on this loop, first those that wait already."""
        assert self._loop is None, "attached twice"
        self._receive = receive
        self._loop = loop
        self._deliver()

    def report(self, report: Ended[EntryT] | Released) -> None:
        self._reports.append(report)
        if not self._reported.is_set():
            self._reported.set()

    def _deliver(self) -> None:
        self._called = False
        assert self._receive is not None
        for _ in range(len(self._messages)):  # no more than are there now: the loop has timers, too
            message = self._messages.popleft()
            if type(message) is list:
                self._received += len(message)
            self._receive(message)


Message = list[Pending[EntryT]] | Assigned | PastRead | Paced | CaughtUp | Withdrawn | Lost | Halt | Stop
"""A message of the Kafka thread to the event loop; a list is entries, in offset order per partition."""


APART_S: Final = 0.02
"""From one turn to the next. Shorter turns find fewer records and cold caches (at 10 ms 170 µs an entry, at 30 147). An
entry may wait this long before it is sent, and a receipt before it is written."""
ASK_S_MAX: Final = 0.5
"""A loop with a thousand answers to read makes a round within this time."""
STILL_S_MAX: Final = 0.05
"""The longest standstill of the loop: after a longer one it would answer too late."""


class Turns:
    """See the module. Mutable: `_taken_s` is the time of the last turn; `_over` ends the standstill of the present
    turn, None between turns; `_loop` until it has closed. All but `_stand_still` runs in the Kafka thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken_s = 0.0
        self._over: threading.Lock | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to take turns with this loop, which runs in another thread."""
        self._loop = loop

    def take(self) -> None:
        """Returns when the loop stands still, or did not do so in time; at the earliest `APART_S` after the last
        turn."""
        assert self._over is None, "one turn at a time"
        loop = self._loop
        if loop is None:
            return
        early_s = self._taken_s + APART_S - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
        self._taken_s = time.monotonic()
        still, over = threading.Lock(), threading.Lock()
        still.acquire()
        over.acquire()
        try:
            loop.call_soon_threadsafe(_stand_still, still, over)
        except RuntimeError:  # it has closed
            self._loop = None
            return
        self._over = over
        still.acquire(timeout=ASK_S_MAX)

    def give_back(self) -> None:
        """Lets the loop go on. May be called any number of times."""
        if self._over is not None:
            self._over.release()
            self._over = None


def _stand_still(still: threading.Lock, over: threading.Lock) -> None:
    """Runs in the event loop."""
    still.release()
    over.acquire(timeout=STILL_S_MAX)
