"""Exclusive: one command at a time changes the dead letters of an installation, and the other says who it is.

    look who is there ──nobody──► join the group ──► look again ──still nobody else──► HELD ──► leave
          │                                              │
          └── somebody, for longer than a dead one        └── somebody: leave, wait a random while, look again
              is listed: BUSY, with the name

The place is a membership in a consumer group that reads nothing. Kafka keeps it while the process lives and forgets it
some seconds after it died, without anything to clean up. A command that looks after it joined sees every other member,
so of two that begin at once at least one gives way.

All of them share one transactional ID as well. If a frozen process comes back to life after its place was given away,
its next transaction is fenced.

Not chosen: the transactional ID alone (the second would throw the first out in the middle of its work); a lock record
(it stays when its owner dies).

Ledger: writes copies, resolutions and releases so that all of them are there, or none.

    begin ─► copy, resolution, copy, resolution … ─► commit ──┬─► written
      ▲                                                       ├─► TransactionAborted: nothing of it is, again
      └───────────────────────────────────────────────────────┴─► OutcomeUnknown: open, look whether it is, else again

Owned by one command, one thread. Not chosen: an idempotent producer and a resolution after the acknowledgement (a kill
between the two sends a letter twice).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Protocol

from processor.errors import BrokerOutage, Fatal, Fenced, OutcomeUnknown, ProcessorError, TransactionAborted
from processor.interfaces import Clock, Consumer, Reader, Transaction
from processor.operate.replay.reading import Offsets, read
from processor.records import NewRecord, TopicPartition, record_bytes

SESSION_MS: Final = 6_000
"""The shortest session that brokers allow: a killed command holds the next one up for no longer."""
GONE_S_MAX: Final = 9.0
"""How long one that was killed may still be listed: its session, and what the broker takes to notice."""
JOIN_S_MAX: Final = 30.0
_TRIES: Final = 4
_LOOK_S: Final = 0.5
_JITTER_S: Final = (0.3, 2.0)


class Busy(ProcessorError):
    """Somebody else is at it."""


class Member(Protocol):
    """Somebody in a group."""

    @property
    def client_id(self) -> str: ...


class Members(Protocol):
    """Who is in a group (`KafkaAdmin`)."""

    def members(self, group: str) -> Sequence[Member]: ...


class Exclusive:
    """The place. Mutable: `_consumer` while it is held, `_greeted` once the group has taken us in, `_lost` when it
    threw us out."""

    def __init__(
        self, members: Members, group: str, topic: str, client_id: str, clock: Clock, random: Random, join: Joins
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

    def take(self, wait: Waits) -> Consumer:
        """Returns when the place is ours; its consumer is what a transaction goes with. Raises `Busy`. `wait` lets a
        time pass, and is told what for."""
        deadline_s = self._clock.monotonic_s() + GONE_S_MAX
        for _ in range(_TRIES):
            while others := self._others(wait):
                if self._clock.monotonic_s() > deadline_s:
                    raise Busy(f"another one is at it: {', '.join(others)}")
                wait(_LOOK_S, f"for {', '.join(others)} to end")
            consumer = self._joined()
            others = self._others(wait)
            if not others:
                return consumer
            self.leave()
            wait(self._random.uniform(*_JITTER_S), f"for {', '.join(others)}, which began at the same time")
        raise Busy("others begin at the same time, again and again")

    def keep(self) -> None:
        """To be called every few seconds. Raises `Fatal` where the place was lost."""
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

    def _others(self, wait: Waits) -> list[str]:
        """Raises `BrokerOutage`. A young cluster, or one that just lost a broker, has no coordinator for a moment."""
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

    # ---- what the group says ----------------------------------------------------------------------------------------

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        assert self._consumer is not None
        self._consumer.pause(partitions)
        self._greeted = True
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Somebody else looks in; the place is not a partition's."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        self._lost = True


class Joins(Protocol):
    """Makes a member of the group, with our client ID."""

    def __call__(self) -> Consumer: ...


class Waits(Protocol):
    """Lets some seconds pass; `why` is for the operator who watches."""

    def __call__(self, seconds: float, why: str) -> None: ...


TRIES: Final = 5
"""A transaction that is aborted as often is not aborted by a passing trouble: a right is missing, a topic is gone."""
RETRY_S: Final = 1.0


class Ledger:
    """Holds nothing but its clients: what is written stands in Kafka."""

    def __init__(
        self, transaction: Transaction, reader: Reader, offsets: Offsets, clock: Clock, resolutions: str, wait: Waits
    ) -> None:
        self._transaction = transaction
        self._reader = reader
        self._offsets = offsets
        self._clock = clock
        self._resolutions = resolutions
        self._wait = wait

    def open(self) -> None:
        """Takes the transactional ID over: what a killed command left open is aborted, and what it committed is there
        to be read. Raises `Fatal`."""
        for _ in range(TRIES):
            try:
                self._transaction.open()
                return
            except BrokerOutage as outage:
                self._wait(RETRY_S, f"for the transaction coordinator: {outage}")
        raise Fatal("the transaction coordinator does not answer")

    def fits(self, write: NewRecord) -> bool:
        """Whether a record of this size can be written at all."""
        return record_bytes(write.key, write.value, write.headers) <= self._transaction.record_bytes_max

    def write(self, writes: Sequence[NewRecord]) -> None:
        """Returns when all of them are readable. Raises `Fatal` where that cannot be had; then none is."""
        assert writes, "a transaction of nothing"
        resolved = [write for write in writes if write.topic == self._resolutions]
        where = TopicPartition(self._resolutions, resolved[0].partition) if resolved else None
        before = 0
        why = ""
        for _ in range(TRIES):
            try:
                if where is not None:
                    before = self._offsets.ends([where])[where]
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
            self._wait(RETRY_S, f"after a transaction that came to nothing: {why}")
        topics = ", ".join(sorted({write.topic for write in writes}))
        raise Fatal(f"{topics} cannot be written, so nothing of this step was: {why}")

    def _stands(self, where: TopicPartition, before: int, key: bytes | None) -> bool:
        end = self._offsets.ends([where])[where]
        for records in read(self._reader, self._clock, where, before, end, lambda _count: None):
            if any(record.key == key for record in records):
                return True
        return False
