"""States of orders by the million, for benches: what the rules make of a shop's histories, under other IDs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from confluent_kafka import Producer

from processor.edges.kafka.admin import KafkaAdmin
from processor.hakuna import Api, Orders
from processor.records import OrderId, Record
from processor.sandbox.shop.history import Truncated
from processor.sandbox.shop.orders import Shop, shop
from processor.transform import order_state, rules
from processor.transform.book import BOOK_KEY, Here, encode_book, new_book
from processor.transform.transitions import Rules, Taken
from tests.support.installation import Installation
from tests.support.order_events import order_event
from tests.support.topics import produce

MODELS = 2_000
"""Orders of which the states are made; the others are these under other IDs."""
RULES = Rules(api=Api.EVENTS, orders=Orders.ALL, fulfil_protection=True, park_for_ms=86_400_000)


def states(orders: int) -> Iterator[tuple[bytes, bytes]]:
    """So many orders with their states as they are stored, in the order of their numbers."""
    now_ms = round(time.time() * 1000)
    kept: dict[OrderId, order_state.OrderState | None] = {}
    for step in shop(Shop(orders=MODELS, rate=1, bad_share=0.0, seed=1, start_ms=now_ms - 3_600_000)):
        if step.value is None or isinstance(step.value, Truncated | bytes):
            continue
        event = order_event(step.topic, step.value)
        taken = Taken(event, Record(step.topic, 0, 0, step.timestamp_ms, step.key, b"", []))
        kept[event.order_id] = rules.apply(kept.get(event.order_id), taken, RULES, now_ms).state
    models = [
        (order_id.encode(), order_state.encode(state))
        for order_id, state in kept.items()
        if state is not None and state.order is not None
    ]
    for number in range(orders):
        model, stored = models[number % len(models)]
        assert len(model) == len(key_of(number)), "msgpack says how long a text is"
        yield key_of(number), stored.replace(model, key_of(number))


def key_of(number: int) -> bytes:
    """No two numbers have the same; neighbours are far apart, as where a shop's order IDs are random."""
    return b"%012d" % (number * 387_420_489 % 10**12)


def fill(installation: Installation, changelog: str, orders: int) -> int:
    """Writes so many orders into a changelog, as transform leaves it. Returns how many bytes their states are."""
    bootstrap, partitions = installation.space.bootstrap_servers, installation.partitions
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "acks": "all", "compression.type": "lz4"})
    written = 0

    def write(partition: int, key: bytes, value: bytes) -> None:
        produce(producer, changelog, value, key, partition)

    for number, (key, value) in enumerate(states(orders)):
        written += len(value)
        write(number % partitions, key, value)
    admin = KafkaAdmin({"bootstrap.servers": bootstrap}, client_id="fill")
    described = admin.describe([changelog])[changelog]
    assert described is not None
    book = new_book(Here(admin.cluster_id(), described.topic_id, partitions))
    for partition in range(partitions):
        held = (orders - partition + partitions - 1) // partitions
        write(partition, BOOK_KEY, encode_book(msgspec.structs.replace(book, orders=held)))
    assert producer.flush(120) == 0
    return written
