"""MirrorMaker 2 as deploy/RUNBOOK.md has it run: one direction, same names, read committed, groups' offsets along.

with MirrorMaker(source="127.0.0.1:1", target="127.0.0.1:2", prefix="t1.", directory=tmp_path): ...
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final, Self

from tests.support.jars import class_path, java

POM: Final = Path(__file__).parent.parent / "mirror-pom" / "pom.xml"
STOP_S_MAX: Final = 30.0

SETTINGS: Final = {
    "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
    "sync.group.offsets.enabled": "true",
    "emit.heartbeats.enabled": "false",
    "sync.topic.acls.enabled": "false",
    "offset.lag.max": "0",
}
"""What the runbook says of them, beside what says which topics and groups."""
QUICK: Final = {
    "refresh.topics.interval.seconds": "2",
    "refresh.groups.interval.seconds": "2",
    "emit.checkpoints.interval.seconds": "1",
    "sync.group.offsets.interval.seconds": "1",
    "target.offset.flush.interval.ms": "1000",  # the 60 s of the default without the prefix
    "dedicated.mode.enable.internal.rest": "false",
}
ONE_NODE: Final = (
    "replication.factor",
    "checkpoints.topic.replication.factor",
    "heartbeats.topic.replication.factor",
    "offset-syncs.topic.replication.factor",
    "config.storage.replication.factor",
    "offset.storage.replication.factor",
    "status.storage.replication.factor",
)


class MirrorMaker:
    """See the module. Raises `Unavailable` where its jars or a Java are not to be had."""

    def __init__(self, *, source: str, target: str, prefix: str, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        pattern = prefix.replace(".", "[.]") + ".*"
        lines = {
            "clusters": "source, target",
            "source.bootstrap.servers": source,
            "target.bootstrap.servers": target,
            "source->target.enabled": "true",
            "target->source.enabled": "false",
            "source->target.topics": pattern,
            "source->target.groups": pattern,
            "source.consumer.isolation.level": "read_committed",
            "tasks.max": "1",
            **SETTINGS,
            **QUICK,
            **dict.fromkeys(ONE_NODE, "1"),
        }
        path = directory / "mirror.properties"
        path.write_text("".join(f"{name} = {value}\n" for name, value in lines.items()))
        self.log = directory / "mirror.log"
        self._command = [
            java(),
            "-Xmx400m",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            class_path("mirror", POM),
            "org.apache.kafka.connect.mirror.MirrorMaker",
            str(path),
        ]

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
