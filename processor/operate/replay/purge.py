"""purge: deletes what is resolved and old, up to the oldest letter that is not. Says what stays, and why.

    begin                                    cut
      │ resolved  resolved  resolved  resolved │ open  resolved  …
      └────────────── deleted ─────────────────┘ stays: behind an open one, or too young

Kafka deletes from the beginning of a partition and nowhere else, so one open letter keeps everything behind it: the
answer names it. Afterwards the resolutions of what is gone are taken out of their topic, since they hold order IDs and
edits; a purge that was cut short between the two is made good by the next one.

Owned by the `dead-letters purge` command, which has the place for itself (`place.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from processor.interfaces import Clock, Reader
from processor.letters.families import letter_facts
from processor.letters.resolutions import letter_of
from processor.operate.replay.noted import Resolved
from processor.operate.replay.place import Ledger
from processor.operate.replay.reading import Offsets, Step, begun_ms, read
from processor.operate.replay.survey import home
from processor.records import NewRecord, Position, Record, TopicPartition

TOMBSTONES_MAX: Final = 1_000
"""Of one transaction."""


class Deletes(Protocol):
    """Deletes the records of these partitions before an offset each (`RecordDeletion`). Raises `Fatal` where the right
    is missing."""

    def before(self, positions: Iterable[Position]) -> None: ...


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: what goes, what stays, and the letter that stands in the way (None: nothing does)."""

    topic: str
    partition: int
    offset: int
    deleted: int
    stays: int
    because: str = ""
    letter: str = ""


class Purge:
    """Reads, decides, deletes. Holds nothing but its clients."""

    def __init__(
        self, reader: Reader, offsets: Offsets, clock: Clock, deletes: Deletes, resolutions: str, step: Step
    ) -> None:
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._deletes = deletes
        self._resolutions = resolutions
        self._step = step

    def cuts(self, topic: str, older_than_ms: int, until: Mapping[tuple[str, int], int] | None = None) -> list[Cut]:
        """What may go of each partition: letters that are resolved and failed last before that moment. `until`: of
        these partitions alone, and nothing from these offsets on."""
        count = self._offsets.partitions(topic) or 0
        wheres = [TopicPartition(topic, number) for number in range(count)]
        beginnings, ends = self._offsets.beginnings(wheres), dict(self._offsets.ends(wheres))
        if until is not None:
            wheres = [where for where in wheres if where in until]
            ends = {where: min(ends[where], until[where]) for where in wheres}
        homes = self._offsets.partitions(self._resolutions) or 1
        begun = begun_ms(self._reader, self._clock, {where: beginnings[where] for where in wheres}, ends)
        found: list[Cut] = []
        for number in range(min(homes, count)):
            resolved = Resolved(begun)
            for records in self._whole(TopicPartition(self._resolutions, number)):
                resolved.take(records)
            for where in wheres:
                if home(where.partition, homes) == number:
                    found.append(self._cut(where, beginnings[where], ends[where], resolved, older_than_ms))
        return sorted(found, key=lambda cut: cut.partition)

    def delete(self, cuts: Sequence[Cut]) -> None:
        """Deletes up to each cut."""
        going = [Position(cut.topic, cut.partition, cut.offset) for cut in cuts if cut.deleted]
        if going:
            self._deletes.before(going)

    def forget(self, topic: str, ledger: Ledger) -> int:
        """Takes out the resolutions of letters that are not there any more. Returns how many."""
        count = self._offsets.partitions(topic) or 0
        beginnings = self._offsets.beginnings([TopicPartition(topic, number) for number in range(count)])
        forgotten = 0
        for number in range(self._offsets.partitions(self._resolutions) or 0):
            gone: dict[bytes, bool] = {}
            for records in self._whole(TopicPartition(self._resolutions, number)):
                for record in records:
                    letter = letter_of(record.key)
                    if letter is None or record.key is None or letter.topic != topic:
                        continue
                    where = TopicPartition(topic, letter.partition)
                    if record.value is None:
                        gone.pop(record.key, None)
                    elif letter.offset < beginnings.get(where, 0):
                        gone[record.key] = True
                    if len(gone) >= TOMBSTONES_MAX:
                        forgotten += self._bury(number, gone, ledger)
            forgotten += self._bury(number, gone, ledger)
        return forgotten

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _cut(self, where: TopicPartition, begin: int, end: int, resolved: Resolved, older_than_ms: int) -> Cut:
        closed = [offsets for offsets in resolved.of(where).values() if len(offsets)]
        deleted = stays = 0
        cut = begin
        because = letter = ""
        for records in read(self._reader, self._clock, where, begin, end, self._step):
            for record in records:
                if not because:
                    because = self._stays(record, any(record.offset in offsets for offsets in closed), older_than_ms)
                    if because:
                        letter = str(record.position)
                if because:
                    stays += 1
                else:
                    deleted += 1
                    cut = record.offset + 1
        return Cut(
            topic=where.topic,
            partition=where.partition,
            offset=cut,
            deleted=deleted,
            stays=stays,
            because=because,
            letter=letter,
        )

    def _stays(self, record: Record, is_resolved: bool, older_than_ms: int) -> str:
        facts = letter_facts(record)
        if not is_resolved:
            return f"open: {facts.reason}"
        return "younger" if facts.last_failed_ms >= older_than_ms else ""

    def _whole(self, where: TopicPartition) -> Iterator[Sequence[Record]]:
        begin = self._offsets.beginnings([where])[where]
        yield from read(self._reader, self._clock, where, begin, self._offsets.ends([where])[where], self._step)

    def _bury(self, number: int, gone: dict[bytes, bool], ledger: Ledger) -> int:
        if not gone:
            return 0
        ledger.write([NewRecord(self._resolutions, number, key, None, []) for key in gone])
        count = len(gone)
        gone.clear()
        return count
