"""order_state: the state of one order between its events, and the bytes that store it.

Owned by transform: `rules.py` makes new states from old ones; the keyed state stores their bytes in RocksDB and in the
changelog without decoding them. Pure.

    (nothing) ──an event that came early──► WAITING ──OrderPlaced──► PLACED
        │                                      │
        ├──OrderPlaced──► PLACED               └──OrderPlaced, not for Hakuna──► UNPROTECTED
        └──OrderPlaced, not for Hakuna──► UNPROTECTED

There is no way back. Erasure and retention remove each state; a WAITING state also ends when its last parked event has
waited too long. A cancelled order is still PLACED: an event from before the cancellation may come late.

Invariants:
- WAITING has parked events and nothing else; PLACED has the order and totals; UNPROTECTED has what is needed to send
  the order once it is protected, and nothing about a person: line IDs, quantities, times, event IDs.
- `totals` has one element a line item, in the order's sequence. It counts the units that the shop has reported (the sum
  of `order`'s movements) and those that Hakuna knows; they differ for protections alone.
- An event's key (`event_key`) is in one place: in the event itself while that is kept (parked, or the `OrderPlaced` of
  the order), in `event_keys` afterwards, the latest last. A refused event is not remembered, so that its dead letter
  can be replayed.

The bytes: 1 byte version, 8 bytes `touched_at_ms`, 8 bytes the earliest `parked_at_ms` (0: none), both big-endian, then
msgpack. With the prefix a sweep over a million orders need not decode them (`peek`). It repeats fields of the body, and
`decode` compares both, so that a damaged state is noticed.

Versions: a field that is appended with a default needs no new version, because msgspec fills it in. Any other change
needs one: raise `_VERSION`, keep the old structs in their old shape beside a function that turns them into today's, and
name it in `_READERS`. A state is written in today's version when its order is next touched, and a decoded state is
always today's. A state of a later version is not damaged (`StateTooNew`): the older worker stops, changes nothing and
leaves its partitions to newer workers. So during a rollout, only workers that understand a whole state write it.

    1    movements of protection that pairing added stood among the shop's; event IDs without their kind; of an
         unprotected order event IDs alone
    2    this

msgspec decodes an order of three line items in 4 µs and encodes it in 2. Not chosen: JSON (as quick, but a parked
record is bytes); pickle (no format to keep); sums in place of totals (10,000 events would cost 10,000 times 10,000).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from processor.errors import StateCorrupt, StateTooNew
from processor.records import Movement, Order, OrderEvent, OrderPlaced, Pairing, Record

_VERSION: Final = 2
_VERSION_MAX: Final = 31
"""Versions count up by one, and there have been two: a number beyond this is rubbish, not a version."""
_PREFIX: Final = struct.Struct(">Bqq")
_PREFIX_BYTES: Final = _PREFIX.size
_PARKED_SINCE: Final = slice(9, 17)
_NOTHING_PARKED: Final = bytes(8)


class Standing(StrEnum):
    """The phase of an order; the transitions are drawn above."""

    WAITING = "w"
    PLACED = "p"
    UNPROTECTED = "u"


class LineTotals(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A line item's units by direction: as the shop reported, and as Hakuna knows."""

    fulfilled: int = 0
    refunded: int = 0
    cancelled: int = 0
    told_fulfilled: int = 0
    told_refunded: int = 0
    told_cancelled: int = 0


Totals = tuple[LineTotals, ...]


class ParkedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that came before its order, with the record it came in (should it become a dead letter)."""

    event: OrderEvent
    origin: Record
    parked_at_ms: int


class Unheard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of an order that Hakuna does not get: its lines (ID and units; None: version 1 kept none), their
    movements, and the events of these, each with the position and time of its record."""

    lines: tuple[tuple[str, int], ...] | None
    totals: Totals
    cancelled_at_ms: int | None
    events: tuple[ParkedEvent, ...]


class OrderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One order. `touched_at_ms` is when its last event was taken; `event_ids` are the IDs of version 1."""

    standing: Standing
    touched_at_ms: int
    order: Order | None
    totals: Totals
    event_keys: tuple[str, ...]
    parked: tuple[ParkedEvent, ...]
    unheard: Unheard | None = None
    event_ids: tuple[str, ...] = ()


_PLACED: Final = Standing.PLACED  # in Python 3.11 each mention of an enum's member costs 0.1 µs or more
_WAITING: Final = Standing.WAITING
_UNPROTECTED: Final = Standing.UNPROTECTED

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(OrderState)


def encode(state: OrderState) -> bytes:
    """Returns the bytes to keep, in today's version."""
    fault = _fault(state)
    assert fault is None, fault
    return _PREFIX.pack(_VERSION, state.touched_at_ms, _parked_since_ms(state)) + _encoder.encode(state)


