"""witness: makes a partition's holds from its open dead letters, after the topic of holds was lost, or entries were.

    hakuna.dead-letters/N  without  hakuna.dead-letter-resolutions/N  ─► the first open letter of each order ─► its hold

A refusal that holds its order writes two records: its letter and the hold. Without the holds, the open letters show the
same: which order waits, and behind which entry. A worker that is killed between the two leaves a letter alone; then its
entry is refused once more and held, unless it is gone. A record of `hakuna.holds`, a tombstone included, wins over a
letter, because it is newer.

Owned by the takeover. Mutable, by offset of the letter: `_open` is its hold and when it failed, `_resolved` the time of
its resolution. `_known` are the orders in the topic of holds. Memory: the open letters' orders, and the offsets of
resolved letters.
"""

from __future__ import annotations

from processor.letters.holds import Hold
from processor.letters.letter import letter_head
from processor.letters.resolutions import decode_resolution, letter_of, may_be_of
from processor.records import EntryId, HeaderName, OrderId, Reason, Record, Stage, TopicPartition

_HOLD_NOTHING = frozenset({Reason.CANCEL_DECLINE.value, Reason.UNDECODABLE.value})
"""An answer that is no fault; a record whose order would be a guess."""


class Witness:
    """The holds of one partition."""

    def __init__(self, letters: str, resolutions: str, partition: int) -> None:
        self._letters = TopicPartition(letters, partition)
        self._resolutions = TopicPartition(resolutions, partition)
        self._open: dict[int, tuple[Hold, int]] = {}
        self._resolved: dict[int, int] = {}
        self._known: set[str] = set()

    @property
    def partitions(self) -> tuple[TopicPartition, TopicPartition]:
        return self._letters, self._resolutions

    def known(self, order_id: str) -> None:
        """The topic of holds has a record of this order."""
        self._known.add(order_id)

    def heard(self, record: Record) -> None:
        """Takes a record of the letters or of their resolutions."""
        where = TopicPartition(record.topic, record.partition)
        if where == self._letters:
            found = _hold(record)
            if found is not None:
                self._open[record.offset] = found
        elif where == self._resolutions and record.value is not None:
            letter, resolution = letter_of(record.key), decode_resolution(record.value)
            if letter is not None and resolution is not None and (letter.topic, letter.partition) == self._letters:
                self._resolved[letter.offset] = resolution.at_ms

    def holds(self) -> list[Hold]:
        found: dict[str, Hold] = {}
        for offset, (hold, failed_ms) in self._open.items():
            resolved_ms = self._resolved.get(offset)
            is_open = resolved_ms is None or not may_be_of(resolved_ms, failed_ms)
            if is_open and hold.order_id not in self._known:
                found.setdefault(hold.order_id, hold)
        return list(found.values())


def _hold(record: Record) -> tuple[Hold, int] | None:
    """Returns the hold of a letter, and when it failed last. Returns None if the letter holds no order."""
    head = letter_head(record)
    entry_id, replay_id = record.header(HeaderName.ENTRY_ID), record.header(HeaderName.REPLAY_ID)
    if head is None or head.stage != Stage.SEND or head.reason in _HOLD_NOTHING or record.key is None or not entry_id:
        return None
    try:
        order_id = OrderId(record.key.decode())
        replay = None if replay_id is None else replay_id.decode()
        hold = Hold(order_id, EntryId(entry_id.decode()), head.reason, head.first_failed_ms, replay)
        return hold, head.last_failed_ms
    except UnicodeDecodeError:
        return None
