"""OffsetSet: some of a partition's offsets, in an eighth of a byte each.

Owned by the reader of a partition's resolutions. Memory is that of the span it covers, not of what is in it: ten
million offsets are 1.25 MB whether all of them are in the set or every other one. Chunks without an offset cost
nothing.

Not chosen: a set of integers (60 bytes each); runs of offsets (every other letter resolved is their worst case, 100
bytes each, and orders are resolved one here and one there).
"""

from __future__ import annotations

from typing import Final

_CHUNK_BITS: Final = 16
"""65,536 offsets a chunk, 8 KB."""
_IN_CHUNK: Final = (1 << _CHUNK_BITS) - 1


class OffsetSet:
    """Mutable: `_chunks` by the offset's high bits, one bit an offset; `_count` the bits that are set."""

    __slots__ = ("_chunks", "_count")

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._count = 0

    def add(self, offset: int) -> None:
        assert offset >= 0, f"no offset: {offset}"
        chunk = self._chunks.get(offset >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[offset >> _CHUNK_BITS] = bytearray(1 << (_CHUNK_BITS - 3))
        place, bit = (offset & _IN_CHUNK) >> 3, 1 << (offset & 7)
        if not chunk[place] & bit:
            chunk[place] |= bit
            self._count += 1

    def discard(self, offset: int) -> None:
        chunk = self._chunks.get(offset >> _CHUNK_BITS)
        place, bit = (offset & _IN_CHUNK) >> 3, 1 << (offset & 7)
        if chunk is not None and chunk[place] & bit:
            chunk[place] ^= bit
            self._count -= 1

    def __contains__(self, offset: int) -> bool:
        chunk = self._chunks.get(offset >> _CHUNK_BITS)
        return chunk is not None and bool(chunk[(offset & _IN_CHUNK) >> 3] >> (offset & 7) & 1)

    def __len__(self) -> int:
        return self._count
