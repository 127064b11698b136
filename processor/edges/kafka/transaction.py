"""KafkaTransaction: everything between `begin` and `commit`, offsets included, is readable whole or not at all.

Owned by transform's Kafka thread.

             open            begin              commit, abort
    CLOSED ────────► READY ────────► BEGUN ──────────────────► READY
      ▲                ▲               │ fenced, fatal, timed out, or an abort that nobody confirmed
      │ close          │ open, begin   ▼
      └────────────────┴───────────── SPENT

Invariants:
- Every call ends within its bound. A broker restart under an open transaction ends it: the transaction is aborted or
  fenced, `begin` makes a new producer, and the loop goes on.
- Once `commit_transaction` was called, a failure is `TransactionAborted` only if the broker confirmed an abort after
  it;
  any other failure is `OutcomeUnknown`. Before that call nothing of ours can become readable, whether the abort is
  confirmed or not.
- A member that the group has left behind cannot commit: offsets carry the consumer's generation (KIP-447).

`transaction.timeout.ms` is 4 s. The broker looks for late transactions every 10 s, so one that was left open holds
readers up for 4 to 14 s. A live worker's transaction takes some 0.2 s of them; a successor does not wait for the
timeout, but ends its predecessor's transaction (`abort_left_behind`).

Not chosen: a producer per partition (as many connections, PIDs and commits as partitions);
`delivery.report.only.error` (it would hide the one offset that is needed); to wait for each record's report (the commit
reports what failed).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from enum import Enum, auto
from threading import Thread
from typing import Any, Final, Protocol, cast

import confluent_kafka as ck
import structlog
from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.client import (
    ALLOW,
    Complaints,
    KafkaSettings,
    LibraryLog,
    Setting,
    error_of,
    merged,
    new_producer,
    said,
)
from processor.edges.kafka.commits import committable
from processor.edges.kafka.producer import PRODUCER_DEFAULTS, Batches, Delivery
from processor.errors import BrokerOutage, Fatal, Fenced, OutcomeUnknown, TransactionAborted
from processor.interfaces import Committed
from processor.records import NewRecord, TopicPartition

TRANSACTION_TIMEOUT_MS: Final = 4_000  # see the module

OPEN_S_MAX: Final = 5.0  # one try; the caller tries again
COMMIT_S_MAX: Final = 6.0  # inside a fifth of `max.poll.interval.ms`, which a revocation has; twice the timeout above
ABORT_S_MAX: Final = 2.0  # the rest of that fifth
STUCK_S_MAX: Final = 2.0  # how much later than its own bound a call may come back before its client is given up
LEFT_BEHIND_MAX: Final = 5  # a stuck client keeps its threads and some MB until a broker's state changes
QUEUE_S_MAX: Final = 4.0  # a queue that is full for longer than a transaction may last: the broker is gone
RETRY_S: Final = 0.05

TRANSACTION_DEFAULTS: Final[Mapping[str, Setting]] = {
    **PRODUCER_DEFAULTS,
    # The broker refuses to add a partition while it still writes the last transaction's markers; the next try comes
    # after this: 28 ms a small transaction become 21 (librdkafka: 100, which it doubles up to a second).
    "retry.backoff.ms": 10,
}


class _State(Enum):
    CLOSED = auto()
    READY = auto()
    BEGUN = auto()
    SPENT = auto()


_BEGUN: Final = _State.BEGUN  # in Python 3.11 each mention of an enum's member costs 0.1 µs or more


class Membership(Protocol):
    """The consumer whose offsets go into the transaction."""

    def group_metadata(self) -> Any:
        """Returns librdkafka's form. Raises `Fenced` if the group has gone on without us."""


