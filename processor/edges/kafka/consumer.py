"""KafkaConsumer: a member of a consumer group over librdkafka, reading committed records.

Owned by a role's Kafka thread, in which everything here happens, `Rebalance` included: of our calls, only `consume` and
`close` run librdkafka's callbacks.

    poll ─► consume ─┬─► assigned(partitions) ─► start offsets ─► (incremental) assign ─► pauses
                     ├─► revoked(partitions)  ─► the listener commits ─► (incremental) unassign
                     ├─► lost(partitions)     ─► (incremental) unassign
                     └─► messages ─► records, ends, complaints

Invariants:
- An exception out of a callback reaches the caller of `poll`, after the assignment was carried out anyway (librdkafka
  waits for that), and it loses no record: the records of the same poll are kept for the next one.
- Records of a partition that was revoked in the same poll are dropped: its next owner starts before them.
- A pause ends with its assignment. librdkafka would keep it: a partition that comes back would not be read, and nobody
  would know of the pause.
- No call waits for ever (`commits.py`).

Not chosen: `AIOConsumer` (its pool can deadlock with a rebalance callback); static membership (a drain would keep its
partitions).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, cast

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ListOffsetsResultInfo  # type: ignore[attr-defined]  # exported, but it does not say so

from processor.edges.kafka.admin import KafkaAdmin, is_no_answer
from processor.edges.kafka.client import (
    Complaints,
    KafkaSettings,
    Message,
    Setting,
    error_of,
    merged,
    new_consumer,
    taken,
)
from processor.edges.kafka.commits import RETRY_S, GroupOffsets, assert_member, parts_of
from processor.edges.kafka.membership import SAMPLE_MS, Membership
from processor.edges.kafka.recovery import OF_A_TOPIC, Recovery
from processor.edges.kafka.throttle import Throttle
from processor.errors import BrokerOutage, Fatal
from processor.interfaces import Committed, Polled, Rebalance
from processor.records import Position, TopicPartition

SEEK_S_MAX: Final = 5.0  # no seek is possible while the committed offset of a partition is being asked for
LEAVE_S_MAX: Final = 5.0  # until the revocation begins; the listener has its own bound
SESSION_S: Final = 20.0  # KIP-848, unknown: above its longest heartbeat interval, below its shortest session
ENDS_AGE_S_MAX: Final = 2.0  # of the shown lag

CONSUMER_DEFAULTS: Final[Mapping[str, Setting]] = {
    # A worker that stops polling holds up a rebalance of the whole group for this time (librdkafka: 300 s).
    "max.poll.interval.ms": 60_000,
    # librdkafka's 100,000 records a partition and 64 MB would be half of a role's memory, and every pause drops them.
    # 16 MB is half a second at full speed.
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 16_384,
    # Compressed bytes: a megabyte of a partition (librdkafka's default) becomes ten and more, in addition to the queue.
    "max.partition.fetch.bytes": 262_144,
    # The wait for the next fetch while that queue is full; librdkafka's second would be a second without records.
    "fetch.queue.backoff.ms": 20,
    # The time until new partitions and recreated topics are seen (librdkafka: 5 min).
    "topic.metadata.refresh.interval.ms": 30_000,
}

CLASSIC_DEFAULTS: Final[Mapping[str, Setting]] = {
    # A killed worker is given up after 6.5 to 8 s (librdkafka: 45), and the others learn it with their next heartbeat:
    # under 10 s, which leaves 5 of the 15 for the restore. The broker allows no less than 6 s; a live worker counts as
    # dead after seven failed heartbeats in a row.
    "session.timeout.ms": 8_000,
    "heartbeat.interval.ms": 1_000,
}


class Assignment(StrEnum):
    """How a group shares out partitions. RANGE gives partition N of all topics to one member, which transform needs."""

    RANGE = "range"
    COOPERATIVE = "cooperative-sticky"


class KafkaConsumer:
    """See the module. Mutable, all of it owned by the one thread.

    `_assigned` are our partitions now; `_paused` is a part of them, or of those that `assigned` is being called with.
    `_at_end` are the partitions at their end, with its offset; like `_astray` a part of `_assigned`. `_revoked` are the
    partitions that went since the current poll began. `_raised` is the exception of a callback, `_kept` are the
    messages that came with it. `_overtaken` are the partitions whose next offset was deleted."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        assignment: Assignment,
        client_id: str,
        resets: bool = True,
        throttle: Throttle | None = None,
    ) -> None:
        """With `resets` false, a partition begins at the offset of `assigned` or `seek`, and a position that is not in
        the log is reported (`Polled.astray`) instead of moved to the beginning of whatever log there is."""
        log = structlog.get_logger()
        self._log = log
        self._complaints = Complaints(log)
        incremental_protocol = settings.get("group.protocol") == "consumer"
        self._incremental_protocol = incremental_protocol
        self._resets = resets
        self._incremental = incremental_protocol or assignment is Assignment.COOPERATIVE
        config = _config(settings, group, assignment, client_id, resets=resets)
        self._membership = Membership()
        config["stats_cb"] = self._membership.heard
        self.session_s = SESSION_S if incremental_protocol else int(config["session.timeout.ms"]) / 1000
        if throttle is not None:
            config["throttle_cb"] = throttle.heard
        self._consumer = new_consumer(config, self._complaints.on_error, log, self._overheard)
        self._overtaken: dict[TopicPartition, int] = {}
        self._offsets = GroupOffsets(self._consumer, self._complaints)
        self._admin = KafkaAdmin(settings, client_id=client_id, log=log)
        self._fresh_admin: Callable[[], KafkaAdmin] = lambda: KafkaAdmin(settings, client_id=client_id, log=log)
        self._recovery = Recovery(
            self._complaints, self._admin, self._fresh_admin, group, client_id, incremental_protocol
        )
        self._topics: tuple[str, ...] = ()
        self._listener: Rebalance | None = None
        self._assigned: set[TopicPartition] = set()
        self._paused: set[TopicPartition] = set()
        self._at_end: dict[TopicPartition, int] = {}
        self._astray: set[TopicPartition] = set()
        self._revoked: set[TopicPartition] = set()
        self._raised: BaseException | None = None
        self._kept: list[Message] = []
        self._ends: dict[TopicPartition, int] = {}
        self._ends_asked: Mapping[TopicPartition, Future[ListOffsetsResultInfo]] = {}
        self._ends_asked_s = -ENDS_AGE_S_MAX

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        assert topics, "a member of a group that reads nothing"
        assert self._listener is None, "subscribed already"
        self._topics = tuple(topics)
        self._listener = rebalance
        if self._incremental_protocol:  # the broker decides; a group's own session is no shorter
            known = self._fresh_admin().broker_setting("group.consumer.min.session.timeout.ms")
            self.session_s = SESSION_S if known is None else int(known) / 1000
        self._recovery.waiting_since_s = time.monotonic()
        self._consumer.subscribe(list(topics), self._on_assign, self._on_revoke, self._on_lost)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        assert records_max > 0, "a poll for nothing"
        messages = self._kept
        self._kept = []
        try:
            messages += self._consume(records_max, 0.0 if messages else timeout_s)
        except KafkaException as fatal:  # any other error is a message
            raise Fatal(error_of(fatal).str()) from fatal
        if self._raised is not None:
            raised, self._raised = self._raised, None
            self._kept = messages
            raise raised
        records, refused = taken(messages, self._at_end)
        for message in refused:
            self._refused(message)
        if self._complaints.fatal is not None:
            raise Fatal(self._complaints.fatal)
        if self._complaints.subjects or self._complaints.suspicious:
            self._recovery.look(self._topics, {record.topic for record in records})
        elif self._recovery.found_idle():
            assert self._listener is not None
            self._listener.assigned([])
        resets, self._overtaken = self._overtaken, {}
        return Polled(records, dict(self._at_end), frozenset(self._astray), resets)

    def _consume(self, records_max: int, timeout_s: float) -> list[Message]:
        """Like `client.consumed`, and drops messages of partitions that went in between."""
        self._revoked.clear()
        messages = cast("list[Message]", self._consumer.consume(records_max, 0))
        if messages or timeout_s <= 0 or self._raised is not None:
            return messages
        self._revoked.clear()
        messages = cast("list[Message]", self._consumer.consume(1, timeout_s))
        if messages and records_max > 1 and self._raised is None:
            self._revoked.clear()
            rest = cast("list[Message]", self._consumer.consume(records_max - 1, 0))
            messages = self._still_ours(messages, self._revoked) + rest
        return messages

    def _still_ours(self, messages: list[Message], gone: set[TopicPartition]) -> list[Message]:
        """Drops stale messages after a rebalance. librdkafka does that within one call only."""
        if not gone:
            return messages
        return [m for m in messages if TopicPartition(m.topic(), m.partition()) not in gone]

    def _overheard(self, facility: str, text: str) -> None:
        """Only librdkafka's log reports an offset that is no longer in the partition's log."""
        reset = _RESET.search(text) if facility == "OFFSET" else None
        if reset is not None:
            self._overtaken[TopicPartition(reset["topic"], int(reset["partition"]))] = int(reset["offset"])

    def _refused(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        code = error.code()
        if error.fatal():
            self._complaints.fatal = self._complaints.fatal or error.str()
        elif code == KafkaError._MAX_POLL_EXCEEDED:
            # `lost` follows with the next poll: the group has gone on without us.
            self._log.error("kafka.poll_too_late", detail=error.str())
        elif code in _ASTRAY and message.topic():
            self._astray.add(TopicPartition(message.topic(), message.partition()))
        elif code in OF_A_TOPIC and message.topic():
            self._complaints.note(message.topic(), error)
        else:
            self._complaints.note("group", error)

    def _on_assign(self, _consumer: ck.Consumer, parts: list[ck.TopicPartition]) -> None:
        partitions = [TopicPartition(part.topic, part.partition) for part in parts]
        assert self._listener is not None
        self._recovery.waiting_since_s = None
        starts = self._told(self._listener.assigned, partitions) or {}
        for part in parts:
            start = starts.get(TopicPartition(part.topic, part.partition))
            if start is not None:
                part.offset = start
            elif not self._resets:
                # `seek` gives the start. A number, not a name such as the end: librdkafka (2.16) asks the broker for a
                # name's offset, asks again half a second after a `seek` in between, takes the answer for the position,
                # and so skips everything before it.
                part.offset = 0
        waiting = self._paused & set(partitions)
        if waiting:  # before, so that nothing is fetched; and after, for partitions that librdkafka did not know yet
            self._told(self._consumer.pause, parts_of(waiting))
        self._told(self._consumer.incremental_assign if self._incremental else self._consumer.assign, parts)
        self._assigned.update(partitions)
        if waiting:
            self._told(self._consumer.pause, parts_of(waiting))

    def _on_revoke(self, consumer: ck.Consumer, parts: list[ck.TopicPartition]) -> None:
        if not self._consumer.memberid():  # it arrived too late: the group has gone on without us
            self._on_lost(consumer, parts)
            return
        partitions = [TopicPartition(part.topic, part.partition) for part in parts]
        assert self._listener is not None
        self._told(self._listener.revoked, partitions)
        self._gone(partitions, parts)

    def _on_lost(self, _consumer: ck.Consumer, parts: list[ck.TopicPartition]) -> None:
        self._complaints.suspicious = True
        self._recovery.waiting_since_s = time.monotonic()
        partitions = [TopicPartition(part.topic, part.partition) for part in parts]
        assert self._listener is not None
        self._told(self._listener.lost, partitions)
        self._gone(partitions, parts)

    def _gone(self, partitions: Sequence[TopicPartition], parts: list[ck.TopicPartition]) -> None:
        gone = set(partitions)
        held = self._paused & gone
        if held:
            self._told(self._consumer.resume, parts_of(held))
        self._assigned -= gone
        self._paused -= gone
        self._revoked |= gone
        self._kept = self._still_ours(self._kept, gone)
        self._astray -= gone
        for partition in partitions:
            self._at_end.pop(partition, None)
            self._ends.pop(partition, None)
        if self._incremental:
            self._told(self._consumer.incremental_unassign, parts)
        else:
            self._told(self._consumer.unassign)

    def _told(self, call: Callable[..., Any], *given: Any) -> Any:
        """Runs a part of a callback. Keeps the first exception for the caller of `poll`: raised here, librdkafka would
        report it, and the records of the same poll would be lost."""
        try:
            return call(*given)
        except KafkaException as refused:
            self._raised = self._raised or Fatal(f"the assignment was refused: {error_of(refused).str()}")
        except BaseException as raised:  # KeyboardInterrupt, too: `poll` raises it again
            self._raised = self._raised or raised
        return None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = set(partitions)
        self._paused |= wanted
        now = wanted & self._assigned  # `_on_assign` pauses the partitions that are being assigned
        self._kept = self._still_ours(self._kept, now)
        if now:
            self._consumer.pause(parts_of(now))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = set(partitions)
        self._paused -= wanted
        now = wanted & self._assigned
        for partition in now:
            self._at_end.pop(partition, None)  # may be old; librdkafka reports the end again
        if now:
            self._consumer.resume(parts_of(now))

    def seek(self, positions: Iterable[Position]) -> None:
        deadline_s = time.monotonic() + SEEK_S_MAX
        for topic, partition, offset in positions:
            where = TopicPartition(topic, partition)
            assert where in self._assigned, f"seek in {topic}/{partition}, which is not ours"
            self._at_end.pop(where, None)
            self._kept = self._still_ours(self._kept, {where})
            if where in self._astray:
                self._begin_again(where, offset)
                continue
            while (error := self._sought(ck.TopicPartition(topic, partition, offset))) is not None:
                if error.code() not in _NOT_STARTED or time.monotonic() >= deadline_s:
                    raise BrokerOutage(f"cannot seek in {topic}/{partition}: {error.str()}")
                time.sleep(RETRY_S)

    def _begin_again(self, where: TopicPartition, offset: int) -> None:
        """librdkafka has stopped fetching a partition whose position is not in its log: it accepts no seek, but an
        assignment; in a group that is not incremental, one of all partitions."""
        self._astray.discard(where)
        part = ck.TopicPartition(*where, offset)
        if self._incremental:
            self._consumer.incremental_unassign([part])
            self._consumer.incremental_assign([part])
        else:
            others = self._consumer.position(parts_of(self._assigned - {where}))
            self._consumer.assign([part, *others])
        paused = self._paused if not self._incremental else self._paused & {where}
        if paused:
            self._consumer.pause(parts_of(paused))

    def _sought(self, where: ck.TopicPartition) -> KafkaError | None:
        try:
            self._consumer.seek(where)
        except KafkaException as refused:
            return error_of(refused)
        return None

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        return self._offsets.committed(partitions)

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        self._offsets.commit(offsets)

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self._ends_asked and all(future.done() for future in self._ends_asked.values()):
            raised: BaseException | None = None
            for partition, future in self._ends_asked.items():
                if (failed := future.exception()) is not None:
                    raised = failed
                elif is_no_answer(future.result()):
                    raised = BrokerOutage(f"no answer about the log of {partition.topic}/{partition.partition}")
                elif partition in self._assigned:
                    self._ends[partition] = int(future.result().offset)
            self._ends_asked = {}
            if raised is not None:
                self._admin.went_wrong(raised)
        now_s = time.monotonic()
        if not self._ends_asked and partitions and now_s - self._ends_asked_s >= ENDS_AGE_S_MAX:
            self._ends_asked_s = now_s
            self._ends_asked = self._admin.stable_ends_soon(partitions)
        return {partition: end for partition in partitions if (end := self._ends.get(partition)) is not None}

    def answered_s(self) -> float:
        return self._membership.answered_s

    def group_metadata(self) -> Any:
        """Returns our member ID and generation. A transaction carries them, so that the broker refuses an old member.

        Raises `Fenced` if we know already that the group has gone on. Then librdkafka has forgotten its member ID, and
        the broker would accept offsets without one, as those of a producer without a group.
        """
        metadata = self._consumer.consumer_group_metadata()
        # In this order: a new member ID cannot come before `lost`, which the next poll reports.
        assert_member(self._consumer)
        return metadata

    def trouble(self) -> str | None:
        return self._recovery.trouble()

    def close(self) -> None:
        """Leaves the group and calls `revoked` for our partitions. Raises what that raises. librdkafka's own `close`
        would call it, too, but then answers no question about committed offsets."""
        if self._assigned:
            self._consumer.unsubscribe()
            deadline_s = time.monotonic() + LEAVE_S_MAX
            while self._assigned and time.monotonic() < deadline_s:
                with suppress(KafkaException):  # a fatal error: no callback comes
                    self._consumer.consume(1, RETRY_S)
        self._consumer.close()
        self._assigned.clear()
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised


def _config(
    settings: KafkaSettings, group: str, assignment: Assignment, client_id: str, *, resets: bool
) -> dict[str, Any]:
    incremental_protocol = settings.get("group.protocol") == "consumer"
    return merged(
        {**CONSUMER_DEFAULTS, **({} if incremental_protocol else CLASSIC_DEFAULTS)},
        settings,
        {
            "client.id": client_id,
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest" if resets else "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "statistics.interval.ms": SAMPLE_MS,
            **_assignor(assignment, incremental_protocol),
        },
    )


def _assignor(assignment: Assignment, incremental_protocol: bool) -> dict[str, Setting]:
    if not incremental_protocol:
        return {"partition.assignment.strategy": assignment.value}
    # KIP-848: the broker assigns. Its default is `uniform`; only `range` keeps partition N of all topics together.
    return {"group.remote.assignor": "range"} if assignment is Assignment.RANGE else {}


_ASTRAY: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_RESET: Final = re.compile(
    r"(?P<topic>\S+) \[(?P<partition>\d+)\]: offset reset \(at offset (?P<offset>\d+).*out of range", re.IGNORECASE
)
"""librdkafka's log line, with `auto.offset.reset=earliest`."""
_NOT_STARTED: Final = frozenset({KafkaError._STATE, KafkaError._PREV_IN_PROGRESS, KafkaError._IN_PROGRESS})
