"""Changes by commands only, in a module of its own so that no worker calls them by mistake.

OffsetsOfGroup sets the committed offsets of a group, for `rewind` and state moves. The broker refuses while the group
has members. RecordDeletion deletes the beginnings of partitions, for `dead-letters purge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import confluent_kafka as ck
import structlog
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from processor.edges.kafka.admin import ANSWER_S_MAX
from processor.edges.kafka.client import Complaints, KafkaSettings, error_of, merged, new_admin, said
from processor.errors import BrokerOutage, Fatal
from processor.records import Position


class OffsetsOfGroup:
    """The offsets of one group. Holds only its client."""

    def __init__(self, settings: KafkaSettings, group: str, *, client_id: str) -> None:
        log = structlog.get_logger()
        self._group = group
        self._admin = new_admin(merged({}, settings, {"client.id": client_id}), Complaints(log).on_error, log)

    def set(self, positions: Sequence[Position]) -> None:
        """Raises `Fatal` if a partition was refused, `BrokerOutage` without an answer. Other partitions may be set; to
        set them again is harmless."""
        asked = [ck.TopicPartition(*position) for position in positions]
        (future,) = self._admin.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group, asked)], request_timeout=ANSWER_S_MAX
        ).values()
        try:
            done = future.result(timeout=2 * ANSWER_S_MAX)
        except KafkaException as refused:
            raise Fatal(f"the offsets of {self._group} were not set: {said(error_of(refused))}") from refused
        except FutureTimeout as silence:
            raise BrokerOutage(f"no answer about the offsets of {self._group}") from silence
        refusals = [f"{one.topic}/{one.partition}: {said(one.error)}" for one in done.topic_partitions if one.error]
        if refusals:
            raise Fatal(f"the offsets of {self._group} were not set: {'; '.join(refusals)}")


class RecordDeletion:
    """Deletions in one cluster. Holds only its client."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        log = structlog.get_logger()
        self._admin = new_admin(merged({}, settings, {"client.id": client_id}), Complaints(log).on_error, log)

    def before(self, positions: Iterable[Position]) -> None:
        """Deletes all records before these offsets. Raises `Fatal` if a partition was refused; others may be done."""
        asked = [ck.TopicPartition(*position) for position in positions]
        futures: dict[ck.TopicPartition, Future[Any]] = self._admin.delete_records(asked, request_timeout=ANSWER_S_MAX)
        refusals: list[str] = []
        for where, future in futures.items():
            try:
                future.result(timeout=2 * ANSWER_S_MAX)
            except KafkaException as refused:
                refusals.append(f"{where.topic}/{where.partition}: {error_of(refused).str()}")
            except FutureTimeout:
                refusals.append(f"{where.topic}/{where.partition}: no answer")
        if refusals:
            raise Fatal(f"records were not deleted: {'; '.join(refusals)}")
