"""loop: what the loops of transform and rekey have alike: their group, and their transactions.

    in a poll        assigned, revoked, lost ─► `gained` and `gone`, the role's own part: it only records facts
    between polls    ask for committed offsets, rewind to them, pause and resume

    are_open ─► is_flooded ─► one() ─┬─ committed ───────────────► the role's own part, inside the `with`
         ▲                           ├─ TransactionAborted ──────► put back, a smaller batch, again in a second
         │                           ├─ no transaction was begun ► put back, again in a second
         └── opened anew, `resync` ──┴─ Fenced, OutcomeUnknown ──► drop: nobody knows yet whether it counts

Owned by the role's thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Final

import structlog

from processor.errors import BrokerOutage, Fenced, OutcomeUnknown, TransactionAborted
from processor.interfaces import Clock, Consumer, Reader, Transaction
from processor.letters.flood import FloodGuard, flood
from processor.records import Position, Stage, TopicPartition
from processor.sources.merge import Merge
from processor.sources.standing import SourceMeter, TransactionOutcome
from processor.sources.standstill import Standstill, Standstills

log = structlog.get_logger(__name__)

APART_S: Final = 0.05
"""From the beginning of one transaction to that of the next, where no records are left over. A transaction costs the
broker what hundreds of records do: it writes a marker into each partition, and until that is done it refuses the next
one, which is tried again every 10 ms (`TRANSACTION_DEFAULTS`)."""
_THROTTLED_S_MAX: Final = 30.0
"""The longest wait for a quota after a transaction that it brought to nothing: the brokers' window is 11 s."""


@dataclass(eq=False)
class Group:
    """The consumer group, as a role's loop knows it. `_gained` and `_gone` are called inside a poll with partitions
    that were assigned, or revoked and lost.

    Mutable: `known` has the next offset that the group has committed of each source, `metadata` the text beside it;
    `_joined` is true if the group has assigned something since this worker was last lost.
    """

    _consumer: Consumer
    _reader: Reader
    _merge: Merge
    _standstills: Standstills
    _gained: Callable[[Sequence[TopicPartition]], None]
    _gone: Callable[[Sequence[TopicPartition]], None]
    known: dict[TopicPartition, int] = field(default_factory=dict)
    metadata: dict[TopicPartition, str] = field(default_factory=dict)
    _joined: bool = False

    def join(self, topics: Sequence[str]) -> None:
        self._standstills.stand(Standstill.ASSIGNMENT, "waiting for the group to assign partitions")
        self._consumer.subscribe(topics, self)

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        log.info("assigned", partitions=named(partitions))
        self._joined = True
        if partitions:
            # Until they are taken over: a probe may ask in between, and nothing of them is known yet.
            self._standstills.stand(Standstill.ASSIGNMENT, "partitions are being taken over")
        self._gained(partitions)
        return {}

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        log.info("revoked", partitions=named(partitions))
        self._gone(partitions)

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        log.warning("lost", partitions=named(partitions))
        self._gone(partitions)
        self._joined = False
        self._standstills.stand(
            Standstill.ASSIGNMENT, "the group has gone on without this worker, which joins it again"
        )

    def taken_over(self) -> None:
        """Ends the standstill of an assignment: all partitions that are assigned have been seen to."""
        if self._joined:
            self._standstills.go_on(Standstill.ASSIGNMENT)

    def ask(self, sources: Sequence[TopicPartition]) -> None:
        """Reads what the group has committed, after open transactions have ended. Raises `BrokerOutage`."""
        for source, committed in self._consumer.committed(sources).items():
            self.metadata[source] = committed.metadata
            if committed.next_offset is None:
                self.known.pop(source, None)
            else:
                self.known[source] = committed.next_offset

    def forget(self, sources: Iterable[TopicPartition]) -> None:
        """Forgets the offsets of sources that another worker has now."""
        for source in sources:
            self.known.pop(source, None)
            self.metadata.pop(source, None)

    def rewind(self, sources: Sequence[TopicPartition]) -> None:
        """Moves the sources to the group's committed offsets. Raises `BrokerOutage`, and may be called again then."""
        if not sources:
            return
        self.ask(sources)
        beginnings = self._reader.beginnings(sources)
        self.read_from({source: self.known.get(source, beginnings[source]) for source in sources})

    def read_from(self, starts: Mapping[TopicPartition, int]) -> None:
        """Reads these sources from these offsets. The merge begins anew and knows of no pause, so all are resumed."""
        self._consumer.seek([Position(*source, start) for source, start in starts.items()])
        self._consumer.resume(starts)
        self._merge.assign(starts, starts)

    def backpressure(self) -> None:
        """Pauses the partitions whose buffers are full, and resumes those with room again."""
        if full := self._merge.to_pause():
            self._consumer.pause(full)
        if roomy := self._merge.to_resume():
            self._consumer.resume(roomy)

    def leave(self, *close: Callable[[], None]) -> None:
        """Leaves the group first, so that others take over meanwhile; calls each of `close`, whatever one raises."""
        with ExitStack() as closing:
            for one in reversed(close):
                closing.callback(one)
            self._consumer.close()


