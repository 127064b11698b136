"""Clients of the `FakeBroker`: they implement `processor/interfaces.py` as the real edges do, rule by rule.

`tests/contracts/test_kafka_*.py` run the same suites over these and over the real ones. An empty `poll`
lets its timeout pass on the clock, so that a loop that waits makes time go by."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum, auto
from math import inf
from typing import Any

from processor.edges.kafka.topics import kept_s
from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, StateCorrupt, TransactionAborted
from processor.interfaces import COMMIT_METADATA_BYTES_MAX, Acknowledged, Committed, Polled, Rebalance, Seen
from processor.records import Headers, NewRecord, Position, Record, TopicPartition, record_bytes
from processor.topics import RECORD_BYTES_MAX
from tests.fakes.broker import (
    POLL_INTERVAL_S_MAX,
    SESSION_TIMEOUT_S,
    TRANSACTION_TIMEOUT_S,
    FakeBroker,
    Fate,
    GroupMember,
)
from tests.fakes.chance import below, shuffled
from tests.fakes.crash_points import Crash

COMMITTED_S_MAX = 5.0


class _Fetcher:
    """Positions in partitions, and what a fetch from them brings. Mutable; owned by one consumer or
    reader."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._order: list[TopicPartition] = []
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.at_end: dict[TopicPartition, int] = {}
        self.resets: dict[TopicPartition, int] = {}

    def start(self, where: TopicPartition, offset: int) -> None:
        if where not in self.positions:
            insort(self._order, where)
        self.positions[where] = offset
        self.at_end.pop(where, None)

    def stop(self, where: TopicPartition) -> None:
        if self.positions.pop(where, None) is not None:
            self._order.remove(where)
        self.paused.discard(where)
        self.at_end.pop(where, None)

    def fetch(self, records_max: int) -> list[Record]:
        broker, chance = self._broker, self._broker.chance
        logs, denied, paused, positions = broker.logs, broker.denied, self.paused, self.positions
        order = self._order if chance is None else shuffled(chance, self._order)
        records: list[Record] = []
        for where in order:
            log = logs.get(where)
            if log is None or where in paused or (denied and where.topic in denied):
                continue
            at = positions[where]
            if not log.start <= at <= log.high_watermark:
                continue  # whoever reads finds its way first
            room = records_max - len(records)
            if chance is not None:
                room = below(chance, room + 1)
            stable = log.settled if log.settled == log.high_watermark else log.last_stable_offset
            if at < stable:
                found, at = log.read(at, room)
                positions[where] = at
                if found:
                    records += found
                    self.at_end.pop(where, None)
            if at >= stable and (chance is None or chance.random() < 0.7):
                self.at_end[where] = at
        return records


