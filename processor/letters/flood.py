"""flood: the guard that stops a role before it writes a flood of dead letters.

Orders go bad one at a time. If most of the last thousand records would be dead letters, our code or a producer is
broken, and a topic full of good orders marked bad is the costliest result that this project can have. So a loop asks
the guard before it writes a batch, and writes nothing of a batch that the guard refuses.

Pure but for the window. Owned by the loop that asks it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Final

from processor.records import Stage

WINDOW_RECORDS: Final = 1000


class FloodGuard:
    """The last WINDOW_RECORDS records, and whether each became a dead letter.

    Mutable: `_window` holds them, the latest last. The caller leaves out held entries, which are no fault, and replayed
    records, which are an operator's own doing.
    """

    def __init__(self, share_max: float) -> None:
        assert 0 <= share_max <= 1, f"no share: {share_max}"
        self._share_max = share_max
        self._window: deque[bool] = deque(maxlen=WINDOW_RECORDS)

    def flooded_by(self, dead: Iterable[bool]) -> float | None:
        """Returns the share of dead letters in the window after these records, if it is too large; None if they may be
        written. Judges after each record, from WINDOW_RECORDS records on. Changes nothing."""
        window = deque(self._window, maxlen=WINDOW_RECORDS)
        count = sum(window)
        for is_dead in dead:
            if len(window) == WINDOW_RECORDS:
                count -= window[0]
            window.append(is_dead)
            count += is_dead
            if len(window) == WINDOW_RECORDS and count > self._share_max * WINDOW_RECORDS:
                return count / WINDOW_RECORDS
        return None

    def written(self, dead: Iterable[bool]) -> None:
        """Moves the window past these records: they are written."""
        self._window.extend(dead)


def flood(share: float, dead_letters: Counter[tuple[str, Stage, str]]) -> str:
    """Returns why the guard refuses a batch, from the topics and reasons of its dead letters."""
    most = ", ".join(f"{reason} of {topic} ({n})" for (topic, _, reason), n in dead_letters.most_common(3))
    what = f"{share:.0%} of the last 1,000 records would be dead letters, mostly {most}"
    return f"{what}; find out what changed, then restart"
