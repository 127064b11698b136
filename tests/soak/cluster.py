"""Three brokers on loopback, each its own process, killed, stopped and started again one by one.

What differs from a broker's defaults: listeners, two of three replicas (`min.insync.replicas=2`), few partitions of the
internal topics, a cleaner that looks every second (a compaction would else take longer than most soaks).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.children import ChildProcess, free_ports, own_directory, wait_until
from tests.support.jars import java, kafka_class_path
from tests.support.kafka import (
    ONE_NODE_SETTINGS,
    START_SECONDS_MAX,
    Jvm,
    answers,
    as_properties,
    format_storage,
    new_cluster_id,
    short_lived_jvm,
)  # fmt: skip

NODES: Final = 3
_REPLICATED: Final = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "8388608",
}


class Cluster:
    """Mutable: `children`, the latest process of each node, by its number from 0."""

    def __init__(self, jvm: Jvm = lambda: ("-Xmx400m", "-XX:+UseSerialGC")) -> None:
        self._jvm = jvm
        self._cleanup = ExitStack()
        ports = free_ports(2 * NODES)
        self._brokers = [f"127.0.0.1:{port}" for port in ports[:NODES]]
        self._controllers = [f"127.0.0.1:{port}" for port in ports[NODES:]]
        self.children: list[ChildProcess | None] = [None] * NODES

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(self._brokers)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._directory = undo.enter_context(own_directory("soak-kafka"))
            undo.callback(self._end)
            cluster_id = new_cluster_id()
            for node in range(NODES):
                self._format(node, cluster_id)
            for node in range(NODES):
                self.start(node)
            wait_until(self.whole, what="three brokers", timeout_s=START_SECONDS_MAX)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def start(self, node: int) -> None:
        """Returns as soon as the process exists."""
        child = self.children[node]
        assert child is None or not child.running
        self.children[node] = ChildProcess(
            [
                *(java(), *self._jvm(), "-Dlog4j2.level=WARN", "-cp", kafka_class_path(), "kafka.Kafka"),
                str(self._directory / f"{node}.properties"),
            ],
            log=self._directory / f"broker-{node}.log",
            cwd=self._directory,
        )

    def child(self, node: int) -> ChildProcess:
        child = self.children[node]
        assert child is not None
        return child

    def up(self, node: int) -> bool:
        return self.child(node).running and answers(self._brokers[node])

    def whole(self) -> bool:
        """Every broker is there, and every partition has all of its replicas in sync."""
        try:
            metadata = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0}).list_topics(timeout=5)
        except KafkaException:
            return False
        partitions = [one for topic in metadata.topics.values() for one in topic.partitions.values()]
        return len(metadata.brokers) == NODES and all(len(one.isrs) == len(one.replicas) for one in partitions)

    def _end(self) -> None:
        for child in self.children:
            if child is not None:
                child.kill()

    def _format(self, node: int, cluster_id: str) -> None:
        listeners = f"PLAINTEXT://{self._brokers[node]},CONTROLLER://{self._controllers[node]}"
        voters = ",".join(f"{number + 1}@{place}" for number, place in enumerate(self._controllers))
        properties = ONE_NODE_SETTINGS | _REPLICATED | {
            "node.id": str(node + 1),
            "listeners": listeners,
            "controller.quorum.voters": voters,
            "log.dirs": str(self._directory / f"data-{node}"),
        }  # fmt: skip
        file = self._directory / f"{node}.properties"
        file.write_text(as_properties(properties))
        format_storage([java(), *short_lived_jvm(), "-cp", kafka_class_path()], file, cluster_id)
