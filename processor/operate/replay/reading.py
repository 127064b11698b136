"""Reads a partition from one offset to another, batch by batch, in the one thread of a command.

A step returns the records of one poll at most, so memory is the same for ten letters and for ten million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from processor.errors import BrokerOutage
from processor.interfaces import Clock, Committed, Reader
from processor.letters.families import letter_facts
from processor.records import Position, Record, TopicPartition

POLL_RECORDS: Final = 2_000
"""The records of one step: 10 MB with the one before, and often enough to show a count and to notice Ctrl-C."""
POLL_S: Final = 0.2
SILENCE_S_MAX: Final = 30.0
"""A reading ends with an error if nothing comes for this long while there is more. Above the 14 s for which an open
transaction that a process left behind keeps readers from the records after it."""
GAP_MAX: Final = 5_000
"""Up to this many records between two wanted ones are read; more are jumped over."""
REFUSED_S_MAX: Final = 3.0
"""As SILENCE_S_MAX, if the client complains: it reports a missing right once, and then nothing comes."""


class Offsets(Protocol):
    """Questions to the cluster about partitions (`KafkaAdmin`). Raises `BrokerOutage`."""

    def partitions(self, topic: str) -> int | None:
        """Returns how many partitions the topic had at the first question; None if there is no topic of this name."""

    def retention_ms(self, topic: str) -> int | None:
        """Returns how old a record of the topic may become; None if records are not deleted by age."""

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]: ...

    def since(self, partitions: Sequence[TopicPartition], at_ms: int) -> Mapping[TopicPartition, int]:
        """Returns the first offset with a record of that time or later; the end if there is no such record."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the high watermarks, open transactions included."""

    def stable_ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the ends without open transactions."""

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]: ...


Step = Callable[[int], None]
"""Is called after each step with the number of records read; may raise to end the reading."""


def no_step(_records: int) -> None:
    pass


def read(
    reader: Reader, clock: Clock, where: TopicPartition, start: int, end: int, step: Step = no_step
) -> Iterator[Sequence[Record]]:
    """Yields the committed records of `where` from `start` up to `end`. Raises `BrokerOutage` if nothing comes."""
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
                why = trouble or f"nothing came for {SILENCE_S_MAX:g} s"
                raise BrokerOutage(f"{where.topic}/{where.partition} cannot be read past offset {position}: {why}")
    finally:
        reader.unassign([where])


@dataclass(frozen=True, slots=True)
class Reading:
    """A reader, and what it needs to know of the cluster. `step` is called after every step."""

    reader: Reader
    offsets: Offsets
    clock: Clock
    step: Step = no_step

    def part(self, where: TopicPartition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """Yields the records from `start` up to `end`. Raises `BrokerOutage`."""
        return read(self.reader, self.clock, where, start, end, self.step)

    def whole(self, where: TopicPartition) -> Iterator[Sequence[Record]]:
        """Yields all records of a partition. Raises `BrokerOutage`."""
        return self.part(where, self.offsets.beginnings([where])[where], self.offsets.ends([where])[where])

    def partitions(self, topic: str) -> list[TopicPartition]:
        """Returns all partitions of a topic; none if there is no topic of this name."""
        return [TopicPartition(topic, number) for number in range(self.offsets.partitions(topic) or 0)]

    def at(self, where: TopicPartition, offsets: Sequence[int]) -> Iterator[Record]:
        """Yields the records at these offsets in rising order, without those that are gone. Raises `BrokerOutage`."""
        wanted = sorted(set(offsets))
        first = 0
        while first < len(wanted):
            last = first
            while last + 1 < len(wanted) and wanted[last + 1] - wanted[last] <= GAP_MAX:
                last += 1
            run = frozenset(wanted[first : last + 1])
            for records in self.part(where, wanted[first], wanted[last] + 1):
                yield from (record for record in records if record.offset in run)
            first = last + 1

    def begun_ms(
        self, beginnings: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Returns when the first letter in each partition failed, epoch ms; a partition without letters is left out."""
        found: dict[TopicPartition, int] = {}
        for where, begin in beginnings.items():
            # Without a step: one record of each partition is no progress to be counted.
            for records in read(self.reader, self.clock, where, begin, ends[where]):
                found[where] = letter_facts(records[0]).last_failed_ms
                break
        return found
