"""Writes the records of a shop to the source topics, as a shop's own outbox would: Avro in Confluent's wire format, all
topics partitioned by key in the same way, an order's records one after the other.

Owned by one thread. A record of an order goes out only when its earlier ones on other topics are acknowledged: topics
are independent logs, and records that are under way to two of them at once may arrive in either order.

`mixed`: each topic has another client instead, like the services of a shop. Each client has another partitioner, and
writes most keys as one of several serialisers would, or not at all. The role rekey moves these records to other keys
and topics, so each has a number in a header.

Not chosen: confluent-kafka's AvroSerializer (it cannot write the damaged records), its default partitioner
(consistent CRC32, which no other client uses; `murmur2_random` is what Java's do).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from typing import Any, Final, assert_never

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from fastavro import parse_schema, schemaless_writer

from processor.edges.avro import reader_schema
from processor.edges.kafka.client import error_of, unusable
from processor.edges.registry import Registry
from processor.errors import BrokerOutage, Fatal, RegistryOutage, Unusable
from processor.records import Position
from processor.sandbox.shop.history import Step, Truncated, Value
from processor.topics import ORDER_TOPICS, Topic

FLUSH_S_MAX: Final = 60.0
"""Brokers that are away for longer end the writing."""
_LOST_BYTES: Final = 3
NUMBERED: Final = "shop-record"
"""The header with the number of a record of a mixed shop."""
_PARTITIONERS: Final = ("murmur2_random", "consistent_random", "fnv1a_random")
"""librdkafka's names for the defaults of Java's clients, its own and sarama."""

Written = Callable[[Step, Position], None]
"""Called for each record that the broker has acknowledged, on the thread that writes."""


class OrderWriter:
    """Mutable: `_unacknowledged` are, by key, the topic and the count of the records under way; `_failure` is the first
    delivery that failed for good."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        registry_url: str,
        *,
        registry_auth: str = "",
        topic_prefix: str = "",
        topics: Iterable[Topic] = ORDER_TOPICS,
        written: Written,
        mixed: bool = False,
    ) -> None:
        """`kafka` are librdkafka's settings, `registry_url` one URL or several with commas, `registry_auth`
        `user:password`. Registers the schemas of `topics`. With `mixed`, `written` gets numbers instead of positions.
        Raises `Unusable` or `RegistryOutage`."""
        self._mixed = mixed
        self._number = 0
        self._prefix = topic_prefix
        self._written = written
        config = {"linger.ms": 5, "enable.idempotence": True, "log_level": 0, "error_cb": self._complain} | dict(kafka)
        try:
            names = _PARTITIONERS if mixed else _PARTITIONERS[:1]
            self._producers = [Producer(config | {"partitioner": name}) for name in names]
        except KafkaException as refused:
            raise unusable(refused) from refused
        self._schemas: dict[Topic, tuple[bytes, Any]] = {}
        registry = Registry(registry_url, registry_auth)
        for topic in topics:
            text = reader_schema(topic)
            schema_id = _registered(registry, f"{topic_prefix}{topic}-value", text)
            self._schemas[topic] = (b"\x00" + schema_id.to_bytes(4, "big"), parse_schema(orjson.loads(text)))
        self._unacknowledged: dict[bytes, tuple[Topic, int]] = {}
        self._failure: KafkaError | None = None
        self._complaint = "no broker answers"

    def write(self, step: Step) -> None:
        """Hands one record over. Raises `BrokerOutage` if the brokers stay away, `Fatal` if they refuse a record."""
        under_way = self._unacknowledged.get(step.key)
        if under_way is not None and under_way[0] is not step.topic:
            self.flush()
            under_way = None
        self._unacknowledged[step.key] = (step.topic, 1 + (0 if under_way is None else under_way[1]))
        number, self._number = self._number, self._number + 1
        is_mixed = self._mixed and step.topic in ORDER_TOPICS
        producer = self._producers[_client(step.topic) if is_mixed else 0]
        key = _foreign_key(step, number) if is_mixed else step.key
        place = Position(NUMBERED, 0, number) if is_mixed else None
        while True:
            try:
                producer.produce(
                    self._prefix + step.topic,
                    value=self._encoded(step.topic, step.value),
                    key=key,
                    timestamp=step.timestamp_ms,
                    headers=[(NUMBERED, str(place))] if place is not None else [],
                    on_delivery=lambda error, message: self._delivered(step, place, error, message),
                )
                break
            except BufferError:
                # The local queue is full.
                self.flush()
            except KafkaException as refused:
                raise Fatal(f"a record cannot be written: {error_of(refused).str()}") from refused
        self.poll()

    def poll(self) -> None:
        """Handles the acknowledgements that have arrived. Raises `Fatal` if the brokers refused a record."""
        for producer in self._producers:
            producer.poll(0)
        if self._failure is not None:
            raise Fatal(f"the brokers refuse a record: {self._failure.str()}")

    def flush(self) -> None:
        """Returns when every record is acknowledged. Raises as `write` does."""
        left = sum(producer.flush(FLUSH_S_MAX) for producer in self._producers)
        self.poll()
        if left:
            raise BrokerOutage(f"{left} records unacknowledged after {FLUSH_S_MAX:g} s: {self._complaint}")

    def _complain(self, error: KafkaError) -> None:
        self._complaint = error.str()

    def _delivered(self, step: Step, place: Position | None, error: KafkaError | None, message: Message) -> None:
        under_way = self._unacknowledged.get(step.key)
        if under_way is not None:
            topic, count = under_way
            if count == 1:
                del self._unacknowledged[step.key]
            else:
                self._unacknowledged[step.key] = (topic, count - 1)
        if error is not None:
            self._failure = self._failure or error
            return
        topic_name, partition, offset = message.topic(), message.partition(), message.offset()
        assert topic_name is not None
        assert partition is not None
        assert offset is not None
        self._written(step, place or Position(topic_name, partition, offset))

    def _encoded(self, topic: Topic, value: Value) -> bytes | None:
        match value:
            case None | bytes():
                return value
            case Truncated(event):
                return self._avro(topic, event)[:-_LOST_BYTES]
            case Mapping():
                return self._avro(topic, value)
            case _:
                assert_never(value)

    def _avro(self, topic: Topic, event: Mapping[str, Any]) -> bytes:
        framing, schema = self._schemas[topic]
        stream = BytesIO()
        stream.write(framing)
        schemaless_writer(stream, schema, dict(event))
        return stream.getvalue()


