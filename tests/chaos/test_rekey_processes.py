"""rekey workers as processes, killed in mid-work: each record is written once."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from processor.config import Role
from processor.sandbox.shop.orders import Shop, shop
from processor.sources.placements import FAMILIES
from processor.topics import REKEYED, Topic
from tests.support.transform_site import Site

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(300)]

COUNTS = {Topic.PLACED: 2, Topic.FULFILLED: 3, Topic.REFUNDED: 4, Topic.LINE_ITEMS_CANCELLED: 1, Topic.CANCELLED: 2}
KILLS = 3


def test_workers_that_are_killed_write_each_record_once_and_the_outbox_is_whole(
    kafka: str, schema_registry: str, tmp_path: Path
) -> None:
    chance = random.Random(5)
    with Site(kafka, schema_registry, tmp_path, partitions=3, sources=COUNTS) as site:
        start_ms = round(time.time() * 1000) - 3_600_000
        erased: set[bytes] = set()
        for step in shop(Shop(orders=700, rate=50, bad_share=0.0, seed=9, start_ms=start_ms)):
            if step.topic not in (Topic.PLACED, Topic.FULFILLED):
                continue  # what others come to depends on the order of topics, of which two workers promise nothing
            if step.value is None:
                erased.add(step.key)
            of = FAMILIES[list(COUNTS).index(step.topic) % 3].of  # a family a topic
            site.installation.write(
                step.topic,
                step.key,
                site.installation.value(step),
                timestamp_ms=step.timestamp_ms,
                partition=of(step.key, COUNTS[step.topic]),
            )
        site.installation.flush()
        small = {"PROCESSOR_BATCH_RECORDS_MAX": "100"}
        workers = [site.worker(f"rekey-{number}", small, role="rekey", await_ready=False) for number in range(2)]
        for number in range(KILLS):
            before = site.consumed(Role.REKEY)
            site.wait(
                lambda before=before: site.consumed(Role.REKEY) > before or not site.left(Role.REKEY),  # type: ignore[misc]
                "a worker goes on",
                60,
            )
            workers.pop(chance.randrange(len(workers))).child.kill()
            workers.append(site.worker(f"rekey-{number + 2}", small, role="rekey", await_ready=False))
        site.wait_done(120, role=Role.REKEY)
        written = [record for topic in REKEYED.values() for record in site.records(topic)]
        target = {site.space.name(topic): site.space.name(rekeyed) for topic, rekeyed in REKEYED.items()}
        got = Counter((one.topic, one.key, one.value, one.timestamp_ms) for one in written)
        wanted = Counter((target[one.topic], one.key, one.value, one.timestamp_ms) for one in site.rekeyed())
        assert got == wanted, ((wanted - got).most_common(2), (got - wanted).most_common(2))
        site.worker()
        site.wait_done()
        model = site.model()

        def bodies(entries: Mapping[str, Sequence[tuple[str, bytes]]]) -> dict[str, list[bytes]]:
            return {
                order_id: sorted(body for _, body in told)
                for order_id, told in entries.items()
                if order_id.encode() not in erased
            }

        assert bodies(site.entries()) == bodies(model.entries)
        assert not site.letters()
        latest = {record.key: record.value or b"" for record in site.records(Topic.CHANGELOG)}
        assert len(erased) > 10
        assert not [key for key in erased if b"@example.com" in latest.get(key, b"")], "an erasure overtook its order"
