"""The place of the one command that changes dead letters, its transactions, and all clients that it works with.

Exclusive: one command at a time changes the dead letters of an installation; another one says who that is.

    look for members ──none──► join the group ──► look again ──no other──► HELD ──► leave
          │                                           │
          └── one, for longer than a dead member      └── another: leave, wait a random time, look again
              is listed: BUSY, with the name

The place is a membership in a consumer group that reads nothing. Kafka keeps it while the process lives and forgets it
some seconds after it died, and nothing must be cleaned up. A command that looks after it joined sees every other
member, so if two begin at once, at least one gives way.

All commands share one transactional ID as well. If a frozen process wakes up after its place was given away, its next
transaction is fenced. Not chosen: the transactional ID alone (the second command would fence the first in the middle of
its work); a lock record (it stays when its owner dies).

Ledger: writes copies, resolutions and releases so that all of them are written, or none.

    begin ─► copy, resolution, copy, resolution … ─► commit ──┬─► written
      ▲                                                       ├─► TransactionAborted: nothing was written; again
      └───────────────────────────────────────────────────────┴─► OutcomeUnknown: open, look whether it was, else again

Owned by one command in one thread. Not chosen: an idempotent producer and a resolution after the acknowledgement (a
kill between the two sends a letter twice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from processor.errors import BrokerOutage, Fatal, Fenced, OutcomeUnknown, ProcessorError, TransactionAborted
from processor.interfaces import Clock, Consumer, Reader, Transaction
from processor.operate.replay.reading import Reading
from processor.operate.replay.sources import Sources
from processor.records import NewRecord, TopicPartition, record_bytes

SESSION_MS: Final = 6_000
"""The shortest session that brokers allow: a killed command delays the next one no longer than that."""
GONE_S_MAX: Final = 9.0
"""How long a killed command may still be listed: its session, and the time that the broker takes to notice."""
JOIN_S_MAX: Final = 30.0
_TRIES: Final = 4
_LOOK_S: Final = 0.5
_JITTER_S: Final = (0.3, 2.0)


TRIES: Final = 5
"""A transaction that is aborted this often has a lasting cause: a right is missing, or a topic is gone."""
RETRY_S: Final = 1.0

Wait = Callable[[float, str], None]
"""Lets some seconds pass; the text says to the operator what for."""


class Busy(ProcessorError):
    """Another command has the place."""


class Member(Protocol):
    """A member of a group."""

    @property
    def client_id(self) -> str: ...


class Members(Protocol):
    """The members of a group (`KafkaGroups`)."""

    def members(self, group: str) -> Sequence[Member]: ...


class Exclusive:
    """The place. `join` makes a member of the group with our client ID.

    Mutable: `_consumer` while the place is held, `_greeted` once the group has admitted us, `_lost` when it has
    expelled us."""

    def __init__(
        self,
        members: Members,
        group: str,
        topic: str,
        client_id: str,
        clock: Clock,
        random: Random,
        join: Callable[[], Consumer],
    ) -> None:
        self._members = members
        self._group = group
        self._topic = topic
        self._client_id = client_id
        self._clock = clock
        self._random = random
        self._join = join
        self._consumer: Consumer | None = None
        self._greeted = False
        self._lost = False

    def take(self, wait: Wait) -> Consumer:
        """Waits until the place is ours. Returns its consumer, for the transactions. Raises `Busy`."""
        deadline_s = self._clock.monotonic_s() + GONE_S_MAX
        for _ in range(_TRIES):
            while others := self._others(wait):
                if self._clock.monotonic_s() > deadline_s:
                    raise Busy(f"another command is at work: {', '.join(others)}")
                wait(_LOOK_S, f"for {', '.join(others)} to end")
            consumer = self._joined()
            others = self._others(wait)
            if not others:
                return consumer
            self.leave()
            wait(self._random.uniform(*_JITTER_S), f"for {', '.join(others)}, which began at the same time")
        raise Busy("other commands begin at the same time, again and again")

    def keep(self) -> None:
        """Must be called every few seconds. Raises `Fatal` if the place was lost."""
        assert self._consumer is not None, "a place that was not taken"
        self._consumer.poll(1, 0.0)
        if self._lost:
            raise Fatal("this process stood still for so long that its place was given away; start it again")

    def leave(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _joined(self) -> Consumer:
        self._greeted = self._lost = False
        consumer = self._consumer = self._join()
        consumer.subscribe([self._topic], self)
        deadline_s = self._clock.monotonic_s() + JOIN_S_MAX
        while not self._greeted:
            consumer.poll(1, 0.1)
            if self._clock.monotonic_s() > deadline_s:
                raise Fatal(f"group {self._group} cannot be joined: {consumer.trouble() or 'no answer'}")
        return consumer

    def _others(self, wait: Wait) -> list[str]:
        """Raises `BrokerOutage`. A new cluster, or one that has just lost a broker, has no coordinator for a moment."""
        deadline_s = self._clock.monotonic_s() + JOIN_S_MAX
        while True:
            try:
                members = self._members.members(self._group)
            except BrokerOutage as outage:
                if self._clock.monotonic_s() > deadline_s:
                    raise
                wait(_LOOK_S, f"for the coordinator of {self._group}: {outage}")
            else:
                return sorted({one.client_id for one in members} - {self._client_id})

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        assert self._consumer is not None
        self._consumer.pause(partitions)
        self._greeted = True
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Another command joins for its look. The place does not depend on a partition."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._lost = True


class Ledger:
    """Holds nothing but its clients: Kafka has what is written. `resolutions` is the whole name of that topic."""

    def __init__(self, transaction: Transaction, reading: Reading, resolutions: str, wait: Wait) -> None:
        self._transaction = transaction
        self._reading = reading
        self._resolutions = resolutions
        self._wait = wait

    def open(self) -> None:
        """Takes the transactional ID over. This aborts what a killed command left open; what it committed can be read.
        Raises `Fatal`."""
        for _ in range(TRIES):
            try:
                self._transaction.open()
                return
            except BrokerOutage as outage:
                self._wait(RETRY_S, f"for the transaction coordinator: {outage}")
        raise Fatal("the transaction coordinator does not answer")

    def fits(self, write: NewRecord) -> bool:
        """Returns true if a record of this size can be written."""
        return record_bytes(write.key, write.value, write.headers) <= self._transaction.record_bytes_max

    def write(self, writes: Sequence[NewRecord]) -> None:
        """Returns when all of them can be read. Raises `Fatal` if none of them could be written."""
        assert writes, "a transaction of nothing"
        resolved = [write for write in writes if write.topic == self._resolutions]
        where = TopicPartition(self._resolutions, resolved[0].partition) if resolved else None
        offsets, before, why = self._reading.offsets, 0, ""
        for _ in range(TRIES):
            try:
                if where is not None:
                    before = offsets.ends([where])[where]
                self._transaction.begin()
                for write in writes:
                    self._transaction.produce(write)
                self._transaction.commit({})
                return
            except OutcomeUnknown as unknown:
                self.open()
                if where is not None and self._stands(where, before, resolved[0].key):
                    return
                why = str(unknown)
            except Fenced as fenced:
                raise Fatal(f"another process has taken over: {fenced}") from fenced
            except (TransactionAborted, BrokerOutage) as trouble:
                why = str(trouble)
            self._wait(RETRY_S, f"after a transaction that failed: {why}")
        topics = ", ".join(sorted({write.topic for write in writes}))
        raise Fatal(f"{topics} cannot be written, so nothing of this step was: {why}")

    def _stands(self, where: TopicPartition, before: int, key: bytes | None) -> bool:
        end = self._reading.offsets.ends([where])[where]
        return any(record.key == key for records in self._reading.part(where, before, end) for record in records)


class Barrier(Protocol):
    """Keeps the sender from the records after a place (`KafkaBarrier`)."""

    def put(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the place in each partition. Raises `BrokerOutage` if there is no barrier."""

    def lift(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one command, which belong to its thread. `follower` reads what becomes of the letters, `sources`
    has a reader of its own because it reads while letters are read, `keep` keeps the place."""

    reading: Reading
    follower: Reader
    sources: Sources
    ledger: Ledger
    barrier: Barrier
    keep: Callable[[], None]
