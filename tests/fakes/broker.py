"""An in-memory Kafka for simulations: logs, transactions and groups, deterministic, without threads or sleep.

    broker = FakeBroker(clock)                                             nothing in it
    broker.create("orders.placed", partitions=4)                           topics are made first
    broker.append("orders.placed", 0, b"o-1", b"…")                        a shop writes
    consumer = FakeConsumer(broker, group="g", client_id="a")              tests/fakes/kafka.py has the clients
    broker.rebalance("g", {"a": [TopicPartition("orders.placed", 0)]})     moves what the test says
    broker.kill("a")                                                       dies; noticed after the session timeout
    broker.expel("a")                                                      thrown out of its group, and still running
    broker.records("hakuna.outbox")                                        what a read_committed reader would see

It keeps Kafka's rules where a guarantee leans on them: a transaction's records hold the last stable offset up
until its marker (which takes an offset of its own), a new owner of a transactional ID aborts and fences the
last one, one that takes too long is aborted at the coordinator's next look, offsets commit with it or not at
all, a member of an old generation cannot commit, metadata above 4,096 bytes is refused, compaction and
deletion leave gaps.

What time it is, is the clock's to say: sessions, poll intervals and transactions run out when it has moved
far enough and somebody calls. Strikes at any call: `broker.points` (tests/fakes/crash_points.py)."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from processor.edges.kafka.admin import Member
from processor.interfaces import Committed, Seen
from processor.records import Headers, Record, TopicPartition
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import CrashPoints

SESSION_TIMEOUT_S = 8.0
POLL_INTERVAL_S_MAX = 60.0
TRANSACTION_TIMEOUT_S = 4.0
TRANSACTION_CHECK_S = 10.0  # how often a coordinator looks for transactions that took too long


class Fate(Enum):
    """What became of an entry of a log. Only COMMITTED ones are read; OPEN ones hold the last stable
    offset."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()
    MARKER = auto()


class Entry(msgspec.Struct, gc=False):
    record: Record
    fate: Fate
    transactional_id: str | None = None


@dataclass(slots=True)
class Log:
    """One partition: entries by rising offset, with gaps where compaction or deletion took some. `settled` is an
    offset below which nothing is open; a fate that is no longer open never is again, so it only rises."""

    where: TopicPartition
    entries: list[Entry] = field(default_factory=list)
    start: int = 0
    high_watermark: int = 0
    settled: int = 0

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        timestamp_ms: int,
        fate: Fate,
        transactional_id: str | None = None,
    ) -> int:
        offset = self.high_watermark
        record = Record(self.where.topic, self.where.partition, offset, timestamp_ms, key, value, list(headers))
        self.entries.append(Entry(record, fate, transactional_id))
        self.high_watermark += 1
        return offset

    @property
    def last_stable_offset(self) -> int:
        if self.settled == self.high_watermark:
            return self.settled
        for entry in self.entries[self._index(self.settled) :]:
            if entry.fate is Fate.OPEN:
                self.settled = entry.record.offset
                return self.settled
        self.settled = self.high_watermark
        return self.settled

    def end(self, transactional_id: str, fate: Fate) -> None:
        """What this owner has open meets its fate."""
        for entry in self.entries[self._index(self.settled) :]:
            if entry.fate is Fate.OPEN and entry.transactional_id == transactional_id:
                entry.fate = fate

    def read(self, position: int, records_max: int) -> tuple[list[Record], int]:
        """Committed records from `position` on, and the position after them, past everything that holds
        none."""
        stable = self.last_stable_offset
        if position >= stable:
            return [], position
        records: list[Record] = []
        entries = self.entries
        for index in range(self._index(position), len(entries)):
            entry = entries[index]
            if entry.record.offset >= stable:
                break
            if entry.fate is Fate.COMMITTED:
                if len(records) == records_max:
                    return records, entry.record.offset
                records.append(entry.record)
        return records, stable

    def _index(self, offset: int) -> int:
        """Of the first entry at this offset or after it."""
        entries = self.entries
        if not entries:
            return 0
        index = offset - entries[0].record.offset
        if 0 <= index < len(entries) and entries[index].record.offset == offset:
            return index  # no gap before it
        return bisect_left(entries, offset, key=lambda entry: entry.record.offset)


