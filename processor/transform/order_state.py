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
         unprotected order event IDs alone (`order_state_1.py`)
    2    this

Why msgpack by msgspec: it decodes an order of three line items in 4 µs and encodes it in 2. Not chosen: JSON is as
quick but cannot hold a parked record's bytes; pickle is not a format to keep. Why totals beside the movements:
otherwise the remaining units are a sum over the order's life, and 10,000 events of one order would cost 10,000 times
10,000.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from processor.errors import StateCorrupt, StateTooNew
from processor.records import Order, OrderEvent, Pairing, Record
from processor.transform import order_state_1

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
    """The units of one line item that have moved in each direction: as the shop reported, and as Hakuna knows."""

    fulfilled: int = 0
    refunded: int = 0
    cancelled: int = 0
    told_fulfilled: int = 0
    told_refunded: int = 0
    told_cancelled: int = 0


class ParkedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that came before its order, with the record it came in (should it become a dead letter)."""

    event: OrderEvent
    origin: Record
    parked_at_ms: int


class Unheard(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The state of an order that Hakuna does not get: its lines (ID and units; None: version 1 kept none), their
    movements, and the events of these, each with the position and time of its record."""

    lines: tuple[tuple[str, int], ...] | None
    totals: tuple[LineTotals, ...]
    cancelled_at_ms: int | None
    events: tuple[ParkedEvent, ...]


class OrderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything kept of one order. `touched_at_ms` is the wall clock when its last event was taken. `event_ids` are
    the IDs that version 1 remembered, of any kind."""

    standing: Standing
    touched_at_ms: int
    order: Order | None
    totals: tuple[LineTotals, ...]
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
    """Returns the state in these bytes, of this version or an earlier one. Raises `StateCorrupt`, and `StateTooNew` for
    a later version."""
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
    old = order_state_1.decoder.decode(memoryview(stored)[_PREFIX.size :])
    standing = Standing(old.standing)
    parked = tuple([ParkedEvent(one.event, one.origin, one.parked_at_ms) for one in old.parked])
    unheard = Unheard(None, (), None, ()) if standing is _UNPROTECTED else None
    if old.order is None:
        return OrderState(standing, old.touched_at_ms, None, (), (), parked, unheard, old.event_ids)
    placed = old.order.placed
    out = order_state_1.apart(placed, old.order.fulfilments)
    back = order_state_1.apart(placed, old.order.refunds)
    off = order_state_1.apart(placed, old.order.cancellations)
    # Which event each was added to is not known any more: the kind alone stands for all of them.
    pairings = tuple(
        Pairing(kind, (), road.added) for kind, road in (("f", out), ("r", back), ("l", off)) if road.added
    )
    order = Order(placed, out.said, back.said, off.said, old.order.cancelled_at_ms, pairings)
    totals = tuple(
        LineTotals(
            was.fulfilled - out.added_to(line.id),
            was.refunded - back.added_to(line.id),
            was.cancelled - off.added_to(line.id),
            was.fulfilled,
            was.refunded,
            was.cancelled,
        )
        for line, was in zip(placed.line_items, old.totals, strict=True)
    )
    return OrderState(standing, old.touched_at_ms, order, totals, (), parked, unheard, old.event_ids)


def _read_version_2(stored: bytes) -> OrderState:
    return _decoder.decode(stored[_PREFIX_BYTES:])  # copied: a memoryview costs more, but for the largest


_READERS: Final[dict[int, Callable[[bytes], OrderState]]] = {1: _read_version_1, 2: _read_version_2}
