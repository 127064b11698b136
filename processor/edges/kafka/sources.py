"""What a role's topics are by now: their identities, partition counts and settings, watched while it runs.

    every 5 s:  describe, settings ─► (librdkafka's thread) ─► compare
        sources or changelog have other counts, or the changelog is another one   ─► Unusable, exit 78
        another topic of a source's name                                          ─► identities
        what a worker can go on with                                              ─► complaints

Owned by the transform thread, which asks once a second and never waits for an answer, except in `refresh`. With another
number of partitions an order's events go to another partition than its state: no worker may go on as if nothing had
happened. A source that was deleted and made again is another log under the old offsets; the role begins with it anew.

Not chosen: the partition counts of an assignment (a worker that holds other partitions would not see it); the
consumer's own metadata (it tells of no topic ID).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.client import error_of
from processor.edges.kafka.retention import kept_s
from processor.errors import Unusable
from processor.interfaces import Clock
from processor.transform.book import REBUILD, layout_problem

log = structlog.get_logger(__name__)

_EVERY_S: Final = 5.0
"""Records that moved keys bring meanwhile are taken for those of unknown orders; each look costs the broker 1 ms."""


class WatchedTopics:
    """Mutable: `_known` the topics as they were last seen, `_asked` and `_settings` answers under way, `_ask_at_s` when
    to ask again, `complaints` what somebody must mend while the role goes on."""

    def __init__(
        self,
        admin: KafkaAdmin,
        started_with: Mapping[str, TopicState],
        clock: Clock,
        *,
        sources: Collection[str],
        changelog: str,
    ) -> None:
        self._admin = admin
        self._known = dict(started_with)
        self._clock = clock
        self._sources = frozenset(sources)
        self._changelog = changelog
        self._partitions = started_with[changelog].partitions
        self._asked: Mapping[str, Future[TopicDescription]] = {}
        self._settings: Mapping[str, Future[Any]] = {}
        self._ask_at_s = clock.monotonic_s() + _EVERY_S
        self.complaints: tuple[str, ...] = ()
        self._complain()

    def check(self) -> None:
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers, self._asked = self._asked, {}
            self._compare(answers)
        if self._settings and all(answer.done() for answer in self._settings.values()):
            settings, self._settings = self._settings, {}
            self._take(settings)
        if not self._asked and not self._settings and self._clock.monotonic_s() >= self._ask_at_s:
            self._ask_at_s = self._clock.monotonic_s() + _EVERY_S
            self._asked = self._admin.topics_soon(list(self._known))
            self._settings = self._admin.settings_soon(list(self._known))

    def ask_soon(self) -> None:
        """The next `check` asks, whenever the last one did."""
        self._ask_at_s = self._clock.monotonic_s()

    def refresh(self) -> None:
        """Asks for the sources' identities and waits. Raises `BrokerOutage`, and as `check` does."""
        for topic, state in self._admin.describe(sorted(self._sources)).items():
            if state is not None:
                self._is_now(topic, state.topic_id, state.partitions)
        self._complain()

    @property
    def identities(self) -> Mapping[str, str]:
        """The topic IDs of the sources, by whole name."""
        return {topic: self._known[topic].topic_id for topic in self._sources}

    @property
    def limits(self) -> Mapping[str, int]:
        return {topic: int(state.config.get("max.message.bytes", "1048588")) for topic, state in self._known.items()}

    def kept_s(self, topic: str) -> float | None:
        return kept_s(self._known[topic].config)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _compare(self, answers: Mapping[str, Future[TopicDescription]]) -> None:
        for topic, answer in answers.items():
            raised = answer.exception()
            if raised is None:  # no broker, no right, no such topic: the clients that use it say so themselves
                now = answer.result()
                self._is_now(topic, str(now.topic_id), len(now.partitions))
        self._complain()

    def _is_now(self, topic: str, topic_id: str, partitions: int) -> None:
        before = self._known[topic]
        if topic == self._changelog and topic_id != before.topic_id:
            raise Unusable([f"{topic} was deleted and made again while this worker ran; {REBUILD}"])
        if partitions != self._partitions and (topic in self._sources or topic == self._changelog):
            raise Unusable([f"{topic}: {layout_problem(self._changelog, self._partitions, partitions)}"])
        if topic_id != before.topic_id and topic not in self._sources:
            log.warning("topic was deleted and made again", topic=topic)
        self._known[topic] = before._replace(partitions=partitions, topic_id=topic_id)

    def _take(self, settings: Mapping[str, Future[Any]]) -> None:
        for topic, answer in settings.items():
            raised = answer.exception()
            if raised is None:
                config = {entry.name: entry.value for entry in answer.result().values() if entry.value is not None}
                self._known[topic] = self._known[topic]._replace(config=config)
            elif isinstance(raised, KafkaException) and error_of(raised).code() == KafkaError._TIMED_OUT:
                self._admin.went_wrong(raised)
        self._complain()

    def _complain(self) -> None:
        found: list[str] = []
        for topic, state in self._known.items():
            if topic not in self._sources and state.partitions != self._partitions:
                found.append(
                    f"{topic} has {state.partitions} partitions and the sources have {self._partitions}: "
                    f"`hakuna-processor topics grow --partitions {max(state.partitions, self._partitions)}` makes all "
                    "of them equal; until then the partitions that all of them have go on"
                )
        policy = self._known[self._changelog].config.get("cleanup.policy", "delete")
        if "compact" not in policy:
            found.append(
                f"{self._changelog} has cleanup.policy={policy}: the state is being deleted by age; set "
                "cleanup.policy=compact now"
            )
        for complaint in found:
            if complaint not in self.complaints:
                log.error("topic must be mended", complaint=complaint)
        self.complaints = tuple(found)
