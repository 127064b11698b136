"""Questions about consumer groups from outside: committed offsets, and members.

Used by transform when it takes partitions over, by the commands, and by a replay that runs for hours. A `KafkaAdmin`
that is kept cannot answer these questions, because librdkafka's admin client (2.16) does not survive a restart of a
group's coordinator:

- it keeps the first coordinator that it found, and every later question about the group times out, for good;
- when the answer to its question about offsets is "not the coordinator", it follows a null pointer (librdkafka #5040),
  and the process ends.

So each question has a client of its own, which takes some 65 ms. A consumer that never joins asks for offsets, an admin
client asks for members.

Not chosen: to give up a question without an answer (a dead worker's open transaction would then hold its successor up
for 14 s, after each broker restart and without a word).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.admin import NO_COORDINATOR_YET, NOT_ALLOWED, KafkaAdmin, Member, NoCoordinatorYet
from processor.edges.kafka.client import (
    Complaints,
    KafkaSettings,
    Log,
    Setting,
    error_of,
    groupless,
    new_consumer,
    said,
)
from processor.errors import BrokerOutage, Fatal
from processor.interfaces import Committed
from processor.records import TopicPartition

T = TypeVar("T")

COMMITTED_S_MAX: Final = 5.0
"""The longest wait for offsets. A worker's own group is not polled meanwhile; far below `max.poll.interval.ms`."""
_TRIES_S: Final = (0.5, 1.5, 3.0)
"""Its parts: a refusal of the group is reported between two tries, and answered by silence within one."""
assert sum(_TRIES_S) == COMMITTED_S_MAX
_NO_COORDINATOR_S_MAX: Final = 5.0
"""The time that a group may be without a coordinator, in addition, before it is an outage."""
_NO_COORDINATOR_S: Final = 0.1
_TOLD_MAX: Final = 10
"""A consumer that never joins reports an error or two."""


class KafkaGroups:
    """See the module. It holds no connection; any thread may use it."""

    def __init__(self, settings: KafkaSettings, *, client_id: str, log: Log | None = None) -> None:
        if log is None:
            import structlog  # 0.2 s: a command that brings its own log does not need it

            log = structlog.get_logger()
        self._settings = settings
        self._client_id = client_id
        self._log = log

    def committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        """Returns what `group` committed last, and does **not** wait for an open transaction that has newer offsets.

        A member's own `committed` waits for it, and so would a new owner whose predecessor died with its transaction
        open. Here it learns the name of that worker, and can end the transaction (`abort_left_behind`). Raises
        `BrokerOutage`, and `Fatal` if the right to ask is missing.
        """
        if not partitions:
            return {}
        return _patiently(lambda: self._committed(group, partitions))

    def members(self, group: str) -> Sequence[Member]:
        """Returns the members of `group`; empty if there is no such group. Raises `BrokerOutage`, `Fatal`."""
        return _patiently(lambda: KafkaAdmin(self._settings, client_id=self._client_id, log=self._log).members(group))

    def _committed(self, group: str, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        complaints = Complaints(self._log)
        consumer = self._consumer(group, complaints)
        try:
            answer, refused = _committed(consumer, [ck.TopicPartition(*partition) for partition in partitions])
        finally:
            consumer.close()
        if refused is not None:
            raise _refusal(f"the offsets of {group}", refused, complaints.text())
        return {
            TopicPartition(part.topic, part.partition): Committed(
                part.offset if part.offset >= 0 else None, part.metadata or ""
            )
            for part in answer
        }

    def _consumer(self, group: str, complaints: Complaints) -> ck.Consumer:
        # An open transaction is not waited for: it is why we ask.
        owned: dict[str, Setting] = {
            "client.id": self._client_id,
            "group.id": group,
            "isolation.level": "read_uncommitted",
        }
        config = groupless({}, self._settings, owned)
        return new_consumer(config, complaints.on_error, self._log)


def _patiently(ask: Callable[[], T]) -> T:
    """Asks again, each time with a new client, while the group has no coordinator yet."""
    deadline_s = time.monotonic() + _NO_COORDINATOR_S_MAX
    while True:
        try:
            return ask()
        except NoCoordinatorYet:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_NO_COORDINATOR_S)


def _committed(
    consumer: ck.Consumer, asked: list[ck.TopicPartition]
) -> tuple[list[ck.TopicPartition], ck.KafkaError | None]:
    """Returns the offsets, or the error."""
    refused: ck.KafkaError | None = None
    for try_s in _TRIES_S:
        try:
            answer = consumer.committed(asked, try_s)
            return answer, next((part.error for part in answer if part.error is not None), None)
        except KafkaException as raised:
            refused = error_of(raised)
        for told in _told(consumer):
            if told.code() in NOT_ALLOWED:
                return [], told
        if refused.code() != KafkaError._TIMED_OUT:
            break
    return [], refused


def _told(consumer: ck.Consumer) -> Iterator[ck.KafkaError]:
    """Yields the waiting errors, and runs the error callback and the log."""
    for _ in range(_TOLD_MAX):
        try:
            message = consumer.poll(0)
        except KafkaException as raised:
            yield error_of(raised)
            continue
        if message is None:
            return
        error = message.error()
        if error is not None:
            yield error


def _refusal(about: str, error: ck.KafkaError, complaint: str | None) -> BrokerOutage | Fatal:
    if error.code() in NOT_ALLOWED:
        return Fatal(f"not allowed to ask about {about} (Describe): {said(error)}")
    kind = NoCoordinatorYet if error.code() in NO_COORDINATOR_YET else BrokerOutage
    return kind(f"{about}: {error.str()}{f' ({complaint})' if complaint else ''}")
