"""The dead letters of other tools, written by the tools themselves on a broker of their own.

    python -m tests.support.letters_of_others      writes tests/unit/letters/written_by_others.jsonl anew

Each tool reads orders.placed/1, in which record 7 is the one that it cannot take (`written_by_others.SOURCE`).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.children import ChildProcess, free_ports, wait_until
from tests.support.jars import class_path, java
from tests.support.kafka import SHORT_LIVED_JVM, KafkaBroker
from tests.unit.letters.written_by_others import RECORDED, SOURCE

POM: Final = Path(__file__).parent.parent / "letters-pom" / "pom.xml"
BROKER: Final = "4.4.0"
"""The first whose share groups write dead letters (KIP-1191)."""
TOPICS: Final = {
    "orders.placed": 2, "orders.dlq": 2, "orders.placed-dlt": 2, "warehouse.dlq": 1, "dlq.fraud-check": 2,
    "dlq.fraud-check-bare": 2,
}  # fmt: skip
KEPT: Final = {"retention.ms": "-1"}
"""The records are older than a topic's default keeps them, and half a minute after its start a broker looks."""
OF_SHARE_GROUPS: Final = {"errors.deadletterqueue.group.enable": "true"}
TAKEN: Final = b'{"a": 1}'
"""Eight bytes of JSON: what Streams takes for a long, and Connect for an object."""
LETTER_S_MAX: Final = 180.0
_LETTERS: Final = Path(__file__).with_name("Letters.java")
_QUICK: Final = ("-Xmx300m", "-XX:TieredStopAtLevel=1")


def streams(servers: str, _directory: Path) -> list[str]:
    return [java(), *_QUICK, "-cp", class_path("letters", POM), str(_LETTERS), "streams", servers]


def spring(servers: str, _directory: Path) -> list[str]:
    return [java(), *_QUICK, "-cp", class_path("letters", POM), str(_LETTERS), "spring", servers]


def connect(servers: str, directory: Path) -> list[str]:
    worker = {
        "bootstrap.servers": servers,
        "listeners": f"http://127.0.0.1:{free_ports(1)[0]}",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "offset.storage.file.filename": str(directory / "offsets"),
        "plugin.discovery": "service_load",  # half a minute quicker than a look at every class
    }
    sink = {
        "name": "warehouse",
        "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
        "topics": "orders.placed",
        "file": str(directory / "sunk"),
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": "warehouse.dlq",
        "errors.deadletterqueue.topic.replication.factor": "1",
        "errors.deadletterqueue.context.headers.enable": "true",
    }
    for name, lines in (("worker", worker), ("sink", sink)):
        text = "".join(f"{key}={value}\n" for key, value in lines.items())
        (directory / f"{name}.properties").write_text(text)
    program = [java(), *_QUICK, "-cp", class_path("letters", POM), "org.apache.kafka.connect.cli.ConnectStandalone"]
    return [*program, str(directory / "worker.properties"), str(directory / "sink.properties")]


def share(group: str, copied: str) -> Callable[[str, Path], list[str]]:
    def command(servers: str, _directory: Path) -> list[str]:
        return [java(), *_QUICK, "-cp", class_path("letters", POM), str(_LETTERS), group, servers, copied]

    return command


TOOLS: Final[dict[str, tuple[str, str, Callable[[str, Path], list[str]]]]] = {
    "streams": ("Kafka Streams 4.3.1", "orders.dlq", streams),
    "connect": ("Kafka Connect 4.3.1", "warehouse.dlq", connect),
    "spring": ("Spring Kafka 4.1.2", "orders.placed-dlt", spring),
    "share group": ("Apache Kafka 4.4.0", "dlq.fraud-check", share("fraud-check", "true")),
    "bare": ("Apache Kafka 4.4.0", "dlq.fraud-check-bare", share("fraud-check-bare", "false")),
}
"""Each with its version, its topic of dead letters, and how it is started."""


@contextmanager
def refused() -> Iterator[str]:
    """A broker with the record that nobody can take; its address."""
    with KafkaBroker(BROKER, jvm=lambda: SHORT_LIVED_JVM) as broker:
        servers = broker.bootstrap_servers
        admin = AdminClient({"bootstrap.servers": servers})
        made = admin.create_topics(
            [
                NewTopic(name, count, 1, config=KEPT | (OF_SHARE_GROUPS if name.startswith("dlq.") else {}))
                for name, count in TOPICS.items()
            ]
        )
        for future in made.values():
            future.result(30)
        producer = Producer({"bootstrap.servers": servers})
        at: dict[str, Any] = {"topic": SOURCE.topic, "partition": SOURCE.partition, "timestamp": SOURCE.timestamp_ms}
        for _ in range(SOURCE.offset):
            producer.produce(key=b"other", value=TAKEN, **at)
        producer.produce(key=SOURCE.key, value=SOURCE.value, headers=list(SOURCE.headers), **at)
        assert producer.flush(30) == 0
        yield servers


def letter(servers: str, tool: str, directory: Path) -> dict[str, Any]:
    """What the tool writes, in the form of the recordings."""
    name, topic, command = TOOLS[tool]
    child = ChildProcess(command(servers, directory), log=directory / f"{tool}.log", cwd=directory)
    try:
        found = _first(servers, topic, child)
    finally:
        child.kill()
    return {
        "tool": tool,
        "version": name,
        "topic": topic,
        "partition": found.partition(),
        "timestamp_ms": found.timestamp()[1],
        "key": _text(found.key()),
        "value": _text(found.value()),
        "headers": [[header, _text(content)] for header, content in list[Any](found.headers() or [])],
    }


def _first(servers: str, topic: str, child: ChildProcess) -> Message:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "letters", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(TOPICS[topic])])
    polled: list[Message] = []

    def there() -> bool:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            polled.append(message)
        return bool(polled)

    try:
        wait_until(there, what=f"a letter in {topic}", timeout_s=LETTER_S_MAX, child=child)
    finally:
        consumer.close()
    return polled[0]


def _text(content: str | bytes | None) -> str | None:
    return None if content is None else b64encode(content if isinstance(content, bytes) else content.encode()).decode()


def main() -> None:
    with refused() as servers, TemporaryDirectory() as directory:
        lines = [json.dumps(letter(servers, tool, Path(directory))) for tool in TOOLS]
    RECORDED.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
