"""What an erasure leaves on disks: of the worker's state, the changelog and the rekeyed topics not a byte of a person.

The files themselves are searched: a broker's own segments and RocksDB's. What is left elsewhere is the shop's
(its source topics), or is listed with its time by `hakuna-processor erase` (outbox, deliveries, dead letters).

The topics have the settings that we make them with, but for their pace: a broker closes a segment with the first
record that comes after `segment.ms`, never before, and looks for what to clean every few seconds here, not minutes.
Their records are kept uncompressed, so that a text can be found in them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from processor.config import Role
from processor.topics import REKEYED, Topic
from tests.support.kafka import KafkaBroker, short_lived_jvm
from tests.support.transform_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.kafka]

PARTITIONS = 1
QUICK_BROKER = {
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
}
QUICK = {"segment.ms": "1000", "file.delete.delay.ms": "0", "compression.type": "uncompressed"}
QUICK_CHANGELOG = QUICK | {"min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}
PERSON = {"first_name": "Wq7x", "last_name": "Zv9kqj3", "email": "q8w5z.j2x7@example.org", "phone": "+4915199887766"}
TEXTS = tuple(text.encode() for text in PERSON.values() if len(text) > 4)


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    with KafkaBroker(settings=QUICK_BROKER, jvm=short_lived_jvm) as running:
        yield running


def placed(order_id: str, customer: Mapping[str, str | None]) -> dict[str, Any]:
    line = dict.fromkeys(("id", "product_id", "product_title", "product_brand"), "x")
    return {
        "event_id": f"p-{order_id}",
        "order_id": order_id,
        "placed_at": int(time.time() * 1000),
        "currency": "EUR",
        "customer": customer,
        "billing_address": {"country": "DE"},
        "line_items": [line | {"quantity": 1, "price_amount": 5, "protection": None}],
    }


class Files:
    """Where something of a person may lie on disks."""

    def __init__(self, site: Site, broker: KafkaBroker) -> None:
        self._site = site
        self._broker = broker

    def of(self, *topics: Topic) -> list[Path]:
        """Files of these topics' partitions that hold one of the texts."""
        names = [f"{self._site.space.name(topic)}-{number}" for topic in topics for number in range(PARTITIONS)]
        return [found for name in names for found in holding(self._broker.data / name)]

    def of_state(self) -> list[Path]:
        return holding(self._site.directory / "worker")


def holding(directory: Path) -> list[Path]:
    found = []
    for file in sorted(directory.rglob("*")):
        try:
            content = file.read_bytes() if file.is_file() else b""
        except FileNotFoundError:  # deleted meanwhile
            continue
        if any(text in content for text in TEXTS):
            found.append(file)
    return found


@pytest.mark.parametrize("rekey", [False, True], ids=["plain", "rekey"])
def test_not_a_byte_of_an_erased_person_is_left_in_state_changelog_and_rekeyed_topics(
    broker: KafkaBroker, schema_registry: str, tmp_path: Path, rekey: bool
) -> None:
    sources: dict[Topic, int] | None = {} if rekey else None
    ours = (Topic.CHANGELOG, *(REKEYED.values() if rekey else ()))
    with Site(broker.bootstrap_servers, schema_registry, tmp_path, partitions=PARTITIONS, sources=sources) as site:
        site.space.configure(Topic.CHANGELOG, config=QUICK_CHANGELOG)
        if rekey:
            site.space.configure(*REKEYED.values(), config=QUICK)
            site.worker("rekey", role="rekey")
        files, installation = Files(site, broker), site.installation

        def done() -> None:
            installation.flush()
            if rekey:
                site.wait_done(role=Role.REKEY)
            site.wait_done()

        installation.event(Topic.PLACED, placed("erased", PERSON))
        installation.event(Topic.PLACED, placed("another", dict.fromkeys(PERSON)))
        installation.flush()
        if rekey:  # before there is a transform, which deletes what it has taken
            site.wait_done(role=Role.REKEY)
            assert files.of(Topic.REKEYED_PLACED), "the person is not where it was looked for"
        worker = site.worker()
        done()
        assert files.of(Topic.CHANGELOG), "the person is not where it was looked for"
        assert files.of_state(), "the person is not where it was looked for"

        installation.write(Topic.PLACED, b'"erased"' if rekey else b"erased", None)
        done()
        site.until(lambda: not files.of_state(), 60)
        later = 0

        def gone() -> bool:
            """Segments are closed by what comes after them, and by nothing else."""
            nonlocal later
            if not files.of(*ours):
                return True
            later += 1
            installation.event(Topic.PLACED, placed(f"later-{later}", dict.fromkeys(PERSON)))
            done()
            time.sleep(1.0)
            return False

        site.wait(gone, "compaction and deletion have come by", 120)
        assert files.of(Topic.PLACED), "the shop's own topic keeps what the shop wrote"
        assert worker.terminate() == 0
        assert not files.of_state(), "nor is it written once more by the end"
