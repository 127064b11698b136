"""RecordDeletion: deletes the beginnings of partitions, which nothing but a purge of dead letters does.

Owned by the `dead-letters purge` command. In a module of its own so that no worker can call it by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from processor.edges.kafka_admin import ANSWER_S_MAX
from processor.edges.kafka_client import Complaints, KafkaSettings, LibraryLog, error_of, merged, unusable
from processor.errors import Fatal
from processor.records import Position


class RecordDeletion:
    """One cluster's. Holds nothing but its client."""

    def __init__(self, settings: KafkaSettings, *, client_id: str) -> None:
        log = structlog.get_logger()
        config: dict[str, Any] = merged({}, settings, {"client.id": client_id})
        config["error_cb"] = Complaints(log).on_error
        try:
            self._admin = AdminClient(config, logger=LibraryLog(log))
        except KafkaException as refused:
            raise unusable(refused) from refused

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
