"""KafkaScan: finds the records of a key in parts of partitions, without making a record of every other one.

Owned by the commands that look for one order, one thread. Kafka has no index by key. The work is bounded by the
caller's windows and by the cost of a record that does not match: it is compared in librdkafka's memory, and never
becomes one of ours.

    find        all windows side by side; several windows of one partition one after the other
    heads       the same without values, within a time
    find_last   from the end backwards, in growing steps, up to the newest record of the key

Reads committed records only. A record of an open transaction does not exist yet, and is not waited for.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Final, NamedTuple

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.client import (
    Complaints,
    KafkaSettings,
    Log,
    Message,
    Setting,
    consumed,
    error_of,
    groupless,
    new_consumer,
    said,
)
from processor.errors import BrokerOutage, Fatal
from processor.records import Record, TopicPartition

SILENCE_S_MAX: Final = 15.0
"""A broker that sends nothing for this long has gone; a restarted one is back sooner."""
STEP_RECORDS: Final = 25_000
"""The first step backwards: most orders in question moved lately."""
STEP_GROWTH: Final = 4
_CONSUME_MAX: Final = 250
"""Few enough to stay in the CPU's cache from librdkafka to the comparison: a record costs 1.4 µs CPU, and 2.8 with
10,000 at a time."""
_WAIT_S: Final = 0.05
ANSWER_TRIES_MAX: Final = 10
"""Tries of a second each for the first question; an error that will not change ends it at once."""
_NOT_LET_IN: Final = ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL")

_SCAN_DEFAULTS: Final[Mapping[str, Setting]] = {
    # As fast as it can, for a moment; bounded, because records may have 16 MB. Records beyond a window are decoded for
    # nothing: a hundred records in each of three topics took 0.07 s with 1 MB a fetch and take 0.03 with this; long
    # windows cost the same.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.message.max.bytes": 256 * 1024,
    # A full queue is checked again at once, not after librdkafka's second.
    "fetch.queue.backoff.ms": 5,
    # A fetch at the end of a partition waits at the broker for this time, and the next step of a search waits for it:
    # 100 ms were 0.1 s for each step.
    "fetch.wait.max.ms": 5,
}


class Window(NamedTuple):
    """The offsets `start` up to, not including, `end` of one partition."""

    topic: str
    partition: int
    start: int
    end: int


class KafkaScan:
    """See the module."""

    def __init__(self, settings: KafkaSettings, *, group: str, client_id: str, log: Log) -> None:
        self._complaints = Complaints(log)
        owned: dict[str, Setting] = {
            "client.id": client_id,
            "group.id": group,  # librdkafka needs one; nothing is committed to it
            # Records that retention has deleted since the windows were made are gone: the rest of them is read.
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        config = groupless(_SCAN_DEFAULTS, settings, owned)
        self._consumer = new_consumer(config, self._complaints.on_error, log)

    def partitions(self) -> Mapping[str, int]:
        """Returns the number of partitions of each topic that we may see. Raises `BrokerOutage`."""
        for tries in range(ANSWER_TRIES_MAX):
            try:
                topics = self._consumer.list_topics(timeout=1.0).topics
            except KafkaException as refused:
                self._consumer.poll(0)  # runs the error callback
                told = self._complaints.text() or ""
                if tries == ANSWER_TRIES_MAX - 1 or any(code in told for code in _NOT_LET_IN):
                    raise self._outage(error_of(refused).str()) from refused
            else:
                return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}
        raise AssertionError("the last try returns or raises")

    def find(self, windows: Sequence[Window], keys: AbstractSet[bytes] | None) -> list[Record]:
        """Returns the records with one of these keys (None: all), in offset order per partition. Raises `BrokerOutage`,
        `Fatal`."""
        found: list[Record] = []
        self._read(windows, lambda messages, reading: self._taken(messages, keys, reading, found))
        return found

    def matching(self, windows: Sequence[Window], takes: Callable[[Message], bool]) -> list[Record]:
        """Returns the records for which `takes` returns true, in offset order per partition. Raises as `find` does."""
        found: list[Record] = []

        def some(messages: list[Message], reading: Mapping[TopicPartition, Window]) -> list[TopicPartition]:
            wanted = [one for one in messages if one.error() is not None or takes(one)]
            return self._taken(wanted, None, reading, found)

        self._read(windows, some)
        return found

    def heads(self, windows: Sequence[Window], seconds_max: float) -> list[Record]:
        """Returns all records, in offset order per partition, with empty headers and an empty value (None for a
        tombstone), because values of some MB would fill the memory. Ends after `seconds_max` with the records so far.
        Raises as `find` does."""
        found: list[Record] = []
        self._read(
            windows,
            lambda messages, reading: self._taken(messages, None, reading, found, _head),
            seconds_max=seconds_max,
        )
        return found

    def _read(
        self,
        windows: Sequence[Window],
        take: Callable[[list[Message], Mapping[TopicPartition, Window]], list[TopicPartition]],
        *,
        seconds_max: float | None = None,
    ) -> None:
        waiting: dict[TopicPartition, deque[Window]] = {}
        for window in sorted(windows):
            if window.start < window.end:
                waiting.setdefault(TopicPartition(window.topic, window.partition), deque()).append(window)
        reading: dict[TopicPartition, Window] = {}
        began_s = heard_s = time.monotonic()
        try:
            with _nothing_collected():
                self._go_on(list(waiting), reading, waiting)
                while reading and (seconds_max is None or time.monotonic() - began_s < seconds_max):
                    messages = consumed(self._consumer, _CONSUME_MAX, _WAIT_S)
                    if not messages:
                        if time.monotonic() - heard_s > SILENCE_S_MAX:
                            raise self._outage(f"nothing was read for {SILENCE_S_MAX:g} s")
                        continue
                    heard_s = time.monotonic()
                    over = take(messages, reading)
                    self._go_on([*over, *self._passed(reading, over)], reading, waiting)
        finally:
            self._consumer.unassign()

    def find_last(
        self, spans: Sequence[Window], key: bytes, step: int = STEP_RECORDS
    ) -> Mapping[TopicPartition, Record]:
        """Returns the newest record of a key in each span that has one. Raises as `find` does."""
        found: dict[TopicPartition, Record] = {}
        left = [span for span in spans if span.start < span.end]
        while left:
            steps = [span._replace(start=max(span.start, span.end - step)) for span in left]
            for record in self.find(steps, frozenset({key})):
                found[TopicPartition(record.topic, record.partition)] = record
            left = [
                span._replace(end=tried.start)
                for span, tried in zip(left, steps, strict=True)
                if tried.start > span.start and TopicPartition(span.topic, span.partition) not in found
            ]
            step *= STEP_GROWTH
        return found

    def close(self) -> None:
        self._consumer.close()

    def _taken(
        self,
        messages: list[Message],
        keys: AbstractSet[bytes] | None,
        reading: Mapping[TopicPartition, Window],
        found: list[Record],
        make: Callable[[Message], Record] | None = None,
    ) -> list[TopicPartition]:
        """Adds the records with one of the keys to `found`. Returns the partitions whose end was reached."""
        over: list[TopicPartition] = []
        if keys is not None:  # an error has no key
            messages = [one for one in messages if (key := one.key()) is None or key in keys]
        for message in messages:
            error = message.error()
            if error is None:
                where = TopicPartition(message.topic(), message.partition())
                window = reading.get(where)
                if keys is not None and message.key() is None:
                    continue
                if window is not None and window.start <= message.offset() < window.end:
                    found.append((make or _record)(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                over.append(TopicPartition(message.topic(), message.partition()))
            elif error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:  # no right to the group is needed
                raise Fatal(f"not allowed to read {message.topic()} (Read): {said(error)}")
            elif error.fatal():
                raise Fatal(error.str())
        return over

    def _passed(self, reading: Mapping[TopicPartition, Window], over: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Returns the partitions that were read to the end of their window."""
        asked = [ck.TopicPartition(*where) for where in reading if where not in over]
        return [
            TopicPartition(position.topic, position.partition)
            for position in (self._consumer.position(asked) if asked else [])
            if position.offset >= reading[TopicPartition(position.topic, position.partition)].end
        ]

    def _go_on(
        self,
        done: Sequence[TopicPartition],
        reading: dict[TopicPartition, Window],
        waiting: Mapping[TopicPartition, deque[Window]],
    ) -> None:
        """Leaves the windows that are done, and begins the next one of each partition."""
        ended = [where for where in dict.fromkeys(done) if where in reading]
        if ended:
            self._consumer.incremental_unassign([ck.TopicPartition(*where) for where in ended])
            for where in ended:
                del reading[where]
        begun = [waiting[where].popleft() for where in dict.fromkeys(done) if waiting[where]]
        if begun:
            reading.update({TopicPartition(one.topic, one.partition): one for one in begun})
            self._consumer.incremental_assign([ck.TopicPartition(one.topic, one.partition, one.start) for one in begun])

    def _outage(self, what: str) -> BrokerOutage:
        complaint = self._complaints.text()
        return BrokerOutage(f"{what} ({complaint})" if complaint else what)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Pauses Python's collector, which would search every few hundred records for cycles that they never have: a
    quarter of a record's cost."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _record(message: Message) -> Record:
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or [],
    )


def _head(message: Message) -> Record:
    """Returns a small record: of its headers only the names."""
    kind, stamp = message.timestamp()
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        stamp if kind != ck.TIMESTAMP_NOT_AVAILABLE else -1,
        message.key(),
        None if message.value() is None else b"",
        [(name, None) for name, _ in message.headers() or ()],
    )
