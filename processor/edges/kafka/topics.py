"""Watches the topics of a role while it runs: identities, partition counts, settings. No watch waits for an answer.

    KafkaTopics     send and hako: the topics that have our names now. A role takes its partitions over anew
    WatchedTopics   transform, every 5 s
        sources or changelog have other counts, or the changelog is another one   ─► Unusable, exit 78
        another topic of a source's name                                          ─► identities
        a fault with which a worker can go on                                     ─► complaints
    KafkaTopology   rekey, every 30 s
        more or fewer partitions                                                  ─► Unusable, exit 78
        another topic of the name                                                 ─► Fatal, exit 1, restart
    Retention       how long topics keep records, for any role

Owned by the Kafka thread of the role, which asks once a second. A topic that was deleted and made again keeps its name,
and librdkafka silently goes on at the old offset if the new log is long enough. With another number of partitions an
order's events go to another partition than its state, so no worker of transform or rekey may go on.

Not chosen: the partition counts of an assignment (a worker that holds other partitions would not see it); the
consumer's own metadata (it has no topic ID).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import MOCK_CLUSTER, KafkaAdmin, Repeated, TopicState
from processor.edges.kafka.client import error_of
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.interfaces import Clock, Seen
from processor.transform.book import REBUILD, layout_problem

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 5.0
"""Until a look, records of a new log are sent from the old offset on; then again, from its beginning."""
RETENTION_EVERY_S: Final = 30.0
"""An alert ends within a minute after its topic's retention was raised."""
SOURCES_EVERY_S: Final = 5.0
"""Until a look, records of moved keys count as those of unknown orders; each look costs the broker 1 ms."""
TOPOLOGY_EVERY_S: Final = 30.0
"""The consumer's own interval for new partitions: soon after it found some, this reports what that means."""


def kept_s(config: Mapping[str, str]) -> float | None:
    """Returns the seconds of a topic's retention. Returns None if nothing is deleted by age."""
    retention_ms = int(config.get("retention.ms", "-1"))
    deleted = "delete" in config.get("cleanup.policy", "delete")
    return retention_ms / 1000 if deleted and retention_ms > 0 else None


class Retention:
    """The retention of topics as it was last looked at. Owned by a role's Kafka thread, which asks once a second and
    never waits. Mutable: `_kept_s` by topic."""

    def __init__(self, admin: KafkaAdmin, topics: Sequence[str]) -> None:
        self._admin = admin
        self._settings: Repeated[Any] = Repeated(lambda: admin.settings_soon(topics), RETENTION_EVERY_S)
        self._kept_s: dict[str, float | None] = {}

    def look(self) -> None:
        """Takes new answers, and asks again from time to time."""
        for topic, answer in self._settings.answers().items():
            raised = answer.exception()
            if raised is None:
                settings = answer.result().values()
                self._kept_s[topic] = kept_s({one.name: one.value for one in settings if one.value is not None})
            else:  # no broker, no right: the clients of the topic report it themselves
                self._admin.went_wrong(raised)

    def of(self, topic: str) -> float | None:
        """Returns seconds. Returns None if nothing is deleted by age, or that is not known yet."""
        return self._kept_s.get(topic)


