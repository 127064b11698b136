"""A shop's trace through all of it: the header as it was given, and our spans below it, on a real Kafka."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from processor.hakuna.entry_ids import entry_id
from processor.records import HeaderName
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback, Receive, Scope, Send
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import REFUSED_PRODUCT
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.support.children import wait_until
from tests.support.installation import Installation
from tests.support.otlp import collector
from tests.support.topics import TopicSpace

SHOP = "b7ad6b7169203331"


def trace(number: int) -> str:
    return f"{number:032x}"


def order(order_id: str, product_id: str) -> dict[str, Any]:
    line = {"id": "l", "quantity": 1, "price_amount": 1, "product_title": "x", "product_brand": "x", "protection": None}
    return {
        "event_id": f"placed-{order_id}",
        "order_id": order_id,
        "placed_at": 1_700_000_000_000,
        "currency": "EUR",
        "customer": dict.fromkeys(("first_name", "last_name", "email", "phone")),
        "billing_address": {**dict.fromkeys(("address_line_1", "address_line_2", "city", "zip")), "country": "DE"},
        "line_items": [{**line, "product_id": product_id}],
    }


@pytest.mark.timeout(180)
def test_a_traceparent_goes_through_every_topic_into_the_request_and_our_spans_hang_below_it(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """Three orders, each in a trace of its own: one is accepted, one refused by Hakuna, one by transform."""
    installation = Installation(topic_space, schema_registry)
    stand_in = StandIn(HakunaApi(), Script(refused_products=frozenset({REFUSED_PRODUCT})))
    seen: list[str] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seen.extend(value.decode() for name, value in scope["headers"] if name == b"traceparent")
        await stand_in(scope, receive, send)

    with Loopback(noting) as api, collector() as spans:
        settings = {
            **installation.environment,
            "HAKUNA_BASE_URL": api.url,
            "HAKUNA_API_KEY": SANDBOX_KEY,
            "PROCESSOR_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": spans.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        worker = start_worker("run", environment=settings)
        for number, (order_id, product_id, key) in enumerate(
            [
                ("ord-good", "fine", "ord-good"),
                ("ord-refused", REFUSED_PRODUCT, "ord-refused"),
                ("ord-bad", "x", "other"),
            ]
        ):
            installation.write(
                Topic.PLACED,
                key.encode(),
                installation.encode(Topic.PLACED, order(order_id, product_id)),
                timestamp_ms=round(time.time() * 1000),
                headers=[("traceparent", f"00-{trace(number + 1)}-{SHOP}-01".encode())],
            )
        installation.flush()
        wait_until(
            lambda: all(
                topic_space.records(topic)
                for topic in (Topic.DELIVERIES, Topic.HAKUNA_DEAD_LETTERS, Topic.ORDER_DEAD_LETTERS)
            ),
            what="an ending for each",
            timeout_s=60,
        )
        assert worker.terminate() == 0
        found = spans.spans

    def traceparents(topic: Topic) -> set[str]:
        return {
            value.decode().split("-")[1]
            for record in topic_space.records(topic)
            for name, value in cast("list[tuple[str, bytes]]", record.headers() or [])
            if name == "traceparent"
        }

    assert traceparents(Topic.OUTBOX) == {trace(1), trace(2)}
    assert traceparents(Topic.HAKUNA_DEAD_LETTERS) == {trace(2)}
    assert traceparents(Topic.ORDER_DEAD_LETTERS) == {trace(3)}
    assert set(seen) == {f"00-{trace(number)}-{SHOP}-01" for number in (1, 2)}

    requests = {span.trace: span for span in found if span.name == "POST /events"}
    assert requests.keys() == {trace(1), trace(2)}
    assert {span.parent for span in requests.values()} == {SHOP}
    assert (requests[trace(1)].failed, requests[trace(2)].failed) == (False, True)
    assert requests[trace(2)].attributes["http.response.status_code"] == 422
    (entry,) = [
        value.decode()
        for record in topic_space.records(Topic.OUTBOX)
        for name, value in cast("list[tuple[str, bytes]]", record.headers() or [])
        if name == HeaderName.ENTRY_ID and record.key() == b"ord-good"
    ]
    assert entry == entry_id("events", "OrderPlaced", "ord-good", "placed-ord-good")
    assert requests[trace(1)].attributes["processor.idempotency_key"] == entry
    transactions = [span for span in found if span.name == "transaction"]
    committed = [span for span in transactions if span.attributes["processor.transaction.outcome"] == "committed"]
    assert committed
    assert not any(span.failed for span in committed)
    assert {span.service for span in found} == {"hakuna-processor-transform-send"}
