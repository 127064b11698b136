"""rekey as its user runs it, on a real Kafka: four real clients, five partition counts, keys of all kinds."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pytest
from confluent_kafka import Producer

from processor.config import Role
from processor.letters.letter import letter_head
from processor.records import Reason, Record
from processor.sandbox.shop.history import Step
from processor.sandbox.shop.orders import Shop, shop
from processor.sources.placements import by_murmur2
from processor.topics import REKEYED, Topic
from tests.support.java_producer import JavaProducer
from tests.support.transform_site import Site

pytestmark = pytest.mark.timeout(240)

NOW_MS = int(time.time() * 1000)
PARTITIONS = 3
COUNTS = {Topic.PLACED: 3, Topic.FULFILLED: 5, Topic.REFUNDED: 4, Topic.LINE_ITEMS_CANCELLED: 1, Topic.CANCELLED: 2}
JAVA = "java"
PARTITIONERS = {
    Topic.PLACED: JAVA,
    Topic.FULFILLED: "consistent_random",
    Topic.REFUNDED: "fnv1a_random",
    Topic.LINE_ITEMS_CANCELLED: "consistent_random",
    Topic.CANCELLED: "murmur2_random",
}
"""Java's own client; librdkafka's names of what it does by default itself, and sarama's and Java's."""


class Shops:
    """Four clients of three families."""

    def __init__(self, site: Site) -> None:
        self._site = site
        servers = site.space.bootstrap_servers
        self._producers = {
            name: Producer(
                {"bootstrap.servers": servers, "partitioner": name, "linger.ms": 5, "acks": "all", "log_level": 3}
            )
            for name in {*PARTITIONERS.values(), "murmur2_random"} - {JAVA}
        }
        self._java = JavaProducer(servers)

    def write(self, topic: Topic, key: bytes | None, value: bytes | None, at_ms: int, partitioner: str) -> None:
        name = self._site.space.name(topic)
        if partitioner == JAVA:
            self._java.produce(name, value, key, at_ms)
            return
        producer = self._producers[partitioner]
        producer.produce(name, value, key, timestamp=at_ms, headers=[("shop", b"1")])
        producer.poll(0)

    def flush(self) -> None:
        assert not any(producer.flush(60) for producer in self._producers.values())
        self._java.flush()


def framed(order_id: str) -> bytes:
    """As Confluent's Avro serialiser writes a string key."""
    text = order_id.encode()
    assert len(text) < 64
    return b"\x00\x00\x00\x00\x07" + bytes([2 * len(text)]) + text


