"""Deletes from rekeyed topics the records that transform has taken, as Kafka Streams does with its repartition topics.

    transform commits ─► once a second: DeleteRecords below the committed offset ─► no reader sees them again

Owned by the transform thread, which calls once a round and never waits for an answer. Only transform reads the rekeyed
topics, once, and they hold customers' data: taken records serve nobody, and an erasure would not reach them. Once the
answer has come, nobody can read below a log's start; the bytes go with their segment.

A deletion is never ahead of a commit, so a crash in between only delays it. A refusal is reported in the log and in
`/readyz`, because personal data stays then.

Not chosen: retention by age (records keep the times of their events, so a backlog would be deleted before it is read);
compaction (an order's key holds several events).
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from processor.edges.kafka.admin import ANSWER_S_MAX
from processor.edges.kafka.client import Complaints, KafkaSettings, error_of, merged, new_admin, said
from processor.interfaces import Clock
from processor.records import Position, TopicPartition

_EVERY_S: Final = 1.0
"""A person's data outlives its erasure here by a second and the time of the request."""


class KafkaTrim:
    """Mutable: `_trimmed` is what is deleted already, `_asked` are the answers under way by position, `trouble` is why
    the last deletion failed."""

    def __init__(self, settings: KafkaSettings, clock: Clock, *, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._clock = clock
        self._log = structlog.get_logger(__name__)
        self._admin = self._new()
        self._trimmed: dict[TopicPartition, int] = {}
        self._asked: dict[Position, Future[Any]] = {}
        self._ask_at_s = 0.0
        self.trouble: str | None = None

    def turn(self, taken: Iterable[Position]) -> None:
        """`taken` are the committed offsets of this worker's partitions."""
        if self._asked:
            if all(answer.done() for answer in self._asked.values()):
                self._answered()
        elif self._clock.monotonic_s() >= self._ask_at_s:
            self._ask_at_s = self._clock.monotonic_s() + _EVERY_S
            new = [one for one in taken if one.offset > self._trimmed.get(TopicPartition(one.topic, one.partition), 0)]
            if new:
                upto = {TopicPartition(one.topic, one.partition): one for one in new}
                answers: dict[ck.TopicPartition, Future[Any]] = self._admin.delete_records(
                    [ck.TopicPartition(*one) for one in new], request_timeout=ANSWER_S_MAX
                )
                self._asked = {
                    upto[TopicPartition(where.topic, where.partition)]: answer for where, answer in answers.items()
                }

    def _answered(self) -> None:
        refused: str | None = None
        for where, answer in self._asked.items():
            raised = answer.exception()
            if raised is None:
                self._trimmed[TopicPartition(where.topic, where.partition)] = where.offset
            else:
                error = said(error_of(raised)) if isinstance(raised, KafkaException) else str(raised)
                refused = f"{where.topic}/{where.partition}: {error}"
        self._asked = {}
        if refused is not None:
            if self.trouble is None:
                self._log.error("taken records are not deleted, personal data stays after an erasure", why=refused)
            self.trouble = f"records that are taken cannot be deleted: {refused}"
            self._admin = self._new()  # a client without an answer does not recover (`admin.py`)
        elif self.trouble is not None:
            self.trouble = None
            self._log.info("taken records are deleted again")

    def _new(self) -> AdminClient:
        config = merged({}, self._settings, {"client.id": self._client_id})
        return new_admin(config, Complaints(self._log).on_error, self._log)
