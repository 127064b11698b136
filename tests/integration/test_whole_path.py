"""The whole path on a real Kafka and a real registry: one transform and one send process, 2,000 orders, bad ones among
them, and an API that fails now and then."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from confluent_kafka import Message

from processor.records import Outcome
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Fault, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace

ORDERS = 2000
FINISH_SECONDS_MAX = 240.0


def lag(worker: Worker) -> int:
    """Unfinished records by the worker's own metrics; at least 1 until it has partitions."""
    lines = [
        line for line in worker.get("/metrics").text.splitlines() if line.startswith("processor_consumer_lag_records{")
    ]
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines)) if lines else 1


def headers(message: Message) -> dict[str, bytes]:
    found = cast("list[tuple[str, bytes]]", message.headers() or [])
    assert len({name for name, _ in found}) == len(found), "a header stands twice"
    return dict(found)


def by_source(messages: Sequence[Message], name: str) -> Mapping[str, Message]:
    return {headers(message)[name].decode(): message for message in messages}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_record_ends_as_the_rules_say(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """2,000 orders with bad events, an API with 3 % faults: every accepted request is the outbox's, in order and
    without overlap; every bad record is a dead letter with its reason and bytes; lag ends at 0; SIGTERM ends both
    with 0."""
    installation = Installation(topic_space, schema_registry, partitions=4)
    start_ms = round(time.time() * 1000) - 600_000
    steps = installation.play(shop(Shop(orders=ORDERS, rate=10, bad_share=0.05, seed=11, start_ms=start_ms)))
    script = Script(
        latency=Latency(),
        shares={Fault.UNAVAILABLE: 0.01, Fault.TOO_MANY: 0.005, Fault.RESET: 0.01, Fault.LOST_ANSWER: 0.005},
        retry_after_s={Fault.TOO_MANY: 0.2},
    )
    hakuna = StandIn(HakunaApi(), script)
    with Loopback(hakuna) as api:
        settings = installation.environment | {"PROCESSOR_PARK_FOR": "5s"}
        send_settings = installation.space.environment | {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        transform = start_worker("run", "--role", "transform", environment=settings, name="transform")
        send = start_worker("run", "--role", "send", environment=send_settings, name="send")
        wait_until_done(transform, send)
        assert transform.terminate() == 0
        assert send.terminate() == 0

    outbox = topic_space.records(Topic.OUTBOX)
    refused = topic_space.records(Topic.ORDER_DEAD_LETTERS)
    rejected = topic_space.records(Topic.HAKUNA_DEAD_LETTERS)
    receipts = topic_space.records(Topic.DELIVERIES)

    expected = Counter(step.expected.reason for step in steps if step.expected.outcome is Outcome.DEAD_LETTERED)
    assert Counter(headers(letter)["__dlq.errors.reason"].decode() for letter in refused) == expected
    raw = {(step.key, installation.value(step)) for step in steps}
    assert {(letter.key(), letter.value()) for letter in refused} <= raw, "key and bytes are those of the record"

    answered = {step.expected.answer for step in steps} - {None}
    assert {headers(letter)["__dlq.errors.reason"].decode() for letter in rejected} == answered

    delivered = by_source(outbox, "entry-id").keys() - by_source(rejected, "entry-id").keys()
    wanted: dict[str, list[Any]] = defaultdict(list)
    for message in outbox:
        if headers(message)["entry-id"].decode() in delivered:
            key = message.key()
            assert key is not None
            wanted[key.decode()].append(message.value())
    record = hakuna.record
    assert record.mistakes() == [], "every request is as the reference wants it"
    assert record.overlap_count == 0, "never two in flight for one order"
    assert record.key_conflicts == 0
    accepted = {order: [one.body for one in record.history(order)] for order in record.subjects()}
    assert accepted == dict(wanted), "each order's requests are its outbox entries, in their order"
    assert len(receipts) >= len(delivered)
    transformed = sum(step.expected.outcome is Outcome.TRANSFORMED for step in steps)
    assert len(outbox) == transformed


def wait_until_done(transform: Worker, send: Worker) -> None:
    deadline_s = time.monotonic() + FINISH_SECONDS_MAX
    calm = 0
    while calm < 4:
        assert time.monotonic() < deadline_s, f"lag {lag(transform)} and {lag(send)} at the end"
        busy = lag(transform) or lag(send) or waiting(transform)
        calm = 0 if busy else calm + 1
        time.sleep(0.6)


def waiting(transform: Worker) -> int:
    lines = [
        line for line in transform.get("/metrics").text.splitlines() if line.startswith("processor_parked_events{")
    ]
    return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
