"""Source records by their place, and letters completed from them.

A share group's letter (KIP-1191) has neither key nor value unless `errors.deadletterqueue.copy.record.enable` is on,
and even then neither the record's own headers nor its timestamp. To send it as it stands would write a null, which is
an erasure. So it is completed from its source record where that is still there; where it is not, it stays and says why.

    ours                      as it stands; a null value goes back only as what it was, an erasure or a deletion
    ours, its value left out  the same with the value of its source record, or not at all (`too_large`)
    another tool's, whole     as it stands, with its record's own timestamp where it tells that (Spring); a share
                              group's with its source record's headers and timestamp
    another tool's, bare      with key, value, headers and timestamp of its source record, or not at all

Owned by one command, one thread.
"""

from __future__ import annotations

from typing import Final

from processor.errors import StateCorrupt
from processor.interfaces import Clock, Reader
from processor.letters import letter as words
from processor.letters.families import Family, LetterFacts
from processor.letters.patch import Unsendable
from processor.operate.replay.reading import Offsets, Step, read
from processor.records import HeaderName, Position, Record, TopicPartition

AHEAD_RECORDS: Final = 1_000
AHEAD_BYTES: Final = 16 * 1024 * 1024
"""What is read along behind a source record: the next letter's is mostly among it, and a seek costs 50 ms."""
AHEAD_MS_MAX: Final = 3_600_000
"""How far ahead of the broker's clock a producer may write by default (`message.timestamp.after.max.ms`): a record that
is younger than its letter by more is another one, at the same place of a topic that was made again."""

NOT_NAMED: Final = "it has no value, and does not say where its record stands"
GONE: Final = "it has no value, and its source record is gone"
ANOTHER: Final = "it has no value, and another record stands where its source record stood"
NULL: Final = "it has no value, and is no erasure of ours: `hakuna-processor erase` erases an order"


class Sources:
    """Reads source records. Mutable: `_ends`, how far the source topics reach, as far as it was asked; `_window`, by
    partition, the records that were read last, from which offset and up to which."""

    def __init__(self, reader: Reader, offsets: Offsets, clock: Clock, step: Step) -> None:
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._step = step
        self._ends: dict[TopicPartition, int] = {}
        self._window: dict[TopicPartition, tuple[int, int, dict[int, Record]]] = {}

    def at(self, place: Position) -> Record | None:
        """The record at this place; None where it is gone, or never was. Raises `BrokerOutage`."""
        count = self._offsets.partitions(place.topic)
        if count is None or not 0 <= place.partition < count:
            return None
        where = TopicPartition(place.topic, place.partition)
        if self._ends.get(where, 0) <= place.offset:
            self._ends.update(self._offsets.ends([where]))
        if self._ends[where] <= place.offset:
            return None
        start, end, records = self._window.get(where, (0, 0, {}))
        if not start <= place.offset < end:
            if self._offsets.beginnings([where])[where] > place.offset:
                return None
            try:
                start, end, records = self._window[where] = self._ahead(where, place.offset)
            except StateCorrupt:  # deleted since we asked
                return None
        return records.get(place.offset)

    def _ahead(self, where: TopicPartition, start: int) -> tuple[int, int, dict[int, Record]]:
        end = min(start + AHEAD_RECORDS, self._ends[where])
        records: dict[int, Record] = {}
        size = 0
        for batch in read(self._reader, self._clock, where, start, end, self._step):
            records.update({record.offset: record for record in batch})
            size += sum(len(record.value or b"") for record in batch)
            if size > AHEAD_BYTES:
                return start, batch[-1].offset + 1, records
        return start, end, records


def completed(letter: Record, facts: LetterFacts, sources: Sources, outbox: str) -> Record | Unsendable:
    """The letter as it can be sent: key, value, headers and timestamp at its own place; or why it cannot. `outbox` is
    the whole name of a topic in which no record erases anything.

    Raises `BrokerOutage`."""
    if facts.family is Family.PROCESSOR and (words.EXCEPTION, words.VALUE_LEFT_OUT.encode()) in letter.headers:
        return _with_value(letter, facts, sources)
    if facts.family is Family.PROCESSOR and letter.key is not None:
        came_from = None if facts.origin is None else facts.origin.topic
        return Unsendable(NULL) if letter.value is None and came_from == outbox else letter
    bare = letter.value is None
    if not bare and facts.family is not Family.SHARE_GROUP:
        return letter if facts.original_ms is None else _at(letter, facts.original_ms)
    if facts.origin is None:
        return Unsendable(NOT_NAMED) if bare else letter
    source = sources.at(facts.origin)
    if source is None:
        return Unsendable(GONE) if bare else letter
    if not _is_its_source(letter, source):
        return Unsendable(ANOTHER) if bare else letter
    if source.value is None:
        return Unsendable(NULL)
    # Of a letter that was replayed and refused by another tool, the source record may have our headers of a letter.
    headers = [header for header in source.headers if not header[0].startswith(words.PREFIX)] + letter.headers
    return Record(letter.topic, letter.partition, letter.offset, source.timestamp_ms, source.key, source.value, headers)


def _with_value(letter: Record, facts: LetterFacts, sources: Sources) -> Record | Unsendable:
    """One of ours whose topic did not take the value: it is the source record's."""
    source = None if facts.origin is None else sources.at(facts.origin)
    if source is None:
        return Unsendable(GONE)
    entry_id = letter.header(HeaderName.ENTRY_ID)
    if source.key != letter.key or source.header(HeaderName.ENTRY_ID) != entry_id:
        return Unsendable(ANOTHER)
    where = letter.topic, letter.partition, letter.offset, letter.timestamp_ms
    return Record(*where, letter.key, source.value, letter.headers)


def _at(letter: Record, timestamp_ms: int) -> Record:
    return Record(letter.topic, letter.partition, letter.offset, timestamp_ms, letter.key, letter.value, letter.headers)


def _is_its_source(letter: Record, source: Record) -> bool:
    """A topic that was deleted and made again has other records at the same places."""
    if letter.key is not None and letter.key != source.key:
        return False
    if letter.value is not None and letter.value != source.value:
        return False
    return source.timestamp_ms <= letter.timestamp_ms + AHEAD_MS_MAX
