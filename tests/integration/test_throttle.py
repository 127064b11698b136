"""A quota of the brokers' on one of our clients is seen, counted and said."""

from __future__ import annotations

import subprocess

import pytest
import structlog
from structlog.testing import capture_logs

from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.throttle import Throttle
from processor.edges.metrics import THROTTLED
from processor.records import NewRecord
from tests.support.children import wait_until
from tests.support.jars import java, kafka_class_path
from tests.support.topics import TopicSpace

pytestmark = pytest.mark.kafka


def test_a_producer_quota_is_seen_counted_and_said_once(topic_space: TopicSpace) -> None:
    topic_space.create("t")
    client_id = topic_space.name("throttled")
    program = (java(), "-cp", kafka_class_path(), "kafka.admin.ConfigCommand")
    whom = ("--entity-type", "clients", "--entity-name", client_id)
    change = ("--alter", "--add-config", "producer_byte_rate=2000", *whom)
    subprocess.run(
        [*program, "--bootstrap-server", topic_space.bootstrap_servers, *change],
        check=True,
        capture_output=True,
        timeout=120,
    )
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
