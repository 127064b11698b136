"""Which partition a key is in. Pure.

Java's producers and librdkafka's `murmur2_random` agree on murmur2, which is what the source topics are written with;
librdkafka's own default (`consistent_random`) is CRC32. Whoever looks for a key tries the first, and believes what the
records in the topic say where they contradict it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF

Partitioner = Callable[[bytes, int], int]
"""From a key and a number of partitions to one of them."""


def murmur2(data: bytes) -> int:
    """32 bits, as `org.apache.kafka.common.utils.Utils.murmur2` has it."""
    length = len(data)
    h = _SEED ^ (length & _MASK)
    whole = length - length % 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def by_murmur2(key: bytes, partitions: int) -> int:
    assert partitions > 0, "a topic without partitions"
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def by_crc32(key: bytes, partitions: int) -> int:
    assert partitions > 0, "a topic without partitions"
    return zlib.crc32(key) % partitions


PARTITIONERS: Final[tuple[Partitioner, ...]] = (by_murmur2, by_crc32)
"""In the order in which they are tried."""


def candidates(key: bytes, partitions: int, seen: list[tuple[bytes, int]]) -> list[int]:
    """The partitions that a key may be in, the likeliest first. `seen` are keys that stand in the topic, with their
    partitions: a partitioner that any of them contradicts is not the producers'; if none is left, it may be anywhere.
    """
    agreeing = [one for one in PARTITIONERS if all(one(other, partitions) == at for other, at in seen)]
    likely = dict.fromkeys(one(key, partitions) for one in agreeing)
    return list(likely) if likely else list(range(partitions))
