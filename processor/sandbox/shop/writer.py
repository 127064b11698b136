"""Writes the records of a shop to the source topics, as a shop's own outbox would: Avro in Confluent's wire
format, partitioned by key in the same way on all topics, an order's records one after the other.

Owned by one thread. A record of an order goes out only when its earlier ones on other topics are
acknowledged: topics are independent logs, and what is under way to two of them at once may arrive in either
order.

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
"""How long brokers may be away before writing is given up."""
_LOST_BYTES: Final = 3

Written = Callable[[Step, Position], None]
"""Told of each record that the broker has acknowledged, on the thread that writes."""


class OrderWriter:
    """Mutable: `_unacknowledged` are, by key, the topic and number of the records under way; `_failure` is
    the first delivery that failed for good."""

    def __init__(
        self,
        kafka: Mapping[str, str],
        registry_url: str,
        *,
        registry_auth: str = "",
        topic_prefix: str = "",
        topics: Iterable[Topic] = ORDER_TOPICS,
        written: Written,
    ) -> None:
        """`kafka` are librdkafka's settings, `registry_url` one URL or several with commas, `registry_auth`
        `user:password`. Registers the schemas of `topics`. Raises `Unusable` or `RegistryOutage`."""
        self._prefix = topic_prefix
        self._written = written
        config = {"linger.ms": 5, "enable.idempotence": True, "log_level": 0} | dict(kafka)
        try:
            self._producer = Producer(config | {"partitioner": "murmur2_random", "error_cb": self._complain})
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
        """Hands one record over. Raises `BrokerOutage` when the brokers stay away, `Fatal` when they refuse it."""
        under_way = self._unacknowledged.get(step.key)
        if under_way is not None and under_way[0] is not step.topic:
            self.flush()
            under_way = None
        self._unacknowledged[step.key] = (step.topic, 1 + (0 if under_way is None else under_way[1]))
        while True:
            try:
                self._producer.produce(
                    self._prefix + step.topic,
                    value=self._encoded(step.topic, step.value),
                    key=step.key,
                    timestamp=step.timestamp_ms,
                    on_delivery=lambda error, message: self._delivered(step, error, message),
                )
                break
            except BufferError:
                # The local queue is full: wait for the brokers rather than grow.
                self.flush()
            except KafkaException as refused:
                raise Fatal(f"a record cannot be written: {error_of(refused).str()}") from refused
        self.poll()

    def poll(self) -> None:
        """Takes what was acknowledged since."""
        self._producer.poll(0)
        if self._failure is not None:
            raise Fatal(f"the brokers refuse a record: {self._failure.str()}")

    def flush(self) -> None:
        """Returns when every record is acknowledged. Raises as `write` does."""
        left = self._producer.flush(FLUSH_S_MAX)
        if self._failure is not None:
            raise Fatal(f"the brokers refuse a record: {self._failure.str()}")
        if left:
            raise BrokerOutage(f"{left} records unacknowledged after {FLUSH_S_MAX:g} s: {self._complaint}")

    def _complain(self, error: KafkaError) -> None:
        self._complaint = error.str()

    def _delivered(self, step: Step, error: KafkaError | None, message: Message) -> None:
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
        self._written(step, Position(topic_name, partition, offset))

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


def write_in_time(
    writer: OrderWriter, steps: Iterable[Step], now_ms: Callable[[], int], stopped: Callable[[], bool]
) -> int:
    """Writes each step at its timestamp, those that are overdue at once; returns how many, early when
    `stopped`. Either way all of them are acknowledged then."""
    count = 0
    for step in steps:
        over = stopped()
        while not over and (wait_ms := step.timestamp_ms - now_ms()) > 0:
            writer.poll()
            # Short, so that acknowledgements and a stop are noticed.
            time.sleep(min(wait_ms, 50) / 1000)
            over = stopped()
        if over:
            break
        writer.write(step)
        count += 1
    writer.flush()
    return count


def _registered(registry: Registry, subject: str, schema: str) -> int:
    """The schema's ID. Registering what is there already changes nothing."""
    try:
        return registry.register(subject, schema)
    except (RegistryOutage, Unusable) as refused:
        raise RegistryOutage(f"the schema registry took no schema for {subject}: {refused}") from refused
