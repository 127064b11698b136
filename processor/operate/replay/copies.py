"""The copy: the record that a letter becomes when it is sent again. Pure.

    key, timestamp, headers    the letter's, as they are; the time is the original's, because transform merges by it, or
                               now if the topic would soon delete the copy for its age
    value                      the letter's, or the rebuilt or edited one
    replay-id, replay-count    which replay it was, and how often this record was replayed, from 1
    replay-of                  the letter's place: each later record of the copy names it
    entry-id                   a new one where the value is another: an idempotency key is for the same bytes

A letter of the outbox goes back to the outbox. Any other letter goes to the topic and partition that it came from: an
event that transform refused goes through transform again.
"""

from __future__ import annotations

from typing import Final

from processor.hakuna import entry_ids
from processor.letters.families import LetterFacts, headers_to_send
from processor.records import HeaderName, NewRecord, Position, Record, TopicPartition

_REPLAY: Final = frozenset({HeaderName.REPLAY_ID.value, HeaderName.REPLAY_COUNT.value, HeaderName.REPLAY_OF.value})
NOW: Final = 0
"""A timestamp that a producer replaces by now."""


def copy_of(
    letter: Record,
    facts: LetterFacts,
    target: TopicPartition,
    replay_id: str,
    value: bytes | None,
    older_than_ms: int | None = None,
) -> NewRecord:
    """Returns the copy of a letter with this value. A letter from before `older_than_ms` is dated now."""
    headers = [header for header in headers_to_send(facts.family, letter.headers) if header[0] not in _REPLAY]
    entry_id = letter.header_text(HeaderName.ENTRY_ID)
    if value != letter.value and entry_id is not None and value is not None:
        changed = entry_ids.of_bytes(entry_id, value).encode()
        headers = [(name, changed if name == HeaderName.ENTRY_ID else content) for name, content in headers]
    headers += [
        (HeaderName.REPLAY_ID.value, replay_id.encode()),
        (HeaderName.REPLAY_COUNT.value, b"%d" % (replays_of(letter) + 1)),
        (HeaderName.REPLAY_OF.value, str(letter.position).encode()),
    ]
    timestamp_ms = max(letter.timestamp_ms, 0)
    if older_than_ms is not None and timestamp_ms < older_than_ms:
        timestamp_ms = NOW
    return NewRecord(target.topic, target.partition, letter.key, value, headers, timestamp_ms)


def replays_of(letter: Record) -> int:
    """Returns how often this record was replayed."""
    count = letter.header_text(HeaderName.REPLAY_COUNT) or "0"
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def replay_of(record: Record) -> Position | None:
    """Returns the place of the letter that this record is a copy of, or was made from; None if there is none."""
    text = record.header_text(HeaderName.REPLAY_OF) or ""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not topic or not partition.isdigit() or not offset.isdigit():
        return None
    return Position(topic, int(partition), int(offset))