class KafkaTransaction:
    """See the module. Mutable: `_state` and `_producer` (set in every state but CLOSED and SPENT, and in CLOSED while
    an `open` is retried). Of the open transaction: `_last_offsets` are the offsets of its keyed records so far;
    `_witnesses` are the topics whose first record reports its delivery; `_undelivered` is the first refusal in such a
    report, because the commit itself only says that something was not delivered; `_denied` is a topic that may not be
    written. `_left_behind` counts stuck clients."""

    def __init__(self, settings: KafkaSettings, *, transactional_id: str, consumer: Membership, client_id: str) -> None:
        self._log = structlog.get_logger()
        self._complaints = Complaints(self._log)
        self._consumer = consumer
        self.transactional_id = transactional_id
        self._config = transactional(settings, transactional_id, client_id)
        self._state = _State.CLOSED
        self._producer: ck.Producer | None = None
        self._last_offsets: dict[TopicPartition, int] = {}
        self._witnesses: set[str] = set()
        self._undelivered: str | None = None
        self._denied: str | None = None
        self._left_behind = 0
        self._throttled_s = 0.0
        self._config["throttle_cb"] = self._on_throttle
        self._batches = Batches(self._config)

    @property
    def record_bytes_max(self) -> int:
        return int(self._config["message.max.bytes"])

    def fit(self, batch_bytes_max: int) -> None:
        assert self._state is not _State.BEGUN, "in the middle of a transaction"
        if self._batches.fit(batch_bytes_max) and self._state is _State.READY:
            self._discard(_State.SPENT)

    def throttled(self) -> float:
        seconds, self._throttled_s = self._throttled_s, 0.0
        return seconds

    def _on_throttle(self, told: ck.ThrottleEvent) -> None:
        """librdkafka's only report of a quota."""
        self._throttled_s += told.throttle_time

    def open(self) -> None:
        assert self._state is not _State.BEGUN, "opened in the middle of a transaction"
        if self._state is _State.READY:
            return
        if self._producer is None:
            self._complaints = Complaints(self._log)
            self._producer = new_producer(
                self._config, self._complaints.on_error, LibraryLog(self._log, self._overheard)
            )
        error = until(time.monotonic() + OPEN_S_MAX, self._producer.init_transactions)
        with suppress(KafkaException):
            self._producer.poll(0)  # runs the error callback, which reports a wrong password or CA
        if error is None:
            self._complaints.forgive()
            self._state = _State.READY
            return
        if error.fatal() or not error.retriable():
            self._discard(_State.CLOSED)
        if error.code() in _NOT_ALLOWED:
            raise Fatal(f"transactional ID {self.transactional_id}: {said(error)}")
        raise BrokerOutage(self._why(f"transactional ID {self.transactional_id}", error))

    def begin(self) -> None:
        assert self._state is not _State.BEGUN, "one transaction at a time"
        self._leave_a_shaken_client()
        self.open()
        assert self._producer is not None
        self._last_offsets = {}
        self._witnesses.clear()
        self._undelivered = self._denied = None
        try:
            self._producer.begin_transaction()
        except KafkaException as refused:  # fenced since the last one
            self._discard(_State.SPENT)
            raise Fenced(error_of(refused).str()) from refused
        self._state = _State.BEGUN

    def _leave_a_shaken_client(self) -> None:
        """Replaces a client that has lost a broker since it was opened: most clients that got stuck in `_send_offsets`
        had been idle during a restart."""
        if self._state is not _State.READY:
            return
        assert self._producer is not None
        with suppress(KafkaException):  # fenced: `begin_transaction` reports it
            self._producer.poll(0)
        if self._complaints.suspicious or self._complaints.subjects:
            self._discard(_State.SPENT)

    def produce(self, record: NewRecord) -> None:
        topic, partition, key, value, headers, timestamp_ms = record
        producer = self._begun()
        report: Any = None
        if topic not in self._witnesses:
            self._witnesses.add(topic)
            report = self._reported
        given: Any = headers  # its stub allows no header without a value
        while True:
            try:
                producer.produce(topic, value, key, partition, report, timestamp=timestamp_ms, headers=given)
                return
            except BufferError:
                self._wait_for_room(producer)
            except KafkaException as refused:
                raise self._given_up(error_of(refused)) from refused

    def produce_keyed(self, topic: str, partition: int, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        if not pairs:
            return
        producer = self._begun()
        batch: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in pairs[:-1]]
        while batch:
            try:
                taken = producer.produce_batch(topic, batch, partition)
            except KafkaException as refused:
                raise self._given_up(error_of(refused)) from refused
            if taken == len(batch):
                break
            batch = [message for message in batch if message.get("_error") is not None]
            refusals = {message.pop("_error").code() for message in batch}
            if refusals - {KafkaError._QUEUE_FULL}:
                raise self._given_up(KafkaError(min(refusals - {KafkaError._QUEUE_FULL})))
            self._wait_for_room(producer)
        where = TopicPartition(topic, partition)

        def last(error: KafkaError | None, message: Delivery) -> None:
            self._reported(error, message)
            if error is None:
                self._last_offsets[where] = message.offset()

        key, value = pairs[-1]
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=cast("ck.cimpl.DeliveryCallback", last))
                return
            except BufferError:
                self._wait_for_room(producer)
            except KafkaException as refused:
                raise self._given_up(error_of(refused)) from refused

    def _reported(self, error: KafkaError | None, message: Delivery) -> None:
        if error is not None and self._undelivered is None:
            self._undelivered = f"{message.topic()}: {error.name()}: {said(error)}"

    def _begun(self) -> ck.Producer:
        assert self._state is _BEGUN, f"no transaction is open: {self._state.name}"
        assert self._producer is not None
        return self._producer

    def _wait_for_room(self, producer: ck.Producer) -> None:
        """Waits for room in the queue. It empties in milliseconds, or the broker is gone."""
        deadline_s = time.monotonic() + QUEUE_S_MAX
        full = len(producer)
        while len(producer) >= full:
            if time.monotonic() >= deadline_s:
                raise self._given_up(KafkaError(KafkaError._QUEUE_FULL))
            try:
                producer.poll(0.01)
            except KafkaException as refused:
                raise self._given_up(error_of(refused)) from refused

    def commit(self, offsets: Mapping[TopicPartition, Committed]) -> Mapping[TopicPartition, int]:
        producer = self._begun()
        deadline_s = time.monotonic() + COMMIT_S_MAX
        if offsets:
            try:
                member = self._consumer.group_metadata()
            except Fenced as out:
                self._abort()
                raise TransactionAborted(f"commit: {out}") from out
            error = self._send_offsets(producer, committable(offsets), member, deadline_s)
            if error is not None:
                raise self._given_up(error)
        error = until(deadline_s, producer.commit_transaction)
        if error is None:
            self._state = _State.READY
            return self._last_offsets
        if error.fatal() or not error.txn_requires_abort():
            self._discard(_State.SPENT)
            raise OutcomeUnknown(self._why("commit", error))
        if self._abort() is not None:
            raise OutcomeUnknown(self._why("commit, then abort", error))
        raise TransactionAborted(self._why("commit", error))

    def _send_offsets(
        self, producer: ck.Producer, parts: list[ck.TopicPartition], member: Any, deadline_s: float
    ) -> KafkaError | None:
        """Adds the offsets, in a thread of its own, which is left behind if it does not return.

        This one call has no timeout inside librdkafka (2.16: a coordinator request's deadline is set and never
        checked). If a restarted broker does not know the group's coordinator yet, librdkafka waits for the state of a
        broker to change, which it does not, and the caller would wait for ever, its transaction open."""
        answer: Future[KafkaError | None] = Future()

        def send() -> None:
            try:
                call = producer.send_offsets_to_transaction
                answer.set_result(until(deadline_s, lambda left_s: call(parts, member, left_s)))
            except BaseException as raised:
                answer.set_exception(raised)

        Thread(target=send, name="send-offsets", daemon=True).start()
        try:
            return answer.result(timeout=max(deadline_s - time.monotonic(), 0.0) + STUCK_S_MAX)
        except FutureTimeout as stuck:
            self._state = _State.SPENT
            self._producer = None  # never used again: every call would wait behind the stuck one
            self._left_behind += 1
            self._log.warning("kafka.client_stuck", call="send_offsets_to_transaction", clients=self._left_behind)
            if self._left_behind >= LEFT_BEHIND_MAX:
                raise Fatal(f"{self._left_behind} Kafka clients are stuck") from stuck
            raise TransactionAborted("commit: the offsets could not be sent, and the client is stuck") from stuck

    def abort(self) -> None:
        if self._state is _State.BEGUN:
            self._abort()

    def _abort(self) -> KafkaError | None:
        """Returns None if the broker has confirmed it. Otherwise the next `begin` makes a new producer, which ends it,
        too."""
        producer = self._begun()
        error = until(time.monotonic() + ABORT_S_MAX, producer.abort_transaction)
        if error is None:
            self._state = _State.READY
        else:
            self._log.warning("kafka.abort_unconfirmed", code=error.name(), detail=error.str())
            self._discard(_State.SPENT)
        return error

    def _given_up(self, error: KafkaError) -> TransactionAborted | Fenced:
        """Ends a transaction that can no longer be committed, and returns the error to raise. None of it is
        readable."""
        if error.fatal() or self._complaints.fatal is not None:
            self._discard(_State.SPENT)
            return Fenced(self._why("transaction", error))
        self._abort()
        return TransactionAborted(self._why("transaction", error))

    def _discard(self, state: _State) -> None:
        """Drops the client with all that it still holds."""
        self._state = state
        producer, self._producer = self._producer, None
        if producer is not None:
            dropped(producer)

    def _why(self, what: str, error: KafkaError) -> str:
        more = "; ".join(filter(None, (self._undelivered, self._denied)))
        return why(what, error, self._complaints) + (f" ({more})" if more else "")

    def _overheard(self, facility: str, text: str) -> None:
        """A topic that may not be written ends the transaction: its records are answered "purged", the commit
        "erroneous state", and only librdkafka's log names the topic."""
        if facility == "ADDPARTS" and "authorization" in text:
            self._denied = f"{text.rpartition(']: ')[2].partition(': ')[2] or text}: {ALLOW}"

    def close(self) -> None:
        if self._state is _State.BEGUN:
            self._abort()
        self._discard(_State.CLOSED)


