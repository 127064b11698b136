"""What `random.Random` draws, with less of Python around it: the same numbers for a fraction of the time.

A simulation draws thousands of times a seed. `tests/contracts/test_chance.py` holds both to the standard library's.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def below(chance: random.Random, end: int) -> int:
    """As `chance.randrange(end)`, which `randint(0, end - 1)` is too."""
    bits = end.bit_length()
    drawn = chance.getrandbits(bits)
    while drawn >= end:
        drawn = chance.getrandbits(bits)
    return drawn


def shuffled(chance: random.Random, these: Iterable[T]) -> list[T]:
    """A copy, as `chance.shuffle` leaves it."""
    copy, draw = [*these], chance.getrandbits
    for last in range(len(copy) - 1, 0, -1):
        bits = (last + 1).bit_length()
        drawn = draw(bits)
        while drawn > last:
            drawn = draw(bits)
        copy[last], copy[drawn] = copy[drawn], copy[last]
    return copy