def _client(topic: Topic) -> int:
    return ORDER_TOPICS.index(topic) % len(_PARTITIONERS)


def _foreign_key(step: Step, number: int) -> bytes | None:
    """Returns the key as one of several serialisers writes it. An erasure keeps its key: it has no value with an order
    ID."""
    key = step.key
    match number % 4:
        case 1 if len(key) < 64:
            return b"\x00\x00\x00\x00\x07" + bytes([2 * len(key)]) + key
        case 2 if key.isascii():
            return orjson.dumps(key.decode())
        case 3 if step.value is not None:
            return None
    return key


def write_in_time(
    writer: OrderWriter, steps: Iterable[Step], now_ms: Callable[[], int], stopped: Callable[[], bool]
) -> int:
    """Writes each step at its timestamp, and overdue steps at once. Returns the count when all are written and
    acknowledged, or earlier once `stopped` returns true."""
    count = 0
    for step in steps:
        over = stopped()
        while not over and (wait_ms := step.timestamp_ms - now_ms()) > 0:
            writer.poll()
            # Short, to notice acknowledgements and a stop.
            time.sleep(min(wait_ms, 50) / 1000)
            over = stopped()
        if over:
            break
        writer.write(step)
        count += 1
    writer.flush()
    return count


def _registered(registry: Registry, subject: str, schema: str) -> int:
    """Returns the schema's ID. To register a schema again changes nothing."""
    try:
        return registry.register(subject, schema)
    except (RegistryOutage, Unusable) as refused:
        raise RegistryOutage(f"the schema registry took no schema for {subject}: {refused}") from refused