def abort_left_behind(settings: KafkaSettings, transactional_id: str, *, client_id: str) -> None:
    """Ends the open transaction of a dead worker, by taking over its transactional ID for a moment. A live worker would
    be fenced. Raises `BrokerOutage` if the broker does not answer, `Fatal` if it refuses."""
    log = structlog.get_logger()
    complaints = Complaints(log)
    producer = new_producer(transactional(settings, transactional_id, client_id), complaints.on_error, LibraryLog(log))
    try:
        error = until(time.monotonic() + OPEN_S_MAX, producer.init_transactions)
    finally:
        dropped(producer)
    if error is None:
        return
    if error.code() in _NOT_ALLOWED:
        raise Fatal(f"transactional ID {transactional_id}: {said(error)}")
    raise BrokerOutage(why(f"transactional ID {transactional_id}", error, complaints))


def transactional(settings: KafkaSettings, transactional_id: str, client_id: str) -> dict[str, Any]:
    """Returns the settings of a transactional producer."""
    # Both must stay below the transaction's timeout; librdkafka derives them if they are not set.
    derived = {"socket.timeout.ms", "message.timeout.ms"}
    config = merged(
        TRANSACTION_DEFAULTS,
        settings,
        {
            "client.id": client_id,
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "enable.idempotence": True,
            "acks": "all",
            "allow.auto.create.topics": False,
        },
    )
    return {name: value for name, value in config.items() if name not in derived}


def dropped(producer: ck.Producer) -> None:
    """Purges the client first: `close` would wait for ever for records that cannot be delivered."""
    producer.purge()
    with suppress(KafkaException):  # a fenced client raises in every poll
        producer.poll(0)  # runs the purged records' reports, which hold references


def until(deadline_s: float, call: Callable[[float], Any]) -> KafkaError | None:
    """Makes a bounded call of the transactional API until it is done, refused, or out of time. Any of them may be
    repeated if librdkafka says `retriable`: it continues."""
    while True:
        left_s = max(deadline_s - time.monotonic(), RETRY_S)
        try:
            call(left_s)
        except KafkaException as refused:
            error = error_of(refused)
            again = error.retriable() and not error.fatal() and not error.txn_requires_abort()
            if not again or time.monotonic() >= deadline_s:
                return error
            time.sleep(RETRY_S)
        else:
            return None


def why(what: str, error: KafkaError, complaints: Complaints) -> str:
    more = complaints.fatal or complaints.text()
    return f"{what}: {error.name()}: {error.str()}" + (f" ({more})" if more else "")


_NOT_ALLOWED: Final = frozenset(
    {
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
    }
)
