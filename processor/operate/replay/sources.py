"""Source records by their place, and letters completed from them.

A share group's letter (KIP-1191) has no key and no value unless `errors.deadletterqueue.copy.record.enable` is on, and
never the record's headers and timestamp. To send it as it is would write a null, which is an erasure. So its source
record completes it. If that record is gone, the letter stays and says why.

    ours                      as it is; a null value goes back only as an erasure or a deletion
    ours, its value left out  with the value of its source record, or not at all (`too_large`)
    foreign, with a value     as it is, with its record's timestamp if the letter has it (Spring); a share group's
                              letter with the headers and the timestamp of its source record
    foreign, without a value  with key, value, headers and timestamp of its source record, or not at all

Owned by one command in one thread.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from processor.errors import StateCorrupt
from processor.letters import letter as words
from processor.letters.families import Family, LetterFacts
from processor.letters.patch import Unsendable
from processor.operate.replay.reading import Reading
from processor.records import HeaderName, Position, Record, TopicPartition

AHEAD_RECORDS: Final = 1_000
AHEAD_BYTES: Final = 16 * 1024 * 1024
"""How much is read after a source record: the next letter's is mostly among it, and a seek costs 50 ms."""
AHEAD_MS_MAX: Final = 3_600_000
"""How far ahead of the broker's clock a producer may write by default (`message.timestamp.after.max.ms`). A record that
is younger than its letter by more is another record, at the same place of a topic that was made again."""

NOT_NAMED: Final = "it has no value, and does not say where its record stands"
GONE: Final = "it has no value, and its source record is gone"
ANOTHER: Final = "it has no value, and another record stands where its source record stood"
NULL: Final = "it has no value, and is no erasure of ours: `hakuna-processor erase` erases an order"


class Sources:
    """Reads source records. Mutable, by partition: `_ends` the known ends, `_window` the records that were read last,
    with the first offset and the one after the last."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._ends: dict[TopicPartition, int] = {}
        self._window: dict[TopicPartition, tuple[int, int, dict[int, Record]]] = {}

    def at(self, place: Position) -> Record | None:
        """Returns the record at this place; None if it is gone or never existed. Raises `BrokerOutage`."""
        offsets, where = self._reading.offsets, TopicPartition(place.topic, place.partition)
        if not 0 <= place.partition < (offsets.partitions(place.topic) or 0):
            return None
        if self._ends.get(where, 0) <= place.offset:
            self._ends.update(offsets.ends([where]))
        if self._ends[where] <= place.offset:
            return None
        start, end, records = self._window.get(where, (0, 0, {}))
        if not start <= place.offset < end:
            if offsets.beginnings([where])[where] > place.offset:
                return None
            try:
                start, end, records = self._window[where] = self._ahead(where, place.offset)
            except StateCorrupt:  # deleted meanwhile
                return None
        return records.get(place.offset)

    def _ahead(self, where: TopicPartition, start: int) -> tuple[int, int, dict[int, Record]]:
        end = min(start + AHEAD_RECORDS, self._ends[where])
        records: dict[int, Record] = {}
        size = 0
        for batch in self._reading.part(where, start, end):
            records.update({record.offset: record for record in batch})
            size += sum(len(record.value or b"") for record in batch)
            if size > AHEAD_BYTES:
                return start, batch[-1].offset + 1, records
        return start, end, records


def completed(letter: Record, facts: LetterFacts, sources: Sources, outbox: str) -> Record | Unsendable:
    """Returns the letter as it can be sent (key, value, headers and timestamp at the letter's place), or why it cannot.
    `outbox` is the whole name of the topic in which no record is an erasure. Raises `BrokerOutage`."""
    if facts.family is Family.PROCESSOR and (words.EXCEPTION, words.VALUE_LEFT_OUT.encode()) in letter.headers:
        return _with_value(letter, facts, sources)
    if facts.family is Family.PROCESSOR and letter.key is not None:
        came_from = None if facts.origin is None else facts.origin.topic
        return Unsendable(NULL) if letter.value is None and came_from == outbox else letter
    bare = letter.value is None
    if not bare and facts.family is not Family.SHARE_GROUP:
        return letter if facts.original_ms is None else replace(letter, timestamp_ms=facts.original_ms)
    if facts.origin is None:
        return Unsendable(NOT_NAMED) if bare else letter
    source = sources.at(facts.origin)
    if source is None:
        return Unsendable(GONE) if bare else letter
    if not _is_its_source(letter, source):
        return Unsendable(ANOTHER) if bare else letter
    if source.value is None:
        return Unsendable(NULL)
    # If a letter was replayed and refused by another tool, its source record may have our headers of a letter.
    headers = [header for header in source.headers if not header[0].startswith(words.PREFIX)] + letter.headers
    return replace(letter, timestamp_ms=source.timestamp_ms, key=source.key, value=source.value, headers=headers)


def _with_value(letter: Record, facts: LetterFacts, sources: Sources) -> Record | Unsendable:
    """A letter of ours that was too large for its topic with the value, which its source record has."""
    source = None if facts.origin is None else sources.at(facts.origin)
    if source is None:
        return Unsendable(GONE)
    entry_id = letter.header(HeaderName.ENTRY_ID)
    if source.key != letter.key or source.header(HeaderName.ENTRY_ID) != entry_id:
        return Unsendable(ANOTHER)
    return replace(letter, value=source.value)


def _is_its_source(letter: Record, source: Record) -> bool:
    """Returns false for the record of a topic that was deleted and made again: it has other records at these places."""
    if letter.key is not None and letter.key != source.key:
        return False
    if letter.value is not None and letter.value != source.value:
        return False
    return source.timestamp_ms <= letter.timestamp_ms + AHEAD_MS_MAX
