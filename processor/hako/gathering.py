"""gathering: the newest change of each object, in as few requests as the quota needs, in the order that Hako takes.

    push ──► one lane a key, in the lanes of its kind ──take──► an array of one kind ──finish──► gone, or the next
              ▲      │                                                    │
              │      └─ BEHIND: an object that it names is being          ├─ retry, split: as all lanes
              │         created or deleted; placed when that has ended    │
              └──────── PARKED: Hako does not know an object ◄────────────┘  (until that is sent, or for a time)
                        that it names

A lane has the newest change of its key, and one more while that is in flight, so memory grows with the keys alone.
Right after an assignment nothing is taken until the topics are read to their end, so each key is sent once.

    an object that was accepted before (`Known`)    PUT
    an object that is not known, or was deleted     POST
    no value                                        DELETE
    a level whose parent is created or deleted      waits behind it
    an item or a warehouse that is to be deleted    goes when no deletion of a level waits (`kinds.py`)
    a level that names an object unknown to Hako    is parked: tried again when this worker has sent that object, or
                                                    after a time (`parked.py`), in arrays of parked levels
    a deletion of an object that is not known       goes in arrays of its own: another program may have made the object

Owned by the event loop; pure but for the state announced in `Gathering`.

Invariants
- a key is in one place: the lanes of one kind, behind a parent, or parked; never twice in flight (the lanes see to it);
- a change that is not newer than one that was sent, is being sent or waits, is given back and never sent;
- the lanes of a kind have entries of one table, and an array has one verb.

Not chosen: to ask Hako which objects it has (one of 120 requests a minute each); to read all of the catalogue before
the first level (it has no end); an order across workers (that is coordination, and Hako refuses a level that comes
early).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, Protocol

from processor.hako.changes import Change, Sent, Table, Verb
from processor.hako.kinds import KINDS, TRIAL, Kind, Kinds
from processor.hako.parked import ParkedLevels
from processor.send.event_loop.lanes import Lanes, LaneState, Parcel
from processor.send.meter import WaitsFor
from processor.send.pending import Pending


class Known(Protocol):
    """The last accepted change of each object."""

    def sent(self, epoch: int, key: str) -> Sent | None: ...

    def accepted(self, epoch: int, key: str, sent: Sent) -> None: ...


class Behind(NamedTuple):
    """The place of a level that waits for an object that is being created or deleted."""

    parent: str


class Parked(NamedTuple):
    """The place of a level that waits for an object that Hako does not know."""


PARKED: Final = Parked()
_PARENTS_MOVING: Final = tuple(
    kind for kind in KINDS if kind.table is not Table.INVENTORY and kind.verb in (Verb.POST, Verb.DELETE)
)


class Gathering:
    """All waiting changes of a worker.

    Mutable. `_place` has the place of each key that has a change here; `_flying` the changes in flight; `_since` the
    time since when each key has had an unsent change that may go, roughly the oldest first; `_behind` (by parent) and
    `_parked` the changes outside of the lanes; `_epochs` the open assignments, `_reading` those that are not read to
    their end yet.
    """

    def __init__(self, known: Known, parcel_entries_max: int, parcel_bytes_max: int, linger_s: float) -> None:
        self._known = known
        self._kinds = Kinds(parcel_entries_max, parcel_bytes_max, linger_s)
        self._place: dict[str, Kind | Behind | Parked] = {}
        self._flying: dict[str, Change] = {}
        self._since: dict[str, float] = {}
        self._behind: dict[str, dict[str, Pending[Change]]] = {}
        self._parked = ParkedLevels()
        self._epochs: set[int] = set()
        self._reading: set[int] = set()

    def open(self, epoch: int) -> None:
        self._epochs.add(epoch)
        self._reading.add(epoch)
        self._kinds.open(epoch)

    def caught_up(self, epochs: Collection[int]) -> None:
        """Notes that the topics are read to the end that they had when these partitions were assigned."""
        if self._reading and self._reading <= set(epochs):
            self._step_behind()
        self._reading.difference_update(epochs)

    def push(self, pending: Pending[Change], now_s: float) -> Pending[Change] | None:
        """Takes a new change. Returns the change that it replaces, or itself if it is not newer than others."""
        assert pending.epoch in self._epochs, "a change of a partition that has gone"
        key, change = pending.order_id, pending.entry
        sent, flying, before = self._known.sent(pending.epoch, key), self._flying.get(key), self._waiting(key)
        for known in (sent, flying, None if before is None else before.entry):
            if known is not None and not change.is_newer(known.rank, known.occurred_at_ms):
                return pending
        self._since.setdefault(key, now_s)
        if flying is not None:
            place = self._place[key]
            assert isinstance(place, Kind), "in flight outside of the lanes"
            return self._kinds[place].push(pending, now_s)  # placed when the change in flight comes back
        kind = _kind(change, sent)
        place = self._destined(change, kind)
        if before is not None and self._place[key] != place:
            self._withdraw(key)
        self._put_down(pending, now_s, kind, place)
        return before

    def take(self, now_s: float, fresh_first: bool = False) -> Parcel[Change] | None:
        """Returns the next array."""
        if self._reading:
            return None
        for pending in self._parked.due(now_s):
            self._unpark(pending, now_s)
        parcel = self._kinds.take(now_s, fresh_first)
        if parcel is not None:
            self._fly(parcel)
        return parcel

    def next_s(self) -> float | None:
        if self._reading:
            return None
        times = (self._kinds.next_s(), self._parked.next_s())
        return min((time for time in times if time is not None), default=None)

    def _fly(self, parcel: Parcel[Change]) -> None:
        """Gives all changes of an array one verb: a newer change may have joined refused ones with another verb."""
        first = parcel.entries[0].entry
        for pending in parcel.entries:
            change = pending.entry
            change.verb, change.refused = first.verb, first.refused
            self._flying[pending.order_id] = change

    def finish(self, parcel: Parcel[Change], now_s: float, delivered: bool) -> None:
        ended, lanes = parcel.entries, self._kinds[self._kind_of(parcel)]
        if delivered:
            for pending in ended:
                self._accepted(pending)
        lanes.finish(parcel, now_s, delivered)
        for pending in ended:
            key = pending.order_id
            del self._flying[key]
            self._since.pop(key, None)
            self._go_on(lanes, key, now_s)
        for pending in ended:
            if pending.entry.table is not Table.INVENTORY:
                self._parent_ended(pending.entry, now_s, delivered)

    def retry(self, parcel: Parcel[Change], due_s: float) -> list[Pending[Change]]:
        back, lanes = parcel.entries, self._kinds[self._kind_of(parcel)]
        if any(pending.entry.waits for pending in back):
            return self._park_all(parcel, lanes, due_s)
        replaced = lanes.retry(parcel, due_s)
        self._come_back(back, lanes, due_s)
        return replaced

    def split(self, parcel: Parcel[Change], now_s: float) -> list[Pending[Change]]:
        back, lanes = parcel.entries, self._kinds[self._kind_of(parcel)]
        replaced = lanes.split(parcel, now_s)
        self._come_back(back, lanes, now_s)
        return replaced

    def drop(self, epochs: Collection[int]) -> None:
        self._epochs.difference_update(epochs)
        self._reading.difference_update(epochs)
        self._kinds.drop(epochs)
        for key in list(self._place):
            waiting = self._waiting(key)
            if waiting is not None and waiting.epoch not in epochs:
                continue
            if waiting is not None:
                self._withdraw(key)
            if key not in self._flying:
                self._forget(key)
        for parent in [parent for parent in self._behind if parent not in self._place]:
            self._release(parent, 0.0)

    def __len__(self) -> int:
        """The number of keys that have a change here."""
        return len(self._place)

    def state(self, order_id: str) -> LaneState | None:
        place = self._place.get(order_id)
        if isinstance(place, Kind) and not self._reading:
            return self._kinds[place].state(order_id)
        return None if place is None else LaneState.WAITING

    def has_enough(self, at_once: int) -> bool:
        """Returns False: a change that is read now may replace one that waits."""
        return False

    def oldest_s(self) -> float | None:
        """Returns since when the oldest unsent key could have been sent; a parked one could not."""
        return next(iter(self._since.values()), None)

    def waits(self) -> Mapping[WaitsFor, int]:
        """Returns the number of objects with an unsent change, by what they wait for; those in flight count as TURN."""
        behind = sum(map(len, self._behind.values()))
        return {
            WaitsFor.TURN: len(self._place) - behind - len(self._parked),
            WaitsFor.PARENT: behind,
            WaitsFor.UNKNOWN: len(self._parked),
        }

    def _kind(self, pending: Pending[Change]) -> Kind:
        return _kind(pending.entry, self._known.sent(pending.epoch, pending.order_id))

    def _destined(self, change: Change, kind: Kind) -> Kind | Behind:
        """Returns the lanes of its kind, or the place behind an object that is being created or deleted."""
        if change.table is Table.INVENTORY and kind.verb is not Verb.DELETE:
            for parent in change.parents:
                place = self._place.get(parent)
                if isinstance(place, Kind) and place.verb is not Verb.PUT:
                    return Behind(parent)
        return kind

    def _put(self, pending: Pending[Change], now_s: float) -> None:
        """Places a change that has no place."""
        kind = self._kind(pending)
        self._put_down(pending, now_s, kind, self._destined(pending.entry, kind))

    def _put_down(self, pending: Pending[Change], now_s: float, kind: Kind, place: Kind | Behind) -> None:
        """Places a change, instead of an older one that waits there."""
        key, change = pending.order_id, pending.entry
        change.verb, change.refused, change.waits = kind.verb, None, False
        self._set(key, place)
        if isinstance(place, Behind):
            self._behind.setdefault(place.parent, {})[key] = pending
        else:
            self._kinds[place].push(pending, now_s)

    def _step_behind(self) -> None:
        """Moves levels behind the items and warehouses that they name, if those were read later."""
        if not self._kinds.any_in(_PARENTS_MOVING):
            return
        for key, place in list(self._place.items()):
            if isinstance(place, Kind) and place.table is Table.INVENTORY and key not in self._flying:
                pending = self._kinds[place].queued(key)
                assert pending is not None, "neither waits nor is in flight"
                behind = self._destined(pending.entry, place)
                if behind != place:
                    self._withdraw(key)
                    self._put_down(pending, 0.0, place, behind)

    def _set(self, key: str, place: Kind | Behind | Parked) -> None:
        before = self._place.get(key)
        if before is place:
            return
        if isinstance(before, Kind):
            self._kinds.left(before)
        self._place[key] = place
        if isinstance(place, Kind):
            self._kinds.entered(place)

    def _forget(self, key: str) -> None:
        """Removes a key that has no change here any more."""
        place = self._place.pop(key)
        if isinstance(place, Kind):
            self._kinds.left(place)
        self._since.pop(key, None)

    def _waiting(self, key: str) -> Pending[Change] | None:
        """Returns the change of this key that is not in flight."""
        match self._place.get(key):
            case Kind() as kind:
                return self._kinds[kind].queued(key)
            case Behind(parent):
                return self._behind[parent][key]
            case Parked():
                return self._parked[key]
            case None:
                return None

    def _withdraw(self, key: str) -> None:
        """Removes the waiting change of this key from its place."""
        match self._place[key]:
            case Kind() as kind:
                self._kinds[kind].withdraw(key)
            case Behind(parent):
                del self._behind[parent][key]
                if not self._behind[parent]:
                    del self._behind[parent]
            case Parked():
                self._parked.leave(key)

    def _kind_of(self, parcel: Parcel[Change]) -> Kind:
        kind = self._place[parcel.entries[0].order_id]
        assert isinstance(kind, Kind), "in flight outside of the lanes"
        return kind

    def _accepted(self, pending: Pending[Change]) -> None:
        change = pending.entry
        sent = Sent(change.rank, change.occurred_at_ms, gone=change.fields is None)
        self._known.accepted(pending.epoch, pending.order_id, sent)

    def _go_on(self, lanes: Lanes[Change], key: str, now_s: float) -> None:
        """Places the newer change of a key whose last one has left its lane."""
        newer = lanes.withdraw(key)
        if newer is None:
            self._forget(key)
        else:
            self._since.setdefault(key, now_s)
            self._put(newer, now_s)

    def _come_back(self, back: list[Pending[Change]], lanes: Lanes[Change], now_s: float) -> None:
        """Sees to a parcel that is in its lanes again: a change that is of another kind by now leaves them."""
        for pending in back:
            key = pending.order_id
            del self._flying[key]
            queued = lanes.queued(key)
            if queued is None:  # its partition has gone
                self._forget(key)
                self._release(key, now_s)
            elif queued is not pending:
                if self._kind(queued) == self._place[key]:
                    queued.entry.verb = self._kind(queued).verb
                else:
                    self._go_on(lanes, key, now_s)

    def _parent_ended(self, parent: Change, now_s: float, delivered: bool) -> None:
        self._release(parent.key, now_s)
        if not delivered or parent.fields is None:
            return
        for pending in self._parked.naming(parent.key):
            pending.entry.trials = 0
            self._unpark(pending, now_s)

    def _unpark(self, pending: Pending[Change], now_s: float) -> None:
        self._since.setdefault(pending.order_id, now_s)
        self._put(pending, now_s)

    def _release(self, parent: str, now_s: float) -> None:
        """Places the levels that waited behind an object."""
        for pending in self._behind.pop(parent, {}).values():
            self._put(pending, now_s)

    def _park_all(self, parcel: Parcel[Change], lanes: Lanes[Change], now_s: float) -> list[Pending[Change]]:
        back = parcel.entries
        replaced = []
        lanes.finish(parcel, now_s, delivered=False)
        for pending in back:
            key = pending.order_id
            del self._flying[key]
            newer = lanes.withdraw(key)
            if newer is not None:
                if pending.epoch in self._epochs:
                    replaced.append(pending)
                self._put(newer, now_s)
            elif pending.epoch in self._epochs:
                self._since.pop(key, None)
                self._set(key, PARKED)
                self._parked.park(pending, now_s)
            else:
                self._forget(key)
        return replaced


def _kind(change: Change, sent: Sent | None) -> Kind:
    """Returns the kind of a change; `sent` is the last accepted change of the same object."""
    known = sent is not None and not sent.gone
    if change.fields is None:
        return Kind(change.table, Verb.DELETE, trial=not known)
    if known:
        return Kind(change.table, Verb.PUT)
    return TRIAL if change.trials > 0 else Kind(change.table, Verb.POST)
