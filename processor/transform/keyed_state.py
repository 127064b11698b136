"""The keyed state: what is known of each order of one partition, staged per transaction, rebuilt from the changelog.

    get ──► staged, else store          stage(order, state) ──► staged ──changes()──► changelog (in the transaction)
                                                                   │
                                        commit(offset) ────────────┴──► store, with the changelog's next offset
                                        rollback() ────────────────────► forgotten

Owned by the transform thread. Invariants:

- the store never holds what is not committed in the changelog: it is written only after the commit, in one write
  together with the changelog's next offset, so after any crash it reflects the changelog up to exactly that offset;
- one changelog record per order and transaction, the last state, whose bytes are the store's bytes.

Keys in the store: `m` what this store is and how far it reflects the changelog; `o` + order ID, the state; `p` +
order ID, an index of the orders that hold parked events (their number is what a restart must know without reading
every state).

A store is trusted only for as long as the changelog still holds every tombstone since: compaction lets go of a
tombstone after `delete.retention.ms`, and an older store that reads only the tail would bring erased orders back. So
the store says as of when it is (`Meta.as_of_ms`), and `partitions.py` restores an old one from the beginning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from processor.errors import StateCorrupt
from processor.interfaces import Store
from processor.records import OrderId, Record
from processor.transform import order_state
from processor.transform.order_state import OrderState

_META: Final = b"m"
_ORDER: Final = b"o"
_PARKED: Final = b"p"
_AFTER_PARKED: Final = b"q"
_PARKED_VALUE: Final = struct.Struct(">qI")
_FORMAT: Final = 1
_SCAN_RECORDS: Final = 1000
"""Keys read from the store in one call, so that opening a store with many parked orders stays bounded in memory."""


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """What a store says of itself. `identity` names the changelog partition that it was made from, `as_of_ms` is the
    wall clock when it was last written."""

    format: int
    identity: str
    next_offset: int
    as_of_ms: int = 0


class Parked(msgspec.Struct, frozen=True):
    """That an order holds parked events: since when the oldest is (epoch ms), and how many."""

    since_ms: int
    events: int


class KeyedState:
    """The orders of one partition.

    Mutable: `_staged` what this transaction changed (None: erased), `_encoded` the same as bytes once asked for,
    `_weights` how large the states that it touched are about to be, `parked` the index of parked events as of the last
    commit, `next_offset` the changelog offset up to which the store reflects it, `as_of_ms` since when (0: empty).
    """

    def __init__(self, partition: int, store: Store, identity: str) -> None:
        self.partition = partition
        self._store = store
        self._identity = f"{identity}/{partition}"
        self._staged: dict[OrderId, OrderState | None] = {}
        self._encoded: list[tuple[bytes, bytes | None]] = []
        self._weights: dict[OrderId, int] = {}
        meta = self._read_meta()
        self.next_offset = meta.next_offset
        self.as_of_ms = meta.as_of_ms
        self.parked = dict(self._read_parked())

    def get(self, order_id: OrderId) -> OrderState | None:
        """The state as this transaction sees it. Raises `StateCorrupt`."""
        if order_id in self._staged:
            return self._staged[order_id]
        stored = self._store.get(_ORDER + order_id.encode())
        if stored is None:
            return None
        self._weights[order_id] = len(stored)
        return order_state.decode(stored)

    def stage(self, order_id: OrderId, state: OrderState | None) -> None:
        self._staged[order_id] = state

    def grow(self, order_id: OrderId, event_bytes: int) -> int:
        """About how many bytes the state of an order has after an event of so many."""
        weight = self._weights.get(order_id, 0) + event_bytes
        self._weights[order_id] = weight
        return weight

    def changes(self) -> Sequence[tuple[bytes, bytes | None]]:
        """What this transaction writes to the changelog: one record per touched order, None where it is erased."""
        self._encoded = [
            (order_id.encode(), None if state is None else order_state.encode(state))
            for order_id, state in self._staged.items()
        ]
        return self._encoded

    def commit(self, last_offset: int | None, now_ms: int) -> None:
        """The transaction is committed, and `last_offset` is that of its last changelog record (None: it had none)."""
        assert (last_offset is None) == (not self._encoded), "a changelog offset goes with changes, and only with them"
        if last_offset is not None:
            assert last_offset >= self.next_offset, f"changelog went back: {last_offset} < {self.next_offset}"
            self._write(self._encoded, last_offset + 1, now_ms)
        self.rollback()

    def rollback(self) -> None:
        """Forgets what was staged."""
        self._staged.clear()
        self._encoded = []
        self._weights.clear()

    def restore(self, records: Sequence[Record], next_offset: int, now_ms: int) -> None:
        """Takes changelog records as they were read, up to `next_offset`, which may be past the last of them.

        Raises `StateCorrupt` where one of them is no state of an order.
        """
        assert not self._staged, "restore under a transaction"
        latest: dict[bytes, bytes | None] = {}
        for record in records:
            if record.key is not None:
                latest[record.key] = record.value
        self._write(list(latest.items()), next_offset, now_ms)

    def vouch(self, now_ms: int) -> None:
        """Nobody else has written to the changelog until now: the store is as of now, however long ago it changed."""
        if self.next_offset > 0:
            self._write((), self.next_offset, now_ms)

    def stale(self, before_ms: int, after: bytes, records_max: int) -> tuple[list[OrderId], bytes]:
        """Orders that were last touched before `before_ms`, among the next `records_max` after the key `after`.

        Not those that this transaction touches, nor those with parked events: these leave as dead letters, when they
        have waited for too long. Returns them with the key to go on after; empty when the end is reached. Reads no
        state whole.
        """
        found: list[OrderId] = []
        pairs = self._store.scan(_ORDER + after + (b"\x00" if after else b""), records_max)
        for key, value in pairs:
            if not key.startswith(_ORDER):
                return found, b""
            touched_ms, parked_since_ms = order_state.peek(value)
            if touched_ms < before_ms and not parked_since_ms:
                order_id = _order_id(key[1:])
                if order_id not in self._staged:
                    found.append(order_id)
        return found, pairs[-1][0][1:] if len(pairs) == records_max else b""

    def parked_summary(self, now_ms: int) -> tuple[int, float]:
        """How many events are parked, and for how many seconds the oldest has been."""
        if not self.parked:
            return 0, 0.0
        since_ms = min(parked.since_ms for parked in self.parked.values())
        return sum(parked.events for parked in self.parked.values()), max(0.0, (now_ms - since_ms) / 1000)

    @property
    def orders(self) -> int:
        """About how many orders are known (RocksDB's own estimate)."""
        return max(0, self._store.estimated_keys() - len(self.parked) - 1)

    def close(self) -> None:
        self._store.close()

    def _write(self, pairs: Sequence[tuple[bytes, bytes | None]], next_offset: int, now_ms: int) -> None:
        writes: list[tuple[bytes, bytes | None]] = []
        parked_before = self.parked
        for key, value in pairs:
            writes.append((_ORDER + key, value))
            since_ms = 0 if value is None else order_state.peek(value)[1]
            if since_ms or (parked_before and _order_id(key) in parked_before):
                order_id = _order_id(key)
                if value is None or not since_ms:
                    parked_before.pop(order_id, None)
                    writes.append((_PARKED + key, None))
                else:
                    events = len(order_state.decode(value).parked)
                    parked_before[order_id] = Parked(since_ms, events)
                    writes.append((_PARKED + key, _PARKED_VALUE.pack(since_ms, events)))
        writes.append((_META, msgspec.msgpack.encode(Meta(_FORMAT, self._identity, next_offset, now_ms))))
        self._store.write(writes)
        self.next_offset = next_offset
        self.as_of_ms = now_ms

    def _read_meta(self) -> Meta:
        """What the store says of itself; offset 0 for an empty store. Raises `StateCorrupt`."""
        stored = self._store.get(_META)
        if stored is None:
            if self._store.scan(b"", 1):
                raise StateCorrupt("the store holds data but does not say of what")
            return Meta(_FORMAT, self._identity, 0)
        try:
            meta: Meta = msgspec.msgpack.decode(stored, type=Meta)
        except msgspec.MsgspecError as broken:
            raise StateCorrupt(f"what the store says of itself cannot be read: {broken}") from broken
        if meta.format != _FORMAT:
            raise StateCorrupt(f"the store has format {meta.format}, and this version reads {_FORMAT}")
        if meta.identity != self._identity:
            raise StateCorrupt(f"the store is of {meta.identity}, not of {self._identity}")
        return meta

    def _read_parked(self) -> Iterator[tuple[OrderId, Parked]]:
        start = _PARKED
        while pairs := self._store.scan(start, _SCAN_RECORDS):
            for key, value in pairs:
                if key >= _AFTER_PARKED:
                    return
                try:
                    parked = Parked(*_PARKED_VALUE.unpack(value))
                except struct.error as broken:
                    raise StateCorrupt(f"the index of parked events cannot be read: {broken}") from broken
                yield _order_id(key[1:]), parked
            start = pairs[-1][0] + b"\x00"


def _order_id(key: bytes) -> OrderId:
    try:
        return OrderId(key.decode())
    except UnicodeDecodeError as broken:
        raise StateCorrupt(f"a key is no order ID: {broken}") from broken
