"""holds: the orders whose later entries wait because one of their entries is a dead letter.

    entry refused ──► hold ──► later entries of the order become dead letters `held`, in their order
                       │  ▲
          tombstone    │  │ refused again in a replay: the hold now names that replay
     (released, or     ▼  │
      discarded)      gone

The compacted topic `hakuna.holds` (key: order ID, same partition number as the outbox) is the truth. A worker reads its
partitions to their end at the assignment, and follows them from then on. `Holds` is what the worker knows of them, in a
store on disk (`by_epoch.py`): RocksDB answers in 1.4 µs. A partition without a hold, the usual case, is not asked.

Owned by the sender's event loop. The loop adds a hold at the moment of the refusal, before its record is durable,
because the next entry of that order is judged microseconds later. The topic is behind meanwhile. So a tombstone does
not count for an order whose own hold has not been read back yet (`_unread`).

Not chosen: fingerprints in memory (each hit needs the exact key, and so a store); the commit metadata (4 KB).
"""

from __future__ import annotations

from typing import Final

import msgspec

from processor.interfaces import Store
from processor.letters.by_epoch import ByEpoch
from processor.records import EntryId, OrderId


class Hold(msgspec.Struct, frozen=True):
    """The JSON on `hakuna.holds`: the refused entry, why and since when it holds its order, and in which replay."""

    order_id: OrderId
    entry_id: EntryId
    reason: str
    since_ms: int
    replay_id: str | None = None

    def stops(self, entry_id: str, replay_id: str | None) -> bool:
        """Returns true if this entry waits: not the refused one itself, nor one of a replay that was not refused."""
        if entry_id == self.entry_id:
            return False
        return replay_id is None or replay_id == self.replay_id


_HOLD: Final = msgspec.json.Decoder(Hold)


def encode_hold(hold: Hold) -> bytes:
    return msgspec.json.encode(hold)


def decode_hold(value: bytes) -> Hold | None:
    """Returns None if the bytes are not a hold but a foreign record."""
    try:
        return _HOLD.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Holds:
    """The holds of the partitions that are this worker's.

    Mutable. `_counts[epoch]` is the number of orders held in that assignment; `_unread` holds the orders whose newest
    hold is our own and has not been read back from the topic.
    """

    def __init__(self, store: Store) -> None:
        self._kept = ByEpoch(store)
        self.sweep = self._kept.sweep
        self._counts: dict[int, int] = {}
        self._unread: dict[tuple[int, OrderId], EntryId] = {}
        self.total = 0
        """The number of held orders in all partitions; at 0 no caller needs to ask for one."""

    def open(self, epoch: int) -> None:
        assert epoch not in self._counts, f"epoch {epoch} is open already"
        self._counts[epoch] = 0

    def close(self, epoch: int) -> None:
        """Takes the holds of a partition that has gone out of the count; `sweep` deletes them from the store."""
        gone = self._counts.pop(epoch)
        if gone:
            self.total -= gone
            self._kept.leave(epoch)
            for held in [held for held in self._unread if held[0] == epoch]:
                del self._unread[held]

    def count(self, epoch: int) -> int:
        """Returns the number of orders held in that assignment; 0 if it is not open."""
        return self._counts.get(epoch, 0)

    def of(self, epoch: int, order_id: OrderId) -> Hold | None:
        if self._counts[epoch] == 0:
            return None
        value = self._kept.get(epoch, order_id)
        return None if value is None else _HOLD.decode(value)

    def refused(self, epoch: int, hold: Hold) -> None:
        """Adds the hold of an entry that was refused just now, before its record is in the topic."""
        self._put(epoch, hold.order_id, hold)
        self._unread[epoch, hold.order_id] = hold.entry_id

    def read(self, epoch: int, order_id: OrderId, hold: Hold | None) -> None:
        """Takes a record of the topic; None is a tombstone."""
        own = self._unread.get((epoch, order_id))
        if own is not None:
            if hold is None or hold.entry_id != own:
                return
            del self._unread[epoch, order_id]
        if hold is not None:
            self._put(epoch, order_id, hold)
        elif self._counts[epoch] and self._kept.get(epoch, order_id) is not None:
            self._kept.put(epoch, order_id, None)
            self._counts[epoch] -= 1
            self.total -= 1
        assert self._counts[epoch] >= 0

    def _put(self, epoch: int, order_id: OrderId, hold: Hold) -> None:
        if self._counts[epoch] == 0 or self._kept.get(epoch, order_id) is None:
            self._counts[epoch] += 1
            self.total += 1
        self._kept.put(epoch, order_id, encode_hold(hold))
