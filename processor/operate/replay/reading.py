"""Reads a partition from one offset to another, batch by batch, or follows it from one offset on.

Used by the `dead-letters` commands in one thread. A step returns the records of one poll at most, so memory is the same
for ten letters and for ten million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from processor.errors import BrokerOutage
from processor.interfaces import Clock, Committed, Reader
from processor.letters.families import letter_facts
from processor.records import Position, Record, TopicPartition

POLL_RECORDS: Final = 2_000
"""The records of one step: 10 MB with the one before, and often enough to show a count and to hear Ctrl-C."""
POLL_S: Final = 0.2
SILENCE_S_MAX: Final = 30.0
"""Nothing read for this long, while there is more, is no reading any more. Above the 14 s for which a transaction that
somebody left open keeps readers from what is behind it."""
GAP_MAX: Final = 5_000
"""Records between two wanted ones that are read along rather than jumped over."""
REFUSED_S_MAX: Final = 3.0
"""The same where the client complains: a right that is missing is told once, and then nothing comes."""


class Offsets(Protocol):
    """What is asked of the cluster about partitions (`KafkaAdmin`). Raises `BrokerOutage`."""

    def partitions(self, topic: str) -> int | None:
        """None where there is no such topic. As it was when it was first asked for."""

    def retention_ms(self, topic: str) -> int | None:
        """How old a record of it may become; None: as old as it likes."""

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...

    def since(self, partitions: Sequence[TopicPartition], at_ms: int) -> Mapping[TopicPartition, int]:
        """The first offset with a record of that time or later; the end where there is none."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """High watermarks, open transactions included."""

    def stable_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The same without open transactions."""

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]: ...


Step = Callable[[int], None]
"""Told after each step how many records were read; may raise to end the reading."""


def read(
    reader: Reader, clock: Clock, where: TopicPartition, start: int, end: int, step: Step
) -> Iterator[Sequence[Record]]:
    """The committed records of `where` from `start` up to `end`. Raises `BrokerOutage` where nothing comes."""
    if start >= end:
        return
    reader.assign([Position(where.topic, where.partition, start)])
    heard_s = clock.monotonic_s()
    try:
        while (position := reader.position(where)) < end:
            records = [
                record
                for record in reader.poll(POLL_RECORDS, POLL_S).records
                if record.partition == where.partition and record.topic == where.topic and record.offset < end
            ]
            step(len(records))
            if records:
                yield records
            now_s = clock.monotonic_s()
            if reader.position(where) > position:
                heard_s = now_s
            trouble = reader.trouble()
            if now_s - heard_s > (SILENCE_S_MAX if trouble is None else REFUSED_S_MAX):
                raise BrokerOutage(
                    f"{where.topic}/{where.partition} cannot be read past offset {position}"
                    + (f": {trouble}" if trouble else f": nothing came for {SILENCE_S_MAX:g} s")
                )
    finally:
        reader.unassign([where])


def begun_ms(
    reader: Reader, clock: Clock, beginnings: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """When the first letter that stands in each partition failed, epoch ms; without those that hold none."""
    found: dict[TopicPartition, int] = {}
    for where, begin in beginnings.items():
        for records in read(reader, clock, where, begin, ends[where], lambda _records: None):
            found[where] = letter_facts(records[0]).last_failed_ms
            break
    return found


def read_offsets(
    reader: Reader, clock: Clock, where: TopicPartition, offsets: Sequence[int], step: Step
) -> Iterator[Record]:
    """The records at these offsets, in rising order; those that are not there are left out. What stands between two of
    them is read along where it is little, and jumped over where it is more than GAP_MAX."""
    wanted = sorted(set(offsets))
    first = 0
    while first < len(wanted):
        last = first
        while last + 1 < len(wanted) and wanted[last + 1] - wanted[last] <= GAP_MAX:
            last += 1
        run = frozenset(wanted[first : last + 1])
        for records in read(reader, clock, where, wanted[first], wanted[last] + 1, step):
            yield from (record for record in records if record.offset in run)
        first = last + 1