@dataclass(eq=False)
class Transactions:
    """The transactions of a role, each of `_least` to `_most` records. `_throttled_s` is called after an aborted
    transaction and returns for how long brokers have throttled it.

    Mutable: `records_max` is how many records the next batch may have, `_began_s` is when the last transaction began,
    `_opened` is true if the transactional ID is ours, `_in_doubt` if everything in memory has to be dropped before the
    next batch.
    """

    _transaction: Transaction
    _clock: Clock
    _meter: SourceMeter
    _standstills: Standstills
    _guard: FloodGuard
    _least: int
    _most: int
    _throttled_s: Callable[[], float] = lambda: 0.0
    _began_s: float = -inf
    _opened: bool = False
    _in_doubt: bool = False

    def __post_init__(self) -> None:
        self.records_max = self._most

    def are_open(self, resync: Callable[[], None]) -> bool:
        """Opens the transactional ID and resolves a doubt by `resync`, if needed. Returns true if both are done."""
        if self._opened and not self._in_doubt:
            return True
        if not self._standstills.is_time:
            return False
        try:
            if not self._opened:
                self._transaction.open()
            self._opened = True
            if self._in_doubt:
                resync()
            self._in_doubt = False
        except (BrokerOutage, Fenced) as outage:
            self._standstills.wait(Standstill.TRANSACTION, str(outage))
            return False
        self._standstills.go_on(Standstill.TRANSACTION)
        return True

    def is_flooded(self, dead: Sequence[bool], dead_letters: Counter[tuple[str, Stage, str]]) -> bool:
        """Asks the flood guard. Returns true if nothing of this batch may be written; the role stands still then."""
        share = self._guard.flooded_by(dead) if any(dead) else None
        if share is None:
            return False
        self._standstills.stand(Standstill.FLOOD, flood(share, dead_letters))
        self._meter.flooded()
        log.error("flood guard stopped the role, nothing was written", share=share)
        return True

    @contextmanager
    def one(self, put_back: Callable[[], None], drop: Callable[[], None] = lambda: None) -> Iterator[Transaction]:
        """One transaction: its `with` has all of it from `begin` to what follows the commit."""
        started_s = self._began_s = self._clock.monotonic_s()
        outcome: TransactionOutcome | None = TransactionOutcome.COMMITTED
        try:
            yield self._transaction
            self._standstills.go_on(Standstill.ABORTED)
        except TransactionAborted as aborted:
            outcome = TransactionOutcome.ABORTED
            self._shrink()
            put_back()
            held_s = self._throttled_s()
            why = f"{aborted}; the brokers throttle this client by their quota" if held_s else str(aborted)
            self._standstills.wait(Standstill.ABORTED, why, min(held_s, _THROTTLED_S_MAX))
        except BrokerOutage as outage:  # out of `begin`: there is no transaction
            outcome = None
            put_back()
            self._standstills.wait(Standstill.ABORTED, str(outage))
        except Fenced as fenced:
            unknown = isinstance(fenced, OutcomeUnknown)
            outcome = TransactionOutcome.UNKNOWN if unknown else TransactionOutcome.FENCED
            self._shrink()
            drop()
            self._opened, self._in_doubt = False, True
            self._standstills.wait(Standstill.TRANSACTION, str(fenced))
        if outcome is not None:
            self._meter.transaction(outcome, self._clock.monotonic_s() - started_s)

    def rest_s(self) -> float:
        """Returns for how long the next transaction had better wait for more records, in seconds."""
        return max(self._began_s + APART_S - self._clock.monotonic_s(), 0.0)

    def written(self, dead: Sequence[bool], *, grow: bool = True) -> None:
        """A batch is committed, and the next may be larger if it may `grow`."""
        self._guard.written(dead)
        if grow:
            self.records_max = min(self._most, self.records_max * 2)

    def _shrink(self) -> None:
        """A transaction that takes longer than the broker lets it would be tried again, as large, for ever."""
        self.records_max = max(min(self._least, self._most), self.records_max // 2)


def named(partitions: Iterable[TopicPartition]) -> list[str]:
    """Returns partitions as a log has them."""
    return [f"{partition.topic}/{partition.partition}" for partition in sorted(partitions)]
