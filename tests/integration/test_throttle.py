"""A quota of the brokers' on one of our clients is seen, counted and said."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.throttle import Throttle
from processor.edges.metrics import THROTTLED
from processor.records import NewRecord
from tests.support.children import wait_until
from tests.support.jars import java, kafka_class_path
from tests.support.kafka import KafkaBroker, short_lived_jvm
from tests.support.topics import TopicSpace
from tests.support.transform_site import Site

pytestmark = pytest.mark.kafka


def test_a_producer_quota_is_seen_counted_and_said_once(topic_space: TopicSpace) -> None:
    topic_space.create("t")
    client_id = topic_space.name("throttled")
    quota(topic_space.bootstrap_servers, 2000, "--entity-name", client_id)
    settings = {"bootstrap.servers": topic_space.bootstrap_servers, "compression.type": "none"}
    with capture_logs() as logs:
        throttle = Throttle("send", structlog.get_logger())
        producer = KafkaProducer(settings, client_id=client_id, throttle=throttle)
        before = THROTTLED.labels("send")._value.get()
        acknowledged: list[str | None] = []

        def answered(error: str | None, _offset: int) -> None:
            acknowledged.append(error)

        def seen() -> bool:
            producer.produce(NewRecord(topic_space.name("t"), 0, None, b"x" * 10_000, []), answered)
            producer.flush(0.2)
            return throttle.seconds > 0

        wait_until(seen, what="a delay", timeout_s=60)
        assert throttle.status()["throttled"]
        assert THROTTLED.labels("send")._value.get() - before == pytest.approx(throttle.seconds)
        producer.close()
    said = [one for one in logs if "throttle us" in one["event"]]
    assert len(said) == 1
    assert not [error for error in acknowledged if error is not None]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_transform_fits_its_transactions_to_a_quota_says_so_and_loses_nothing(
    kafka_broker: KafkaBroker, schema_registry: str, tmp_path: Path
) -> None:
    """A backlog in one transaction is more than the quota lets through in a transaction's time, and what is aborted
    counts as well."""
    servers = kafka_broker.bootstrap_servers
    quota(servers, 10_000, "--entity-default")
    quota(servers, 10_000_000, "--entity-name", "rdkafka")  # the shop's
    with Site(servers, schema_registry, tmp_path, partitions=2) as site:
        worker = site.worker()
        orders = {f"order-{number}-{secrets.token_urlsafe(400)}" for number in range(100)}  # no codec makes them small
        for number, order in enumerate(orders):
            site.place(order, number % 2)
        site.installation.flush()
        site.until(lambda: len(site.entries()) >= 30, 150)
        assert worker.running
        assert worker.get("/status").json()["throttled_seconds"] > 0
        assert 'processor_broker_throttle_seconds_total{role="transform"} 0.0' not in worker.get("/metrics").text
        assert any("throttle" in line for line in site.logs())
        quota(servers, 10_000_000, "--entity-default")
        site.wait_done()
        assert worker.terminate() == 0
        assert {order: len(entries) for order, entries in site.entries().items()} == dict.fromkeys(orders, 1)
        assert site.letters() == []


def quota(bootstrap_servers: str, bytes_a_second: int, *clients: str) -> None:
    """What these clients may write from now on."""
    program = [java(), *short_lived_jvm(), "-cp", kafka_class_path(), "kafka.admin.ConfigCommand"]
    program += ["--bootstrap-server", bootstrap_servers, "--alter", "--entity-type", "clients", *clients]
    change = ["--add-config", f"producer_byte_rate={bytes_a_second}"]
    subprocess.run(program + change, check=True, capture_output=True, timeout=120)
