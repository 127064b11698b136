"""KafkaTopics: which topics stand under our names today: their IDs and their partitions.

Owned by a sending role's Kafka thread. Asked for at each takeover, and looked at every few seconds while it works: a
topic that was deleted and made again keeps its name, and librdkafka goes on in it at the old offset without a word
where the new log is long enough.

Not chosen: the consumer's metadata (confluent-kafka tells no topic ID).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import MOCK_CLUSTER, KafkaAdmin
from processor.edges.kafka.retention import Retention
from processor.errors import BrokerOutage, Fatal
from processor.interfaces import Seen

LOOK_EVERY_S: Final = 5.0
"""What is taken of a new log from the old offset on is sent before its beginning for so long, and then again."""


class KafkaTopics:
    """Mutable: `_latest` is replaced whole; `_asked` are answers under way, `_ask_at_s` when to ask again."""

    def __init__(self, admin: KafkaAdmin, topics: Sequence[str]) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._retention = Retention(admin, topics)
        self._cluster_id: str | None = None
        self._latest: Mapping[str, Seen] = {}
        self._asked: Mapping[str, Future[TopicDescription]] = {}
        self._ask_at_s = 0.0

    def seen(self, topics: Sequence[str]) -> Mapping[str, Seen]:
        try:
            cluster_id = self._cluster()
            described = self._admin.describe(topics)
        except Fatal as refused:  # whoever grants the right need not start us again
            raise BrokerOutage(str(refused)) from refused
        found = {
            name: Seen(cluster_id, state.topic_id, state.partitions)
            for name, state in described.items()
            if state is not None
        }
        # What was asked before is older: it would bring the topic back that was there before.
        self._asked = {name: answer for name, answer in self._asked.items() if name not in found}
        ours = {name: one for name, one in found.items() if name in self._topics}
        if any(self._latest.get(name) != one for name, one in ours.items()):
            self._latest = {**self._latest, **ours}
        return found

    def latest(self) -> Mapping[str, Seen]:
        # The first takeover asks for it, and waits. A mock cluster has no controller to be asked.
        may_ask = self._cluster_id is not None and not self._cluster_id.startswith(MOCK_CLUSTER)
        if may_ask:
            self._retention.look()
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers, self._asked = self._asked, {}
            self._look(answers)
        elif may_ask and not self._asked and time.monotonic() >= self._ask_at_s:
            self._ask_at_s = time.monotonic() + LOOK_EVERY_S
            self._asked = self._admin.topics_soon(self._topics)
        return self._latest

    def kept_s(self, topic: str) -> float | None:
        return self._retention.of(topic)

    def bytes_max(self, topic: str) -> int | None:
        try:
            state = self._admin.describe([topic])[topic]
            return None if state is None else int(state.config["max.message.bytes"])
        except (BrokerOutage, Fatal, KeyError, ValueError):
            return None

    def _look(self, answers: Mapping[str, Future[TopicDescription]]) -> None:
        assert self._cluster_id is not None
        found = dict(self._latest)
        for topic, answer in answers.items():
            raised = answer.exception()
            if raised is None:
                told = answer.result()
                found[topic] = Seen(self._cluster_id, str(told.topic_id), len(told.partitions))
            elif not isinstance(raised, KafkaException):
                raise raised
            # Else: no broker, no right, no such topic for a moment. The clients that use it say so themselves.
        if any(answer.exception() is not None for answer in answers.values()):
            self._admin.went_wrong(next(e for a in answers.values() if (e := a.exception()) is not None))
        if found != self._latest:
            self._latest = found

    def _cluster(self) -> str:
        if self._cluster_id is None:
            self._cluster_id = self._admin.cluster_id()
        return self._cluster_id
