"""Release: takes the hold off an order when all its letters were accepted, so that no entry overtakes another.

    settled ─► read to the ends: no letter is left ─► quiet ─► barrier ─► tombstones ─► released
       │            │                                            │
       │            └─ one is left: done, the hold stays         └─ failed too often: tombstones without a barrier, and
       └─ a letter of it came back meanwhile: forgotten             a look for entries that were held in that moment

An order is held while its letters go. Its live entries are held too meanwhile, become letters, and go after them. The
order is released when it has no other dead letter. An entry that is held between that look and the moment when the
sender reads the tombstone would be overtaken by the next entry. So the look is made behind a barrier:

    barrier in the outbox ─► the sender has finished all before it ─► dead letters read to their end: still none
      ─► tombstones ─► the sender has read them ─► barrier lifted

For these two or three seconds the sender sees nothing new of those partitions, so many orders are released at once,
twice a minute at most. If the sender cannot finish (an entry that is answered 5xx for hours keeps its partition's
commit back), the orders are released without a barrier after some tries. If an entry was held in that moment, the look
afterwards finds its letter: the order is held again, and the entry goes.

Owned by the replay's thread (`replay.py`). Not chosen: to let the sender decide when an order may go on (its loop would
have to know of letters and replays, for something that happens a few days a year).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from processor.errors import BrokerOutage
from processor.letters.holds import decode_hold
from processor.operate.replay.arrange import NOT_RESOLVED, Status
from processor.operate.replay.database import OrderKey
from processor.operate.replay.place import Clients
from processor.operate.replay.plan import OrderState, Plan
from processor.operate.replay.survey import Route, Task
from processor.records import NewRecord, TopicPartition

if TYPE_CHECKING:
    from processor.operate.replay.replay import Replay

log = structlog.get_logger(__name__)

RELEASE_MAX: Final = 5_000
"""Tombstones of one transaction, which must end before the barrier does."""
POLL_S: Final = 0.1
RELEASE_EVERY_S: Final = 30.0
"""Live traffic waits for the barrier, so it is rare."""
FINISH_S_MAX: Final = 2.0
"""How long the sender may take to finish and commit the records before the barrier: it commits every second."""
HEARD_S: Final = 0.8
"""Within this time a working sender reads a release: it looks every 50 ms. With FINISH_S_MAX, well below the 4 s after
which the broker may end the barrier's transaction."""
BARRIERS_MAX: Final = 3
"""Tries before an order is released without a barrier."""
GRACE_S: Final = 3.0
"""How long after a release without a barrier the letter of an entry that was held before it may still appear."""


@dataclass(slots=True)
class Tallied:
    """Counts of a run. Mutable: they grow."""

    returned: Counter[str] = field(default_factory=Counter)
    released: int = 0
    held_again: int = 0
    followed: int = 0
    parked: int = 0