class KafkaTopics:
    """Mutable: `_latest` is replaced whole."""

    def __init__(self, admin: KafkaAdmin, topics: Sequence[str]) -> None:
        self._admin = admin
        self._topics = tuple(topics)
        self._retention = Retention(admin, topics)
        self._cluster_id: str | None = None
        self._latest: Mapping[str, Seen] = {}
        self._looks: Repeated[TopicDescription] = Repeated(lambda: admin.topics_soon(self._topics), LOOK_EVERY_S)

    def seen(self, topics: Sequence[str]) -> Mapping[str, Seen]:
        try:
            cluster_id = self._cluster()
            described = self._admin.describe(topics)
        except Fatal as refused:  # once the right is granted, no restart is needed
            raise BrokerOutage(str(refused)) from refused
        found = {
            name: Seen(cluster_id, state.topic_id, state.partitions)
            for name, state in described.items()
            if state is not None
        }
        # An earlier question has an older answer, which would bring back the earlier topic.
        self._looks.asked = {name: answer for name, answer in self._looks.asked.items() if name not in found}
        ours = {name: one for name, one in found.items() if name in self._topics}
        if any(self._latest.get(name) != one for name, one in ours.items()):
            self._latest = {**self._latest, **ours}
        return found

    def latest(self) -> Mapping[str, Seen]:
        # The first takeover asks for the cluster ID, and waits. A mock cluster has no controller to ask.
        if self._cluster_id is not None and not self._cluster_id.startswith(MOCK_CLUSTER):
            self._retention.look()
            self._look(self._looks.answers())
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
        failed: BaseException | None = None
        for topic, answer in answers.items():
            raised = answer.exception()
            if raised is None:
                described = answer.result()
                found[topic] = Seen(self._cluster_id, str(described.topic_id), len(described.partitions))
            elif not isinstance(raised, KafkaException):
                raise raised
            # Else: no broker, no right, no such topic for a moment. The clients of the topic report it themselves.
            failed = failed or raised
        if failed is not None:
            self._admin.went_wrong(failed)
        if found != self._latest:
            self._latest = found

    def _cluster(self) -> str:
        if self._cluster_id is None:
            self._cluster_id = self._admin.cluster_id()
        return self._cluster_id


class WatchedTopics:
    """Mutable: `_known` are the topics as they were last seen, `complaints` the faults that an operator must mend while
    the role goes on."""

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
        self._looks: Repeated[TopicDescription] = Repeated(
            lambda: admin.topics_soon(list(self._known)), SOURCES_EVERY_S, clock.monotonic_s, SOURCES_EVERY_S
        )
        self._settings: Repeated[Any] = Repeated(
            lambda: admin.settings_soon(list(self._known)), SOURCES_EVERY_S, clock.monotonic_s, SOURCES_EVERY_S
        )
        self.complaints: tuple[str, ...] = ()
        self._complain()

    def check(self) -> None:
        if answers := self._looks.answers():
            self._compare(answers)
        if settings := self._settings.answers():
            self._take(settings)

    def ask_soon(self) -> None:
        """Makes the next `check` ask."""
        self._looks.ask_at_s = self._settings.ask_at_s = self._clock.monotonic_s()

    def refresh(self) -> None:
        """Asks for the sources' identities and waits. Raises `BrokerOutage`, and as `check` does."""
        for topic, state in self._admin.describe(sorted(self._sources)).items():
            if state is not None:
                self._is_now(topic, state.topic_id, state.partitions)
        self._complain()

    @property
    def identities(self) -> Mapping[str, str]:
        """Returns the topic IDs of the sources, by whole name."""
        return {topic: self._known[topic].topic_id for topic in self._sources}

    @property
    def limits(self) -> Mapping[str, int]:
        return {topic: int(state.config.get("max.message.bytes", "1048588")) for topic, state in self._known.items()}

    def kept_s(self, topic: str) -> float | None:
        return kept_s(self._known[topic].config)

    def _compare(self, answers: Mapping[str, Future[TopicDescription]]) -> None:
        for topic, answer in answers.items():
            raised = answer.exception()
            if raised is None:  # no broker, no right, no such topic: the clients of the topic report it themselves
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


class KafkaTopology:
    """See the module."""

    def __init__(
        self, admin: KafkaAdmin, started_with: Mapping[str, TopicState], clock: Clock, may_grow: Collection[str] = ()
    ) -> None:
        """Topics in `may_grow` may get more partitions."""
        self._may_grow = frozenset(may_grow)
        self._started_with = started_with
        self._retention = Retention(admin, list(started_with))
        self._looks: Repeated[TopicDescription] = Repeated(
            lambda: admin.topics_soon(list(started_with)), TOPOLOGY_EVERY_S, clock.monotonic_s, TOPOLOGY_EVERY_S
        )

    def kept_s(self, topic: str) -> float | None:
        return self._retention.of(topic)

    def check(self) -> None:
        self._retention.look()
        self._compare(self._looks.answers())

    def _compare(self, answers: Mapping[str, Future[TopicDescription]]) -> None:
        problems: list[str] = []
        for topic, answer in answers.items():
            if answer.exception() is not None:
                continue  # no broker, no right, no such topic: the clients of the topic report it themselves
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
