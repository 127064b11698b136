"""The local disk: one RocksDB per partition, in a directory that one process has claimed.

    PROCESSOR_STATE_DIR/
      worker-0/           claimed by a lock on worker-0/claim; the next process takes worker-1, and so on
        claim             holds the worker's name, made once, which is part of the transactional ID
        partition-7/      a RocksDB

Owned by the transform thread. The store is a cache of the changelog. A write is in RocksDB's log, and so in the page
cache, when it returns: it survives `kill -9`. A power cut may lose the last writes; the offset that is stored in the
same write is older then, too, and the changelog brings the rest. A restore does not write to the log: a `kill -9` may
lose its last part in the same way. The first write after it, which goes to the log, waits until all of it is on disk.

Memory is bounded: one block cache for all partitions, with index and filter blocks, and two write buffers a partition.
At the defaults: 64 MiB + 8 MiB a partition.

Not chosen: one directory by host name (two processes on one host would fence each other), SQLite (5 times the write
cost), state in a dict (1 million orders are 2.5 GB).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from processor.errors import Fatal, StateCorrupt, Unusable

WORKERS_MAX: Final = 256
"""Processes that may share one state directory; more are the mistake of a loop."""

_OPEN_FILES_MAX: Final = 64
"""Open table files per partition, so that 12 partitions stay below the limit of 1,024 file descriptors."""

_FULL: Final = ("No space left", "Disk quota exceeded")
_DISK_TROUBLE: Final = (
    *_FULL,
    "File too large",
    "Read-only file system",
    "Permission denied",
    "Operation not permitted",
    "Too many open files",
    "Cannot allocate memory",
    "Input/output error",
    "Stale file handle",
    "Structure needs cleaning",
)
"""Faults of the disk, not of the store: wiping would not help."""

_LOADING: Final = {"level0_file_num_compaction_trigger": "24"}
_LOADED: Final = {"level0_file_num_compaction_trigger": "4"}
"""RocksDB's default. Nobody reads a store during a load, and tables that are merged many at a time are merged less
often."""
_TABLES_SLOW: Final = 48
_TABLES_MAX: Final = 64
"""Tables that wait to be merged: from so many on a write is slowed down, and it waits at so many. By default (20, 36)
half of a load would be waiting; with more, the reads after it look into too many tables."""

_NAME: Final = re.compile(r"[0-9a-f]{16}\Z")
"""A worker's name. `kafka/predecessors.py` recognises workers by it."""