def decode(stored: bytes) -> OrderState:
    """Returns the state of this or an earlier version. Raises `StateCorrupt`, and `StateTooNew` for a later one."""
    version, touched_at_ms, parked_since_ms = _prefix(stored)
    reader = _READERS.get(version)
    if reader is None:
        met = f"a state of version {version} was met, known are {sorted(_READERS)}"
        if _VERSION < version <= _VERSION_MAX:
            raise StateTooNew(f"{met}: a newer version may have written it (then run that one)")
        raise StateCorrupt(met)
    try:
        state = reader(stored)
    except (ValueError, RecursionError) as error:  # msgspec's own errors and a bad UTF-8 are ValueErrors
        raise StateCorrupt(f"a state of version {version} cannot be read: {error}") from error
    if state.touched_at_ms != touched_at_ms or _parked_since_ms(state) != parked_since_ms:
        raise StateCorrupt("a state's prefix and body disagree")
    fault = _fault(state)
    if fault is not None:
        raise StateCorrupt(f"a state that never was: {fault}")
    return state


def peek(stored: bytes) -> tuple[int, int]:
    """Returns `(touched_at_ms, parked_since_ms)` without decoding; the latter is 0 if nothing is parked."""
    _, touched_at_ms, parked_since_ms = _prefix(stored)
    return touched_at_ms, parked_since_ms


def remarkable(stored: Mapping[bytes, bytes | None]) -> list[bytes]:
    """Returns the keys that have to be looked at one by one: erased, with parked events, or not a state at all."""
    nothing = _NOTHING_PARKED
    return [key for key, value in stored.items() if value is None or value[_PARKED_SINCE] != nothing]


def _prefix(stored: bytes) -> tuple[int, int, int]:
    try:
        version, touched_at_ms, parked_since_ms = _PREFIX.unpack_from(stored)
    except struct.error as error:
        raise StateCorrupt(f"a state of {len(stored)} bytes is shorter than its prefix") from error
    return version, touched_at_ms, parked_since_ms


def _fault(state: OrderState) -> str | None:
    """Returns the invariant that does not hold, or None."""
    order = state.order
    if (order is not None) != (state.standing is _PLACED):
        return "an order stands where none was placed, or none where one was"
    if bool(state.parked) != (state.standing is _WAITING):
        return "events are parked and nothing waits, or the other way round"
    if (state.unheard is not None) != (state.standing is _UNPROTECTED):
        return "an order has a state for Hakuna and one without it, at once"
    unheard = state.unheard
    if unheard is not None and len(unheard.totals) != len(unheard.lines or ()):
        return "there are not as many totals as lines of an order that Hakuna does not get"
    if len(state.totals) != (0 if order is None else len(order.placed.line_items)):
        return "there are not as many totals as line items"
    return None


def _parked_since_ms(state: OrderState) -> int:
    # Not simply the first: the clock may have been set back between two events.
    return min(parked.parked_at_ms for parked in state.parked) if state.parked else 0


def _read_version_1(stored: bytes) -> OrderState:
    """Reads version 1, which has the same fields up to `parked`; its `event_keys` are IDs."""
    old = _decoder.decode(memoryview(stored)[_PREFIX_BYTES:])
    unheard = Unheard(None, (), None, ()) if old.standing is _UNPROTECTED else None
    if old.order is None:
        return OrderState(old.standing, old.touched_at_ms, None, (), (), old.parked, unheard, old.event_keys)
    placed, until_ms = old.order.placed, old.order.cancelled_at_ms
    roads = [_apart(placed, moved) for moved in (old.order.fulfilments, old.order.refunds, old.order.cancellations)]
    # Which event each was added to is not known any more: the kind alone stands for all of them.
    pairings = tuple(Pairing(kind, (), added) for kind, (_, added) in zip("frl", roads, strict=True) if added)
    totals = []
    for line, was in zip(placed.line_items, old.totals, strict=True):
        f, r, c = (sum(one.quantity for one in added if one.line_item_id == line.id) for _, added in roads)
        said = (was.fulfilled - f, was.refunded - r, was.cancelled - c)
        totals.append(LineTotals(*said, was.fulfilled, was.refunded, was.cancelled))
    (out, _), (back, _), (off, _) = roads
    order = Order(placed, out, back, off, until_ms, pairings)
    return OrderState(old.standing, old.touched_at_ms, order, tuple(totals), (), old.parked, unheard, old.event_keys)


def _apart(placed: OrderPlaced, movements: Sequence[Movement]) -> tuple[tuple[Movement, ...], tuple[Movement, ...]]:
    """Returns the movements that the shop reported, and those that pairing added. Pairing adds a movement of a
    protection beside one of its product, on the same road and at the same time; most shops leave that to pairing."""
    protects = {line.id: line.protection.protects_line_item_id for line in placed.line_items if line.protection}
    times = {(movement.line_item_id, movement.at_ms) for movement in movements}
    said: list[Movement] = []
    added: list[Movement] = []
    for movement in movements:
        product = protects.get(movement.line_item_id)
        is_added = product is not None and (product, movement.at_ms) in times
        (added if is_added else said).append(movement)
    return tuple(said), tuple(added)


def _read_version_2(stored: bytes) -> OrderState:
    return _decoder.decode(stored[_PREFIX_BYTES:])  # copied: a memoryview costs more, but for the largest


_READERS: Final[dict[int, Callable[[bytes], OrderState]]] = {1: _read_version_1, 2: _read_version_2}