@dataclass(slots=True)
class OpenTransaction:
    """`ends_s`: when the coordinator aborts it, at its first look after the timeout."""

    ends_s: float
    touched: set[TopicPartition] = field(default_factory=set)


@dataclass(slots=True)
class TransactionalId:
    """`epoch` rises with every new owner and with every transaction that was taken from its owner."""

    epoch: int = 0
    open: OpenTransaction | None = None


@dataclass(slots=True)
class GroupMember:
    """A member as the coordinator knows it, and what it owns as itself believes."""

    client_id: str
    topics: tuple[str, ...]
    eager: bool
    seen_s: float
    poll_interval_s_max: float = POLL_INTERVAL_S_MAX
    owned: set[TopicPartition] = field(default_factory=set)
    target: set[TopicPartition] | None = None  # to be told of with the next poll
    generation: int = -1
    joined: bool = False  # eager: has given everything up and waits for the rest
    greeted: bool = False  # has been told of its first assignment, even an empty one
    dead: bool = False
    frozen: bool = False
    expelled: bool = False


@dataclass(slots=True)
class Group:
    """`planned` is what a test wants the next assignment to be."""

    generation: int = 0
    members: dict[str, GroupMember] = field(default_factory=dict)
    joining: bool = False
    committed: dict[TopicPartition, Committed] = field(default_factory=dict)
    planned: dict[str, set[TopicPartition]] | None = None


