"""Which seeds a simulation is run with, by the environment: some, a thousand with CI set, as many as are asked for and
from where, or one of them again."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

CHUNK: Final = 20
"""Seeds of one test."""


def seeds(simulation: str, some: int) -> list[range]:
    """By `<simulation>_SEED` (that one) or `<simulation>_SEEDS` (`300`, so many; `1000-3000`, from one up to another,
    which is left out); else `some`, or with CI set 1,000.

    Raises ValueError where it is neither, or holds no seed."""
    one = os.environ.get(f"{simulation}_SEED")
    if one is not None:
        return [range(int(one), int(one) + 1)]
    asked = os.environ.get(f"{simulation}_SEEDS", "1000" if os.environ.get("CI") else str(some))
    first, _, end = asked.rpartition("-")
    wanted = range(int(first or 0), int(end))
    if not wanted:
        raise ValueError(f"{simulation}_SEEDS={asked} holds no seed")
    return [wanted[at : at + CHUNK] for at in range(0, len(wanted), CHUNK)]


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Collects garbage as often as worlds of some ten thousand objects need it. As often as by default, it costs a
    twentieth of a seed's time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
