"""placements: the partitioners of real clients, and which of them placed the keys of a topic, judged from a sample.

A record's partition is chosen by its producer, and the clients of different languages choose differently. The five
topics of one order meet in one partition number only if all who write them choose alike.

    FAMILIES     one line a family: each formula was confirmed against partitions that the real clients chose
                 (`tests/data/placements.tsv`)
    explain      (key, partition) pairs of one topic ─► the family that placed them, and the share that it explains
    compare      samples of several topics ─► the share of each topic's keys that are elsewhere than the first topic's

Pure. Keys are the bytes of the record. A null or empty key is left out, because clients place those at random.

Not chosen: to ask for the producers' settings (nobody knows all); to trust a client's name (one has two defaults).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF
_SIGN: Final = 0x80000000

Partitioner = Callable[[bytes, int], int]
"""From a key and a number of partitions (1 or more) to one of them."""

Placed = tuple[bytes, int]
"""A key, and the partition in which it stands."""


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


def _fnv1a(data: bytes) -> int:
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 & _MASK
    return h


def _java_hash(data: bytes) -> int:
    """`String.hashCode` of the text: over UTF-16 units, 32 bits."""
    units = data.decode("utf-8", "replace").encode("utf-16-le")
    h = 0
    for start in range(0, len(units), 2):
        h = h * 31 + int.from_bytes(units[start : start + 2], "little") & _MASK
    return h


def _abs(h: int) -> int:
    """The size of 32 bits that are read as a signed number."""
    return (1 << 32) - h if h & _SIGN else h


class Family(NamedTuple):
    """Clients that place keys alike. `mend` is what makes them agree with Java's clients."""

    name: str
    clients: str
    mend: str
    of: Partitioner


FAMILIES: Final = (
    Family(
        "murmur2",
        "Java, Spring, aiokafka, kafka-python, kafkajs, franz-go, Quix Streams",
        "",
        lambda key, count: (murmur2(key) & 0x7FFFFFFF) % count,
    ),
    Family(
        "crc32",
        "librdkafka's default: confluent-kafka for Python, Go and .NET, rdkafka for Rust and PHP, kcat",
        "partitioner=murmur2_random",
        lambda key, count: zlib.crc32(key) % count,
    ),
    Family(
        "fnv1a",
        "sarama's default, librdkafka's fnv1a_random",
        "sarama: sarama.NewCustomPartitioner(sarama.WithAbsFirst(), sarama.WithCustomHashFunction(a murmur2)); "
        "librdkafka: partitioner=murmur2_random",
        lambda key, count: _abs(_fnv1a(key)) % count,
    ),
    Family(
        "fnv1a_reference",
        "sarama's NewReferenceHashPartitioner, kafka-go's ReferenceHash",
        "sarama: sarama.NewCustomPartitioner(sarama.WithAbsFirst(), sarama.WithCustomHashFunction(a murmur2)); "
        "kafka-go: Balancer: kafka.Murmur2Balancer{}",
        lambda key, count: (_fnv1a(key) & 0x7FFFFFFF) % count,
    ),
    Family(
        "murmur2_unsigned",
        "@platformatic/kafka",
        "partitioner: compatibilityPartitioner",
        lambda key, count: murmur2(key) % count,
    ),
    Family(
        "java_hash",
        "Spring Cloud Stream with partition-key-expression",
        "leave partition-key-expression out, and set message-key-expression",
        lambda key, count: _abs(_java_hash(key)) % count,
    ),
)
"""In the order in which they are tried: if two explain a sample equally well, the first is named."""

JAVA: Final = FAMILIES[0]

MEND_UNKNOWN: Final = (
    "place keys by murmur2, as Java's clients do (kafka-go: Balancer: kafka.Murmur2Balancer{}; kafkajs: its default "
    "partitioner)"
)
"""The remedy for producers with an unknown partitioner."""
MEND_KEYLESS: Final = "give each record its order ID as the key (Watermill: NewWithPartitioningMarshaler and murmur2)"

NAMED_SHARE: Final = 0.9
"""A family that explains a smaller share of a sample did not write the topic alone."""
_CHANCE_MAX: Final = 0.001
"""The most that chance may explain: a sample has as many keys that a wrong family fits it less often than this."""


def by_murmur2(key: bytes, partitions: int) -> int:
    """Returns the partition in which Java's clients put a key."""
    assert partitions > 0, "a topic without partitions"
    return JAVA.of(key, partitions)


def keys_needed(partitions: int) -> int:
    """Returns how many different keys rule out chance: 13 for two partitions, 4 for twelve."""
    return 1 if partitions < 2 else math.ceil(math.log(len(FAMILIES) / _CHANCE_MAX) / math.log(partitions))


