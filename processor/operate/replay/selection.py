"""Which letters a `dead-letters` command is about. Pure.

A filter that is not given selects every letter. Times are those of the last failure.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from processor.letters.families import LetterFacts
from processor.records import Position, Record
from processor.sources.keys import names_order


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`origins` are whole names of the topics that the letters came from or are on, `letters` the places of single
    letters; `since_ms` is the first moment that is selected, `until_ms` the first one after that is not."""

    reasons: tuple[str, ...] = ()
    error_codes: tuple[str, ...] = ()
    order_ids: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None

    def takes(self, record: Record, facts: LetterFacts) -> bool:
        return (
            (not self.letters or str(record.position) in self.letters)
            and (not self.reasons or facts.reason in self.reasons)
            and (not self.error_codes or facts.error_code in self.error_codes)
            and (not self.order_ids or any(is_of(record, order_id) for order_id in self.order_ids))
            and (not self.origins or record.topic in self.origins or self._is_from(facts))
            and (self.since_ms is None or facts.last_failed_ms >= self.since_ms)
            and (self.until_ms is None or facts.last_failed_ms < self.until_ms)
        )

    def _is_from(self, facts: LetterFacts) -> bool:
        return facts.origin is not None and facts.origin.topic in self.origins


EVERYTHING: Final = Selection()

_LETTER: Final = re.compile(r"(?P<topic>.+)/(?P<partition>\d{1,9})/(?P<offset>\d{1,18})\Z")


def is_of(record: Record, order_id: str) -> bool:
    """Returns true if a letter is about this order: by its key, or by the order ID in its key or value."""
    return order_of(record) == order_id or names_order(record.key, record.value, order_id, record.headers)


def order_of(record: Record) -> str:
    """Returns the order of a letter: its key, which may be any bytes."""
    return (record.key or b"").decode("utf-8", "replace")


def parse_letter(text: str) -> Position:
    """Reads `topic/partition/offset`. Raises ValueError with what was expected."""
    found = _LETTER.match(text)
    if found is None:
        raise ValueError("a letter's place, such as hakuna.dead-letters/3/17")
    return Position(found["topic"], int(found["partition"]), int(found["offset"]))
