"""A producer on Java's own client, in a process of its own: what most shops write with, on its defaults."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from pathlib import Path

from tests.support.jars import java, kafka_class_path
from tests.support.kafka import SHORT_LIVED_JVM

SECONDS_MAX = 60.0
_SOURCE = Path(__file__).with_name("Producer.java")


class JavaProducer:
    """Mutable: `_lines` are the records that the next `flush` writes."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._lines: list[str] = []

    def produce(self, topic: str, value: bytes | None, key: bytes | None, timestamp: int) -> None:
        self._lines.append("\t".join((topic, _text(key), _text(value), str(timestamp))) + "\n")

    def flush(self) -> None:
        """Returns when all are acknowledged."""
        if not self._lines:
            return
        done = subprocess.run(
            [java(), *SHORT_LIVED_JVM, "-cp", kafka_class_path(), str(_SOURCE), self._bootstrap_servers],
            input="".join(self._lines),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == str(len(self._lines)), done.stdout
        self._lines.clear()


def _text(content: bytes | None) -> str:
    return "-" if content is None else b64encode(content).decode()
