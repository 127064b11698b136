"""Which seeds a simulation is run with, by the environment: some, a thousand with CI set, as many as are asked for, or
one of them again."""

from __future__ import annotations

import os
from typing import Final

CHUNK: Final = 20
"""Seeds of one test."""


def seeds(simulation: str, some: int) -> list[range]:
    """By `<simulation>_SEED` (that one) or `<simulation>_SEEDS` (so many); else `some`, or with CI set 1,000."""
    one = os.environ.get(f"{simulation}_SEED")
    if one is not None:
        return [range(int(one), int(one) + 1)]
    count = int(os.environ.get(f"{simulation}_SEEDS", "1000" if os.environ.get("CI") else some))
    return [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
