"""Keys are looked for where the real clients put them, and a sample of keys says which clients those were."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.sources.placements import (
    FAMILIES,
    JAVA,
    MEND_UNKNOWN,
    Compared,
    Sample,
    by_murmur2,
    compare,
    explain,
    keys_needed,
    murmur2,
)

VECTORS = Path(__file__).parents[2] / "data" / "placements.tsv"
"""Partitions of 12 that the real clients chose on a real Kafka; their versions stand in the file's head."""
FAMILY = {family.name: family for family in FAMILIES}
NAMES = list(FAMILY)

JAVAS_OWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""The test vectors of Kafka's own UtilsTest."""


def vectors() -> dict[str, dict[bytes, int]]:
    lines = [line.split("\t") for line in VECTORS.read_text("utf-8").splitlines() if not line.startswith("#")]
    head, *rows = lines
    return {name: {row[0].encode(): int(row[at]) for row in rows} for at, name in enumerate(head) if at}


PLACED = vectors()
KEYS = [b"ord-%06d" % number for number in range(1_000)]
OWN = [(key, sum(key) * 7 % 12) for key in KEYS]
"""By a partitioner that nobody knows."""


def placed_by(name: str, keys: list[bytes], partitions: int = 12) -> list[tuple[bytes, int]]:
    return [(key, FAMILY[name].of(key, partitions)) for key in keys]


@pytest.mark.parametrize("data", JAVAS_OWN)
def test_murmur2_is_javas(data: bytes) -> None:
    unsigned = murmur2(data)
    assert (unsigned - (1 << 32) if unsigned >> 31 else unsigned) == JAVAS_OWN[data]


def test_the_vectors_are_of_each_family() -> None:
    assert set(PLACED) == set(NAMES)
    assert all(len(of_family) == 57 for of_family in PLACED.values())


