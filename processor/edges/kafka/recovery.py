"""Decides when a complaint of a consumer is over, and when a member without an assignment gets none.

Owned by `KafkaConsumer`, in its thread. Each question to the cluster is a future, so nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConsumerGroupDescription, TopicDescription  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import KafkaAdmin, may_read
from processor.edges.kafka.client import CONNECTION, Complaints, error_of

IDLE_S: Final = 10.0  # two heartbeats of a default broker (`group.consumer.heartbeat.interval.ms`)
UNASSIGNED_S: Final = 60.0
_ASK: Final = "`hakuna-processor check` tells whether the brokers know this group's protocol and its rights"
RECHECK_S: Final = 3.0  # how soon a recovery is noticed; each costs the broker two small requests


@dataclass(eq=False)
class Recovery:
    """`_fresh_admin` makes a client for a question about the group: one that is kept does not follow a coordinator
    (`groups.py`).

    Mutable: `waiting_since_s` is since when there is no assignment (monotonic seconds; None: there is one);
    `_recheck` and `_who_is_in` are the questions under way; `_recheck_s` is the time of the last one."""

    _complaints: Complaints
    _admin: KafkaAdmin
    _fresh_admin: Callable[[], KafkaAdmin]
    _group: str
    _client_id: str
    _incremental_protocol: bool
    waiting_since_s: float | None = None
    _recheck: _Recheck | None = None
    _recheck_s: float = 0.0
    _who_is_in: Future[ConsumerGroupDescription] | None = None
    _who_admin: KafkaAdmin | None = None

    def trouble(self) -> str | None:
        since_s = self.waiting_since_s
        if since_s is not None and time.monotonic() - since_s > UNASSIGNED_S:
            complaint = self._complaints.text()
            why = f"no assignment for more than {UNASSIGNED_S:g} s"
            return f"{why}: {complaint}" if complaint else f"{why}, and no reason is known: {_ASK}"
        return self._complaints.text()

    def look(self, topics: Sequence[str], topics_read: set[str]) -> None:
        """Clears a complaint if records of its topic have arrived, or the broker now answers as it should. Records do
        not prove a connection: they may have been fetched long before."""
        for topic in topics_read:
            self._complaints.clear(topic)
        now_s = time.monotonic()
        if self._recheck is None:
            if now_s - self._recheck_s >= RECHECK_S:
                self._recheck_s = now_s
                admin = self._fresh_admin() if "group" in self._complaints.subjects else self._admin
                self._recheck = _Recheck(admin, topics, self._group, self._complaints)
        elif self._recheck.done():
            self._recheck = None

    def found_idle(self) -> bool:
        """Returns true once, if we are a member without any partition.

        The incremental protocol does not report that, neither by a callback nor in statistics. A new member gets its
        partitions after a heartbeat. So a client that is in the group and has got no partition for two heartbeats is a
        member without any. A client that is not in the group is never ready.
        """
        now_s, since_s = time.monotonic(), self.waiting_since_s
        if since_s is None or not self._incremental_protocol or now_s - since_s <= IDLE_S:
            return False
        if self._who_is_in is None:
            if now_s - self._recheck_s >= RECHECK_S:
                self._recheck_s = now_s
                self._who_admin = self._fresh_admin()  # kept for as long as its answer is waited for
                self._who_is_in = self._who_admin.group_soon(self._group)
        elif self._who_is_in.done():
            asked, self._who_is_in = self._who_is_in, None
            if asked.exception() is None and any(one.client_id == self._client_id for one in asked.result().members):
                self.waiting_since_s = None
                return True
        return False


class _Recheck:
    """One round of questions: whether the cluster answers, and allows now what it refused."""

    def __init__(self, admin: KafkaAdmin, topics: Sequence[str], group: str, complaints: Complaints) -> None:
        self._admin = admin  # kept for as long as its answers are waited for
        self._complaints = complaints
        self._topics: Mapping[str, Future[TopicDescription]] = admin.topics_soon(topics, RECHECK_S)
        self._group: Future[ConsumerGroupDescription] | None = (
            admin.group_soon(group) if "group" in complaints.subjects else None
        )

    def done(self) -> bool:
        """Returns true if all is answered; then updates the complaints."""
        asked: list[Future[Any]] = [*self._topics.values(), *([self._group] if self._group else [])]
        if not all(future.done() for future in asked):
            return False
        answered = False
        silence: KafkaException | None = None
        for topic, future in self._topics.items():
            raised = future.exception()
            if raised is None:
                answered = True
                if may_read(future.result().authorized_operations):
                    self._complaints.clear(topic)
            elif isinstance(raised, KafkaException) and error_of(raised).code() in OF_A_TOPIC:
                answered = True
                self._complaints.note(topic, error_of(raised))
            elif isinstance(raised, KafkaException):
                silence = raised
        if answered:
            self._complaints.suspicious = False
            self._complaints.clear(CONNECTION)
        elif silence is not None:
            self._complaints.note(CONNECTION, error_of(silence))
            self._admin.went_wrong(silence)
        group = self._group
        if group is not None and group.exception() is None and may_read(group.result().authorized_operations):
            self._complaints.clear("group")
        return True


OF_A_TOPIC: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)
