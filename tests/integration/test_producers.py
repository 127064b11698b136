"""Topics written by real clients that place keys differently: named by metric, status and check; nothing is lost, and
nobody's data is said to be gone that is not.

librdkafka has three families in one: `murmur2_random` is Java's, `consistent_random` its own default (CRC32),
`fnv1a_random` sarama's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

from processor.topics import Topic
from tests.support.commands import ask
from tests.support.shop_values import moved, placed
from tests.support.transform_site import Site

pytestmark = pytest.mark.timeout(400)

ORDERS = 300
PARTITIONS = 6
PARTITIONERS = {Topic.PLACED: "murmur2_random", Topic.FULFILLED: "consistent_random", Topic.REFUNDED: "fnv1a_random"}
FAMILIES = {Topic.PLACED: "murmur2", Topic.FULFILLED: "crc32", Topic.REFUNDED: "fnv1a"}
ASTRAY = (Topic.FULFILLED, Topic.REFUNDED)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
NOW_MS = int(time.time() * 1000)


class Shop:
    """A site, and a producer of each family."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.orders = [f"ord-42-{number:06d}" for number in range(ORDERS)]

    def producer(self, partitioner: str, codec: str = "none") -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.site.space.bootstrap_servers,
                "partitioner": partitioner,
                "compression.type": codec,
                "linger.ms": 5,
                "log_level": 0,
            }
        )

    def write(self, topic: Topic, values: Mapping[str, bytes | None], partitioner: str | None = None) -> None:
        """Each codec writes some of them."""
        producers = [self.producer(partitioner or PARTITIONERS[topic], codec) for codec in CODECS]
        for number, (order_id, value) in enumerate(values.items()):
            producers[number % len(producers)].produce(self.site.space.name(topic), value, order_id.encode())
        assert not any(producer.flush(30) for producer in producers)

    def metric(self, name: str, topic: Topic) -> float:
        wanted = f'{name}{{topic="{self.site.space.name(topic)}"}} '
        lines = self.site.running.get("/metrics").text.splitlines()
        return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), 0.0)

    def ask(self, *arguments: str) -> tuple[int, Any]:
        said = ask(*arguments, "--output", "json", environment=self.site.installation.environment)
        assert said.out, said.err
        return said.code, json.loads(said.out)


