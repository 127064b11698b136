"""sent: the last accepted change of each object, on the compacted topic `hako.sent` and in a store on the local disk.

    accepted ─► a record on `hako.sent` ─► acknowledged ─► the source record's offset is finished
    key  items/SKU, warehouses/ID or inventory/WAREHOUSE/SKU, in the partition of the source record
    value  `SentRecord`, JSON; a deletion's too

A worker reads its partitions to their end when it is assigned them. So after any move it knows the verb of each object,
the changes that are older than the accepted one, and the records that it reads again but were accepted before. An
unchanged topic is not sent again, and a letter from last week does not bring back a deleted object (its record of some
150 bytes stays). If the topic is lost, Hako's refusals correct the verbs, at the cost of a request for each array.

Not chosen: to ask Hako (120 requests a minute); the group's offsets alone (they tell neither verbs nor times).
"""

from __future__ import annotations

from typing import Final

import msgspec

from processor.api.verdicts import Delivered
from processor.hako.changes import Change, Sent, Verb
from processor.interfaces import Store
from processor.letters.by_epoch import ByEpoch
from processor.letters.holds import Hold
from processor.records import EntryId, NewRecord, OrderId, Record
from processor.send.kafka_thread.beginnings import Log
from processor.send.pending import Ended


class SentRecord(msgspec.Struct, frozen=True, gc=False):
    """The value on `hako.sent`: the change's offset (`rank`), its own time (levels), the JSON sent; times are epoch ms.
    `place` is the log that the rank counts in; empty from older versions."""

    rank: int
    occurred_at: int | None
    verb: str
    status: int
    attempts: int
    sent_at: int
    entry_id: str
    object: msgspec.Raw = msgspec.Raw(b"null")
    place: str = ""


_JSON: Final = msgspec.json.Encoder()
_RECORD: Final = msgspec.json.Decoder(SentRecord)
_SENT: Final = msgspec.msgpack.Decoder(Sent)


def sent_write(ended: Ended[Change], delivered: Delivered, topic: str, place: str = "") -> NewRecord:
    """Returns the record of an accepted change."""
    pending, change = ended.pending, ended.pending.entry
    rank, at, verb, raw = change.rank, change.occurred_at_ms, change.verb.value, msgspec.Raw(change.body())
    sent = SentRecord(rank, at, verb, delivered.status, pending.attempts, ended.at_ms, pending.entry_id, raw, place)
    return NewRecord(topic, pending.record.partition, change.key.encode(), _JSON.encode(sent), [])


class SentPast:
    """Reads `hako.sent`. `tables` has the source topic of each kind of object, by the first part of its keys."""

    def __init__(self, topic: str, tables: dict[str, str]) -> None:
        self.topic = topic
        self._tables = tables

    @property
    def followed(self) -> bool:
        """False: only this worker writes while the partition is its own."""
        return False

    def read(self, record: Record, log: Log) -> tuple[str, Sent | None] | None:
        """Returns the key and the change of a record; None if the record is foreign, no change if it is a tombstone."""
        if record.key is None:
            return None
        try:
            key = record.key.decode()
            if record.value is None:
                return key, None
            sent = _RECORD.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        # An offset of another log does not count in this one: every record here is newer.
        foreign = sent.place != log.place if sent.place else sent.rank >= log.end
        return key, Sent(-1 if foreign else sent.rank, sent.occurred_at, gone=sent.verb == Verb.DELETE)

    def concerns(self, source: str, key: str) -> bool:
        """True if an object of this key comes from that topic."""
        return self._tables.get(key.partition("/")[0]) == source


class SentObjects:
    """`Memory` of the sender, `Known` of the gathering. Mutable: `_epochs` are the open assignments."""

    def __init__(self, store: Store) -> None:
        self._kept = ByEpoch(store)
        self.sweep = self._kept.sweep
        self._epochs: set[int] = set()
        self.total = 0
        """The number of holds: Hako has none."""

    def open(self, epoch: int) -> None:
        assert epoch not in self._epochs, f"epoch {epoch} is open already"
        self._epochs.add(epoch)

    def close(self, epoch: int) -> None:
        self._epochs.remove(epoch)
        self._kept.leave(epoch)

    def read(self, epoch: int, order_id: OrderId, past: Sent | None) -> None:
        """Takes a record of the topic; None is a tombstone."""
        if epoch in self._epochs:
            self._kept.put(epoch, order_id, None if past is None else msgspec.msgpack.encode(past))

    def sent(self, epoch: int, key: str) -> Sent | None:
        value = self._kept.get(epoch, key)
        return None if value is None else _SENT.decode(value)

    def grounded(self, change: Change) -> bool:
        """True if the objects that a level names were accepted and are not deleted, as this worker knows from its own
        records, or because the level itself was accepted. It does not know objects of other workers' partitions."""
        named = [self._found(parent) for parent in change.parents]
        if any(sent is not None and sent.gone for sent in named):
            return False
        level = self._found(change.key) if None in named else None
        return None not in named or (level is not None and not level.gone)

    def _found(self, key: str) -> Sent | None:
        """Returns the last accepted change of an object, from any open partition."""
        return next((sent for epoch in self._epochs if (sent := self.sent(epoch, key)) is not None), None)

    def accepted(self, epoch: int, key: str, sent: Sent) -> None:
        self.read(epoch, OrderId(key), sent)

    def count(self, epoch: int) -> int:
        """Returns the number of held orders: Hako has none."""
        return 0

    def of(self, epoch: int, order_id: OrderId) -> Hold | None:
        return None

    def refused(self, epoch: int, hold: Hold) -> None:
        raise AssertionError(f"a refusal holds nothing here: {EntryId(hold.entry_id)}")
