"""A local disk in memory: stores that outlive the process that wrote them, and break when they are told to."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from processor.errors import StateCorrupt

Contents = dict[bytes, bytes]


class DictStore:
    """One partition's store. `touched` is called with `read` or `write` before anything happens, and may raise."""

    def __init__(self, contents: Contents, touched: Callable[[str], None] = lambda _how: None) -> None:
        self.contents = contents
        self._touched = touched
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        self._open("read")
        return self.contents.get(key)

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        self._open("write")
        for key, value in pairs:
            if value is None:
                self.contents.pop(key, None)
            else:
                self.contents[key] = value

    load = write

    def purge(self, key: bytes) -> None:
        self._open("write")

    def scan(self, start: bytes, records_max: int) -> list[tuple[bytes, bytes]]:
        self._open("read")
        keys = sorted(self.contents)
        first = bisect_left(keys, start)
        return [(key, self.contents[key]) for key in keys[first : first + records_max]]

    def close(self) -> None:
        self._closed = True

    def _open(self, how: str) -> None:
        assert not self._closed, f"a closed store: {how}"
        self._touched(how)


class Disk:
    """The stores of one worker. Mutable: `partitions` is what lies on the disk, `broken` those that cannot be opened,
    `wiped` how often something was."""

    def __init__(self) -> None:
        self.partitions: dict[int, Contents] = {}
        self.broken: set[int] = set()
        self.wiped = 0
        self.touched: Callable[[str], None] = lambda _how: None

    def open(self, partition: int) -> DictStore:
        if partition in self.broken:
            raise StateCorrupt(f"the store of partition {partition} cannot be opened")
        return DictStore(self.partitions.setdefault(partition, {}), lambda how: self.touched(how))

    def wipe(self, partition: int) -> None:
        self.broken.discard(partition)
        self.partitions.pop(partition, None)
        self.wiped += 1

    def numbers(self) -> list[int]:
        return sorted(self.partitions)
