"""What a cluster limits and what it forgets, under real workers: batches fit the topics, hako's records are overtaken
by retention, what is left before it is known beforehand, and a role that fails leaves its group."""

from __future__ import annotations

import re
import resource
import secrets
import time
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import TopicPartition as Where

from processor.config import Role
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.chaos.test_cluster_changes_send import began, metric, shop_at, until_committed
from tests.conftest import StartWorker
from tests.integration.test_hako import Tables, stocked
from tests.support.children import wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace
from tests.support.transform_site import Site

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(120)]

SMALL = {"max.message.bytes": "60000"}
DONE_S_MAX = 60.0
QUICK_S_MAX = 25.0
"""Less than a session by far; a takeover takes a second or two."""
FILE_BYTES_MAX = 128 * 1024
"""What a file of a failing worker may measure: its log is smaller, RocksDB's soon larger."""
LONG = {"classic": {"KAFKA_SESSION_TIMEOUT_MS": "45000"}, "consumer": {"KAFKA_GROUP_PROTOCOL": "consumer"}}
"""Sessions of 45 s: KIP-848's are the brokers' own."""


def test_batches_fit_topics_that_take_little_so_that_no_transaction_aborts(
    kafka: str, schema_registry: str, tmp_path: Path
) -> None:
    """librdkafka's own batches are of a megabyte, whatever a topic takes."""
    with Site(kafka, schema_registry, tmp_path, partitions=2) as site:
        site.space.configure(Topic.OUTBOX, Topic.CHANGELOG, Topic.ORDER_DEAD_LETTERS, config=SMALL)
        orders = [f"{number}-{secrets.token_urlsafe(300)}" for number in range(2_000)]  # no codec makes them small
        for number, order in enumerate(orders):
            site.place(order, number % 2)
            if number % 5 == 0:
                bad = b"\x00\x00\x00\x00\x00" + secrets.token_bytes(500)
                site.installation.write(Topic.PLACED, b"bad", bad, partition=number % 2)
        site.installation.flush()
        worker = site.worker()
        site.wait_done()
        assert metric(worker, "processor_transactions_total", outcome="committed") > 0
        aborted = [line for line in site.logs() if "TXNERR" in line]
        late = [line for line in aborted if "_TIMED_OUT" in line]  # a broker beside which much else runs
        assert aborted == late
        assert metric(worker, "processor_transactions_total", outcome="aborted") == len(late)
        assert {order: len(entries) for order, entries in site.entries().items()} == dict.fromkeys(orders, 1)
        assert len(site.letters()) == 400
        assert worker.terminate() == 0


