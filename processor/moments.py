"""Moments: epoch milliseconds to and from the text that a person writes. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from processor.config import duration_s

_YEAR_MS: Final = 365 * 86_400_000
PLAUSIBLE_MS_MIN: Final = 946_684_800_000  # 2000-01-01T00:00:00.000Z
PLAUSIBLE_AHEAD_MS_MAX: Final = 2 * _YEAR_MS + 86_400_000
"""Two years, one of them a leap year. A time that is further ahead of the clock is in another unit."""
CLOCK_S_MAX: Final = 60.0
"""The difference of two clocks above which a person should look: more than a network and a batch explain."""
_UNITS: Final = (
    ("seconds", 1000, 1),
    ("microseconds", 1, 1000),
    ("nanoseconds", 1, 1_000_000),
    ("days", 86_400_000, 1),
)
"""Other units that a number may be in, each with the factor and divisor that make milliseconds of it."""


def implausible(epoch_ms: int, now_ms: int) -> str | None:
    """Returns why a time is not from 2000 to two years ahead of `now_ms`, with its likely unit; None if it is."""
    if PLAUSIBLE_MS_MIN <= epoch_ms <= now_ms + PLAUSIBLE_AHEAD_MS_MAX:
        return None
    side = "before 2000" if epoch_ms < PLAUSIBLE_MS_MIN else "more than two years ahead"
    for unit, times, over in _UNITS:
        if PLAUSIBLE_MS_MIN <= epoch_ms * times // over <= now_ms + PLAUSIBLE_AHEAD_MS_MAX:
            return f"{epoch_ms} ms is {side}: {unit}?"
    return f"{epoch_ms} ms is {side}"


_STAMP_UNITS: Final = ((1000, 1), (1, 1000), (1, 1_000_000))
_UNIX_S_MAX: Final = 1 << 32  # 2106
SANE_STAMP_MIN: Final = _UNIX_S_MAX
SANE_STAMP_MAX: Final = _UNIX_S_MAX * 1000


def meant_ms(stamp: int) -> int:
    """Returns a record's timestamp in ms, as its producer meant it: some write seconds (or micro- or nanoseconds),
    which from 2000 to 2106 cannot be confused. Any other number stays. A caller in a hurry asks only about numbers
    outside of SANE_STAMP_MIN to SANE_STAMP_MAX."""
    if SANE_STAMP_MIN <= stamp < SANE_STAMP_MAX:
        return stamp
    for times, over in _STAMP_UNITS:
        if PLAUSIBLE_MS_MIN <= stamp * times // over < SANE_STAMP_MAX:
            return stamp * times // over
    return stamp


def parse_moment(text: str, now_ms: int) -> int:
    """Returns the epoch ms of `2026-05-09T03:00:00Z` (or without zone: UTC), a day, or `90m` ago. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now_ms - round(duration_s(text) * 1000)
        except ValueError:
            raise ValueError("a time such as 2026-05-09T03:00:00Z, or how long ago, such as 90m") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(epoch_ms: int) -> str:
    """Returns `2026-05-09T03:00:00.000Z`, or the number itself if no calendar holds that time."""
    try:
        moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def apart(ahead_s: float) -> str:
    """Returns how far a clock is from another, for people: `at least 48 s ahead of`, `at least 1.9 h behind`."""
    size_s = abs(ahead_s)
    value = (
        f"{size_s:.0f} s" if size_s < 600 else f"{size_s / 60:.0f} min" if size_s < 7200 else f"{size_s / 3600:.1f} h"
    )
    return f"at least {value} {'ahead of' if ahead_s > 0 else 'behind'}"
