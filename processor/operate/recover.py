"""Two commands after a disaster: `resend` and `rewind`.

resend writes today's snapshot of every order that an event touched since a moment to the outbox once more.

    changelog ──read to its end, newest state of each key──► touched since? ──► snapshot ──► outbox

It is for the order feed, whose newest snapshot is whole by itself. After wrong code the right snapshot replaces the
wrong one; after a lost outbox it brings what was not sent. Transform must not run meanwhile (the command looks): it
could read a snapshot before ours and write it after ours, and the older one would go last.

The entry ID is made of the order, of the time of its last event and of a digest of the snapshot. So it is new if the
bytes are new, and the same however often the command is repeated: a repeat after a kill is harmless.

Owned by one command, one thread. Memory: the states of one partition's orders that were touched since. Not chosen: a
resend of the Events API's entries (each is accepted once and for all; to say something again takes a new event, which
Hakuna has to agree to).

rewind says from where a group reads again, and only ever sets it back: a group that is set forward leaves records
untaken. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from processor.errors import BrokerOutage
from processor.hakuna import Api, entry_ids, feed
from processor.interfaces import Clock, Committed, Reader
from processor.operate.replay.reading import Step, read
from processor.records import EntryType, NewRecord, Record, TopicPartition
from processor.transform import order_state, outbox
from processor.transform.book import BOOK_KEY

WRITTEN_S_MAX: Final = 60.0


def touched(
    reader: Reader, clock: Clock, where: TopicPartition, start: int, end: int, since_ms: int, step: Step
) -> dict[bytes, Record]:
    """The newest state of each order of one changelog partition that an event touched at `since_ms` or later."""
    newest: dict[bytes, Record] = {}
    for records in read(reader, clock, where, start, end, step):
        for record in records:
            if record.key is None or record.key == BOOK_KEY:
                continue
            if record.value is None or order_state.peek(record.value)[0] < since_ms:
                newest.pop(record.key, None)
            else:
                newest[record.key] = record
    return newest


def snapshots(states: dict[bytes, Record], to: str) -> Iterator[NewRecord]:
    """The snapshots to send, built by the current code, as records for the topic `to`; an order that was never placed
    has none. Raises `StateCorrupt`."""
    for key, record in states.items():
        assert record.value is not None
        state = order_state.decode(record.value)
        if state.order is None:
            continue
        body = feed.snapshot(state.order)
        again = entry_ids.entry_id(Api.FEED, "resend", state.order.placed.order_id, f"{state.touched_at_ms}")
        origin = msgspec.structs.replace(record, headers=[])
        headers = outbox.headers(EntryType.ORDER, entry_ids.of_bytes(again, body), origin)
        yield NewRecord(to, record.partition, key, body, headers)


class Writes:
    """Counts what was acknowledged. Mutable: `written`, and `refused` with what was said first."""

    def __init__(self, what: str = "snapshots") -> None:
        self._what = what
        self.written = 0
        self.refused: str | None = None

    def answer(self, error: str | None, _offset: int) -> None:
        if error is None:
            self.written += 1
        else:
            self.refused = self.refused or error

    def all_there(self, count: int, flush: Callable[[float], int]) -> None:
        """Waits for the rest. Raises `BrokerOutage` where one of them was not acknowledged."""
        left = flush(WRITTEN_S_MAX)
        if left or self.refused or self.written != count:
            why = self.refused or f"{left} were not acknowledged in {WRITTEN_S_MAX:g} s"
            raise BrokerOutage(f"{self.written} of {count} {self._what} were written: {why}; give the command again")


class Move(NamedTuple):
    """One partition's next offset, as it is (None: nothing was committed) and as it will be. `again` is how many
    offsets lie between the two."""

    topic: str
    partition: int
    was: int | None
    to: int
    again: int


def moves(
    partitions: Sequence[TopicPartition],
    committed: Mapping[TopicPartition, Committed],
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    targets: Mapping[TopicPartition, int | None],
) -> list[Move]:
    """`targets` are the offsets wanted, None for the end of the log. What is committed beyond the end (the topic was
    made anew) counts as nothing committed."""
    found = []
    for where in partitions:
        was = committed[where].next_offset
        target = targets[where]
        to = min(max(beginnings[where], ends[where] if target is None else target), ends[where])
        if was is not None and was <= ends[where]:
            to = min(to, max(was, beginnings[where]))
        found.append(Move(where.topic, where.partition, was, to, 0 if was is None else max(was - to, 0)))
    return found