class Release:
    """Mutable: `_settling` are the orders that wait for a look, each with the ends to read to; `_quiet` those that wait
    for their release, with the number of barriers that failed; `_released` the holds that were taken off without a
    barrier lately, and when."""

    def __init__(self, task: Task, plan: Plan, clients: Clients, replay: Replay, tallied: Tallied) -> None:
        self._field = task.field
        self._group = task.groups.get(task.field.outbox, "")  # the sender's
        self._plan = plan
        self._ledger = clients.ledger
        self._barrier = clients.barrier
        self._offsets = clients.reading.offsets
        self._clock = clients.reading.clock
        self._replay = replay
        self._tallied = tallied
        self._settling: dict[OrderKey, dict[TopicPartition, int]] = {}
        self._quiet: dict[OrderKey, int] = {}
        self._release_at_s = self._clock.monotonic_s() + RELEASE_EVERY_S
        self._released: dict[OrderKey, tuple[bytes, float]] = {}

    def settled(self, order: OrderKey) -> None:
        """All letters of this order that were to go were sent and accepted."""
        self._settling[order] = {}

    def refused(self, order: OrderKey) -> None:
        """A letter of this order was refused: the order stays held."""
        self._settling.pop(order, None)
        self._quiet.pop(order, None)
        self._released.pop(order, None)

    def followed(self, order: OrderKey) -> None:
        """An entry of this order was held and goes too: the release has to wait, or was too early."""
        self._settling.pop(order, None)
        self._quiet.pop(order, None)
        self._hold_again(order)

    @property
    def has_work(self) -> bool:
        return bool(self._settling or self._quiet or self._lately_released())

    def turn(self, stopping: bool) -> None:
        """Looks which settled orders have letters left, and takes the holds off those that have none."""
        if self._settling:
            self._look()
        now_s = self._clock.monotonic_s()
        counts = self._plan.counts
        at_rest = not (self._settling or counts[Status.SENT] or (counts[Status.GO] and not stopping))
        if self._quiet and (at_rest or now_s >= self._release_at_s):
            self._release_at_s = now_s + RELEASE_EVERY_S
            self._release_quiet()

    def _look(self) -> None:
        if self._field.route is not Route.OUTBOX:
            for order in self._settling:
                self._plan.set_state(order, OrderState.DONE)
            self._settling.clear()
            return
        new = [order for order, ends in self._settling.items() if not ends]
        if new:
            ends = self._replay.ends_now([order.partition for order in new])
            for order in new:
                own = {where: end for where, end in ends.items() if where.partition == order.partition}
                self._settling[order] = own
        for order in [order for order, ends in self._settling.items() if self._replay.has_read(ends)]:
            del self._settling[order]
            if self._is_free(order):
                self._quiet[order] = 0
            elif self._plan.state(order) is OrderState.SETTLED:
                self._plan.set_state(order, OrderState.DONE)

    def _is_free(self, order: OrderKey) -> bool:
        """Returns true if an order is held and no letter is left to hold it for."""
        settled = self._plan.state(order) is OrderState.SETTLED
        return settled and self._plan.known.held(order) is not None and not self._plan.letters_of(order, *NOT_RESOLVED)

    def _release_quiet(self) -> None:
        outbox = self._field.outbox
        waiting = list(self._quiet)[:RELEASE_MAX]
        try:
            places = self._barrier.put(sorted({TopicPartition(outbox, order.partition) for order in waiting}))
        except BrokerOutage as outage:
            log.warning("there is no barrier", why=str(outage))
            places = {}
        try:
            finished = self._await_finished(places)
            ends = self._replay.ends_now(sorted({order.partition for order in waiting}))
            deadline_s = self._clock.monotonic_s() + HEARD_S
            while not self._replay.has_read(ends) and self._clock.monotonic_s() < deadline_s:
                self._replay.hear(POLL_S)
            self._take_off([order for order in waiting if order.partition in finished and order in self._quiet])
        finally:
            self._barrier.lift()
        tired = []
        for order in waiting:
            if order in self._quiet:
                self._quiet[order] += 1
                tired += [order] if self._quiet[order] >= BARRIERS_MAX else []
        now_s = self._clock.monotonic_s()
        held = {order: self._plan.known.held(order) for order in tired}
        self._take_off(tired)
        self._released.update({order: (hold, now_s) for order, hold in held.items() if hold is not None})

    def _await_finished(self, places: Mapping[TopicPartition, int]) -> set[int]:
        """Returns the partitions in which the sender has finished everything before the barrier."""
        finished: set[int] = set()
        deadline_s = self._clock.monotonic_s() + FINISH_S_MAX
        while len(finished) < len(places) and self._clock.monotonic_s() < deadline_s:
            self._replay.hear(POLL_S)
            committed = self._offsets.committed(self._group, list(places))
            finished = {
                where.partition for where, place in places.items() if (committed[where].next_offset or 0) >= place
            }
        return finished

    def _take_off(self, orders: Sequence[OrderKey]) -> None:
        """Takes the holds off these orders, and gives the sender the time to read that."""
        holds = self._field.holds
        releasing = [order for order in orders if self._is_free(order)]
        if releasing:
            self._ledger.write([NewRecord(holds, order.partition, order.order_id, None, []) for order in releasing])
            self._tallied.released += len(releasing)
        for order in orders:
            self._quiet.pop(order, None)
            if self._plan.state(order) is OrderState.SETTLED:
                self._plan.set_state(order, OrderState.DONE)
        if releasing:
            until_s = self._clock.monotonic_s() + HEARD_S
            while self._clock.monotonic_s() < until_s:
                self._replay.hear(POLL_S)

    def _lately_released(self) -> bool:
        now_s = self._clock.monotonic_s()
        for order in [order for order, (_, at_s) in self._released.items() if now_s - at_s > GRACE_S]:
            del self._released[order]
        return bool(self._released)

    def _hold_again(self, order: OrderKey) -> None:
        """An entry was held that the look before the release did not show: the order is held again."""
        released = self._released.pop(order, None)
        if released is None:
            return
        value, _ = released
        assert decode_hold(value) is not None, "a foreign hold was taken off"
        self._ledger.write([NewRecord(self._field.holds, order.partition, order.order_id, value, [])])
        self._tallied.released -= 1
        self._tallied.held_again += 1
        log.warning("held again: an entry was held while the release was under way", partition=order.partition)
