"""Keys are looked for where Java's producers put them."""

from __future__ import annotations

import pytest

from processor.operate.order.partitioner import by_crc32, by_murmur2, candidates, murmur2

JAVAS_OWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""The test vectors of Kafka's own UtilsTest."""


@pytest.mark.parametrize("data", JAVAS_OWN)
def test_murmur2_is_javas(data: bytes) -> None:
    unsigned = murmur2(data)
    assert (unsigned - (1 << 32) if unsigned >> 31 else unsigned) == JAVAS_OWN[data]


def test_a_partitioner_is_believed_until_a_record_contradicts_it() -> None:
    keys = [b"ord-%d" % number for number in range(20)]
    assert candidates(b"ord-1", 12, [])[0] == by_murmur2(b"ord-1", 12)
    assert candidates(b"ord-1", 12, [(key, by_murmur2(key, 12)) for key in keys]) == [by_murmur2(b"ord-1", 12)]
    assert candidates(b"ord-1", 12, [(key, by_crc32(key, 12)) for key in keys]) == [by_crc32(b"ord-1", 12)]


def test_where_no_known_partitioner_fits_it_may_be_anywhere() -> None:
    key = b"ord-1"
    elsewhere = next(at for at in range(12) if at not in (by_murmur2(key, 12), by_crc32(key, 12)))
    assert candidates(b"ord-2", 12, [(key, elsewhere)]) == list(range(12))
