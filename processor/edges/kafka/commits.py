"""The offsets of a group: what it has committed, and a commit that is verified.

Owned by `KafkaConsumer`, in its thread. librdkafka's own synchronous commit can wait for ever: if its coordinator goes
away meanwhile, the commit returns to the queue of a coordinator that nobody looks for. The caller no longer polls, so
the session ends, too: alive, ready and idle. So `commit` sends without waiting, and then asks the coordinator for the
committed offsets, with a timeout.

Not chosen: commits without waiting (nobody learns that one failed).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import confluent_kafka as ck
from confluent_kafka import KafkaException

from processor.edges.kafka.client import Complaints, error_of
from processor.errors import BrokerOutage, Fenced
from processor.interfaces import COMMIT_METADATA_BYTES_MAX, Committed
from processor.records import TopicPartition

COMMIT_S_MAX: Final = 10.0  # below a fifth of `max.poll.interval.ms`, which a revocation has
COMMITTED_S_MAX: Final = 5.0
RETRY_S: Final = 0.05
REFUSALS_MAX: Final = 8
REFUSED_S: Final = 0.25  # eight of these outlast what a coordinator needs to move, or a new epoch to reach us


def parts_of(partitions: Iterable[TopicPartition]) -> list[ck.TopicPartition]:
    return [ck.TopicPartition(topic, partition) for topic, partition in partitions]


def committable(offsets: Mapping[TopicPartition, Committed]) -> list[ck.TopicPartition]:
    """Returns confluent-kafka's form. It reads the metadata in the constructor only."""
    parts: list[ck.TopicPartition] = []
    for (topic, partition), committed in offsets.items():
        assert committed.next_offset is not None, f"no offset to commit for {topic}/{partition}"
        size = len(committed.metadata.encode())
        assert size <= COMMIT_METADATA_BYTES_MAX, f"commit metadata of {size} B for {topic}/{partition}"
        parts.append(ck.TopicPartition(topic, partition, committed.next_offset, committed.metadata))
    return parts


def assert_member(consumer: ck.Consumer) -> None:
    """Raises `Fenced` if the group has gone on without us."""
    if not consumer.memberid():
        raise Fenced("the group has gone on without us")


class GroupOffsets:
    """Holds only the client, and the complaints to which it adds."""

    def __init__(self, consumer: ck.Consumer, complaints: Complaints) -> None:
        self._consumer = consumer
        self._complaints = complaints

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        if not partitions:
            return {}
        try:
            answer = self._consumer.committed(parts_of(partitions), timeout=COMMITTED_S_MAX)
        except KafkaException as refused:
            self._complaints.suspicious = True
            raise BrokerOutage(f"committed offsets: {error_of(refused).str()}") from refused
        found: dict[TopicPartition, Committed] = {}
        for part in answer:
            if part.error is not None:
                raise BrokerOutage(f"committed offset of {part.topic}/{part.partition}: {part.error.str()}")
            next_offset = part.offset if part.offset >= 0 else None
            found[TopicPartition(part.topic, part.partition)] = Committed(next_offset, part.metadata or "")
        return found

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        if not offsets:
            return
        assert_member(self._consumer)
        parts = committable(offsets)
        deadline_s = time.monotonic() + COMMIT_S_MAX
        refusals = 0
        while True:
            self._send(parts)
            if self._is_committed(parts, offsets, deadline_s):
                return
            # Or it waits inside librdkafka for a new coordinator: then it is sent twice, which is harmless.
            refusals += 1
            if refusals >= REFUSALS_MAX:
                raise Fenced("the group does not take our commits: it has gone on without us")
            time.sleep(REFUSED_S)

    def _send(self, parts: list[ck.TopicPartition]) -> None:
        try:
            self._consumer.commit(offsets=parts, asynchronous=True)
        except KafkaException as refused:
            raise BrokerOutage(f"commit: {error_of(refused).str()}") from refused

    def _is_committed(
        self, parts: list[ck.TopicPartition], offsets: Mapping[TopicPartition, Committed], deadline_s: float
    ) -> bool:
        """Asks the coordinator for the committed offsets. It gets both requests in order, so this is the answer to the
        commit."""
        asked = [ck.TopicPartition(part.topic, part.partition) for part in parts]
        try:
            answer = self._consumer.committed(asked, timeout=max(deadline_s - time.monotonic(), RETRY_S))
        except KafkaException as refused:
            self._complaints.suspicious = True
            raise BrokerOutage(f"commit: {error_of(refused).str()}") from refused
        for part in answer:
            if part.error is not None:
                raise BrokerOutage(f"commit of {part.topic}/{part.partition}: {part.error.str()}")
            stands = Committed(part.offset, part.metadata or "")
            if stands != offsets[TopicPartition(part.topic, part.partition)]:
                return False
        return True