class FakeBroker:
    """See the module. `random` None: partitions are read in turn, whole, and their end is told at once. With
    a `Random`: fetches come in any order and size, and the end of a partition some polls later, as on a
    network."""

    def __init__(self, clock: FakeClock | None = None, *, chance: random.Random | None = None) -> None:
        self.clock = clock or FakeClock()
        self.points = CrashPoints()
        self.chance = chance
        self.down = False  # nobody answers: polls bring nothing, calls raise BrokerOutage
        self.denied: set[str] = set()  # topics and groups that no client has a right to
        self.read_only: set[str] = set()  # topics that take no record
        self.logs: dict[TopicPartition, Log] = {}
        self.config: dict[str, Mapping[str, str]] = {}
        self.throttled_s = 0.0  # what a quota makes the next transaction wait
        self.groups: dict[str, Group] = {}
        self.transactional_ids: dict[str, TransactionalId] = {}
        self.cluster_id = "cluster-1"
        self._topics_made = 0
        self.topic_ids: dict[str, str] = {}
        self._partitions: dict[str, Sequence[TopicPartition]] = {}
        self._looked_s: float | None = None  # when nothing was overdue, and nothing has become so but by time

    # ---- topics and what stands in them ------------------------------------------------------------------

    def create(self, *topics: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        for topic in topics:
            assert topic not in self.config, f"{topic} is there already"
            self.config[topic] = dict(config or {})
            self._topics_made += 1
            self.topic_ids[topic] = f"topic-{self._topics_made}"
            self._partitions[topic] = ()
            self._add(topic, partitions)

    def _add(self, topic: str, partitions: int) -> None:
        """As many as are missing."""
        there = [*self._partitions[topic]]
        for partition in range(len(there), partitions):
            there.append(where := TopicPartition(topic, partition))
            self.logs[where] = Log(where)
        self._partitions[topic] = there

    def make_again(self, topic: str, partitions: int | None = None) -> None:
        """Deleted, and made under the same name: another topic, and no group has offsets in it."""
        old = self.partitions(topic)
        for where in old:
            del self.logs[where]
            for group in self.groups.values():
                group.committed.pop(where, None)
        config = self.config.pop(topic)
        self.create(topic, partitions=len(old) if partitions is None else partitions, config=config)

    def grow(self, topic: str, partitions: int) -> None:
        self._add(topic, partitions)
        for name, group in self.groups.items():  # the coordinators see it
            if any(topic in member.topics for member in group.members.values()):
                self.rebalance(name)

    def seen(self, topics: Iterable[str]) -> Mapping[str, Seen]:
        return {
            topic: Seen(self.cluster_id, self.topic_ids[topic], len(self.partitions(topic)))
            for topic in topics
            if topic in self.config
        }

    def forget(self, group: str) -> None:
        """The group's offsets expire, or its cluster moved without them."""
        self.group(group).committed.clear()

    def partitions(self, topic: str) -> Sequence[TopicPartition]:
        return self._partitions.get(topic, ())

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> int:
        """What somebody else writes, outside of any transaction. Returns the offset."""
        at_ms = self.clock.now_ms() if timestamp_ms is None else timestamp_ms
        return self.logs[TopicPartition(topic, partition)].append(key, value, headers or [], at_ms, Fate.COMMITTED)

    def records(self, topic: str, partition: int | None = None, *, committed: bool = True) -> list[Record]:
        """Partition by partition in order: what read_committed shows, or with `committed` False every record
        ever written and not aborted."""
        wanted = [w for w in self.partitions(topic) if partition is None or w.partition == partition]
        found: list[Record] = []
        for where in wanted:
            log = self.logs[where]
            if committed:
                found += log.read(log.start, len(log.entries))[0]
            else:
                found += [e.record for e in log.entries if e.fate in (Fate.COMMITTED, Fate.OPEN)]
        return found

    def compact(self, topic: str) -> None:
        """Keeps the newest committed record per key, and no marker, below the last stable offset."""
        for where in self.partitions(topic):
            log = self.logs[where]
            stable = log.last_stable_offset
            below = [e for e in log.entries if e.record.offset < stable and e.fate is Fate.COMMITTED]
            newest = {entry.record.key: entry.record.offset for entry in below}
            log.entries = [e for e in below if newest[e.record.key] == e.record.offset] + [
                e for e in log.entries if e.record.offset >= stable
            ]

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        log = self.logs[TopicPartition(topic, partition)]
        log.start = max(log.start, min(offset, log.high_watermark))
        log.entries = [entry for entry in log.entries if entry.record.offset >= log.start]

    def beginnings(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {where: self.logs[where].start for where in partitions}

    def ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {where: self.logs[where].high_watermark for where in partitions}

    # ---- transactions ------------------------------------------------------------------------------------

    def take_over(self, transactional_id: str) -> int:
        """A new owner: what the last one left open is aborted, and the last one fenced. Returns the new
        epoch."""
        identity = self.transactional_ids.setdefault(transactional_id, TransactionalId())
        self.end_transaction(transactional_id, Fate.ABORTED)
        identity.epoch += 1
        return identity.epoch

    abort_left_behind = take_over

    def open_transaction(self, transactional_id: str, timeout_s: float) -> OpenTransaction:
        """The open transaction, begun with the first thing that is put into it."""
        identity = self.transactional_ids[transactional_id]
        if identity.open is None:
            timeout_at_s = self.clock.at_s + timeout_s
            identity.open = OpenTransaction(math.ceil(timeout_at_s / TRANSACTION_CHECK_S) * TRANSACTION_CHECK_S)
        return identity.open

    def end_transaction(self, transactional_id: str, fate: Fate) -> None:
        """Every record of it meets `fate`, and each of its partitions gets a marker."""
        assert fate in (Fate.COMMITTED, Fate.ABORTED)
        identity = self.transactional_ids[transactional_id]
        if identity.open is None:
            return
        for where in sorted(identity.open.touched):
            log = self.logs[where]
            log.end(transactional_id, fate)
            log.append(None, None, [], self.clock.now_ms(), Fate.MARKER, transactional_id)
        identity.open = None

    def overdue(self) -> None:
        """What has run out by now: transactions that took too long, members that were silent for too long."""
        now_s = self.clock.at_s
        if now_s == self._looked_s:
            return
        self._looked_s = now_s
        for name, identity in self.transactional_ids.items():
            if identity.open is not None and now_s >= identity.open.ends_s:
                self.end_transaction(name, Fate.ABORTED)
                identity.epoch += 1
        for group in self.groups.values():
            for member in list(group.members.values()):
                silent_s = now_s - member.seen_s
                if member.dead and silent_s >= SESSION_TIMEOUT_S:
                    self._remove(group, member)
                elif not member.dead and silent_s >= (
                    SESSION_TIMEOUT_S if member.frozen else member.poll_interval_s_max
                ):
                    member.expelled = True
                    self._remove(group, member)

    # ---- groups ------------------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        known = self.groups.get(name)
        if known is None:
            known = self.groups[name] = Group()
        return known

    def committed(self, group: str, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        """Without waiting for an open transaction."""
        known = self.group(group).committed
        return {where: known.get(where, Committed(None, "")) for where in partitions}

    def members(self, group: str) -> Sequence[Member]:
        return [Member(member.client_id, frozenset(member.owned)) for member in self.group(group).members.values()]

    def join(self, group: str, member: GroupMember) -> None:
        assert member.client_id not in self.group(group).members, f"{member.client_id} is in {group} already"
        self.group(group).members[member.client_id] = member
        self.rebalance(group)

    def leave(self, group: str, member: GroupMember) -> None:
        if self.group(group).members.get(member.client_id) is member:
            self._remove(self.group(group), member)

    def kill(self, client_id: str, *, noticed: bool = False) -> None:
        """The process is gone without a word: its session runs on for 8 s (or not, if `noticed`), and so does
        its open transaction until somebody ends it. Nobody may call its clients any more."""
        for group in self.groups.values():
            member = group.members.get(client_id)
            if member is not None:
                member.dead = True
                member.seen_s = self.clock.at_s
                if noticed:
                    self._remove(group, member)

    def freeze(self, client_id: str, frozen: bool = True) -> None:
        """The process stands still, or goes on: no heartbeat comes from it meanwhile, and its session runs out. Nobody
        may call its clients until it goes on."""
        for group in self.groups.values():
            member = group.members.get(client_id)
            if member is not None:
                member.frozen = frozen
                self._looked_s = None

    def expel(self, client_id: str) -> None:
        """The group goes on without a member that still runs: its next poll tells it `lost`, and it joins
        again."""
        for group in self.groups.values():
            member = group.members.get(client_id)
            if member is not None:
                member.expelled = True
                self._remove(group, member)

    def rebalance(self, name: str, targets: Mapping[str, Iterable[TopicPartition]] | None = None) -> None:
        """Begins one; each member takes its part in it with its next polls. `targets`: who shall have
        what."""
        group = self.group(name)
        group.planned = None if targets is None else {who: set(what) for who, what in targets.items()}
        if all(member.eager for member in group.members.values()):
            group.joining = True
            for member in group.members.values():
                member.joined = False
                member.target = None
            return
        group.generation += 1
        for client_id, target in self._targets(group).items():
            group.members[client_id].target = target
            group.members[client_id].generation = group.generation

    def _remove(self, group: Group, member: GroupMember) -> None:
        del group.members[member.client_id]
        name = next(name for name, known in self.groups.items() if known is group)
        planned = group.planned
        self.rebalance(name)
        if planned is not None and member.client_id not in planned:
            group.planned = planned

    def joined(self, group: Group) -> None:
        """Eager: once all have given up what they had, the new generation begins."""
        if not group.joining or not all(member.joined for member in group.members.values()):
            return
        group.joining = False
        group.generation += 1
        for client_id, target in self._targets(group).items():
            group.members[client_id].target = target
            group.members[client_id].generation = group.generation

    def _targets(self, group: Group) -> Mapping[str, set[TopicPartition]]:
        if group.planned is not None:
            return {client_id: group.planned.get(client_id, set()) for client_id in group.members}
        targets: dict[str, set[TopicPartition]] = {client_id: set() for client_id in sorted(group.members)}
        for topic in sorted({topic for member in group.members.values() for topic in member.topics}):
            takers = [who for who in targets if topic in group.members[who].topics]
            partitions = self.partitions(topic)
            share, more = divmod(len(partitions), len(takers))
            first = 0
            for number, who in enumerate(takers):
                count = share + (1 if number < more else 0)
                targets[who].update(partitions[first : first + count])
                first += count
        return targets