@pytest.mark.parametrize("name", NAMES)
def test_each_family_puts_each_key_where_its_real_clients_put_it(name: str) -> None:
    of = FAMILY[name].of
    assert {key: of(key, 12) for key in PLACED[name]} == PLACED[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_says_which_family_placed_it(name: str) -> None:
    seen = explain(PLACED[name].items(), 12)
    assert seen.family is not None
    assert seen.family.name == name
    assert seen.share == 1.0
    assert str(seen).startswith(f"{name} (")
    assert str(seen).endswith("explains 100% of 57 keys")


def test_each_family_but_javas_says_what_makes_it_agree_with_java() -> None:
    assert [one for one in FAMILIES if not one.mend] == [JAVA]


@given(st.binary(max_size=64), st.integers(1, 100_000))
def test_every_family_puts_every_key_into_some_partition(key: bytes, partitions: int) -> None:
    assert all(0 <= one.of(key, partitions) < partitions for one in FAMILIES)


def test_eight_partitions_do_not_tell_the_unsigned_murmur2_from_javas() -> None:
    """The mask takes the sign alone, which no power of two sees: those producers agree, and are said to."""
    seen = explain(placed_by("murmur2_unsigned", KEYS, 8), 8)
    assert seen.family is JAVA
    samples = {name: Sample(8, placed_by(name, KEYS, 8)) for name in ("murmur2", "murmur2_unsigned")}
    assert compare(samples)["murmur2_unsigned"].agrees


def test_too_few_keys_say_nothing() -> None:
    assert keys_needed(12) == 4
    assert keys_needed(2) == 13
    few = explain(placed_by("crc32", KEYS[:3]), 12)
    assert not few.told
    assert few.family is None
    assert str(few) == "3 keys, too few to tell a partitioner"
    assert explain(placed_by("crc32", KEYS[:3] * 50), 12).family is None, "the same keys again are no more keys"


def test_null_and_empty_keys_say_nothing_and_are_counted() -> None:
    assert str(explain([], 12, keyless=200)) == "none of 200 records has a key"
    seen = explain([(b"", 9)] * 50 + placed_by("fnv1a", KEYS[:20]), 12, keyless=30)
    assert (seen.family, seen.share, seen.keys, seen.keyless) == (FAMILY["fnv1a"], 1.0, 20, 30)
    assert str(seen).startswith("fnv1a ("), "what has no key says nothing of what has"


def test_a_producer_that_changed_its_client_is_two_families() -> None:
    seen = explain(placed_by("murmur2", KEYS[:850]) + placed_by("crc32", KEYS[850:]), 12)
    assert seen.family is None
    (first, share), (second, rest) = seen.mixed
    assert (first.name, second.name) == ("murmur2", "crc32")
    assert 0.85 <= share < 0.88
    assert 0.12 < rest <= 0.15
    assert str(seen) == f"producers of several kinds: murmur2 {share:.0%} and crc32 {rest:.0%} of 1000 keys"


def test_what_no_family_explains_is_unknown_and_round_robin_is_said_where_it_shows() -> None:
    """kafkajs' LegacyPartitioner is a hash that nobody else has; kafka-go without a Balancer goes round."""
    assert explain(OWN, 12).family is None
    assert str(explain(OWN, 12)) == "1000 keys are placed by a partitioner that is not known"
    round_robin = [(key, number % 12) for number, key in enumerate(KEYS[:301] + KEYS[:301])]
    assert str(explain(round_robin, 12)) == "301 keys are placed round robin or at random"


def compared(**topics: list[tuple[bytes, int]]) -> dict[str, Compared]:
    return compare({topic: Sample(12, pairs) for topic, pairs in topics.items()})


def test_topics_are_apart_by_the_keys_that_stand_in_both_whatever_placed_them() -> None:
    same = compared(placed=OWN, fulfilled=OWN[:500])["fulfilled"]
    assert (same.reference, same.share, same.compared, same.agrees) == ("placed", 0.0, 500, True)
    other = compared(placed=OWN, fulfilled=[(key, (at + 1) % 12) for key, at in OWN])["fulfilled"]
    assert (other.share, other.compared, other.agrees) == (1.0, 1_000, False)
    assert "Murmur2Balancer" in other.mend


def test_topics_without_a_key_in_common_are_apart_by_the_family_of_either() -> None:
    java, crc32 = placed_by("murmur2", KEYS[:500]), placed_by("crc32", KEYS[500:])
    for placed, fulfilled, mend in (
        (java, crc32, "partitioner=murmur2_random"),
        (crc32, java, "at the producers of the other topic: partitioner=murmur2_random"),
        (java, OWN[500:], MEND_UNKNOWN),
        (OWN[500:], java, f"at the producers of the other topic: {MEND_UNKNOWN}"),
    ):
        found = compared(placed=placed, fulfilled=fulfilled)["fulfilled"]
        assert found.share is not None
        assert 0.85 < found.share < 0.97
        assert found.compared == 500
        assert found.mend == mend
    assert compared(placed=java, fulfilled=placed_by("murmur2", KEYS[500:]))["fulfilled"].share == 0.0


def test_a_few_misplaced_keys_among_many_are_a_small_share() -> None:
    placed = placed_by("murmur2", KEYS)
    fulfilled = placed_by("murmur2", KEYS[:950]) + placed_by("crc32", KEYS[950:])
    found = compared(placed=placed, fulfilled=fulfilled)["fulfilled"]
    assert found.share is not None
    assert 0.03 < found.share <= 0.05
    assert not found.agrees


def test_nothing_is_said_of_topics_of_which_nothing_is_known() -> None:
    other = [(key, sum(key) * 5 % 12) for key in KEYS]
    assert compared(placed=OWN[:500], fulfilled=other[500:])["fulfilled"].share is None
    assert compared(placed=placed_by("murmur2", KEYS), fulfilled=[])["fulfilled"].share is None
    assert compared(placed=[], fulfilled=[])["fulfilled"].agrees


def test_the_first_topic_of_which_anything_is_known_is_what_the_others_are_held_against() -> None:
    found = compared(placed=[], fulfilled=placed_by("crc32", KEYS), refunded=placed_by("murmur2", KEYS))
    assert found["refunded"].reference == "fulfilled"
    assert found["refunded"].share is not None


def test_two_topics_by_one_unknown_partitioner_agree() -> None:
    found = compared(placed=OWN[:600], fulfilled=OWN[400:])["fulfilled"]
    assert (found.placement.family, found.share, found.compared) == (None, 0.0, 200)


def elsewhere(keys: list[bytes]) -> list[tuple[bytes, int]]:
    """Where no family puts them."""
    return [(key, next(at for at in range(12) if all(one.of(key, 12) != at for one in FAMILIES))) for key in keys]


def test_javas_own_place_is_by_murmur2_and_a_topic_has_partitions() -> None:
    assert [by_murmur2(key, 12) for key in KEYS] == [JAVA.of(key, 12) for key in KEYS]
    assert by_murmur2(b"x", 1) == 0
    with pytest.raises(AssertionError):
        by_murmur2(b"x", 0)


def test_one_partition_tells_nobody_apart_and_as_many_keys_as_are_needed_are_enough() -> None:
    assert keys_needed(1) == 1
    assert explain(placed_by("crc32", KEYS[:4]), 12).family is FAMILY["crc32"]
    one_short = explain([*placed_by("crc32", KEYS[:3]), (KEYS[0], 99)], 12, keyless=5)
    assert (one_short.keys, one_short.wandering, one_short.keyless) == (3, 1, 5)


def test_nine_of_ten_are_a_family_and_one_less_is_none() -> None:
    nine = [*placed_by("crc32", KEYS[:45]), *elsewhere(KEYS[45:50])]
    assert explain(nine, 12).family is FAMILY["crc32"]
    less = explain([*nine, *elsewhere(KEYS[50:51])], 12, keyless=3)
    assert (less.family, less.mixed, less.keyless) == (None, (), 3)
    assert less.share == 45 / 51
    wandering = explain([*nine, (KEYS[0], 99)], 12)
    assert wandering.wandering == 1
    spread = explain([*placed_by("crc32", KEYS[:100]), *((key, 99) for key in KEYS[:5])], 12)
    assert (spread.family, spread.wandering) == (FAMILY["crc32"], 5)


def test_what_a_second_family_explains_is_one_at_the_bounds_too() -> None:
    first = placed_by("murmur2", KEYS[:30])
    strange = [key for key in KEYS[30:] if JAVA.of(key, 12) != FAMILY["crc32"].of(key, 12)]
    four = explain([*first[:20], *placed_by("crc32", strange[:4])], 12)
    assert [one.name for one, _ in four.mixed] == ["murmur2", "crc32"]
    nine_of_ten = explain([*first, *placed_by("crc32", strange[:9]), *elsewhere(strange[9:10])], 12)
    assert [one.name for one, _ in nine_of_ten.mixed] == ["murmur2", "crc32"]
    eight = explain([*first, *placed_by("crc32", strange[:8]), *elsewhere(strange[8:10])], 12)
    assert eight.mixed == ()


def test_a_reference_is_compared_with_nobody_and_who_agrees_has_nothing_to_mend() -> None:
    java = placed_by("murmur2", KEYS)
    found = compare({"placed": Sample(12, java, keyless=7), "fulfilled": Sample(12, java[:4], keyless=2)})
    assert found["placed"] == Compared("placed", explain(java, 12, 7), "placed", None, 0)
    assert found["fulfilled"] == Compared("fulfilled", explain(java[:4], 12, 2), "placed", 0.0, 4)


def test_two_kinds_of_producers_are_told_what_each_has_to_set() -> None:
    strange = [key for key in KEYS if FAMILIES[1].of(key, 12) != FAMILIES[2].of(key, 12)]
    mixed = [*placed_by(NAMES[1], strange[:400]), *placed_by(NAMES[2], strange[400:800])]
    found = compared(placed=placed_by("murmur2", KEYS), fulfilled=mixed)["fulfilled"]
    assert {one.name for one, _ in found.placement.mixed} == {NAMES[1], NAMES[2]}
    assert f"{found.placement.mixed[0][0].mend}; {found.placement.mixed[1][0].mend}" == found.mend
