"""Where keys are once topics have more partitions, and who placed them. On a real Kafka: tests/chaos."""

from __future__ import annotations

import pytest

from processor.errors import Unusable
from processor.operate.state.grow import Growth, family_of
from processor.sources.placements import JAVA, by_murmur2

KEYS = [f"order-{number}".encode() for number in range(200)]


def test_keys_go_where_their_producer_puts_them_and_stay_there() -> None:
    growth = Growth(2, 5, JAVA)
    for key in KEYS:
        home = growth.home(key, by_murmur2(key, 2))
        assert home == by_murmur2(key, 5)
        assert growth.home(key, home) == home, "given again, the command finds it at its place"


def test_a_key_that_was_not_where_its_producer_puts_keys_stays() -> None:
    growth = Growth(2, 5, JAVA)
    astray = [(key, 1 - by_murmur2(key, 2)) for key in KEYS if by_murmur2(key, 5) > 1]
    assert astray
    assert all(growth.home(key, at) == at for key, at in astray)


def test_who_places_keys_is_told_from_the_old_places_and_from_those_since_somebody_has_grown_the_topics() -> None:
    old = [(key, by_murmur2(key, 2)) for key in KEYS]
    both = old + [(key, by_murmur2(key, 5)) for key in KEYS[:50]]
    assert family_of(old, 2, 2) is JAVA
    assert family_of(both, 2, 5) is JAVA
    assert family_of([], 2, 2) is JAVA
    with pytest.raises(Unusable, match="not where one partitioner puts them"):
        family_of([(key, number % 7) for number, key in enumerate(KEYS)], 7, 7)
