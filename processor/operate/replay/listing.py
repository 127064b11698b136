"""The number of letters by topic and reason, and their age.

Pure, except for the counts that `Tally` announces. To count a letter costs half of what it costs to consume it: its
headers are looked up by name in one dict, and only letters of foreign families are read header by header.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from processor.letters import letter
from processor.letters.families import LetterFacts, letter_facts
from processor.letters.resolutions import How
from processor.operate.replay.noted import OffsetSet, how_of
from processor.operate.replay.selection import EVERYTHING, Selection, order_of
from processor.records import Record

KINDS_MAX: Final = 10_000
"""The most kinds. A server that makes up an error code for each request must not fill the memory."""
OTHER: Final = "other"


class Kind(msgspec.Struct, frozen=True, order=True):
    """Letters that are counted together. `how` is empty for open letters."""

    topic: str
    origin: str
    reason: str
    error_code: str
    how: str


class Count(msgspec.Struct):
    """Mutable: grows. Times are epoch ms: the earliest first failure, the latest last one."""

    letters: int = 0
    first_ms: int = 1 << 62
    last_ms: int = 0


class Each(NamedTuple):
    """One letter of a listing. `how` is empty if it is open."""

    place: str
    order_id: str
    facts: LetterFacts
    how: str


class Tally:
    """Mutable: `counts` by kind; `read` counts all letters, `unknown` those of unknown families, `reasons` the reasons
    of the letters that a filter was applied to."""

    def __init__(self, selection: Selection) -> None:
        self.counts: dict[Kind, Count] = {}
        self.read = 0
        self.unknown = 0
        self.reasons: Counter[str] = Counter()
        self._selection = selection
        self._kinds: dict[tuple[bytes | None, bytes | None, bytes | None, str], Count] = {}

    def take(self, records: Iterable[Record], resolved: Mapping[How, OffsetSet], *, all_letters: bool) -> None:
        """Counts letters of one partition. Resolved letters count only with `all_letters`."""
        selective = self._selection != EVERYTHING
        kinds = self._kinds
        for record in records:
            self.read += 1
            how = ""
            for name, offsets in resolved.items():
                if record.offset in offsets:
                    how = name
            if how and not all_letters:
                continue
            headers = dict(record.headers)
            reason = headers.get(letter.REASON)
            if reason is None or selective:
                self._take_slowly(record, how)
                continue
            try:
                first_ms = int(headers[letter.FIRST_FAILED_AT] or 0)
                last_ms = int(headers[letter.LAST_FAILED_AT] or 0)
            except (KeyError, ValueError):
                self._take_slowly(record, how)
                continue
            what = (headers.get(letter.TOPIC), reason, headers.get(letter.HTTP_ERROR_CODE), how)
            count = kinds.get(what)
            if count is None:
                count = kinds[what] = self._count(
                    Kind(record.topic, _text(what[0]), _text(reason), _text(what[2]), how)
                )
            count.letters += 1
            if first_ms < count.first_ms:
                count.first_ms = first_ms
            if last_ms > count.last_ms:
                count.last_ms = last_ms
        kinds.clear()  # they are of one topic, and the next call may be for another

    def each(
        self, records: Iterable[Record], resolved: Mapping[How, OffsetSet], *, all_letters: bool
    ) -> Iterator[Each]:
        """Counts letters of one partition, and yields each."""
        for record in records:
            self.read += 1
            how = how_of(resolved, record.offset) or ""
            if (not how or all_letters) and (facts := self._take_slowly(record, how)) is not None:
                yield Each(str(record.position), order_of(record), facts, how)

    @property
    def asked_reasons(self) -> Sequence[str]:
        return self._selection.reasons

    def _take_slowly(self, record: Record, how: str) -> LetterFacts | None:
        facts = letter_facts(record)
        if not how:
            self.reasons[facts.reason] += 1
        if not self._selection.takes(record, facts):
            return None
        if facts.origin is None:
            self.unknown += 1
        origin = "" if facts.origin is None else facts.origin.topic
        count = self._count(Kind(record.topic, origin, facts.reason, facts.error_code or "", how))
        count.letters += 1
        count.first_ms = min(count.first_ms, facts.first_failed_ms)
        count.last_ms = max(count.last_ms, facts.last_failed_ms)
        return facts

    def _count(self, kind: Kind) -> Count:
        if kind not in self.counts and len(self.counts) >= KINDS_MAX:
            kind = Kind(kind.topic, OTHER, OTHER, OTHER, kind.how)
        return self.counts.setdefault(kind, Count())

    @property
    def letters(self) -> int:
        """The number of letters that were counted."""
        return sum(count.letters for count in self.counts.values())


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")
