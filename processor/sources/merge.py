"""merge: source partitions that belong together become one sequence in timestamp order.

    orders.placed/3     ─ 10 ─ 14 ─ 30 ──┐
    orders.fulfilled/3  ─ 12 ─ 13 ───────┼──► 10 12 13 14 …   (waits here: fulfilled has more at the broker,
    orders.refunded/3   (at its end) ────┘                      so nothing after 14 may be taken before it)

transform merges the topics of one partition number, each number by itself; rekey merges all that is assigned, as number
0 (`together`).

Owned by the role's thread; pure but for the state announced below: records in, records out, the time is passed in.

Rules, as Kafka Streams merges its inputs: the oldest record of all topics is next, equal timestamps in the order of
`TOPICS`. A stamp in seconds counts as seconds: as milliseconds it would be in 1970, and its whole topic would come
before the rest of a backlog. A topic without a record here is waited for while the broker has more of it, but not at
its end. The wait is bounded (`wait_s_max`), because one partition without a leader must not stop four others for ever;
the numbers that go on without a topic are in `given_up`.

Buffers are bounded per input and in all, against 250 harmless buffers: above the total an input is full at its share.

Not chosen: a sort per batch (a batch is what the fetches return by chance, which is the disorder to remove).
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from processor.moments import SANE_STAMP_MAX, SANE_STAMP_MIN, meant_ms
from processor.records import Record, TopicPartition

BUFFER_RECORDS_MAX: Final = 10_000
"""Records buffered per topic and partition before fetching it pauses: two transactions' worth."""
BUFFER_BYTES_MAX: Final = 16 * 1024 * 1024
"""The same in bytes, against topics of large records."""
TOTAL_RECORDS_MAX: Final = 60_000
"""Records buffered in all before an input may hold no more than its share: some 50 MB of orders of usual size."""
TOTAL_BYTES_MAX: Final = 64 * 1024 * 1024
"""The same in bytes."""
SHARE_RECORDS_MIN: Final = 200
"""The least share: a pause throws away what was fetched ahead, so it must not come with every poll."""

_NOTHING_ELSE: Final = (1 << 63, 0)
"""Later than every time that a record can have."""


@dataclass(slots=True)
class Input:
    """One source partition. Mutable: `records` waiting in offset order, their `bytes`, and what the broker said last.

    `at_end` is true only after the broker's word that nothing follows the last record of `records`.
    """

    partition: TopicPartition
    records: deque[Record] = field(default_factory=deque)
    bytes: int = 0
    at_end: bool = False
    paused: bool = False
    last_timestamp_ms: int | None = None
    polled_next: int = -1
    """The next offset that a poll may bring, past control records as far as known; -1 before the first word."""


