"""The interfaces between the stages and the outside: protocols of a few verbs each, in Kafka's and HTTP's own words.

The stages import only these. `processor/edges/` has the real ones; `tests/fakes/` has fakes that pass the same contract
suites (`tests/contracts/`). A consumer, a producer and a transaction belong to one thread, the role's Kafka thread.
`Rebalance` and `Acknowledged` are called in that thread, from inside `poll`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from processor.records import NewRecord, Position, Record, TopicPartition

COMMIT_METADATA_BYTES_MAX: Final = 4095
"""UTF-8 bytes of a commit's metadata. A default broker takes 4,096; librdkafka sends one more than the string has."""


class Committed(NamedTuple):
    """What the group last committed for a partition: the next offset (None: nothing yet) and the metadata string, which
    may measure `COMMIT_METADATA_BYTES_MAX`."""

    next_offset: int | None
    metadata: str


class Polled(NamedTuple):
    """`records` in offset order per partition; `at_end` the partitions that have no more for now, with their end;
    `astray` those whose position is not in the log (any more): they bring nothing until `seek`.

    A partition is in `at_end` when the broker said so after the last of its records here; the offset beside it is
    where its next record will stand (read_committed: the last stable offset), past control records and gaps, so that
    nothing unfinished below it means a lag of 0. A later poll that brings records of it takes the word back, and so
    do `seek` and `resume`.
    """

    records: Sequence[Record]
    at_end: Mapping[TopicPartition, int]
    astray: frozenset[TopicPartition] = frozenset()
    resets: Mapping[TopicPartition, int] = {}
    """Partitions whose next offset was not in the log any more, with that offset: they are read from their beginning
    on."""


class Rebalance(Protocol):
    """Told what moves. `assigned` and `lost` record facts; `revoked` finishes its work before it returns."""

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """New partitions. Returns where to start reading those that shall not start at the committed offset."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Going to another worker: finish and commit within a fifth of `max.poll.interval.ms`.

        One who polls too late may be told this where `lost` would be true: then no commit is taken any more."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Gone already: another worker may have them. Commit nothing of them."""


