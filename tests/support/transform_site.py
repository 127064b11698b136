"""An installation with transform workers at work, for tests: what was written, what came of it, how far they are."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self, cast

import httpx
import msgspec
from confluent_kafka import KafkaException, Message

from processor.config import Role, load
from processor.edges.avro import reader_schema
from processor.edges.avro_wire import SchemaId
from processor.errors import BadRecord
from processor.hakuna import Api, Orders
from processor.letters.letter import LetterHead, letter_head
from processor.records import HeaderName, Headers, Record
from processor.run.transform import decoders
from processor.sandbox.shop.history import Step
from processor.sources.keys import read_key
from processor.topics import ORDER_TOPICS, Topic, sources_of
from processor.transform.batch import Decode
from processor.transform.transitions import Rules
from tests.support.children import Asked
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace
from tests.support.transform_model import Model

GROUP = "hakuna-processor.transform"
DONE_SECONDS_MAX = 90.0
RULES = Rules(api=Api.EVENTS, orders=Orders.ALL, fulfil_protection=True, park_for_ms=86_400_000)


class Site:
    """`with Site(…) as site:` has the topics and the schemas; workers are started by name, each with its own directory,
    and end with it."""

    def __init__(
        self,
        bootstrap_servers: str,
        registry_url: str,
        directory: Path,
        *,
        partitions: int,
        sources: Mapping[Topic, int] | None = None,
        replication: int = 1,
    ) -> None:
        self.space = TopicSpace(bootstrap_servers, replication)
        self.installation = Installation(self.space, registry_url, partitions=partitions, sources=sources)
        self.partitions = partitions
        self.directory = directory
        self.sources = [self.space.name(topic) for topic in ORDER_TOPICS]
        self.steps: list[Step] = []
        """What a generated shop did, where a test had one."""
        self._sources_read: list[Record] = []
        self._decode: Mapping[str, Decode] = {}
        self._workers = ExitStack()
        self._last: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.close()
        self.space.delete()

    @property
    def running(self) -> Worker:
        """The worker of the usual name."""
        assert self._last is not None, "no worker was started"
        return self._last

    def worker(
        self,
        name: str = "worker",
        settings: Mapping[str, str] | None = None,
        *,
        role: str = "transform",
        await_ready: bool = True,
    ) -> Worker:
        """A worker, of transform if nothing else is said; the same name again is a restart on the same state."""
        worker = self._workers.enter_context(
            Worker(
                "run",
                "--role",
                role,
                environment={**self.installation.environment, **(settings or {})},
                directory=self.directory / name,
                await_ready=await_ready,
            )
        )
        if name == "worker":
            self._last = worker
        return worker

    def wait_done(self, timeout_s: float = DONE_SECONDS_MAX, role: Role = Role.TRANSFORM) -> None:
        """Until the role's group has committed the end of every source."""
        self.wait(lambda: not self.left(role), f"everything is consumed by {role}", timeout_s)

    def left(self, role: Role = Role.TRANSFORM) -> dict[str, int]:
        """Records by source partition that nobody has consumed."""
        committed = self.space.committed(f"hakuna-processor.{role}")
        behind: dict[str, int] = {}
        for (topic, partition), end in self.space.ends(*sources_of(role, rekey=self.installation.rekey)).items():
            known = committed.get((topic, partition))
            done = 0 if known is None else known.offset
            if done < end and (left := self._records_from(Topic(topic), partition, done, end)):
                behind[f"{topic}/{partition}"] = left
        return behind

    def _records_from(self, topic: Topic, partition: int, done: int, end: int) -> int:
        """What of a rekeyed topic are the markers of transactions is no record, and nobody consumes it."""
        if topic in ORDER_TOPICS:
            return end - done
        return sum(one.partition() == partition and (one.offset() or 0) >= done for one in self.space.records(topic))

    def until(self, ready: Callable[[], object], timeout_s: float = DONE_SECONDS_MAX) -> None:
        """As `wait`, and asks no broker."""
        deadline_s = time.monotonic() + timeout_s
        while not (asked := Asked(ready)).answer:
            assert time.monotonic() < deadline_s, f"not within {timeout_s} s"
            asked.pause(0.1)

    def wait(self, ready: Callable[[], object], what: str, timeout_s: float = DONE_SECONDS_MAX) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not (asked := Asked(ready)).answer:
            assert time.monotonic() < deadline_s, f"not within {timeout_s} s: {what}; left: {self.left()}"
            asked.pause(0.2)

    def consumed(self, role: Role = Role.TRANSFORM) -> int:
        """Records of all sources that the role's group has consumed; as far as is known while no broker answers."""
        try:
            committed = self.space.committed(f"hakuna-processor.{role}")
        except KafkaException:
            return 0
        return sum(max(0, position.offset) for position in committed.values())

    def behind(self) -> int:
        """Records that nobody has consumed; a great many while no broker answers."""
        try:
            return sum(self.left().values())
        except (KafkaException, AssertionError):
            return 1_000_000

    @staticmethod
    def answers(worker: Worker) -> bool:
        """Whether its endpoints are served yet."""
        try:
            return worker.get("/livez").is_success
        except httpx.TransportError:
            return False

    def place(self, order_id: str, partition: int) -> None:
        """Queues an order of one line item, now."""
        line = dict.fromkeys(("product_id", "product_title", "product_brand"), "x")
        event = {
            "event_id": f"placed-{order_id}",
            "order_id": order_id,
            "placed_at": 1_700_000_000_000,
            "currency": "EUR",
            "customer": dict.fromkeys(("first_name", "last_name", "email", "phone")),
            "billing_address": {"country": "DE"},
            "line_items": [{**line, "id": "l", "quantity": 1, "price_amount": 1, "protection": None}],
        }
        value = self.installation.encode(Topic.PLACED, event)
        self.installation.write(Topic.PLACED, order_id.encode(), value, partition=partition)

    def records(self, topic: Topic) -> list[Record]:
        """As a read_committed reader sees them, partition by partition, each in order."""
        return [_record(message) for message in self.space.records(topic)]

    def source_records(self) -> list[Record]:
        """All of them, read once: a test that writes more after that asks `records`."""
        if not self._sources_read:
            self._sources_read = [record for topic in ORDER_TOPICS for record in self.records(topic)]
        return self._sources_read

    def entries(self) -> Mapping[str, list[tuple[str, bytes]]]:
        """By order ID, in order: source and body of each outbox record."""
        found: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        for record in self.records(Topic.OUTBOX):
            assert record.key is not None
            assert record.value is not None
            source = dict(record.headers)[HeaderName.SOURCE]
            assert source is not None
            found[record.key.decode()].append((source.decode(), record.value))
        return found

    def letters(self) -> list[tuple[LetterHead, Record]]:
        return [(_head(record), record) for record in self.records(Topic.ORDER_DEAD_LETTERS)]

    def letter_reasons(self) -> dict[str, str]:
        """By source, why it is a dead letter; one that is there twice is a fault."""
        letters = self.letters()
        reasons = {str(head.origin): head.reason for head, _ in letters}
        assert len(reasons) == len(letters), "a dead letter twice"
        return reasons

    def model(self) -> Model:
        """What the rules make of all that stands in the source topics."""
        decode = self.decoders()
        model = Model(RULES, lambda record: decode[record.topic](record), self.sources, int(time.time() * 1000))
        by_number: dict[int, list[Record]] = defaultdict(list)
        for record in self.rekeyed() if self.installation.rekey else self.source_records():
            by_number[0 if self.installation.rekey else record.partition].append(record)
        for number in sorted(by_number):
            model.take(by_number[number])
        return model

    def rekeyed(self) -> list[Record]:
        """The source records under their order IDs, in time, the same event once."""
        found: list[Record] = []
        events: set[tuple[str, bytes]] = set()
        for record in sorted(self.source_records(), key=lambda one: one.timestamp_ms):
            order_id = self.order_id(Topic(record.topic.removeprefix(self.space.prefix)), record)
            if record.value is not None and order_id is not None:
                if (record.topic, record.value) in events:
                    continue
                events.add((record.topic, record.value))
            found.append(msgspec.structs.replace(record, key=order_id or record.key))
        return found

    def order_id(self, topic: Topic, record: Record) -> bytes | None:
        """The order that a source record is of, None where it is no event: by its value, an erasure by its key."""
        if record.value is None:
            key = read_key(record.key)
            return key.order_id.encode() if key.is_trusted and key.order_id is not None else None
        try:
            return self.decoders()[self.space.name(topic)](record).order_id.encode() or None
        except BadRecord:
            return None

    def decoders(self) -> Mapping[str, Decode]:
        if not self._decode:
            settings = load({"PROCESSOR_TOPIC_PREFIX": self.space.prefix})
            known = {schema_id: reader_schema(topic) for topic, schema_id in self.installation.schema_ids.items()}
            self._decode = decoders(settings, _Known(known))
        return self._decode

    def logs(self, name: str = "worker") -> Iterator[str]:
        """The lines that the workers of this name have logged."""
        yield from (self.directory / name / "worker.log").read_text().splitlines()


class _Known:
    """The schemas that the installation has registered; every other ID is unknown."""

    def __init__(self, schemas: Mapping[int, str]) -> None:
        self._schemas = schemas

    def schema(self, schema_id: SchemaId) -> tuple[str, dict[str, str]] | None:
        found = self._schemas.get(schema_id) if isinstance(schema_id, int) else None
        return None if found is None else (found, {})


def _head(record: Record) -> LetterHead:
    head = letter_head(record)
    assert head is not None, record
    return head


def _record(message: Message) -> Record:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    headers = cast(Headers, message.headers() or [])
    return Record(topic, partition, offset, message.timestamp()[1], message.key(), message.value(), headers)


def sorted_sources(entries: Iterable[list[tuple[str, bytes]]]) -> list[str]:
    return sorted(source for of_order in entries for source, _ in of_order)
