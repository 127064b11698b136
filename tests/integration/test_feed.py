"""The Order feed on a real Kafka: whole orders, only the newest, in as few requests as it takes, from a slow API."""

from __future__ import annotations

import time
from collections import Counter
from typing import cast

import msgspec
import pytest

from processor.letters.resolutions import How, decode_resolution, letter_of
from processor.records import Reason
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Latency, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import REFUSED_PRODUCT, Shop, shop
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.integration.test_whole_path import headers, wait_until_done
from tests.support.installation import Installation
from tests.support.topics import TopicSpace

ORDERS = 3_000


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_slow_api_is_told_the_newest_of_every_order_and_no_more(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """3,000 orders with all their movements against an API that takes a second a request, and refuses one product."""
    installation = Installation(topic_space, schema_registry, partitions=4)
    start_ms = round(time.time() * 1000) - 3_600_000
    refused = frozenset({REFUSED_PRODUCT})
    plan = Shop(orders=ORDERS, rate=10, bad_share=0.0, seed=5, start_ms=start_ms, refused_products=refused)
    steps = installation.play(shop(plan))
    hakuna = StandIn(HakunaApi(), Script(latency=Latency(median_ms=1_000), refused_products=refused))
    with Loopback(hakuna) as api:
        settings = installation.environment | {"HAKUNA_API": "feed", "PROCESSOR_PARK_FOR": "5s"}
        send_settings = settings | {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        transform = start_worker("run", "--role", "transform", environment=settings, name="transform")
        send = start_worker("run", "--role", "send", environment=send_settings, name="send")
        wait_until_done(transform, send)

        newest: dict[str, bytes | None] = {}
        for snapshot in topic_space.records(Topic.OUTBOX):
            newest[(snapshot.key() or b"").decode()] = snapshot.value()
        letters = topic_space.records(Topic.HAKUNA_DEAD_LETTERS)
        alone = {(letter.key() or b"").decode() for letter in letters}
        assert {headers(letter)["__dlq.errors.reason"] for letter in letters} == {Reason.PRODUCT_UNSUPPORTED.encode()}
        assert alone == {order for order, body in newest.items() if REFUSED_PRODUCT.encode() in (body or b"")}

        record = hakuna.record
        assert record.mistakes() == []
        assert record.overlap_count == 0
        told = {order: record.history(order)[-1].body for order in record.subjects()}
        assert told == {order: body for order, body in newest.items() if order not in alone}
        assert not cast(HakunaApi, hakuna.api).feed.stale, "no older snapshot after a newer one"
        assert len(steps) > 7_000
        assert record.requests < len(steps) / 4, "arrays, halved where an order in them was refused"

        # What was refused is taken now: the next snapshot of an order is tried, and its letters need nobody any more.
        hakuna.script = msgspec.structs.replace(hakuna.script, refused_products=frozenset())
        mended = sorted(alone)[:5]
        for order in mended:
            event = {"event_id": f"{order}-again", "order_id": order, "cancelled_at": round(time.time() * 1000)}
            installation.event(Topic.CANCELLED, event, timestamp_ms=round(time.time() * 1000))
        installation.flush()
        wait_until_done(transform, send)
        assert transform.terminate() == 0
        assert send.terminate() == 0

    assert all(record.history(order) for order in mended)
    open_letters = Counter((letter.key() or b"").decode() for letter in letters)
    for resolution in topic_space.records(Topic.RESOLUTIONS):
        said = decode_resolution(resolution.value() or b"")
        place = letter_of(resolution.key())
        assert said is not None
        assert place is not None
        assert said.how is How.SUPERSEDED
        (letter,) = [one for one in letters if (one.partition(), one.offset()) == (place.partition, place.offset)]
        assert letter.key() == said.order_id.encode()
        open_letters[said.order_id] -= 1
    assert {order for order, count in open_letters.items() if count == 0} == set(mended)
