"""`EmbeddedBroker`: a Kafka in this process, librdkafka's mock cluster, for a demo on a machine without Kafka.

Other processes reach it by `bootstrap_servers` until `close` is called or this process ends. It ignores
`read_committed`, keeps the last 5 MB of a partition, forgets everything when it ends, and answers no administrative
request, so no test of a guarantee may run on it. It creates a topic, with PARTITIONS partitions, at the first request
for it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from confluent_kafka import Producer

BROKERS: Final = 3
PARTITIONS: Final = 4
"""Of every topic; the mock cluster's default."""
_ANSWER_S_MAX: Final = 10.0


class EmbeddedBroker:
    """`with EmbeddedBroker() as broker: … broker.bootstrap_servers`. Mutable: `_owner` is the client that holds the
    cluster; None once closed."""

    def __init__(self) -> None:
        self._owner: Producer | None = Producer({"test.mock.num.brokers": BROKERS, "log_level": 0})
        brokers = self._owner.list_topics(timeout=_ANSWER_S_MAX).brokers
        assert len(brokers) == BROKERS, f"{len(brokers)} of {BROKERS} mock brokers"
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers.values())

    def create(self, topics: list[str]) -> None:
        """Creates each topic, so that it exists before a consumer subscribes to it."""
        assert self._owner is not None, "closed"
        for topic in topics:
            found = self._owner.list_topics(topic, timeout=_ANSWER_S_MAX).topics[topic]
            assert found.error is None, f"{topic}: {found.error}"
            assert len(found.partitions) == PARTITIONS, f"{topic} has {len(found.partitions)} partitions"

    def close(self) -> None:
        self._owner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
