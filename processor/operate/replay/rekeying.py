"""The order ID of a letter, and the partition in which its order lives (`replay --rekey`).

A letter that was refused for its key, or because its order did not come, goes back under the order ID to the partition
in which orders.placed has that order. Any other letter goes back to where it came from.

    event      the order ID of its value      erasure    the order in its key, if no other order can have that key

Pure, except for the decoders, which ask the registry. The newest keys of orders.placed show the family of partitioners
that put them there. If there are two families, or an unknown one, the letter stays: after a guess it would come back a
day later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from processor.errors import BadRecord
from processor.letters.families import LetterFacts
from processor.letters.patch import Unsendable
from processor.records import OrderEvent, OrderId, Reason, Record
from processor.sources.keys import read_key, unreadable
from processor.sources.placements import JAVA, Placement

_MOVED: Final = frozenset({Reason.KEY_MISMATCH.value, Reason.ORDER_UNKNOWN.value, Reason.PARKED_TOO_MANY.value})
"""The reasons of letters that may be in another partition than their order, or under another key."""


class Home(NamedTuple):
    """Where a letter's order lives: its key there, and the partition number."""

    key: bytes
    partition: int


class Rekey:
    """`decoders` by source topic; `placed` is how orders.placed places its keys."""

    def __init__(self, decoders: Mapping[str, Callable[[Record], OrderEvent]], placed: Placement) -> None:
        self._decoders = decoders
        self._placed = placed

    def home(self, letter: Record, facts: LetterFacts) -> Home | Unsendable | None:
        """Returns None if the letter goes back to where it came from. Raises `RegistryOutage`."""
        if facts.reason not in _MOVED or facts.origin is None or facts.origin.topic not in self._decoders:
            return None
        order_id = self._order_id(letter, facts.origin.topic)
        if isinstance(order_id, Unsendable):
            return order_id
        placed, key = self._placed, order_id.encode()
        if placed.family is None and placed.told:
            return Unsendable(f"the partition of its order is not known: of orders.placed, {placed}")
        family = placed.family or JAVA
        return Home(key, family.of(key, placed.partitions))

    def _order_id(self, letter: Record, topic: str) -> OrderId | Unsendable:
        if letter.value is None:
            read = read_key(letter.key, letter.headers)
            if read.order_id is None or not read.is_trusted:
                return Unsendable(f"it erases, and {unreadable(read)}")
            return read.order_id
        event = msgspec.structs.replace(letter, topic=topic)
        try:
            return self._decoders[topic](event).order_id
        except BadRecord as bad:
            return Unsendable(f"its order ID cannot be read: {bad}")