class FakeConsumer:
    """A member of a group. See `processor/edges/kafka/consumer.py` for the rules it keeps."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        group: str,
        client_id: str,
        eager: bool = True,
        poll_interval_s_max: float = POLL_INTERVAL_S_MAX,
        resets: bool = True,
    ) -> None:
        self._broker = broker
        self._resets = resets
        self._astray: set[TopicPartition] = set()
        self.group_name = group
        self.client_id = client_id
        self._eager = eager
        self._fetcher = _Fetcher(broker)
        self._listener: Rebalance | None = None
        self._member: GroupMember | None = None
        self._pausing: set[TopicPartition] = set()
        self._closed = False
        self.poll_interval_s_max = poll_interval_s_max
        self.session_s = SESSION_TIMEOUT_S
        self._answered_s = -inf

    # ---- reading -----------------------------------------------------------------------------------------

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None:
        assert topics, "a member of a group that reads nothing"
        assert self._listener is None, "subscribed already"
        self._listener = rebalance
        self._topics = tuple(topics)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        assert records_max > 0, "a poll for nothing"
        assert not self._closed
        self._struck("consumer.poll", done=False)
        if self._broker.down:
            self._broker.clock.advance(timeout_s)
            return Polled([], dict(self._fetcher.at_end))
        self._broker.overdue()
        self._take_part()
        self._find_way()
        records = self._fetcher.fetch(records_max)
        if not records:
            self._broker.clock.advance(timeout_s)
        if self._member is not None:
            self._member.seen_s = self._answered_s = self._broker.clock.at_s
        self._struck("consumer.poll", done=True)
        resets, self._fetcher.resets = self._fetcher.resets, {}
        return Polled(records, dict(self._fetcher.at_end), frozenset(self._astray), resets)

    def _find_way(self) -> None:
        """Positions that are not in their logs: reset to the beginning, or told."""
        logs, paused = self._broker.logs, self._fetcher.paused
        away = [
            (where, position)
            for where, position in self._fetcher.positions.items()
            if (log := logs.get(where)) is not None
            and not log.start <= position <= log.high_watermark
            and where not in paused
        ]
        for where, position in away:
            if self._resets:
                self._fetcher.resets[where] = position
                self._fetcher.start(where, logs[where].start)
            else:
                self._astray.add(where)

    # ---- moving ------------------------------------------------------------------------------------------

    def _take_part(self) -> None:
        """One round of the group's protocol. What a callback raises is raised here, after its move was
        made."""
        if self._listener is None or self.group_name in self._broker.denied:
            return
        raised: list[BaseException] = []
        member = self._member
        if member is not None and member.expelled:
            self._move(raised, "lost", member, set(member.owned))
            member = self._member = None
        if member is None:
            member = self._member = GroupMember(
                self.client_id, self._topics, self._eager, self._broker.clock.at_s, self.poll_interval_s_max
            )
            self._broker.join(self.group_name, member)
        member.seen_s = self._broker.clock.at_s
        group = self._broker.group(self.group_name)
        if group.joining and not member.joined:
            self._move(raised, "revoked", member, set(member.owned))
            member.joined = True
            self._broker.joined(group)
        if member.target is not None:
            self._move(raised, "revoked", member, member.owned - member.target)
            elsewhere: set[TopicPartition] = set()
            for other in group.members.values():
                if other is not member:
                    elsewhere |= other.owned
            gained = member.target - member.owned - elsewhere
            if gained or not member.greeted:
                member.greeted = True
                self._assign(raised, member, gained)
            if member.owned == member.target:
                member.target = None
        if raised:
            raise raised[0]

    def _move(
        self, raised: list[BaseException], what: str, member: GroupMember, partitions: set[TopicPartition]
    ) -> None:
        if not partitions:
            return
        assert self._listener is not None
        tell = self._listener.revoked if what == "revoked" else self._listener.lost
        self._told(raised, lambda: tell(sorted(partitions)))
        member.owned -= partitions
        for where in partitions:
            self._fetcher.stop(where)
        self._astray -= partitions

    def _assign(self, raised: list[BaseException], member: GroupMember, partitions: set[TopicPartition]) -> None:
        assert self._listener is not None
        listener = self._listener
        self._pausing = set()
        starts = self._told(raised, lambda: listener.assigned(sorted(partitions))) or {}
        member.owned |= partitions
        known = self._broker.group(self.group_name).committed
        for where in partitions:
            committed = known.get(where, Committed(None, "")).next_offset
            log = self._broker.logs[where]
            start = log.start if committed is None else committed
            self._fetcher.start(where, starts.get(where, start if self._resets else log.high_watermark))
        self._fetcher.paused |= self._pausing & partitions

    def _told(self, raised: list[BaseException], call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Crash:
            raise  # the process is gone: nobody carries a move out
        except BaseException as error:
            raised.append(error)
            return None

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = set(partitions)
        self._pausing |= wanted
        self._fetcher.paused |= wanted & set(self._fetcher.positions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        wanted = set(partitions)
        self._pausing -= wanted
        self._fetcher.paused -= wanted
        for where in wanted:
            self._fetcher.at_end.pop(where, None)

    def seek(self, positions: Iterable[Position]) -> None:
        for topic, partition, offset in positions:
            where = TopicPartition(topic, partition)
            assert where in self._fetcher.positions, f"seek in {topic}/{partition}, which is not ours"
            self._astray.discard(where)
            self._fetcher.start(where, offset)

    # ---- offsets -----------------------------------------------------------------------------------------

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        self._struck("consumer.committed", done=False)
        if self._broker.down:
            raise BrokerOutage("committed offsets: no broker answers")
        return self._broker.committed(self.group_name, partitions)

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        if not offsets:
            return
        _check(offsets)
        self._struck("consumer.commit", done=False)
        if self._broker.down:
            raise BrokerOutage("commit: no broker answers")
        if not self.is_member():
            raise Fenced("commit refused: UNKNOWN_MEMBER_ID")
        self._broker.group(self.group_name).committed.update(offsets)
        self._struck("consumer.commit", done=True)

    def is_member(self) -> bool:
        """Whether the coordinator would take a commit from us."""
        self._broker.overdue()
        member = self._member
        group = self._broker.group(self.group_name)
        if member is None or group.members.get(self.client_id) is not member:
            return False
        return member.generation == group.generation or not member.eager

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        logs = self._broker.logs
        return {where: logs[where].last_stable_offset for where in partitions if where in logs}

    def answered_s(self) -> float:
        return self._answered_s

    def trouble(self) -> str | None:
        if self._broker.down:
            return "connection: no broker answers"
        denied = self._broker.denied & {self.group_name, *self._topics}
        return f"{min(denied)}: not allowed" if denied else None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        raised: list[BaseException] = []
        if self._member is not None:
            if self._member.expelled:
                self._move(raised, "lost", self._member, set(self._member.owned))
            else:
                self._move(raised, "revoked", self._member, set(self._member.owned))
                self._broker.leave(self.group_name, self._member)
        if raised:
            raise raised[0]

    def _struck(self, call: str, *, done: bool) -> None:
        error = self._broker.points.struck(self.client_id, call, done)
        if error is not None:
            raise error


class FakeTopics:
    """What stands under the names of some topics."""

    def __init__(self, broker: FakeBroker, topics: Sequence[str]) -> None:
        self._broker = broker
        self._topics = topics
        self._latest: Mapping[str, Seen] = {}

    def seen(self, topics: Sequence[str]) -> Mapping[str, Seen]:
        if self._broker.down:
            raise BrokerOutage("no broker answers")
        return self._broker.seen(topics)

    def latest(self) -> Mapping[str, Seen]:
        if not self._broker.down and (now := self._broker.seen(self._topics)) != self._latest:
            self._latest = now
        return self._latest

    def kept_s(self, topic: str) -> float | None:
        return kept_s(self._broker.config[topic])

    def bytes_max(self, topic: str) -> int | None:
        return int(self._broker.config[topic].get("max.message.bytes", 1_048_588))


class FakeReader:
    """Reads what it is told to, outside of any group."""

    def __init__(self, broker: FakeBroker, *, client_id: str) -> None:
        self._broker = broker
        self._client_id = client_id
        self._fetcher = _Fetcher(broker)

    def assign(self, positions: Iterable[Position]) -> None:
        for topic, partition, offset in positions:
            assert offset >= 0, "a reader is told where to start"
            self._fetcher.start(TopicPartition(topic, partition), offset)

    def unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for where in partitions:
            self._fetcher.stop(where)

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        assert records_max > 0, "a poll for nothing"
        error = self._broker.points.struck(self._client_id, "reader.poll", False)
        if error is not None:
            raise error
        if self._broker.down:
            self._broker.clock.advance(timeout_s)
            return Polled([], dict(self._fetcher.at_end))
        self._broker.overdue()
        for where, position in self._fetcher.positions.items():
            log = self._broker.logs[where]
            if not log.start <= position <= log.high_watermark:
                raise StateCorrupt(f"offset {position} of {where.topic}/{where.partition} is not in the log", where)
        records = self._fetcher.fetch(records_max)
        if not records:
            self._broker.clock.advance(timeout_s)
        return Polled(records, dict(self._fetcher.at_end))

    def newest(self, records_max: int, timeout_s: float) -> Mapping[TopicPartition, dict[bytes, bytes | None]]:
        found: dict[TopicPartition, dict[bytes, bytes | None]] = {}
        for record in self.poll(records_max, timeout_s).records:
            of_partition = found.setdefault(TopicPartition(record.topic, record.partition), {})
            if record.key is not None:
                of_partition[record.key] = record.value
        return found

    def position(self, partition: TopicPartition) -> int:
        return self._fetcher.positions[partition]

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._answering()
        return self._broker.beginnings(partitions)

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        self._answering()
        return self._broker.ends(partitions)

    def _answering(self) -> None:
        if self._broker.down:
            raise BrokerOutage("no broker answers")

    def trouble(self) -> str | None:
        return "connection: no broker answers" if self._broker.down else None

    def close(self) -> None:
        for where in list(self._fetcher.positions):
            self._fetcher.stop(where)


class _Produced:
    """A record on its way, until it is answered."""

    __slots__ = ("acknowledged", "headers", "key", "passed_over", "timestamp_ms", "value", "where")

    def __init__(
        self,
        where: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        acknowledged: Acknowledged,
    ) -> None:
        self.where = where
        self.key = key
        self.value = value
        self.headers = headers
        self.timestamp_ms = timestamp_ms
        self.acknowledged = acknowledged
        self.passed_over = 0


class FakeProducer:
    """Records reach the log in `poll` and `flush`, in order, and are answered there; with chance some of them, and each
    in the third poll at the latest: a broker that is up answers in the end. Neighbours of one partition share a batch,
    which is refused whole."""

    def __init__(self, broker: FakeBroker, *, client_id: str, queue_max: int = 100_000) -> None:
        self.batch_bytes_max = 1_000_000
        self._broker = broker
        self._client_id = client_id
        self._queue_max = queue_max
        self._queue: list[_Produced] = []
        self.record_bytes_max = RECORD_BYTES_MAX

    def produce(self, record: NewRecord, acknowledged: Acknowledged) -> bool:
        topic, partition, key, value, headers, timestamp_ms = record
        assert partition >= 0, "which partition a record belongs to is ours to know"
        self._struck("producer.produce", done=False)
        if len(self._queue) >= self._queue_max:
            return False
        where = TopicPartition(topic, partition)
        at_ms = timestamp_ms or self._broker.clock.now_ms()
        self._queue.append(_Produced(where, key, value, list(headers), at_ms, acknowledged))
        return True

    def fit(self, batch_bytes_max: int) -> None:
        self.batch_bytes_max = min(self.batch_bytes_max, batch_bytes_max)

    def poll(self) -> None:
        self._struck("producer.poll", done=False)
        if not self._broker.down:
            chance, queue = self._broker.chance, self._queue
            count = len(queue) if chance is None else below(chance, len(queue) + 1)
            if queue:
                self._deliver(max(count, sum([sent.passed_over >= 2 for sent in queue])))
            for sent in queue:
                sent.passed_over += 1

    def flush(self, timeout_s: float) -> int:
        self._struck("producer.flush", done=False)
        if self._broker.down:
            self._broker.clock.advance(timeout_s)
        else:
            self._deliver(len(self._queue))
        return len(self._queue)

    def _in_batches(self, count: int) -> list[tuple[_Produced, int]]:
        """The next records, each with the size of the batch that it is in."""
        batches: list[list[_Produced]] = []
        open_: dict[TopicPartition, tuple[list[_Produced], int]] = {}
        for sent in self._queue[:count]:
            size = record_bytes(sent.key, sent.value, sent.headers)
            batch, filled = open_.get(sent.where, ([], 0))
            if not batch or filled + size > self.batch_bytes_max:
                batch, filled = [], 0
                batches.append(batch)
            batch.append(sent)
            open_[sent.where] = batch, filled + size
        sizes = {
            id(sent): sum(record_bytes(one.key, one.value, one.headers) for one in batch)
            for batch in batches
            for sent in batch
        }
        return [(sent, sizes[id(sent)]) for sent in self._queue[:count]]

    def _deliver(self, count: int) -> None:
        for sent, size in self._in_batches(count):
            del self._queue[0]
            refused = self._broker.points.struck(self._client_id, "producer.deliver", False)
            if isinstance(refused, Crash):
                raise refused
            log = self._broker.logs.get(sent.where)
            if refused is None and (log is None or sent.where.topic in self._broker.denied | self._broker.read_only):
                refused = BrokerOutage(f"{sent.where.topic} is not there or not allowed")
            limit = self._broker.config.get(sent.where.topic, {}).get("max.message.bytes", self.record_bytes_max)
            if refused is None and size > min(int(limit), self.record_bytes_max):
                refused = BrokerOutage("MSG_SIZE_TOO_LARGE")
            offset = -1
            if refused is None:
                assert log is not None
                offset = log.append(sent.key, sent.value, sent.headers, sent.timestamp_ms, Fate.COMMITTED)
                refused = self._broker.points.struck(self._client_id, "producer.deliver", True)
                if isinstance(refused, Crash):
                    raise refused
            if refused is None:
                sent.acknowledged(None, offset)
            else:
                sent.acknowledged(str(refused), -1)

    def trouble(self) -> str | None:
        return "connection: no broker answers" if self._broker.down else None

    def close(self) -> None:
        self.flush(5.0)
        self._queue.clear()

    def _struck(self, call: str, *, done: bool) -> None:
        error = self._broker.points.struck(self._client_id, call, done)
        if error is not None:
            raise error


class _State(Enum):
    CLOSED = auto()
    READY = auto()
    BEGUN = auto()
    SPENT = auto()


class FakeTransaction:
    """See `processor/edges/kafka/transaction.py` for the rules it keeps."""

    def __init__(
        self,
        broker: FakeBroker,
        *,
        transactional_id: str,
        consumer: FakeConsumer,
        timeout_s: float = TRANSACTION_TIMEOUT_S,
    ) -> None:
        self._broker = broker
        self.transactional_id = transactional_id
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._state = _State.CLOSED
        self._epoch = -1
        self._last_offsets: dict[TopicPartition, int] = {}

    @property
    def record_bytes_max(self) -> int:
        return RECORD_BYTES_MAX

    def fit(self, batch_bytes_max: int) -> None:
        self.batch_bytes_max = batch_bytes_max

    def throttled(self) -> float:
        seconds, self._broker.throttled_s = self._broker.throttled_s, 0.0
        return seconds

    def open(self) -> None:
        assert self._state is not _State.BEGUN, "opened in the middle of a transaction"
        if self._state is _State.READY:
            return
        self._struck("transaction.open", done=False)
        if self._broker.down:
            raise BrokerOutage(f"transactional ID {self.transactional_id}: no broker answers")
        self._epoch = self._broker.take_over(self.transactional_id)
        self._state = _State.READY
        self._struck("transaction.open", done=True)

    def begin(self) -> None:
        assert self._state is not _State.BEGUN, "one transaction at a time"
        self.open()
        self._struck("transaction.begin", done=False)
        self._last_offsets = {}
        self._state = _State.BEGUN

    def produce(self, record: NewRecord) -> None:
        topic, partition, key, value, headers, timestamp_ms = record
        size = record_bytes(key, value, headers)
        self._struck("transaction.produce", done=False)
        if size > self.record_bytes_max:
            self._give_up()
            raise TransactionAborted("transaction: MSG_SIZE_TOO_LARGE")
        self._append(topic, partition, key, value, headers, timestamp_ms or self._broker.clock.now_ms())

    def produce_keyed(self, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        if not pairs:
            return
        self._struck("transaction.produce_keyed", done=False)
        for key, value in pairs:
            offset = self._append(topic, partition, key, value, [], self._broker.clock.now_ms())
            self._last_offsets[TopicPartition(topic, partition)] = offset

    def _append(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers, timestamp_ms: int
    ) -> int:
        self._owner()
        where = TopicPartition(topic, partition)
        taken = int(self._broker.config.get(topic, {}).get("max.message.bytes", RECORD_BYTES_MAX))
        if record_bytes(key, value, headers) > taken:
            self._give_up()
            raise TransactionAborted(f"transaction: MSG_SIZE_TOO_LARGE: {topic}")
        if where not in self._broker.logs or topic in self._broker.denied:
            self._give_up()
            raise TransactionAborted(f"transaction: {topic} is not there or not allowed")
        self._broker.open_transaction(self.transactional_id, self._timeout_s).touched.add(where)
        return self._broker.logs[where].append(key, value, headers, timestamp_ms, Fate.OPEN, self.transactional_id)

    def _owner(self) -> None:
        """Raises `Fenced` when the transactional ID is somebody else's by now, or the broker gave the
        transaction up."""
        assert self._state is _State.BEGUN, f"no transaction is open: {self._state.name}"
        self._broker.overdue()
        if self._broker.transactional_ids[self.transactional_id].epoch != self._epoch:
            self._state = _State.SPENT
            raise Fenced("transaction: _FENCED")

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> Mapping[TopicPartition, int]:
        assert self._state is _State.BEGUN, f"no transaction is open: {self._state.name}"
        _check(offsets)
        self._struck("transaction.commit", done=False)
        if self._broker.down:
            self._give_up()
            raise TransactionAborted("transaction: no broker answers")
        try:
            self._owner()
        except Fenced as fenced:
            if offsets:
                raise  # refused with the offsets, before anything was to be committed
            raise OutcomeUnknown(f"commit: {fenced}") from fenced
        if offsets and not self._consumer.is_member():
            self._give_up()
            raise TransactionAborted("transaction: ILLEGAL_GENERATION")
        self._broker.end_transaction(self.transactional_id, Fate.COMMITTED)
        self._broker.group(self._consumer.group_name).committed.update(offsets)
        self._struck("transaction.commit", done=True)
        self._state = _State.READY
        return self._last_offsets

    def abort(self) -> None:
        if self._state is _State.BEGUN:
            self._struck("transaction.abort", done=False)
            self._give_up()

    def _give_up(self) -> None:
        """Aborted, if the broker hears of it; if not, the next `begin` takes the ID over and ends it then."""
        identity = self._broker.transactional_ids[self.transactional_id]
        if self._broker.down or identity.epoch != self._epoch:
            self._state = _State.SPENT
            return
        self._broker.end_transaction(self.transactional_id, Fate.ABORTED)
        self._state = _State.READY

    def close(self) -> None:
        if self._state is _State.BEGUN:
            self._give_up()
        self._state = _State.CLOSED

    def _struck(self, call: str, *, done: bool) -> None:
        error = self._broker.points.struck(self._consumer.client_id, call, done)
        if error is None:
            return
        if isinstance(error, TransactionAborted):
            assert not done, "a transaction that was committed is never told to be aborted"
            self._give_up()
        elif isinstance(error, Fenced):
            self._state = _State.SPENT
        raise error


def _check(offsets: Mapping[TopicPartition, Committed]) -> None:
    for where, committed in offsets.items():
        assert committed.next_offset is not None, f"no offset to commit for {where}"
        assert len(committed.metadata.encode()) <= COMMIT_METADATA_BYTES_MAX, f"commit metadata for {where}"