@pytest.fixture(scope="module")
def site(kafka: str, schema_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four hundred orders with every kind of mistake, some events told twice by different clients, written before a
    worker came; rekey has taken all of it, and transform nothing yet."""
    with Site(
        kafka, schema_registry, tmp_path_factory.mktemp("rekey"), partitions=PARTITIONS, sources=COUNTS
    ) as running:
        shops, installation = Shops(running), running.installation
        plan = Shop(orders=400, rate=50, bad_share=0.2, seed=3, start_ms=NOW_MS - 3_600_000)
        running.steps = list(shop(plan))
        again: list[tuple[Topic, bytes, bytes | None]] = []
        for number, step in enumerate(running.steps):
            value = installation.value(step)
            shops.write(step.topic, _key(number, step), value, step.timestamp_ms, PARTITIONERS[step.topic])
            if number % 10 == 0 and isinstance(step.value, Mapping):
                again.append((step.topic, step.key, value))
        shops.flush()
        for topic, key, value in again:  # their producers have changed their client, and try again
            shops.write(topic, key, value, running.steps[-1].timestamp_ms + 1000, "consistent_random")
        shops.flush()
        running.worker("rekey", role="rekey")
        running.wait_done(role=Role.REKEY)
        yield running


def _key(number: int, step: Step) -> bytes | None:
    """Most keys are plain, as they are; events do not need one at all."""
    if number % 7 == 0 and isinstance(step.value, Mapping):
        return None
    return framed(step.key.decode()) if number % 5 == 0 and step.key.isascii() and len(step.key) < 64 else step.key


def taken(site: Site) -> list[Record]:
    return [record for topic in REKEYED.values() for record in site.records(topic)]


def test_each_record_is_written_once_unchanged_under_its_order_id(site: Site) -> None:
    target = {site.space.name(topic): str(rekeyed) for topic, rekeyed in REKEYED.items()}
    wanted = Counter((target[one.topic], one.key, one.value, one.timestamp_ms) for one in site.rekeyed())
    written = taken(site)
    got = Counter(
        (record.topic.removeprefix(site.space.prefix), record.key, record.value, record.timestamp_ms)
        for record in written
    )
    assert got == wanted, ((wanted - got).most_common(3), (got - wanted).most_common(3))
    assert all(record.headers == [("shop", b"1")] for record in written)
    assert all(record.partition == by_murmur2(record.key, PARTITIONS) for record in written if record.key)
    assert len({record.partition for record in written}) == PARTITIONS


def test_all_that_is_taken_together_is_in_time(site: Site) -> None:
    by_place: dict[tuple[str, int], list[int]] = defaultdict(list)
    for record in taken(site):
        by_place[record.topic, record.partition].append(record.timestamp_ms)
    assert all(times == sorted(times) for times in by_place.values())


def test_every_order_is_whole_at_the_outbox_and_what_is_taken_is_gone(site: Site) -> None:
    model = site.model()
    before = taken(site)
    assert any(b"@example.com" in (record.value or b"") for record in before)
    site.worker()
    site.wait_done()
    wanted = {order_id: [body for _, body in entries] for order_id, entries in model.entries.items()}
    got = {order_id: [body for _, body in entries] for order_id, entries in site.entries().items()}
    assert got == wanted
    reasons = Counter(head.reason for head, _ in site.letters())
    assert reasons == Counter(model.reasons.values())
    assert Reason.KEY_MISMATCH not in reasons
    assert all(head.origin.topic.startswith(site.space.name("hakuna.rekeyed.")) for head, _ in site.letters())
    site.until(lambda: not taken(site), 20)


def test_an_erasure_of_any_kind_of_key_leaves_no_e_mail_and_one_of_none_is_a_letter(site: Site) -> None:
    placed = {
        step.value["order_id"]: step.value
        for step in site.steps
        if step.topic is Topic.PLACED and isinstance(step.value, Mapping) and step.value["customer"]["email"]
    }
    some = [order_id for order_id in placed if order_id.isascii()][:3]
    emails = [placed[order_id]["customer"]["email"].encode() for order_id in some]
    shops = Shops(site)
    keys = (some[0].encode(), framed(some[1]), b'"' + some[2].encode() + b'"')
    for key, partitioner in zip(keys, PARTITIONERS.values(), strict=False):
        shops.write(Topic.PLACED, key, None, NOW_MS, partitioner)
    shops.write(Topic.PLACED, b"\xfe\xff\x00\x01 nobody", None, NOW_MS, "murmur2_random")
    shops.flush()
    site.wait_done(role=Role.REKEY)
    site.wait_done()
    latest = {record.key: record.value for record in site.records(Topic.CHANGELOG)}
    assert all(latest[order_id.encode()] is None for order_id in some)
    site.until(lambda: not taken(site), 20)
    kept = [*latest.values(), *(record.value for record in taken(site)), *_values(site.records(Topic.REKEYED_EVENTS))]
    assert not [email for email in emails for value in kept if email in (value or b"")]
    refused = [record for record in site.records(Topic.ORDER_DEAD_LETTERS) if record.value is None]
    (letter,) = refused
    head = letter_head(letter)
    assert head is not None
    assert (head.reason, head.stage, head.origin.topic) == ("key_mismatch", "transform", site.space.name(Topic.PLACED))
    assert "nobody" not in head.message


def _values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]
