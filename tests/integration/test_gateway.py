"""A worker behind gateways on a real Kafka: what is not the API's makes no dead letter, and everybody is told."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import httpx
import msgspec
import pytest

from processor.sandbox.apis.gateway import Gateway
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.integration.test_whole_path import headers
from tests.support.children import wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace


def destination(worker: Worker) -> dict[str, Any]:
    """Of a process of several roles, the one that sends."""
    try:
        found: list[dict[str, Any]] = worker.get("/status").json()["destinations"]
    except httpx.HTTPError:
        return {}
    return found[0] if found else {}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_gateways_hold_the_worker_unready_with_their_words_and_all_is_delivered_when_they_are_mended(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    installation = Installation(topic_space, schema_registry, partitions=2)
    hakuna = StandIn(HakunaApi(), Script(gateway=Gateway.NOT_FOUND))

    def play(seed: int) -> None:
        start_ms = round(time.time() * 1000) - 3_600_000
        installation.play(shop(Shop(orders=40, rate=100, bad_share=0.0, seed=seed, start_ms=start_ms)))
        installation.flush()

    def outbox() -> int:
        return len(topic_space.records(Topic.OUTBOX))

    def ended() -> int:
        return len(topic_space.records(Topic.DELIVERIES)) + sum(refusals().values())

    def refusals() -> Counter[bytes]:
        """What the API itself refuses of the shop's orders: cancellations that come too late."""
        return Counter(
            headers(letter)["__dlq.errors.reason"] for letter in topic_space.records(Topic.HAKUNA_DEAD_LETTERS)
        )

    def said(worker: Worker, words: str) -> None:
        wait_until(
            lambda: words in str(destination(worker).get("trouble")), what=words, timeout_s=60, child=worker.child
        )
        time.sleep(3)
        ready = worker.get("/readyz")
        assert ready.status_code == 503
        assert "what answers is not the API" in ready.text
        assert words in ready.text
        assert refusals().keys() <= {b"cancel_decline"}

    def delivered(worker: Worker) -> None:
        wait_until(lambda: ended() == outbox() > 0, what="all is sent", timeout_s=90, child=worker.child)
        wait_until(worker.ready, what="ready again", timeout_s=30, child=worker.child)

    with Loopback(hakuna) as api:
        settings = installation.environment | {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        play(1)
        worker = start_worker("run", environment=settings, await_ready=False)
        said(worker, "HTTP 404, Server nginx/1.22.1: 404 Not Found")
        assert "what answers is not the API" in worker.log_tail(200)
        hakuna.script = msgspec.structs.replace(hakuna.script, gateway=None)
        delivered(worker)

        hakuna.script = msgspec.structs.replace(hakuna.script, gateway=Gateway.LOGIN)
        play(2)
        said(worker, "HTTP 302, Server nginx/1.22.1")
        hakuna.script = msgspec.structs.replace(hakuna.script, gateway=Gateway.GZIP)
        delivered(worker)
        assert destination(worker)["trouble"] is None
        assert refusals().keys() <= {b"cancel_decline"}
        assert hakuna.record.mistakes() == []
        assert worker.terminate() == 0
