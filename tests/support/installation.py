"""An installation to test against: every topic as TOPICS wants it, the schemas registered, Avro written as
a shop does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka import Producer
from fastavro.schema import parse_schema

from processor.edges.avro import reader_schema
from processor.records import Headers
from processor.sandbox.shop.history import Step, Truncated
from processor.topics import ORDER_TOPICS, STOCK_TOPICS, Topic, plans
from tests.support.loopback import LOOPBACK
from tests.support.topics import TopicSpace, produce

FLUSH_SECONDS_MAX = 60.0
SOURCES = (*ORDER_TOPICS, *STOCK_TOPICS)


class Installation:
    """`environment` is what a transform worker in it needs; further roles add their own settings to it. `sources`: how
    many partitions each topic of a shop's has, where rekey brings them together."""

    def __init__(
        self, space: TopicSpace, registry_url: str, *, partitions: int = 1, sources: Mapping[Topic, int] | None = None
    ) -> None:
        self.space = space
        self.registry_url = registry_url
        self.partitions = partitions
        self.rekey = sources is not None
        for plan in plans(rekey=self.rekey):
            # Tests write old timestamps, and a broker that looks for what is too old does so in the midst of a test.
            kept = {"retention.ms": "-1"} if plan.topic in ORDER_TOPICS else {}
            count = (sources or {}).get(plan.topic, partitions)
            space.create(plan.topic, partitions=count, config={**plan.config, **kept})
        self.schemas = {topic: parse_schema(_schema(topic)) for topic in SOURCES}
        self.schema_ids = {
            topic: self.register(topic, reader_schema(topic)) for topic in (*ORDER_TOPICS, *STOCK_TOPICS)
        }
        self._producer = Producer(
            {
                "bootstrap.servers": space.bootstrap_servers,
                "partitioner": "murmur2_random",
                "message.max.bytes": 16_000_000,
                "linger.ms": 5,
                "acks": "all",
            }
        )
        self._failed: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        rekey = {"PROCESSOR_REKEY": "on"} if self.rekey else {}
        return {**self.space.environment, "SCHEMA_REGISTRY_URL": self.registry_url, **rekey}

    def register(self, topic: Topic, schema: str) -> int:
        """The ID of `schema` under the topic's subject."""
        answer = LOOPBACK.post(
            f"{self.registry_url}/subjects/{self.space.name(topic)}-value/versions", json={"schema": schema}, timeout=20
        )
        answer.raise_for_status()
        schema_id: int = answer.json()["id"]
        return schema_id

    def use(self, topic: Topic, schema: str) -> None:
        """From now on events of the topic are written with this schema."""
        self.schema_ids[topic] = self.register(topic, schema)
        self.schemas[topic] = parse_schema(json.loads(schema))

    def encode(self, topic: Topic, event: Mapping[str, Any]) -> bytes:
        """Confluent's wire format: 00, schema ID, Avro."""
        out = BytesIO()
        out.write(b"\x00" + self.schema_ids[topic].to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self.schemas[topic], event)
        return out.getvalue()

    def write(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp_ms: int = 0,
        headers: Headers | None = None,
        partition: int | None = None,
    ) -> None:
        """Queues one record; `flush` waits for all of them."""
        produce(
            self._producer,
            self.space.name(topic),
            key=key,
            value=value,
            partition=-1 if partition is None else partition,
            timestamp=timestamp_ms,
            headers=headers or [],
            on_delivery=self._delivered,
        )

    def event(self, topic: Topic, event: Mapping[str, Any], *, timestamp_ms: int = 0) -> None:
        """Queues an event under its own order ID."""
        self.write(topic, event["order_id"].encode(), self.encode(topic, event), timestamp_ms=timestamp_ms)

    def play(self, steps: Iterable[Step]) -> list[Step]:
        """Writes what a generated shop did, and returns it."""
        played = list(steps)
        for step in played:
            self.write(step.topic, step.key, self.value(step), timestamp_ms=step.timestamp_ms)
        self.flush()
        return played

    def value(self, step: Step) -> bytes | None:
        match step.value:
            case Truncated(event):
                return self.encode(step.topic, event)[:-3]
            case bytes() | None:
                return step.value
            case _:
                return self.encode(step.topic, step.value)

    def look_again(self) -> None:
        """Learns of partitions that topics have got since it last wrote to them."""
        self._producer.list_topics(timeout=30)

    def poll(self) -> None:
        """Takes what was acknowledged since; for one who writes for long."""
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(FLUSH_SECONDS_MAX) == 0, "records were not acknowledged in time"
        assert not self._failed, self._failed[:3]

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._failed.append(str(error))


def _schema(topic: Topic) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(reader_schema(topic))
    return parsed
