"""Which seeds a simulation is run with, by the environment: some, a thousand with CI set, as many as are asked for and
from where, or one of them again."""

from __future__ import annotations

import os
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
