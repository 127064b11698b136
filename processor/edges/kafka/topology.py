"""Whether a role's topics are still the ones that it started with.

    every 30 s:  describe ─► (librdkafka's thread) ─► compare ─┬─ a partition more or less ─► Unusable, exit 78
                                                               └─ another topic of the name ─► Fatal, exit 1, restart

Owned by the transform thread, which asks once a second and never waits for an answer. With another number of
partitions an order's events go to another partition than its state, and a partition that only one of five
topics has is waited for without end: no worker may go on as if nothing had happened. A topic that was deleted
and made anew is another log under the old offsets; a new process sees that and begins anew.

Not chosen: the partition counts of an assignment (a worker that holds other partitions would not see it); the
consumer's own metadata (it tells of no topic ID).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Final

import structlog
from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.retention import Retention
from processor.errors import Fatal, Unusable
from processor.interfaces import Clock

log = structlog.get_logger(__name__)

_EVERY_S: Final = 30.0
"""As often as the consumer looks for new partitions: soon after it found some, this says what that means."""


class KafkaTopology:
    """Mutable: `_asked` answers under way, `_ask_at_s` when to ask again."""

    def __init__(
        self, admin: KafkaAdmin, started_with: Mapping[str, TopicState], clock: Clock, may_grow: Collection[str] = ()
    ) -> None:
        """`may_grow`: topics whose partitions are read whatever their number is."""
        self._admin = admin
        self._may_grow = frozenset(may_grow)
        self._started_with = started_with
        self._clock = clock
        self._retention = Retention(admin, list(started_with))
        self._asked: Mapping[str, Future[TopicDescription]] = {}
        self._ask_at_s = clock.monotonic_s() + _EVERY_S

    def kept_s(self, topic: str) -> float | None:
        return self._retention.of(topic)

    def check(self) -> None:
        self._retention.look()
        if self._asked:
            if all(answer.done() for answer in self._asked.values()):
                answers, self._asked = self._asked, {}
                self._compare(answers)
        elif self._clock.monotonic_s() >= self._ask_at_s:
            self._ask_at_s = self._clock.monotonic_s() + _EVERY_S
            self._asked = self._admin.topics_soon(list(self._started_with))

    def _compare(self, answers: Mapping[str, Future[TopicDescription]]) -> None:
        problems: list[str] = []
        for topic, answer in answers.items():
            if answer.exception() is not None:
                continue  # no broker, no right, no such topic: the clients that use it say so themselves
            now, before = answer.result(), self._started_with[topic]
            if str(now.topic_id) != before.topic_id:
                raise Fatal(f"{topic} was deleted and made anew while this worker ran: restart it")
            if len(now.partitions) != before.partitions and topic not in self._may_grow:
                problems.append(
                    f"{topic} had {before.partitions} partitions when this worker started, now it has "
                    f"{len(now.partitions)}: the events of an order would be apart from its state; `topics plan` says "
                    "what each topic must be like"
                )
        if problems:
            raise Unusable(problems)