@dataclass(frozen=True, slots=True)
class Placement:
    """How the keys of one topic are placed, as a sample shows it.

    `family` explains `share` of the sampled keys; it is None if no known family explains NAMED_SHARE of them. `mixed`
    are two families and their shares, if the second explains NAMED_SHARE of the keys that the first does not: a
    producer changed its client, or there are two producers. `keys` counts the different keys, `wandering` the further
    partitions of keys that are in more than one, `keyless` the records without a key.
    """

    partitions: int
    keys: int
    keyless: int = 0
    wandering: int = 0
    family: Family | None = None
    share: float = 0.0
    mixed: tuple[tuple[Family, float], ...] = ()

    @property
    def told(self) -> bool:
        """True if the sample has enough keys for a judgement."""
        return self.keys >= keys_needed(self.partitions)

    def __str__(self) -> str:
        """For people: `murmur2 (Java, …) explains 100% of 200 keys`."""
        if self.keyless and not self.keys:
            return f"none of {self.keyless} records has a key"
        if not self.told:
            return f"{self.keys} keys, too few to tell a partitioner"
        if self.family is not None:
            return f"{self.family.name} ({self.family.clients}) explains {self.share:.0%} of {self.keys} keys"
        if self.mixed:
            parts = " and ".join(f"{family.name} {share:.0%}" for family, share in self.mixed)
            return f"producers of several kinds: {parts} of {self.keys} keys"
        how = "round robin or at random" if self.wandering else "by a partitioner that is not known"
        return f"{self.keys} keys are placed {how}"


def explain(sample: Iterable[Placed], partitions: int, keyless: int = 0) -> Placement:
    """Returns the family that placed these keys. A key counts once in each of its partitions."""
    pairs = {pair for pair in sample if pair[0]}
    keys = len({key for key, _ in pairs})
    wandering = len(pairs) - keys
    if keys < keys_needed(partitions):
        return Placement(partitions, keys, keyless, wandering)
    best, of_best = _best(pairs, partitions)
    share = of_best / len(pairs)
    if share >= NAMED_SHARE:
        return Placement(partitions, keys, keyless, wandering, best, share)
    left = {pair for pair in pairs if best.of(pair[0], partitions) != pair[1]}
    second, of_second = _best(left, partitions)
    mixed: tuple[tuple[Family, float], ...] = ()
    if len(left) >= keys_needed(partitions) and of_second >= NAMED_SHARE * len(left):
        mixed = ((best, share), (second, of_second / len(pairs)))
    return Placement(partitions, keys, keyless, wandering, None, share, mixed)


def _best(pairs: set[Placed], partitions: int) -> tuple[Family, int]:
    """Returns the family that explains most of these pairs, and how many; the first of equals."""
    counts = [sum(family.of(key, partitions) == partition for key, partition in pairs) for family in FAMILIES]
    most = max(counts)
    return FAMILIES[counts.index(most)], most


@dataclass(frozen=True, slots=True)
class Sample:
    """The newest records of one topic: `pairs` are their keys with their partitions, `keyless` counts those without."""

    partitions: int
    pairs: Sequence[Placed]
    keyless: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """One topic's placement, and the share of its keys that `reference` puts, or has, in another partition (of
    `compared` keys; None if they are too few). `mend` is the setting that makes its producers agree."""

    topic: str
    placement: Placement
    reference: str
    share: float | None
    compared: int
    mend: str = ""

    @property
    def agrees(self) -> bool:
        """False if an order of this topic has its other events in another partition."""
        return not self.share


def compare(samples: Mapping[str, Sample]) -> dict[str, Compared]:
    """Compares each topic with the first that has enough keys (in a worker and in `check`: orders.placed). Keys of both
    topics decide; for the other keys, the family of one topic tells where it would put the keys of the other."""
    placements = {topic: explain(one.pairs, one.partitions, one.keyless) for topic, one in samples.items()}
    reference = next((topic for topic, placement in placements.items() if placement.told), None)
    found = {}
    for topic, placement in placements.items():
        if reference is None or topic == reference:
            found[topic] = Compared(topic, placement, topic, None, 0)
            continue
        one, other = samples[topic].pairs, samples[reference].pairs
        share, compared = _apart(one, other, placements[reference])
        if share is None:
            share, compared = _apart(other, one, placement)
        mend = _mend(placement, placements[reference]) if share else ""
        found[topic] = Compared(topic, placement, reference, share, compared, mend)
    return found


def _apart(one: Sequence[Placed], other: Sequence[Placed], of_other: Placement) -> tuple[float | None, int]:
    """Returns the share of the keys of `one` that `other` has, or would put, elsewhere, and the number of keys."""
    where: dict[bytes, set[int]] = {}
    for key, partition in other:
        where.setdefault(key, set()).add(partition)
    apart = compared = 0
    for key, partition in {pair for pair in one if pair[0]}:
        if (met := where.get(key)) is not None:
            apart += met != {partition}
        elif of_other.family is not None:
            apart += of_other.family.of(key, of_other.partitions) != partition
        else:
            continue
        compared += 1
    if compared < keys_needed(of_other.partitions):
        return None, compared
    return apart / compared, compared


def _mend(placement: Placement, reference: Placement) -> str:
    """Returns the setting to change at the producers of a topic that disagrees, or at the reference's producers."""
    if not placement.keys:
        return MEND_KEYLESS
    if placement.family is not None:
        if placement.family.mend:
            return placement.family.mend
        # The topic's producers place keys as Java does, so the reference's have to change.
        return f"at the producers of the other topic: {_own_mend(reference)}"
    return _own_mend(placement)


def _own_mend(placement: Placement) -> str:
    families = [placement.family] if placement.family is not None else [family for family, _ in placement.mixed]
    mends = [family.mend for family in families if family.mend]
    return "; ".join(mends) if mends else MEND_UNKNOWN
