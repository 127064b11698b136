"""The common part of all Kafka clients: how they are made, their settings, log lines and errors, and messages as
records.

librdkafka reports trouble in four ways, and none of them raises by itself: an error callback, a log line, a message
that is an error, an exception. Here they become facts, a structured log line and one sentence for `/readyz`. Otherwise
a client that was refused would be silent and look idle.

`taken` runs once for each record that the processor reads: 0.5 µs, half of the cost of `consume` itself. Not chosen: a
record that keeps the message and asks it lazily (most calls are made anyway, and a stage could not be given a record of
its own making).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar, cast

import confluent_kafka as ck
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from processor.errors import Fatal, Unusable
from processor.records import Headers, Record, TopicPartition

T = TypeVar("T")

Setting = str | int | float | bool
KafkaSettings = Mapping[str, Setting]
"""librdkafka's names and values, as the user gave them; `bootstrap.servers` is always among them."""

SHARED_DEFAULTS: Final[Mapping[str, Setting]] = {
    # The time until a broker that hangs is given up. librdkafka's 60 s would break every promise.
    "socket.timeout.ms": 10_000,
    "socket.connection.setup.timeout.ms": 5_000,
    # A restarted broker is found again within a second (librdkafka: 10).
    "reconnect.backoff.max.ms": 1_000,
    "retry.backoff.max.ms": 500,
    "socket.keepalive.enable": True,
}


class Log(Protocol):
    """The part of structlog's bound logger that an edge uses: a constant message and facts."""

    def debug(self, event: str, **facts: Any) -> Any: ...
    def info(self, event: str, **facts: Any) -> Any: ...
    def warning(self, event: str, **facts: Any) -> Any: ...
    def error(self, event: str, **facts: Any) -> Any: ...


def merged(defaults: KafkaSettings, settings: KafkaSettings, owned: KafkaSettings) -> dict[str, Any]:
    """Returns `defaults`, overridden by the user's `settings`, overridden by the settings that we own."""
    return {**SHARED_DEFAULTS, **defaults, **settings, **owned}


def groupless(defaults: KafkaSettings, settings: KafkaSettings, owned: KafkaSettings) -> dict[str, Any]:
    """Returns the settings of a consumer that joins no group, and so commits nothing. The group protocol is for
    members: a setting of it would be refused. `owned` has the `group.id` that librdkafka needs."""
    others = {name: value for name, value in settings.items() if not name.startswith("group.")}
    never = {"enable.auto.commit": False, "enable.auto.offset.store": False, "allow.auto.create.topics": False}
    return merged(defaults, others, {**never, **owned})


def error_of(raised: KafkaException) -> KafkaError:
    """Returns the `KafkaError` inside a confluent-kafka exception."""
    error = raised.args[0]
    assert isinstance(error, KafkaError), f"a KafkaException without an error: {raised!r}"
    return error


def unusable(raised: KafkaException) -> Unusable:
    """Returns the error of a client that cannot be made: librdkafka refused a setting, or settings that conflict."""
    return Unusable([f"Kafka settings: {error_of(raised).str()}"])


REPEAT_S: Final = 10.0
KINDS_MAX: Final = 200  # kinds hold broker names and topics
KIND_CHARACTERS: Final = 60  # the thread and the broker, not the milliseconds that follow


class Repeats:
    """Suppresses repeated log lines. While a broker is down, each client logs every attempt to connect; one line of a
    kind in ten seconds is enough. Mutable: `_last_s` has the time of the last line by kind."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}

    def heard(self, kind: str) -> bool:
        now_s = time.monotonic()
        if now_s - self._last_s.get(kind, -REPEAT_S) < REPEAT_S:
            return True
        if len(self._last_s) >= KINDS_MAX:
            self._last_s.clear()
        self._last_s[kind] = now_s
        return False


class LibraryLog:
    """Turns librdkafka's log lines into structured ones: it has the one method that confluent-kafka calls on a
    `logger`. `heard` is called with the facility and text of every line, for facts that librdkafka reports only
    there."""

    def __init__(self, log: Log, heard: Callable[[str, str], None] | None = None) -> None:
        self._log = log
        self._heard = heard
        self._repeats = Repeats()

    def log(self, level: int, _template: str, facility: str, client: str, text: str) -> None:
        if facility == "CONFWARN":  # consumers and producers share the settings: each warns of the other's
            return
        if self._heard is not None:
            self._heard(facility, text)
        if self._repeats.heard(facility + text[:KIND_CHARACTERS]):
            return
        facts = {"facility": facility, "client": client, "detail": text}
        if level >= 30:
            # Nothing to act on: important errors also come as a complaint, an exception or a delivery report.
            self._log.warning("kafka.library", **facts)
        elif level >= 20:
            self._log.info("kafka.library", **facts)
        else:
            self._log.debug("kafka.library", **facts)


class _Dropped:
    """A `LibraryLog` that drops every line. librdkafka prints fatal errors at its `log_level` 0, too."""

    def log(self, *_line: object) -> None: ...


_CONNECTION_LOST: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError._RESOLVE,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)

CONNECTION: Final = "connection"

ALLOW: Final = "allow it to this user; `hakuna-processor check` lists every right that is missing"
_PASSWORD: Final = "correct KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
_REMEDIES: Final[Mapping[int, str]] = {
    KafkaError._AUTHENTICATION: _PASSWORD,
    KafkaError.SASL_AUTHENTICATION_FAILED: _PASSWORD,
    KafkaError._SSL: (
        "set KAFKA_SSL_CA_LOCATION to the authority of the brokers' certificate; where they want one of ours, "
        "KAFKA_SSL_CERTIFICATE_LOCATION and KAFKA_SSL_KEY_LOCATION too"
    ),
    KafkaError.INVALID_TIMESTAMP: (
        "this machine's clock is ahead of the brokers': set it by NTP; nothing is lost, and it goes on by itself then"
    ),
    KafkaError._ALL_BROKERS_DOWN: "`hakuna-processor check` tells what answers at these addresses instead",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: ALLOW,
    KafkaError.GROUP_AUTHORIZATION_FAILED: ALLOW,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ALLOW,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: ALLOW,
}


def said(error: KafkaError) -> str:
    """Returns librdkafka's text of an error, and the remedy if one is known."""
    remedy = _REMEDIES.get(error.code())
    return error.str() if remedy is None else f"{error.str().removesuffix('.')}: {remedy}"


