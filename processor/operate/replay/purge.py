"""purge: deletes old resolved letters, up to the oldest open one, and says what stays and why.

    begin                                    cut
      │ resolved  resolved  resolved  resolved │ open  resolved  …
      └────────────── deleted ─────────────────┘ stays: behind an open one, or too young

Kafka deletes only from the beginning of a partition, so one open letter keeps everything behind it: the answer names
it. Afterwards the resolutions of deleted letters are taken out of their topic, because they hold order IDs and edits.
If a purge was killed between the two, the next one finishes it.

Owned by the `dead-letters purge` command, which has the place to itself (`place.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from processor.letters.families import letter_facts
from processor.letters.resolutions import How, letter_of
from processor.operate.replay.noted import OffsetSet, how_of, with_resolved
from processor.operate.replay.place import Ledger
from processor.operate.replay.reading import Reading
from processor.records import NewRecord, Position, Record, TopicPartition

TOMBSTONES_MAX: Final = 1_000
"""The most tombstones of one transaction."""


class Deletes(Protocol):
    """Deletes the records before an offset in each of these partitions (`RecordDeletion`). Raises `Fatal` if the right
    is missing."""

    def before(self, positions: Iterable[Position]) -> None: ...


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: the numbers of letters that go and that stay, the first offset that stays, why it does
    (`because`), and that letter (empty: none stays)."""

    topic: str
    partition: int
    offset: int
    deleted: int
    stays: int
    because: str = ""
    letter: str = ""


class Purge:
    """Reads, decides, deletes. Holds nothing but its clients. `resolutions` is the whole name of that topic."""

    def __init__(self, reading: Reading, deletes: Deletes, resolutions: str) -> None:
        self._reading = reading
        self._deletes = deletes
        self._resolutions = resolutions

    def cuts(self, topic: str, older_than_ms: int, until: Mapping[tuple[str, int], int] | None = None) -> list[Cut]:
        """Returns what may go of each partition: letters that are resolved and last failed before that moment. `until`
        limits it to these partitions, and to the letters before these offsets. Raises `BrokerOutage`."""
        wheres = self._reading.partitions(topic)
        beginnings = dict(self._reading.offsets.beginnings(wheres))
        ends = dict(self._reading.offsets.ends(wheres))
        if until is not None:
            beginnings = {where: begin for where, begin in beginnings.items() if where in until}
            ends = {where: min(ends[where], until[where]) for where in beginnings}
        found = [
            self._cut(where, beginnings[where], ends[where], resolved, older_than_ms)
            for where, resolved in with_resolved(self._reading, self._resolutions, beginnings, ends)
        ]
        return sorted(found, key=lambda cut: cut.partition)

    def delete(self, cuts: Sequence[Cut]) -> None:
        """Deletes up to each cut."""
        going = [Position(cut.topic, cut.partition, cut.offset) for cut in cuts if cut.deleted]
        if going:
            self._deletes.before(going)

    def forget(self, topic: str, ledger: Ledger) -> int:
        """Takes out the resolutions of letters that were deleted. Returns how many."""
        beginnings = self._reading.offsets.beginnings(self._reading.partitions(topic))
        forgotten = 0
        for home in self._reading.partitions(self._resolutions):
            gone: dict[bytes, bool] = {}
            for record in (one for records in self._reading.whole(home) for one in records):
                letter = letter_of(record.key)
                if letter is None or record.key is None or letter.topic != topic:
                    continue
                if record.value is None:
                    gone.pop(record.key, None)
                elif letter.offset < beginnings.get(TopicPartition(topic, letter.partition), 0):
                    gone[record.key] = True
                if len(gone) >= TOMBSTONES_MAX:
                    forgotten += self._bury(home.partition, gone, ledger)
            forgotten += self._bury(home.partition, gone, ledger)
        return forgotten

    def _cut(
        self, where: TopicPartition, begin: int, end: int, resolved: Mapping[How, OffsetSet], older_than_ms: int
    ) -> Cut:
        deleted = stays = 0
        cut = begin
        because = letter = ""
        for record in (one for records in self._reading.part(where, begin, end) for one in records):
            if not because:
                because = _stays(record, how_of(resolved, record.offset), older_than_ms)
                letter = str(record.position) if because else ""
            if because:
                stays += 1
            else:
                deleted += 1
                cut = record.offset + 1
        topic, partition = where
        return Cut(
            topic=topic, partition=partition, offset=cut, deleted=deleted, stays=stays, because=because, letter=letter
        )

    def _bury(self, number: int, gone: dict[bytes, bool], ledger: Ledger) -> int:
        if not gone:
            return 0
        ledger.write([NewRecord(self._resolutions, number, key, None, []) for key in gone])
        count = len(gone)
        gone.clear()
        return count


def _stays(record: Record, how: How | None, older_than_ms: int) -> str:
    facts = letter_facts(record)
    if how is None:
        return f"open: {facts.reason}"
    return "younger" if facts.last_failed_ms >= older_than_ms else ""