class Merge:
    """The inputs of all assigned partitions.

    Mutable: `_inputs` by number, one `Input` per source partition in the order of the topics; `_by` the same inputs by
    their partition; `_waiting_since` the monotonic second since when a number has waited for a lagging topic;
    `given_up` the numbers that have waited for long enough and go on without it, until it is back; `went_back` the
    partitions that brought a record from before their last one: it is another log, and nothing of it is taken until it
    is assigned anew. Invariant: a partition number is here with all of its topics or not at all, unless all partitions
    are merged `together`.
    """

    def __init__(self, topics: Sequence[str], wait_s_max: float, *, together: bool = False) -> None:
        self._ranks = {topic: rank for rank, topic in enumerate(topics)}
        self._wait_s_max = wait_s_max
        self._together = together
        self._inputs: dict[int, list[Input]] = {}
        self._by: dict[tuple[str, int], Input] = {}
        self._waiting_since: dict[int, float] = {}
        self.given_up: set[int] = set()
        self.went_back: set[TopicPartition] = set()

    def assign(self, partitions: Iterable[TopicPartition], starts: Mapping[TopicPartition, int] | None = None) -> None:
        """Starts whole numbers anew (or, merged `together`, partitions) without their buffers. `starts` has the offsets
        that the consumer was moved to: earlier records are dropped (librdkafka may move a partition after a `seek`)."""
        gained: dict[int, list[Input]] = {}
        for partition in partitions:
            number = 0 if self._together else partition.partition
            start = -1 if starts is None else starts.get(partition, -1)
            gained.setdefault(number, []).append(Input(partition, polled_next=start))
        for number, inputs in gained.items():
            assert self._together or len(inputs) == len(self._ranks), (
                f"partition {number} came without all of its topics: {inputs}"
            )
            new = {one.partition for one in inputs}
            kept = [one for one in self._inputs.get(number, ()) if one.partition not in new]
            self.went_back -= new
            self._inputs[number] = sorted([*kept, *inputs], key=self._order)
            self._by.update({one.partition: one for one in inputs})
            self._no_longer_waiting(number)

    def _order(self, one: Input) -> tuple[int, int]:
        return self._ranks[one.partition.topic], one.partition.partition

    def revoke(self, numbers: Iterable[int]) -> None:
        """Removes these numbers, whole."""
        for number in numbers:
            for one in self._inputs.pop(number, ()):
                del self._by[one.partition]
                self.went_back.discard(one.partition)
            self._no_longer_waiting(number)

    def leave_out(self, partitions: Iterable[TopicPartition]) -> None:
        """Removes these partitions if all are merged `together`; the rest goes on."""
        assert self._together, "a partition number goes whole"
        gone = set(partitions)
        self._inputs[0] = [one for one in self._inputs.get(0, ()) if one.partition not in gone]
        for partition in gone:
            self._by.pop(partition, None)
            self.went_back.discard(partition)
        self._no_longer_waiting(0)

    def offer(self, records: Sequence[Record], at_end: Mapping[TopicPartition, int]) -> None:
        """Takes the records of one poll. Drops those of partitions that are not assigned any more."""
        by = self._by
        one: Input | None = None
        topic, number = "", -1
        for record in records:
            if record.partition != number or record.topic != topic:  # a poll brings runs of one partition
                topic, number = record.topic, record.partition
                one = by.get((topic, number))
                if one is not None:
                    one.at_end = False
            if one is None:
                continue
            if record.offset < one.polled_next:
                self.went_back.add(one.partition)
                continue
            one.records.append(record)
            one.bytes += len(record.value or b"")
            one.polled_next = record.offset + 1
            one.last_timestamp_ms = record.timestamp_ms
        for partition, end in at_end.items():
            if (one := by.get(partition)) is not None:
                one.at_end = not one.paused  # a paused partition is not asked for more
                one.polled_next = max(one.polled_next, end)

    def take(self, number: int, records_max: int, now_s: float) -> list[Record]:
        """Returns the next records of one number, in timestamp order, at most `records_max`."""
        inputs = self._inputs[number]
        if not self._complete(number, inputs, now_s):
            return []
        taken: list[Record] = []
        # Sorted, and not a heap: there are few of them.
        heads = sorted(
            (meant_ms(one.records[0].timestamp_ms), place) for place, one in enumerate(inputs) if one.records
        )
        room = records_max
        while heads and room > 0:
            place = heads.pop(0)[1]
            source = inputs[place]
            records = source.records
            # A run: this topic is next for as long as it stays before the head of the second.
            before_ms, before_place = heads[0] if heads else _NOTHING_ELSE
            while True:
                record = records.popleft()
                source.bytes -= len(record.value or b"")
                taken.append(record)
                room -= 1
                if not records:
                    break
                stamp = records[0].timestamp_ms
                if not SANE_STAMP_MIN <= stamp < SANE_STAMP_MAX:
                    stamp = meant_ms(stamp)
                if (stamp >= before_ms and (stamp > before_ms or place > before_place)) or not room:
                    insort(heads, (stamp, place))
                    break
            if not records and not self._complete(number, inputs, now_s):
                break
        return taken

    def _complete(self, number: int, inputs: Sequence[Input], now_s: float) -> bool:
        """Returns true if every topic has a record here, is at its end, or has been waited for long enough."""
        for one in inputs:
            if not one.records and not one.at_end:
                since = self._waiting_since.setdefault(number, now_s)
                if now_s - since < self._wait_s_max:
                    return False
                self.given_up.add(number)
                return True
        if self._waiting_since:
            self._no_longer_waiting(number)
        return True

    def _no_longer_waiting(self, number: int) -> None:
        self._waiting_since.pop(number, None)
        self.given_up.discard(number)

    def put_back(self, records: Sequence[Record]) -> None:
        """Returns records that were taken and not used, in the order in which they were taken."""
        for record in reversed(records):
            one = self._by[record.topic, record.partition]
            one.records.appendleft(record)
            one.bytes += len(record.value or b"")

    def to_pause(self) -> list[TopicPartition]:
        """Returns partitions whose buffer is full; they count as paused from now on."""
        records_max, bytes_max = self._room(TOTAL_RECORDS_MAX, TOTAL_BYTES_MAX)
        full = [one for one in self._by.values() if len(one.records) >= records_max or one.bytes >= bytes_max]
        return [_turned(one) for one in full if not one.paused]

    def to_resume(self) -> list[TopicPartition]:
        """Returns paused partitions with room again. Their end is not known until the broker says it anew."""
        records_max, bytes_max = self._room(TOTAL_RECORDS_MAX // 2, TOTAL_BYTES_MAX // 2)
        roomy = [one for one in self._by.values() if len(one.records) < records_max // 2 and one.bytes < bytes_max // 2]
        return [_turned(one) for one in roomy if one.paused]

    def _room(self, crowded_records: int, crowded_bytes: int) -> tuple[int, int]:
        """Returns how many records and bytes one input may hold: its share, if all together hold this many."""
        inputs = self._by.values()
        records_max, bytes_max = BUFFER_RECORDS_MAX, BUFFER_BYTES_MAX
        if sum(len(one.records) for one in inputs) >= crowded_records:
            records_max = min(records_max, max(SHARE_RECORDS_MIN, TOTAL_RECORDS_MAX // len(inputs)))
        if sum(one.bytes for one in inputs) >= crowded_bytes:
            bytes_max = min(bytes_max, TOTAL_BYTES_MAX // len(inputs))
        return records_max, bytes_max

    def paused(self, number: int) -> list[TopicPartition]:
        """Returns the partitions of this number that `to_pause` has named and `to_resume` has not."""
        return [one.partition for one in self._inputs[number] if one.paused]

    def lagging(self, partition: int) -> tuple[list[TopicPartition], float]:
        """Returns the topics that this partition waits for, and since which monotonic second (for `/status`)."""
        number = 0 if self._together else partition
        since_s = self._waiting_since.get(number)
        if since_s is None:
            return [], 0.0
        return [one.partition for one in self._inputs[number] if not one.records and not one.at_end], since_s

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(self._inputs)

    def inputs(self, number: int) -> Sequence[Input]:
        return self._inputs[number]


def _turned(one: Input) -> TopicPartition:
    one.paused, one.at_end = not one.paused, False
    return one.partition