@pytest.fixture(scope="module")
def shop(kafka: str, schema_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A worker at work, then three producers that disagree."""
    with Site(kafka, schema_registry, tmp_path_factory.mktemp("producers"), partitions=PARTITIONS) as site:
        made = Shop(site)
        site.worker(settings={"PROCESSOR_PARK_FOR": "1h"})
        encode = site.installation.encode
        made.write(Topic.PLACED, {one: encode(Topic.PLACED, placed(one, NOW_MS)) for one in made.orders})
        for topic in ASTRAY:
            made.write(topic, {one: encode(topic, moved(topic, one, NOW_MS)) for one in made.orders})
        yield made


def test_producers_that_disagree_are_named_within_a_minute_by_metric_and_status(shop: Shop) -> None:
    began_s = time.monotonic()
    shop.site.wait(
        lambda: all(
            shop.metric("processor_misplaced_records_total", topic) > 3
            for topic in PARTITIONERS
            if topic is not Topic.PLACED
        ),
        "misplaced records are counted",
        60.0,
    )
    assert shop.metric("processor_misplaced_records_total", Topic.PLACED) == 0
    shop.site.wait_done()
    status = shop.site.running.get("/status").json()
    assert time.monotonic() - began_s < 60
    told = {one["topic"]: one for one in status["placements"]}
    for topic, family in FAMILIES.items():
        one = told[shop.site.space.name(topic)]
        assert one["partitioner"] == family
        assert bool(one["misplaced_share"]) == (topic is not Topic.PLACED)
    assert told[shop.site.space.name(Topic.FULFILLED)]["mend"] == "partitioner=murmur2_random"
    _, seen = shop.ask("status", "--workers", f"http://127.0.0.1:{shop.site.running.port}")
    assert {one["topic"] for one in seen["producers"]} == {shop.site.space.name(topic) for topic in ASTRAY}
    assert all(one["remedy"] for one in seen["producers"])


def test_check_names_topic_family_share_and_setting(shop: Shop) -> None:
    code, told = shop.ask("check", "--role", "transform")
    assert code == 78
    problems = {one["subject"]: one for one in told["findings"] if one["verdict"] == "problem"}
    assert set(problems) == {shop.site.space.name(topic) for topic in ASTRAY}
    fulfilled = problems[shop.site.space.name(Topic.FULFILLED)]
    assert fulfilled["what"].startswith("crc32 (")
    assert "% of the orders here are in another partition than there, and never meet" in fulfilled["what"]
    assert fulfilled["remedy"] == "set partitioner=murmur2_random at its producers"
    (keys,) = [
        one["what"]
        for one in told["findings"]
        if one["subject"] == shop.site.space.name(Topic.PLACED) and "keys:" in one["what"]
    ]
    assert keys.endswith(f"explains 100% of {ORDERS} keys")


def test_an_erasure_in_another_partition_than_its_order_is_told(shop: Shop) -> None:
    """Some stand where they belong by chance."""
    erased = dict.fromkeys(shop.orders[:20])
    shop.write(Topic.PLACED, erased, "consistent_random")
    shop.site.wait(
        lambda: shop.metric("processor_misplaced_erasures_total", Topic.PLACED) > 0, "the erasures are counted", 30.0
    )
    shop.site.wait_done()
    lines = shop.site.running.get("/metrics").text.splitlines()
    unknown = next(line for line in lines if line.startswith("processor_ignored_total") and "erasure_unknown" in line)
    assert float(unknown.rpartition(" ")[2]) == shop.metric("processor_misplaced_erasures_total", Topic.PLACED)


def test_an_order_is_shown_from_whichever_partition_its_records_are_in(shop: Shop) -> None:
    """Those of the last orders: the first were erased, or so their producer thought."""
    notes = ""
    for order_id in shop.orders[-3:]:
        said = ask("order", order_id, "--output", "json", environment=shop.site.installation.environment)
        assert said.code == 0
        events = [one for one in json.loads(said.out)["timeline"] if one["kind"] == "event"]
        assert sorted(one["event"] for one in events) == ["line_items_fulfilled", "line_items_refunded", "order_placed"]
        assert all(one["became"] in ("transformed", "parked") for one in events)
        notes += said.err
    assert "never meets its order; `hakuna-processor check` says whose producers are to change" in notes


def test_an_event_under_an_avro_key_is_a_letter_that_says_so_and_is_found_by_its_order(shop: Shop) -> None:
    order_id = "avk-1"
    value = shop.site.installation.encode(Topic.PLACED, placed(order_id, NOW_MS))
    shop.site.installation.write(Topic.PLACED, b"\x00\x00\x00\x00\x07\x0a" + order_id.encode(), value)
    shop.site.installation.write(Topic.PLACED, b'"avk-1"', None)
    by_header = b'"ord-42-0000000001'  # its length is a quotation mark
    shop.site.installation.write(Topic.PLACED, by_header, None, headers=[("apicurio.key.globalId", bytes(8))])
    shop.site.installation.flush()
    shop.site.wait_done()
    code, told = shop.ask("order", order_id)
    assert code == 0
    letters = {one["message"] for one in told["timeline"] if one["kind"] == "dead_letter"}
    assert {one.partition("; ")[0] for one in letters} == {
        "the record's key is a Confluent Avro string of schema 7, order avk-1",
        "the record's key is a JSON string, order avk-1",
    }
    _, listed = shop.ask("dead-letters", "list", "--order-id", order_id)
    assert "key_mismatch" in str(listed)
    code, shown = shop.ask("dead-letters", "show", "--order-id", order_id)
    assert code == 0
    assert "key_mismatch" in str(shown)
    _, listed = shop.ask("dead-letters", "list", "--order-id", "ord-42-0000000001")
    assert "key_mismatch" in str(listed)


def test_a_replay_puts_letters_where_their_orders_live_and_does_not_call_parked_ones_done(shop: Shop) -> None:
    """Half of them first without --rekey: they are parked again, in the wrong partitions."""
    site = shop.site
    assert site.running.terminate() == 0
    site.worker(settings={"PROCESSOR_PARK_FOR": "2s"})
    unknown = ("dead-letters", "list", "--reason", "order_unknown")

    def letters() -> int:
        return sum(one["letters"] for one in shop.ask(*unknown)[1]["counts"])

    site.wait(lambda: letters() > ORDERS, "the misplaced events are letters")
    assert site.running.terminate() == 0
    site.worker(settings={"PROCESSOR_PARK_FOR": "1h"})
    pace = ("--canary", "0", "--rate", "100000", "--wait-max", "90s")
    order_id = next(one for one in shop.orders[-50:] if "order_unknown" in str(shop.ask("order", one)[1]))
    code, (parked,) = shop.ask("dead-letters", "replay", "--order-id", order_id, "--reason", "order_unknown", *pace)
    assert code == 0, parked
    assert parked["parked"] == parked["left"] == parked["sent"] > 0
    assert parked["absorbed"] == parked["accepted"] == 0
    before = letters()
    code, (report,) = shop.ask("dead-letters", "replay", "--reason", "order_unknown", "--rekey", *pace)
    assert code == 0, report
    # Some erasures met their order by chance: what is left of it is not sent again.
    kept = sum(report["stays"].values())
    assert all(why.startswith("its order was erased") for why in report["stays"])
    assert report["sent"] == report["accepted"] == before - kept
    assert (report["parked"], report["left"]) == (0, kept)
    code, (mended,) = shop.ask("dead-letters", "replay", "--reason", "key_mismatch", "--rekey", *pace)
    assert code == 0, json.dumps(mended)
    assert mended["sent"] == mended["accepted"] + mended["absorbed"] == 3
    wanted = {"order_placed", "order_fulfillment_added", "order_refund_added"}
    for one in shop.orders[-20:]:
        if one != order_id:
            _, told = shop.ask("order", one)
            assert {entry["entry_type"] for entry in told["timeline"] if entry["kind"] == "entry"} == wanted
