"""by_epoch: values by key and assignment of a partition, in one store on the local disk.

    key in the store:  epoch (8 bytes, big endian), then the key

An epoch is one assignment of one partition, so a value of an earlier assignment is never taken for today's. The values
of an assignment that has gone are deleted a thousand at a time, so that a million of them block nothing.

`Holds` and hako's `SentObjects` keep their values here: memory is the same for ten keys and for ten million.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from processor.interfaces import Store

_EPOCH_BYTES: Final = 8
_SWEEP_MAX: Final = 1000


class ByEpoch:
    """Mutable: `_left` has the key prefixes of assignments that have gone and are still in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: deque[bytes] = deque()

    def get(self, epoch: int, key: str) -> bytes | None:
        return self._store.get(_key(epoch, key))

    def put(self, epoch: int, key: str, value: bytes | None) -> None:
        """None deletes."""
        self._store.write([(_key(epoch, key), value)])

    def leave(self, epoch: int) -> None:
        """Marks an assignment as gone; `sweep` deletes its keys."""
        self._left.append(_key(epoch, ""))

    def sweep(self) -> None:
        """Deletes up to a thousand keys of assignments that have gone. Called from time to time."""
        if not self._left:
            return
        prefix = self._left[0]
        found = [key for key, _ in self._store.scan(prefix, _SWEEP_MAX) if key.startswith(prefix)]
        self._store.write([(key, None) for key in found])
        if len(found) < _SWEEP_MAX:
            self._left.popleft()


def _key(epoch: int, key: str) -> bytes:
    return epoch.to_bytes(_EPOCH_BYTES, "big") + key.encode()