def test_hako_counts_what_retention_took_exactly_and_knows_beforehand_how_long_the_rest_will_be_there(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    space = topic_space
    installation = Installation(space, schema_registry, partitions=2)
    stock = stocked(installation, 30)
    hako = StandIn(HakoApi())
    with Loopback(hako) as api:
        environment = installation.environment | {"HAKO_BASE_URL": api.url, "HAKO_API_KEY": SANDBOX_KEY}
        environment["HAKO_QUOTA"] = "20/1s"
        worker = start_worker("run", "--role", "hako", environment=environment)
        wait_until(lambda: hako.api.contents() == stock.tables, what="the first levels", timeout_s=DONE_S_MAX)
        until_committed(space, Role.HAKO, Topic.LEVELS)
        assert "processor_retention_left_seconds{" not in worker.get("/metrics").text, "nothing waits"

        # Hako is away, and the levels are kept for an hour and a half.
        space.configure(Topic.LEVELS, config={"cleanup.policy": "delete", "retention.ms": "5400000"})
        hako.script = Script(revoked=True)
        for number in range(30):
            stock.level("w", f"sku-{number}", 100 + number)
        installation.flush()

        def left_s() -> list[float]:
            shown = r'^processor_retention_left_seconds{partition="\d",role="hako",topic="%s"} (\S+)$'
            return [
                float(one)
                for one in re.findall(shown % re.escape(space.name(Topic.LEVELS)), worker.get("/metrics").text, re.M)
            ]

        wait_until(lambda: len(left_s()) == 2, what="how long they will be there", timeout_s=45)
        assert all(5340 < one <= 5400 for one in left_s()), left_s()
        worker.kill()

        # It has been away for longer than that.
        committed = space.committed("hakuna-processor.hako", Topic.LEVELS)
        ends = space.end_offsets(Topic.LEVELS)
        cut = [Where(space.name(Topic.LEVELS), number, end - 2) for number, end in ends.items()]
        for answer in space.admin.delete_records(cut).values():
            answer.result(timeout=30)
        missed = {number: end - 2 - committed[Topic.LEVELS.value, number].offset for number, end in ends.items()}
        assert all(missed.values())
        hako.script = Script()
        worker = start_worker("run", "--role", "hako", environment=environment)
        until_committed(space, Role.HAKO, Topic.LEVELS)
        for number, count in missed.items():
            where = {"role": "hako", "topic": space.name(Topic.LEVELS), "partition": str(number)}
            assert metric(worker, "processor_records_missed_total", **where) == count

        def told() -> dict[int, int]:
            stands = worker.get("/status").json()["partitions"]
            return {one["partition"]: one["missed"] for one in stands if one["topic"] == space.name(Topic.LEVELS)}

        wait_until(lambda: told() == missed, what="the missed, in /status", timeout_s=10)  # looked at once a second
        assert began(worker) == {"overtaken"}
        said = [line for line in worker.log.read_text().splitlines() if "retention deleted records" in line]
        assert len(said) == 2
        assert all('"level":"error"' in line.replace(" ", "") for line in said)
        told_of = cast("Tables", hako.api.contents())["inventory"]
        assert sum(row["quantity"] >= 100 for row in told_of) == 4, "what was still there is told"


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_sender_that_ends_by_a_failure_leaves_its_group_and_commits_what_it_has_done(
    topic_space: TopicSpace, start_worker: StartWorker, protocol: str
) -> None:
    """Its store cannot grow any more, in the midst of refusals. The group would wait 45 s for one that went without a
    word."""
    shop = shop_at(topic_space)
    with shop.api() as url:
        settings = {"HAKUNA_BASE_URL": url, "HAKUNA_API_KEY": SANDBOX_KEY, "PROCESSOR_IN_FLIGHT_MAX": "8"}
        settings |= LONG[protocol]

        def start(name: str) -> Worker:
            return start_worker("run", "--role", "send", environment=topic_space.environment | settings, name=name)

        failing, heir = start("failing"), start("heir")
        wait_until(lambda: len(held(failing)) == len(held(heir)) == 1, what="a partition each", timeout_s=DONE_S_MAX)
        (number,) = held(failing)
        until_committed(topic_space, Role.SEND, Topic.OUTBOX)
        resource.prlimit(failing.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
        accepted = shop.write(200, partition=number)
        refused = []
        for one in range(60):
            shop.refused.add(order := f"refused-{one}-" + "x" * 4000)
            refused += shop.write(1, order=order, partition=number)
        assert failing.wait(DONE_S_MAX) == 1
        ended_s = time.monotonic()
        assert "File too large" in failing.log.read_text()
        wait_until(lambda: len(held(heir)) == 2, what="the failed one's partition", timeout_s=QUICK_S_MAX)
        wait_until(lambda: {*accepted, *refused} <= set(shop.asked), what="all entries", timeout_s=QUICK_S_MAX)
        assert time.monotonic() - ended_s < QUICK_S_MAX
        assert sum(count - 1 for count in shop.asked.values()) <= 16, "in flight, and answered since"
        assert heir.terminate() == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_transformer_that_ends_by_a_failure_leaves_its_group(
    kafka: str, schema_registry: str, tmp_path: Path, protocol: str
) -> None:
    with Site(kafka, schema_registry, tmp_path, partitions=2) as site:
        failing, heir = (site.worker(name, LONG[protocol]) for name in ("failing", "heir"))
        site.until(lambda: len(held(failing)) == len(held(heir)) == 1)
        (number,) = held(failing)
        resource.prlimit(failing.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, resource.RLIM_INFINITY))
        orders = [f"{one}-{secrets.token_urlsafe(300)}" for one in range(600)]
        for order in orders:
            site.place(order, number)
        site.installation.flush()
        assert failing.wait(DONE_S_MAX) == 1
        ended_s = time.monotonic()
        site.until(lambda: len(held(heir)) == 2, QUICK_S_MAX)
        site.wait_done(QUICK_S_MAX)
        assert time.monotonic() - ended_s < QUICK_S_MAX
        assert {order: len(entries) for order, entries in site.entries().items()} == dict.fromkeys(orders, 1)
        assert heir.terminate() == 0


def held(worker: Worker) -> set[int]:
    return {one["partition"] for one in worker.get("/status").json()["partitions"]}
