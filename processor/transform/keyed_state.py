"""keyed_state: the state of each order of one partition, staged per transaction, rebuilt from the changelog.

    get ──► staged, else store          stage(order, state) ──► staged ──changes()──► changelog (in the transaction)
                                                                   │
                                        commit(offset) ────────────┴──► store, with the changelog's next offset
                                        rollback() ────────────────────► forgotten

Owned by the transform thread. Invariants:

- the store never holds what is not committed in the changelog: it is written only after the commit, in one write
  together with the changelog's next offset, so after any crash it reflects the changelog up to exactly that offset;
- one changelog record per order and transaction, the last state, whose bytes are the store's bytes.

Keys in the store: `b` the book (`book.py`), as the changelog has it; `e` + order ID, an erased order that may still be
in the store's files; `m` the header (`Meta`); `o` + order ID, the state; `p` + order ID, an index of the orders with
parked events, so that a restart knows them without reading every state.

A store is trusted only while the changelog has every tombstone since its last write (`Meta.as_of_ms`). Compaction
removes a tombstone after `delete.retention.ms`, and an older store that reads only the tail would bring erased orders
back. So `partitions.py` restores an old store from the beginning.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from processor.errors import StateCorrupt, Unusable
from processor.interfaces import Store
from processor.records import OrderId
from processor.transform import order_state
from processor.transform.book import BOOK_KEY, REBUILD, Book, decode_book, encode_book
from processor.transform.order_state import OrderState

log = structlog.get_logger(__name__)

_BOOK: Final = b"b"
_ERASED: Final = b"e"
_META: Final = b"m"
_ORDER: Final = b"o"
_PARKED: Final = b"p"
_PARKED_VALUE: Final = struct.Struct(">qI")
_FORMAT: Final = 1
_ERASED_MAX: Final = 10_000
"""The most erased orders that wait for a purge: a producer of tombstones erases more than a disk can purge."""
_SCAN_RECORDS: Final = 1000
"""Keys read from the store in one call: opening a store with many parked orders stays bounded in memory."""


_Values = Mapping[bytes, bytes | None]
_Write = Callable[[Iterable[tuple[bytes, bytes | None]]], None]


class Meta(msgspec.Struct, frozen=True, array_like=True):
    """The header of a store. `identity` names the changelog partition that it was made from, `as_of_ms` is the wall
    clock of its last write, `orders` the number of orders in it (-1: not counted)."""

    format: int
    identity: str
    next_offset: int
    as_of_ms: int = 0
    orders: int = -1


class ForeignStore(StateCorrupt):
    """The store is of another changelog, with this header and this book."""

    def __init__(self, message: str, meta: Meta, book: Book | None) -> None:
        super().__init__(message)
        self.meta = meta
        self.book = book


class Parked(msgspec.Struct, frozen=True):
    """The parked events of an order: since when the oldest waits (epoch ms), and how many."""

    since_ms: int
    events: int


class KeyedState:
    """The orders of one partition.

    Mutable, of this transaction: `_staged` the changed states (None: erased), `_encoded` their bytes once asked for,
    `_weights` the expected sizes of the states that it touched, `_existing` those that the store has, `_erasing` the
    orders that it erases, `_grown` the number of orders after its commit. Mutable, as of the last commit: `parked` the
    index of parked events, `next_offset` the changelog offset up to which the store reflects it, `as_of_ms` the time of
    that (0: empty), `erased` the orders that may still be on the disk, `orders` the number of orders (an upper bound
    while `_counted` is false), `book` the newest book (None: the changelog has none yet).
    """

    def __init__(self, partition: int, store: Store, identity: str) -> None:
        self.partition = partition
        self._store = store
        self._identity = f"{identity}/{partition}"
        self._staged: dict[OrderId, OrderState | None] = {}
        self._encoded: list[tuple[bytes, bytes | None]] = []
        self._weights: dict[OrderId, int] = {}
        self._existing: set[OrderId] = set()
        self._erasing: set[OrderId] = set()
        self.erased = {key.removeprefix(_ERASED) for key, _ in _scanned(store, _ERASED)}
        meta = read_meta(store) or Meta(_FORMAT, self._identity, 0, orders=0)
        if meta.identity != self._identity:
            raise ForeignStore(f"the store is of {meta.identity}, not of {self._identity}", meta, book_of(store))
        self.next_offset = meta.next_offset
        self.as_of_ms = meta.as_of_ms
        self.book = book_of(store)
        self.orders = self._grown = max(meta.orders, 0)
        self._counted = meta.orders >= 0
        try:
            index = {_order_id(key[1:]): _PARKED_VALUE.unpack(value) for key, value in _scanned(store, _PARKED)}
        except struct.error as broken:
            raise StateCorrupt(f"the index of parked events cannot be read: {broken}") from broken
        self.parked = {order_id: Parked(*value) for order_id, value in index.items()}

    def get(self, order_id: OrderId) -> OrderState | None:
        """The state as this transaction sees it. Raises `StateCorrupt`."""
        if order_id in self._staged:
            return self._staged[order_id]
        stored = self._store.get(_ORDER + order_id.encode())
        if stored is None:
            return None
        self._weights[order_id] = len(stored)
        self._existing.add(order_id)
        return order_state.decode(stored)

    def stage(self, order_id: OrderId, state: OrderState | None) -> None:
        self._staged[order_id] = state

    def erase(self, order_id: OrderId) -> None:
        """Stages an erasure. A person's data has to leave the disk too (`purge`), before its table is written anew."""
        self.stage(order_id, None)
        self._erasing.add(order_id)

    def grow(self, order_id: OrderId, event_bytes: int) -> int:
        """Returns roughly how many bytes the state of an order has after an event of `event_bytes`."""
        weight = self._weights.get(order_id, 0) + event_bytes
        self._weights[order_id] = weight
        return weight

    def changes(self, book: Book) -> Sequence[tuple[bytes, bytes | None]]:
        """Returns this transaction's changelog records: one per touched order (None: erased), and last the book."""
        existing = self._existing
        grown = sum((state is not None) - (order_id in existing) for order_id, state in self._staged.items())
        self._grown = self.orders + grown
        self._encoded = [
            (order_id.encode(), None if state is None else order_state.encode(state))
            for order_id, state in self._staged.items()
        ]
        told = msgspec.structs.replace(book, orders=self._grown if self._counted else -1)
        self._encoded.append((BOOK_KEY, encode_book(told)))
        return self._encoded

    def commit(self, last_offset: int | None, now_ms: int) -> None:
        """Writes what was staged to the store: the transaction is committed, and `last_offset` is that of its last
        changelog record (None: it had none). Raises `Unusable` if the changelog was made again."""
        assert (last_offset is None) == (not self._encoded), "a changelog offset goes with changes, and only with them"
        if last_offset is not None:
            if last_offset < self.next_offset:
                what = f"went back from {self.next_offset} to {last_offset}: it was deleted and made again"
                raise Unusable([f"changelog partition {self.partition} {what}; {REBUILD}"])
            gone = [order_id.encode() for order_id in self._erasing]
            self._write(dict(self._encoded), last_offset + 1, now_ms, self._grown, self._store.write, gone)
        self.rollback()

    def rollback(self) -> None:
        """Forgets what was staged."""
        self._staged.clear()
        self._encoded = []
        self._weights.clear()
        self._existing.clear()
        self._erasing.clear()

    def restore(self, newest: _Values, next_offset: int, now_ms: int, *, bulk: bool = False) -> None:
        """Takes the changelog's records up to `next_offset`, the last of each key. With `bulk` a crash may lose the end
        of them, which is read again then. Raises `StateCorrupt` if a record is not the state of an order."""
        assert not self._staged, "restore under a transaction"
        write = self._store.load if bulk else self._store.write
        gone: list[bytes] = []
        if self.next_offset > 0 and not bulk:  # another worker erased them while this store was idle
            erased = [key for key, value in newest.items() if value is None]
            gone = [key for key in erased if self._store.get(_ORDER + key) is not None]
        self._counted = self._counted and not newest
        self._write(newest, next_offset, now_ms, self.orders + len(newest) - (BOOK_KEY in newest), write, gone)

    def restored(self) -> None:
        """Counts the orders: the changelog has been read to its end."""
        if not self._counted:
            of_book = -1 if self.book is None else self.book.orders
            self.orders = of_book if of_book >= 0 else sum(1 for _ in orders_of(self._store))
            self._counted = True

    def vouch(self, now_ms: int) -> None:
        """Notes that the store is as of now, because no other worker has written to the changelog until now."""
        if self.next_offset > 0:
            self._write({}, self.next_offset, now_ms, self.orders, self._store.write)

    def stale(self, before_ms: int, after: bytes, records_max: int) -> tuple[list[OrderId], bytes]:
        """Returns the orders that were last touched before `before_ms`, among the next `records_max` after the key
        `after`, and the key to go on after; it is empty when the end is reached. Leaves out the orders that this
        transaction touches, and those with parked events, which become dead letters in time. Decodes no state."""
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
                    self._existing.add(order_id)
        return found, pairs[-1][0][1:] if len(pairs) == records_max else b""

    def parked_summary(self, now_ms: int) -> tuple[int, float]:
        """Returns how many events are parked, and for how many seconds the oldest has been."""
        if not self.parked:
            return 0, 0.0
        since_ms = min(parked.since_ms for parked in self.parked.values())
        return sum(parked.events for parked in self.parked.values()), max(0.0, (now_ms - since_ms) / 1000)

    def purge(self) -> None:
        """Removes one of the erased orders from the disk. Raises `StateCorrupt`."""
        key = next(iter(self.erased))
        self._store.purge(_ORDER + key)
        self._store.write([(_ERASED + key, None)])
        self.erased.discard(key)

    def close(self) -> None:
        self._store.close()

    def _write(
        self, newest: _Values, next_offset: int, now_ms: int, orders: int, write: _Write, gone: Sequence[bytes] = ()
    ) -> None:
        """Makes the store reflect the changelog up to `next_offset`, by its method `write`; purges `gone` later."""
        states = dict(newest)
        book = self.book
        writes: list[tuple[bytes, bytes | None]] = []
        if BOOK_KEY in states:
            told = states.pop(BOOK_KEY)
            assert told is not None, "a book is written over, never erased"
            book = decode_book(told)
            writes.append((_BOOK, told))
        writes += [(_ORDER + key, value) for key, value in states.items()]
        parked = self.parked
        known = [key for key in states if _order_id(key) in parked] if parked else []
        for key in {*order_state.remarkable(states), *known}:
            value = states[key]
            since_ms = 0 if value is None else order_state.peek(value)[1]
            if value is not None and since_ms:
                events = len(order_state.decode(value).parked)
                parked[_order_id(key)] = Parked(since_ms, events)
                writes.append((_PARKED + key, _PARKED_VALUE.pack(since_ms, events)))
            elif parked and parked.pop(_order_id(key), None) is not None:
                writes.append((_PARKED + key, None))
        meta = Meta(_FORMAT, self._identity, next_offset, now_ms, orders if self._counted else -1)
        writes.append((_META, msgspec.msgpack.encode(meta)))
        if len(self.erased) + len(gone) > _ERASED_MAX:
            log.warning("erased orders stay in the store's files until RocksDB writes them anew", orders=len(gone))
            gone = ()
        writes += [(_ERASED + key, b"") for key in gone]
        write(writes)
        self.erased.update(gone)
        self.book = book
        self.orders = orders
        self.next_offset = next_offset
        self.as_of_ms = now_ms