class RocksStore:
    """One partition's RocksDB, raw bytes in and out. Mutable: `_loading` is true while a part of it is neither in the
    log nor in a table."""

    def __init__(self, path: Path, options: Options) -> None:
        self._path = path
        self._loading = False
        self._unlogged = WriteOptions()
        setattr(self._unlogged, "disable_wal", True)  # noqa: B010 - a property; its stub says method
        with self._checked("opened"):
            self._db = Rdict(str(path), options)

    def get(self, key: bytes) -> bytes | None:
        try:  # `_checked` would cost more than the read
            found: bytes | None = self._db.get(key)
        except Exception as broken:
            raise self._trouble("read", broken) from broken
        return found

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._end_load()
        with self._checked("written"):
            self._db.write(_batch(pairs))

    def load(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        with self._checked("written"):
            if not self._loading:
                self._db.set_options(_LOADING)
                self._loading = True
            self._db.write(_batch(pairs), self._unlogged)

    def _end_load(self) -> None:
        if self._loading:
            with self._checked("written"):
                self._db.flush()
                self._db.set_options(_LOADED)
            self._loading = False

    def purge(self, key: bytes) -> None:
        self._end_load()
        with self._checked("written"):
            self._db.flush()
            self._db.compact_range(key, key)

    def scan(self, start: bytes, records_max: int) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with self._checked("read"):
            # The iterator lives in this call only: one that is left over keeps the database's lock after `close`.
            cursor = self._db.iter()
            cursor.seek(start)
            while cursor.valid() and len(found) < records_max:
                found.append((cursor.key(), cursor.value()))
                cursor.next()
        return found

    def close(self) -> None:
        self._end_load()
        self._db.close()

    @contextmanager
    def _checked(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as broken:  # rocksdict raises Exception itself, for every complaint of RocksDB's
            raise self._trouble(done, broken) from broken

    def _trouble(self, done: str, cause: Exception) -> StateCorrupt | Fatal:
        message = f"the store in {self._path} cannot be {done}: {cause}"
        if any(words in str(cause) for words in _FULL):
            return Fatal(f"{message}; the volume is full: enlarge it, or share the partitions out to more workers")
        if any(words in str(cause) for words in _DISK_TROUBLE):
            return Fatal(message)
        return StateCorrupt(message)


def _batch(pairs: Iterable[tuple[bytes, bytes | None]]) -> WriteBatch:
    batch = WriteBatch(raw_mode=True)
    for key, value in pairs:
        if value is None:
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


class StateDirectory:
    """This process's place under PROCESSOR_STATE_DIR, held by a lock until the process ends.

    `worker` is its name, which survives a restart: a worker that comes back aborts the transaction that its last run
    left open. Raises `Unusable` if the directory cannot be made or written.
    """

    def __init__(self, root: Path, cache_bytes: int, write_buffer_bytes: int) -> None:
        try:
            self._home, self._claim = _claim(root)
            self.worker = _name(self._claim)
        except OSError as refused:
            problem = f"PROCESSOR_STATE_DIR: {root} cannot be used: {refused.strerror}; mount a writable volume there"
            raise Unusable([problem]) from refused
        self._cache = Cache(cache_bytes)
        self._write_buffer_bytes = write_buffer_bytes

    def open(self, partition: int) -> RocksStore:
        return RocksStore(self._path(partition), self._options())

    def wipe(self, partition: int) -> None:
        path = self._path(partition)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as refused:
            raise Fatal(f"the store in {path} cannot be wiped: {refused.strerror}") from refused

    def numbers(self) -> list[int]:
        names = [path.name.removeprefix("partition-") for path in self._home.glob("partition-*")]
        return sorted(int(name) for name in names if name.isdigit())

    def close(self) -> None:
        """Releases the place; the end of the process does the same."""
        os.close(self._claim)

    def _path(self, partition: int) -> Path:
        return self._home / f"partition-{partition}"

    def _options(self) -> Options:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(self._write_buffer_bytes)
        options.set_max_write_buffer_number(2)
        # What a level holds that is merged again soon is not worth a third of a load's CPU.
        options.set_compression_per_level([DBCompressionType.none()] * 2 + [DBCompressionType.lz4()] * 5)
        options.set_max_open_files(_OPEN_FILES_MAX)
        # By default these are 64 lists of one file each: two tables in one list are opened and closed at each read.
        options.set_table_cache_num_shard_bits(0)
        options.set_level_zero_slowdown_writes_trigger(_TABLES_SLOW)
        options.set_level_zero_stop_writes_trigger(_TABLES_MAX)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(1 << 20)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_cache_index_and_filter_blocks(True)
        blocks.set_bloom_filter(10, False)
        # Unsplit, a large table's index and filter exceed a shard of the cache, and each read would load them.
        blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
        blocks.set_partition_filters(True)
        options.set_block_based_table_factory(blocks)
        return options


class Volume:
    """All stores under a PROCESSOR_STATE_DIR, for reading. Raises `Unusable` if a worker runs there."""

    def __init__(self, root: Path) -> None:
        self._claims: list[int] = []
        self._homes = sorted(home for home in root.glob("worker-*") if home.is_dir())
        for home in self._homes:
            claim = os.open(home / "claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._claims.append(claim)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as held:
                self.close()
                raise Unusable([f"PROCESSOR_STATE_DIR: a worker runs in {home}: stop it first"]) from held

    def stores(self) -> Iterator[tuple[int, RocksStore]]:
        """Yields each store with its partition's number; the caller closes it. Skips one that cannot be opened."""
        for home in self._homes:
            for path in sorted(home.glob("partition-*")):
                number = path.name.removeprefix("partition-")
                if number.isdigit():
                    with suppress(StateCorrupt):
                        yield int(number), RocksStore(path, Options(raw_mode=True))

    def close(self) -> None:
        for claim in self._claims:
            os.close(claim)
        self._claims.clear()


def _claim(root: Path) -> tuple[Path, int]:
    """Returns the first worker directory that no living process holds, and the descriptor of its lock."""
    root.mkdir(parents=True, exist_ok=True)
    for number in range(WORKERS_MAX):
        home = root / f"worker-{number}"
        home.mkdir(exist_ok=True)
        descriptor = os.open(home / "claim", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return home, descriptor
    raise Unusable([f"PROCESSOR_STATE_DIR: {root} is in use by {WORKERS_MAX} processes already"])


def _name(claim: int) -> str:
    """Returns the name in a claim. Writes a new name if there is none, or half of one after a crash."""
    known = os.read(claim, 64).decode("ascii", "replace").strip()
    if _NAME.match(known):
        return known
    name = secrets.token_hex(8)
    os.ftruncate(claim, 0)
    os.pwrite(claim, name.encode(), 0)
    os.fsync(claim)
    return name
