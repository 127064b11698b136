"""Moments: epoch milliseconds to and from what a person writes. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from processor.config import duration_s


def parse_moment(text: str, now_ms: int) -> int:
    """Epoch ms of `2026-05-09T03:00:00Z` (no zone: UTC), `2026-05-09`, or a duration ago (`90m`). Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now_ms - round(duration_s(text) * 1000)
        except ValueError:
            raise ValueError("a time such as 2026-05-09T03:00:00Z, or how long ago, such as 90m") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(epoch_ms: int) -> str:
    """`2026-05-09T03:00:00.000Z`; what no calendar holds is shown as the number that it is."""
    try:
        moment = datetime.fromtimestamp(epoch_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ms} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
