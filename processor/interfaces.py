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
    """The next offset that the group committed (None: none), with at most COMMIT_METADATA_BYTES_MAX of metadata."""

    next_offset: int | None
    metadata: str


class Polled(NamedTuple):
    """The result of one poll: `records` in offset order per partition; `at_end` the partitions without more records for
    now; `astray` the partitions whose position is not in the log: they yield no records until `seek`.

    A partition is in `at_end` if the broker said so after the last of its records here. The offset beside it is that of
    its next record (read_committed: the last stable offset), past control records and gaps, so that the lag is 0 if
    everything below is finished. A later poll with records of the partition ends this, and so do `seek` and `resume`.
    """

    records: Sequence[Record]
    at_end: Mapping[TopicPartition, int]
    astray: frozenset[TopicPartition] = frozenset()
    resets: Mapping[TopicPartition, int] = {}
    """Partitions whose next offset was not in the log any more, with that offset: read from their beginning."""


class Rebalance(Protocol):
    """Hears of a rebalance. `assigned` and `lost` only record facts; `revoked` finishes its work before it returns."""

    def assigned(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the start offset of each new partition that must not start at its committed offset."""

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """Called before partitions go to another worker: finish and commit within a fifth of `max.poll.interval.ms`.

        A member that polled too late may get this call instead of `lost`; the broker then refuses its commits."""

    def lost(self, partitions: Sequence[TopicPartition]) -> None:
        """Called when partitions are gone already: another worker may have them. Commit nothing of them."""


class Consumer(Protocol):
    """A member of a consumer group, reading committed records."""

    def subscribe(self, topics: Sequence[str], rebalance: Rebalance) -> None: ...

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Returns records; waits at most `timeout_s` for the first. Raises `Fatal`; other errors show in `trouble`."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stops reading them until `resume`. May be called inside `assigned`. A revoked or lost partition is paused no
        longer. Expensive: records that were fetched ahead are thrown away, and fetched again after `resume`."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None: ...

    def seek(self, positions: Iterable[Position]) -> None:
        """Reads on from these positions. Not inside a callback: `assigned` returns its start offsets instead."""

    def committed(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, Committed]:
        """Raises `BrokerOutage` when no broker answers within some seconds."""

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commits and waits for the answer. Raises `Fenced` or `BrokerOutage`; after the latter it may be repeated."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the last stable offset of each partition that is known; never waits. A call starts a fetch in the
        background, so that later calls return values that are at most some seconds old, of paused partitions too."""

    def answered_s(self) -> float:
        """Returns a time of the monotonic clock: the group has answered this member something that it asked later than
        that. Minus infinity before the first answer. Another worker may have our partitions `session_s` after it."""

    @property
    def session_s(self) -> float:
        """Seconds after which the group drops a member that it does not hear from."""

    def trouble(self) -> str | None:
        """Returns the client's last lasting error (no broker, no right, wrong password), or None."""

    def close(self) -> None: ...


class Reader(Protocol):
    """Reads the partitions that `assign` names, outside of any group: to restore state from a topic.

    A restore ends when `position` has reached `ends`: never by counting records (control records and compaction leave
    gaps), nor by the end that read_committed shows (a dead worker's open transaction hides later commits for a while).
    """

    def assign(self, positions: Iterable[Position]) -> None:
        """Adds these partitions; moves those that it reads already."""

    def unassign(self, partitions: Iterable[TopicPartition]) -> None: ...

    def poll(self, records_max: int, timeout_s: float) -> Polled:
        """Returns committed records. Raises `Fatal`, and `StateCorrupt` with a partition whose position is gone."""

    def newest(self, records_max: int, timeout_s: float) -> Mapping[TopicPartition, dict[bytes, bytes | None]]:
        """Polls. Returns the last value of each key by partition (None: tombstone); leaves out records without key."""

    def position(self, partition: TopicPartition) -> int:
        """Returns the next offset that it will read, past control records and gaps."""

    def beginnings(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the first offset that is still in each log. Raises `BrokerOutage`."""

    def ends(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Returns the high watermarks, open transactions included. Raises `BrokerOutage`."""

    def trouble(self) -> str | None: ...

    def close(self) -> None: ...


Acknowledged = Callable[[str | None, int], None]
"""Called once per produced record with the error's text or None, and with the record's offset (-1 with an error)."""


class Producer(Protocol):
    """Produces idempotently, at least once. `produce` never blocks; if the queue is full, the caller polls."""

    def produce(self, record: NewRecord, acknowledged: Acknowledged) -> bool:
        """Returns False if the local queue is full: nothing was taken, poll and try again."""

    def poll(self) -> None:
        """Calls `Acknowledged` for each answer that has arrived since the last call."""

    def flush(self, timeout_s: float) -> int:
        """Waits for all answers. Returns how many records are still unanswered."""

    def fit(self, batch_bytes_max: int) -> None:
        """Makes no larger batches from the next `poll` on. May be called from `Acknowledged`."""

    def close(self) -> None: ...


class Transaction(Protocol):
    """A transactional producer: everything between `begin` and `commit` is readable whole or not at all.

        open ──► begin ──► produce… ──► commit or abort ──► begin …
          ▲        after Fenced or OutcomeUnknown: open       │
          └───────────────────────────────────────────────────┘

    Every call is bounded in time. Raises `TransactionAborted` (nothing of it counts: roll back, put back, `begin`
    again), `Fenced` (the transactional ID has another owner, or the broker gave the transaction up: `open` again),
    `OutcomeUnknown` (a `Fenced` out of `commit`: after `open`, the group's committed offsets tell whether it counts),
    `BrokerOutage` (from `open` and `begin` only: try again), `Fatal`.
    """

    def open(self) -> None:
        """Takes the transactional ID over. Kafka aborts its last owner's open transaction, and fences that owner."""

    def begin(self) -> None: ...

    def produce(self, record: NewRecord) -> None:
        """Key, value and headers together must stay below `record_bytes_max`."""

    def produce_keyed(self, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Produces records without headers to one partition, in one call; `commit` returns the last one's offset."""

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> Mapping[TopicPartition, int]:
        """Commits, with the consumed offsets, and waits. Returns the last offset of `produce_keyed` by partition."""

    def abort(self) -> None:
        """Aborts the open transaction, if there is one. Raises nothing but `Fenced` and `Fatal`."""

    def fit(self, batch_bytes_max: int) -> None:
        """Limits the batches of later transactions: a topic takes no larger ones. A larger record goes by itself."""

    def throttled(self) -> float:
        """Returns the seconds for which brokers have throttled it by their quota since the last call."""

    @property
    def record_bytes_max(self) -> int:
        """The largest size of a record, as `record_bytes` counts it. A larger one would abort its batch every time."""

    def close(self) -> None: ...


class Predecessors(Protocol):
    """The workers that had our partitions before us."""

    def end_transactions(self, partitions: Sequence[TopicPartition]) -> None:
        """Aborts what dead workers left open, so that no reader waits for its timeout. Raises `BrokerOutage`."""


class Seen(NamedTuple):
    """A topic in its cluster, by Kafka's own IDs: a topic that is made again under its name has another `topic_id`."""

    cluster_id: str
    topic_id: str
    partitions: int

    @property
    def place(self) -> str:
        return f"{self.cluster_id}/{self.topic_id}"


class Topics(Protocol):
    """Which topics exist under given names."""

    def seen(self, topics: Sequence[str]) -> Mapping[str, Seen]:
        """Asks the cluster. Returns the topics that exist. Raises `BrokerOutage`."""

    def latest(self) -> Mapping[str, Seen]:
        """Returns its topics as they were some seconds ago; never waits. Empty until the first answer."""

    def kept_s(self, topic: str) -> float | None:
        """Returns how long the topic keeps records, as set some seconds ago; None if by size alone, or not known."""

    def bytes_max(self, topic: str) -> int | None:
        """Returns the topic's `max.message.bytes` as it is now; None if the cluster does not say."""


class Topology(Protocol):
    """The topics of a role, as they were when it started."""

    def check(self) -> None:
        """Raises `Unusable` or `Fatal` if a running worker cannot follow a topic's change. Waits for no answer."""

    def kept_s(self, topic: str) -> float | None:
        """As `Topics.kept_s`."""


class SourceTopics(Topology, Protocol):
    """The topics of a role that goes on when they change."""

    @property
    def complaints(self) -> Sequence[str]:
        """What a person must mend while the role goes on, each with what to do."""

    @property
    def identities(self) -> Mapping[str, str]:
        """Kafka's topic ID of each source, by whole name. A topic that is made again has another ID."""

    @property
    def limits(self) -> Mapping[str, int]:
        """The topics' `max.message.bytes`, by whole name."""

    def ask_soon(self) -> None:
        """Makes the next `check` ask the cluster at once."""

    def refresh(self) -> None:
        """Asks for `identities` and waits for the answer. Raises `BrokerOutage`, and what `check` raises."""


class Store(Protocol):
    """An ordered map of bytes on the local disk. Raises `StateCorrupt`, and `Fatal` if the disk is full or gone."""

    def get(self, key: bytes) -> bytes | None: ...

    def write(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Writes all pairs or none of them; None deletes."""

    def load(self, pairs: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Writes as `write` does at a third of its cost, for pairs that can be read again from Kafka. A crash may undo
        the last calls, each as a whole, but no call that a `write` or `close` has followed."""

    def purge(self, key: bytes) -> None:
        """Removes deleted values of this key from the disk: writes their tables anew, of up to 64 MB each."""

    def scan(self, start: bytes, records_max: int) -> list[tuple[bytes, bytes]]:
        """Returns the first pairs from `start` on, in the order of their keys."""

    def close(self) -> None: ...


class Stores(Protocol):
    """Opens the store of each partition, and wipes one that cannot be trusted."""

    def open(self, partition: int) -> Store: ...

    def wipe(self, partition: int) -> None: ...

    def numbers(self) -> Sequence[int]:
        """The partitions that have a store in this directory, open or not."""


class Clock(Protocol):
    """`now_ms` is the wall clock (epoch ms, may jump); `monotonic_s` never goes back and means nothing elsewhere."""

    def now_ms(self) -> int: ...

    def monotonic_s(self) -> float: ...
