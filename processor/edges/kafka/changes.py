"""OffsetsOfGroup: sets what a consumer group has committed, which nothing but `rewind` does.

In a module of its own so that no worker can call it by mistake. The broker refuses while the group has members.

RecordDeletion: deletes the beginnings of partitions, which nothing but a purge of dead letters does.

Owned by the `dead-letters purge` command. In a module of its own so that no worker can call it by mistake.
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
    """One group's. Holds nothing but its client."""

    def __init__(self, settings: KafkaSettings, group: str, *, client_id: str) -> None:
        log = structlog.get_logger()
        self._group = group
        self._admin = new_admin(merged({}, settings, {"client.id": client_id}), Complaints(log).on_error, log)

    def set(self, positions: Sequence[Position]) -> None:
        """Raises `Fatal` where a partition was refused, `BrokerOutage` without an answer: others may be done, and the
        same again is harmless."""
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
    """One cluster's. Holds nothing but its client."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        log = structlog.get_logger()
        self._admin = new_admin(merged({}, settings, {"client.id": client_id}), Complaints(log).on_error, log)

    def before(self, positions: Iterable[Position]) -> None:
        """Deletes all records before these. Raises `Fatal` where one of the partitions refused; others may be
        done."""
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