def read_meta(store: Store) -> Meta | None:
    """Returns the header of a store; None if the store is empty. Raises `StateCorrupt`."""
    stored = store.get(_META)
    if stored is None:
        if store.scan(b"", 1):
            raise StateCorrupt("the store has data but no header")
        return None
    try:
        meta: Meta = msgspec.msgpack.decode(stored, type=Meta)
    except msgspec.MsgspecError as broken:
        raise StateCorrupt(f"the store's header cannot be read: {broken}") from broken
    if meta.format != _FORMAT:
        raise StateCorrupt(f"the store has format {meta.format}, and this version reads {_FORMAT}")
    return meta


def orders_of(store: Store) -> Iterator[tuple[bytes, bytes]]:
    """Returns the orders in a store: key and state, as the changelog has them."""
    return ((key[1:], value) for key, value in _scanned(store, _ORDER))


def _scanned(store: Store, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = prefix
    while pairs := store.scan(start, _SCAN_RECORDS):
        for key, value in pairs:
            if not key.startswith(prefix):
                return
            yield key, value
        start = pairs[-1][0] + b"\x00"


def book_of(store: Store) -> Book | None:
    stored = store.get(_BOOK)
    return None if stored is None else decode_book(stored)


def _order_id(key: bytes) -> OrderId:
    try:
        return OrderId(key.decode())
    except UnicodeDecodeError as broken:
        raise StateCorrupt(f"a key is no order ID: {broken}") from broken