class Consumer(Protocol):
    """A member of a consumer group, reading committed records."""

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None: ...

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Records that are there, waiting at most `timeout_s` for the first. Raises `Fatal`; a passing error of the
        broker is a fact in `trouble`."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Brings no more of them until `resume`; also from inside `assigned`. Forgotten when they are revoked or lost.
        Dear: what was fetched ahead is thrown away and fetched again after `resume`."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...

    def seek(self, positions: Iterable[Position]) -> None:
        """The next records come from here. Not from inside a callback: `assigned` returns its starts instead."""

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        """Raises `BrokerOutage` when no broker answers within some seconds."""

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commits and waits for the answer. Raises `Fenced` or `BrokerOutage`; after the latter it may be repeated."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The last stable offset of each, as far as known; never waits. What is asked for is fetched in the background
        and at most some seconds old from the next calls on, paused partitions too."""

    def answered_s(self) -> float:
        """A moment of the monotonic clock: what was asked of the group after it has been answered, to a member. Minus
        infinity before that. Another worker may have our partitions from `session_s` after it on."""

    @property
    def session_s(self) -> float:
        """For how long the group keeps a member that it does not hear from."""

    def trouble(self) -> str | None:
        """What the client last complained of and has not recovered from (no broker, no right, wrong password)."""

    def close(self) -> None: ...


class Reader(Protocol):
    """Reads partitions that it is told to, outside of any group: to restore state from a topic.

    A restore ends when `position` has reached `ends`: never by counting records (control records and compaction leave
    gaps), nor by the end that read_committed shows (a dead worker's open transaction hides later commits for a while).
    """

    def assign(self, positions: Iterable[Position]) -> None:
        """Adds these partitions, or moves those that are read already."""

    def unassign(self, partitions: Iterable[TopicPartition]) -> None: ...

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Committed records. Raises `StateCorrupt` naming the partition whose position is not in the log (any more),
        and `Fatal`."""

    def newest(self, records_max: int, timeout_s: float) -> Mapping[TopicPartition, dict[bytes, bytes | None]]:
        """Of the records that `poll` would bring, by partition: the last value of each key, None for a tombstone.
        What has no key is left out."""

    def position(self, partition: TopicPartition) -> int:
        """The next offset that it will read, past all that holds no record."""

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset still in the log. Raises `BrokerOutage`."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The high watermarks, open transactions included. Raises `BrokerOutage`."""

    def trouble(self) -> str | None: ...

    def close(self) -> None: ...


Acknowledged = Callable[[str | None, int], None]
"""Called once per produced record: the error's text or None, and the offset it was given (-1 with an error)."""


class Producer(Protocol):
    """Idempotent, at least once. `produce` never blocks; a full queue is the caller's to poll away."""

    def produce(self, record: NewRecord, acknowledged: Acknowledged) -> bool:
        """False when the local queue is full: nothing was taken, poll and try again."""

    def poll(self) -> None:
        """Runs `Acknowledged` of what was answered since."""

    def flush(self, timeout_s: float) -> int:
        """Waits for all answers; returns how many records are still unanswered."""

    def close(self) -> None: ...


class Transaction(Protocol):
    """A transactional producer: everything between `begin` and `commit` is readable whole or not at all.

        open ──► begin ──► produce… ──► commit or abort ──► begin …
          ▲        after Fenced or OutcomeUnknown: open       │
          └───────────────────────────────────────────────────┘

    Every call is bounded in time. Raises `TransactionAborted` (nothing of it counts: roll back, seek back, `begin`
    again), `Fenced` (the transactional ID has another owner, or the broker gave the transaction up: `open` again),
    `OutcomeUnknown` (a `Fenced` out of `commit`: after `open`, the group's committed offsets tell whether it counts),
    `BrokerOutage` (from `open` and `begin` only: try again), `Fatal`.
    """

    def open(self) -> None:
        """Takes the transactional ID over: an open transaction of its last owner is aborted, and the owner fenced."""

    def begin(self) -> None: ...

    def produce(self, record: NewRecord) -> None:
        """Key, value and headers together must stay below `record_bytes_max`."""

    def produce_keyed(self, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Many records without headers into one partition in one call (the changelog). The offset of the last one is
        known after `commit`."""

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> Mapping[TopicPartition, int]:
        """Adds the consumed offsets, commits, waits. Returns the last offset that `produce_keyed` was given per
        partition."""

    def abort(self) -> None:
        """Gives the open transaction up, if there is one. Raises nothing but `Fenced` and `Fatal`."""

    def fit(self, batch_bytes_max: int) -> None:
        """From the next transaction on, records are sent in batches of no more than this, or alone: a topic refuses a
        larger batch."""

    def throttled(self) -> float:
        """For how many seconds brokers have made it wait, by their quota, since this was last asked."""

    @property
    def record_bytes_max(self) -> int:
        """What a single record may measure, as `record_bytes` counts it; a larger one would abort its batch forever."""

    def close(self) -> None: ...


class Predecessors(Protocol):
    """Those who had our partitions before us."""

    def end_transactions(self, partitions: Sequence[TopicPartition]) -> None:
        """Aborts what the dead among them left open, so that nobody waits for it to time out. Raises `BrokerOutage`."""


class Seen(NamedTuple):
    """A topic as the cluster has it. The IDs of both are their own: another topic of the same name has another."""

    cluster_id: str
    topic_id: str
    partitions: int

    @property
    def place(self) -> str:
        return f"{self.cluster_id}/{self.topic_id}"


class Topics(Protocol):
    """What stands under the names of topics."""

    def seen(self, topics: Sequence[str]) -> Mapping[str, Seen]:
        """Asks; without those that are not there. Raises `BrokerOutage`."""

    def latest(self) -> Mapping[str, Seen]:
        """The topics that it was made for, as they were some seconds ago; never waits. Empty until that is known."""

    def bytes_max(self, topic: str) -> int | None:
        """What one record of a topic may measure, as its settings say now; None where that cannot be learned."""


class Limits(NamedTuple):
    """What a topic takes and keeps: the largest batch of records (`max.message.bytes`), and for how long (None: not
    deleted by age)."""

    message_bytes_max: int
    retention_s: float | None


class Topology(Protocol):
    """The topics of a role, as they were when it started."""

    def check(self) -> None:
        """Raises `Unusable` or `Fatal` where they have changed in a way that a running worker cannot follow. Never
        waits: what it asks is answered some time before a later call."""


class SourceTopics(Topology, Protocol):
    """The topics of a role that follows what they become."""

    @property
    def complaints(self) -> Sequence[str]:
        """What somebody must mend while the role goes on, each with what to do."""

    @property
    def identities(self) -> Mapping[str, str]:
        """The cluster's own name for each source, by whole name: another topic of the name has another."""

    @property
    def limits(self) -> Mapping[str, Limits]: ...

    def ask_soon(self) -> None:
        """What they are like is asked with the next `check`."""

    def refresh(self) -> None:
        """Asks for `identities` and waits for the answer. Raises `BrokerOutage`, and as `check` does."""


class Store(Protocol):
    """An ordered map of bytes on the local disk. Raises `StateCorrupt` when it cannot be read as it was written, and
    `Fatal` when the disk is full or gone."""

    def get(self, key: bytes) -> bytes | None: ...

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Writes all pairs or none of them; None deletes."""

    def load(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        """As `write`, at a third of its cost, for what can be read again from where it came. A crash may lose the
        last of these calls, each of them whole, but none that a `write` or `close` has followed."""

    def purge(self, key: bytes) -> None:
        """What was written under this key before, and deleted, leaves the disk. Costs as much as writing the tables
        in which it may be, of up to 64 MB each."""

    def scan(self, start: bytes, records_max: int) -> list[tuple[bytes, bytes]]:
        """The first pairs from `start` on, in the order of their keys."""

    def close(self) -> None: ...


class Stores(Protocol):
    """Opens the store of each partition, and wipes one that cannot be trusted."""

    def open(self, partition: int) -> Store: ...

    def wipe(self, partition: int) -> None: ...

    def numbers(self) -> Sequence[int]:
        """The partitions of which a store lies here, open or not."""


class Clock(Protocol):
    """`now_ms` is the wall clock (epoch ms, may jump); `monotonic_s` never goes back and means nothing elsewhere."""

    def now_ms(self) -> int: ...

    def monotonic_s(self) -> float: ...
