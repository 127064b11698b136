"""How long to wait by our own judgement: exponential, full jitter. Pure."""

from __future__ import annotations

from random import Random


def backoff_s(failures: int, first_s: float, s_max: float, random: Random) -> float:
    """Anything from 0 to `first_s` doubled for each failure after the first, at most `s_max`: those that
    failed together do not come back together."""
    assert failures >= 1
    return random.uniform(0.0, min(first_s * 2.0 ** min(failures - 1, 30), s_max))