class Complaints:
    """The errors that a client has not recovered from, by subject: `connection`, `group`, a topic's name.

    Mutable, owned by the client's thread; `text` may be read from any. A subject stays from its first error until
    something proves that it is over, because librdkafka reports most errors once only. `fatal` is set once and never
    cleared."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._open: dict[str, str] = {}
        self.fatal: str | None = None
        self.suspicious = False
        self._repeats = Repeats()

    def on_error(self, error: KafkaError) -> None:
        """librdkafka's error callback: the only place that reports a wrong password or CA."""
        if error.fatal():
            self.fatal = self.fatal or error.str()
            self._log.error("kafka.fatal", code=error.name(), detail=error.str())
        elif error.code() in _CONNECTION_LOST:
            self.note(CONNECTION, error)
        else:
            self.suspicious = True
            if not self._repeats.heard(error.name() + error.str()[:KIND_CHARACTERS]):
                self._log.info("kafka.error", code=error.name(), detail=error.str())

    def note(self, subject: str, error: KafkaError) -> None:
        if subject not in self._open:  # librdkafka repeats some of these every second
            self._log.warning("kafka.trouble", subject=subject, code=error.name(), detail=said(error))
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            return  # the present text says more: why they are down
        self._open[subject] = f"{error.name()}: {said(error)}"

    def clear(self, subject: str) -> None:
        if self._open.pop(subject, None) is not None:
            self._log.info("kafka.recovered", subject=subject)

    def forgive(self) -> None:
        """Clears all errors so far: a broker has just answered the client."""
        self.suspicious = False
        for subject in self.subjects:
            self.clear(subject)

    @property
    def subjects(self) -> tuple[str, ...]:
        return tuple(self._open)

    def text(self) -> str | None:
        return "; ".join(f"{subject}: {text}" for subject, text in list(self._open.items())) or None


class Message(Protocol):
    """confluent-kafka's message as `consume` returns it; in the library's own stub all of these may be None."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def error(self) -> KafkaError | None: ...


def consumed(consumer: ck.Consumer, records_max: int, timeout_s: float) -> list[Message]:
    """Returns the available messages; if there are none, waits for one and returns it with the rest. `consume` itself
    would wait for all of `records_max`. Raises `Fatal`."""
    try:
        messages = cast("list[Message]", consumer.consume(records_max, 0))
        if not messages and timeout_s > 0:
            messages = cast("list[Message]", consumer.consume(1, timeout_s))
            if messages and records_max > 1:
                messages += cast("list[Message]", consumer.consume(records_max - 1, 0))
    except KafkaException as fatal:  # any other error is a message
        raise Fatal(error_of(fatal).str()) from fatal
    return messages


def taken(messages: list[Message], at_end: dict[TopicPartition, int]) -> tuple[list[Record], list[Message]]:
    """Returns the records among `messages`, and the messages that are errors. Updates `at_end` in the order of arrival:
    the end of a partition adds it, a record removes it."""
    records: list[Record] = []
    refused: list[Message] = []
    append = records.append
    run_topic = ""  # partitions come in runs: one lookup in `at_end` a run, not a record
    run_partition = -1
    for message in messages:
        topic = message.topic()
        partition = message.partition()
        error = message.error()
        if error is None:
            if partition != run_partition or topic != run_topic:
                run_topic, run_partition = topic, partition
                at_end.pop(TopicPartition(topic, partition), None)
            append(
                Record(
                    topic,
                    partition,
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers() or [],
                )
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            run_partition = -1
            at_end[TopicPartition(topic, partition)] = message.offset()
        else:
            run_partition = -1
            refused.append(message)
    return records, refused


Called = Callable[..., Any]
Heard = Callable[[str, str], None]


def new_admin(config: Mapping[str, Any], called: Called, log: Log) -> AdminClient:
    """Returns a client. `config` are librdkafka's settings, `called` is its `error_cb`. Raises `Unusable` if librdkafka
    refuses a setting, as the other functions here do.

    It connects to every broker, not only to those it asks: a request for a broker that refuses connections makes
    librdkafka 2.16 try again at once, some 10,000 times a second, unless the connections are not sparse."""
    return _made(AdminClient, {"enable.sparse.connections": False, **config}, called, LibraryLog(log))


def new_consumer(config: Mapping[str, Any], called: Called, log: Log, heard: Heard | None = None) -> ck.Consumer:
    """`heard` is as `LibraryLog` describes it."""
    return _made(ck.Consumer, config, called, LibraryLog(log, heard))


def new_producer(config: Mapping[str, Any], called: Called, log: LibraryLog | None) -> ck.Producer:
    """`log` None: drops all log lines, for a client whose refusal is expected."""
    return _made(ck.Producer, config, called, log)


def _made(kind: Callable[..., T], config: Mapping[str, Any], called: Called, log: LibraryLog | None) -> T:
    try:
        return kind({**config, "error_cb": called}, logger=_Dropped() if log is None else log)
    except KafkaException as refused:
        raise unusable(refused) from refused
