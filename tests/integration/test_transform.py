"""The transform role as its user runs it: real processes on a real Kafka and a real schema registry."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from processor.edges.avro import reader_schema
from processor.records import Headers, Outcome
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import ORDER_TOPICS, Topic
from tests.conftest import StartWorker
from tests.support.children import free_ports
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.topics import TopicSpace
from tests.support.transform_model import difference
from tests.support.transform_site import GROUP, Site, sorted_sources

pytestmark = pytest.mark.timeout(240)

NOW_MS = int(time.time() * 1000)
HOUR_MS = 3_600_000


def reasons_of(worker: Worker) -> list[str]:
    reasons: list[str] = worker.get("/readyz").json()["reasons"]
    return reasons


@pytest.fixture(scope="module")
def done(kafka: str, schema_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two thousand orders with every kind of mistake, written before a worker came, and all of it taken."""
    with Site(kafka, schema_registry, tmp_path_factory.mktemp("shop"), partitions=3) as site:
        plan = Shop(orders=2000, rate=50, bad_share=0.1, seed=11, start_ms=NOW_MS - HOUR_MS)
        site.steps = site.installation.play(shop(plan))
        site.worker()
        site.wait_done()
        yield site


def test_each_order_becomes_exactly_what_the_rules_say_in_its_own_order(done: Site) -> None:
    model = done.model()
    entries = done.entries()
    assert sorted_sources(entries.values()) == sorted_sources(model.entries.values()), difference(
        "entries", sorted_sources(entries.values()), sorted_sources(model.entries.values())
    )
    assert entries == model.entries
    assert done.letter_reasons() == model.reasons


def test_it_is_also_what_the_shop_expects(done: Site) -> None:
    """Said by the generator in words of its own; what was never placed still waits."""
    expected = Counter(step.expected.outcome for step in done.steps)
    assert sum(len(entries) for entries in done.entries().values()) == expected[Outcome.TRANSFORMED]
    never_placed = sum(step.expected.reason == "order_unknown" for step in done.steps)
    assert len(done.letters()) == expected[Outcome.DEAD_LETTERED] - never_placed
    assert never_placed > 0


def test_a_dead_letter_is_its_record_byte_for_byte(done: Site) -> None:
    sources = {str(record.position): record for record in done.source_records()}
    for head, letter in done.letters():
        origin = sources[str(head.origin)]
        assert (letter.key, letter.value, letter.timestamp_ms) == (origin.key, origin.value, origin.timestamp_ms)
        assert letter.partition == origin.partition
        assert head.group == done.space.name(GROUP)
        assert head.delivery_count == 0
        assert abs(head.first_failed_ms - time.time() * 1000) < HOUR_MS


def test_metrics_and_status_say_that_all_is_done(done: Site) -> None:
    worker = done.worker("looked-at")
    done.wait(lambda: worker.get("/status").json()["partitions"], "a status")
    worker.terminate()
    # The other one has everything again.
    text = ""

    def lag_of_all() -> list[float]:
        nonlocal text
        text = done.running.get("/metrics").text
        return [
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("processor_consumer_lag")
        ]

    done.wait(lambda: len(lag_of_all()) == 2 * 5 * 3 and not any(lag_of_all()), "lag is 0 everywhere")
    partitions = done.running.get("/status").json()["partitions"]
    assert {(p["lag"], p["blocked_by"]) for p in partitions} == {(0, None)}
    wrong = [p for p in partitions if (p["committed"] or 0) != p["position"]]
    assert not wrong


def test_a_restart_is_quick_and_reads_only_the_tail(done: Site) -> None:
    started_s = time.monotonic()
    assert done.running.terminate() == 0
    assert time.monotonic() - started_s < 5.0
    worker = done.worker()
    restores = [json.loads(line) for line in done.logs() if '"restore begins"' in line][-3:]
    assert sorted(restore["partition"] for restore in restores) == [0, 1, 2]
    assert all(
        restore["from_offset"] > 1 and restore["to_offset"] - restore["from_offset"] <= 1 for restore in restores
    )
    assert not any("state wiped" in line for line in done.logs())
    assert worker.running


def test_a_state_directory_that_is_empty_foreign_or_corrupt_is_restored(done: Site) -> None:
    """One partition each. The state is right afterwards: a repeated event is still a repetition."""
    done.running.terminate()
    home = done.directory / "worker" / "state" / "worker-0"
    shutil.rmtree(home / "partition-0")
    shutil.rmtree(home / "partition-1")
    shutil.copytree(home / "partition-2", home / "partition-1")
    for file in (home / "partition-2").glob("*"):
        file.write_bytes(b"\xde\xad\xbe\xef" * 100)
    before = done.entries()
    erased = {step.key for step in done.steps if step.value is None}
    taken = [step for step in done.steps if step.expected.outcome is Outcome.TRANSFORMED and step.key not in erased]
    done.installation.play(taken[:300])
    done.worker()
    wiped = [json.loads(line) for line in done.logs() if "state wiped" in line]
    assert sorted(line["partition"] for line in wiped) == [1, 2], wiped
    assert {line["level"] for line in wiped} == {"warning"}
    done.wait_done()
    assert done.entries() == before


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_backlog_of_correct_events_gives_no_dead_letter(
    kafka: str, schema_registry: str, tmp_path: Path, protocol: str
) -> None:
    """Three workers come one after the other, so that partitions move in the middle of it."""
    with Site(kafka, schema_registry, tmp_path, partitions=2) as site:
        orders = 8_500 if protocol == "classic" else 1_500
        site.installation.play(shop(Shop(orders=orders, rate=100, bad_share=0.0, seed=5, start_ms=NOW_MS - HOUR_MS)))
        settings = {"KAFKA_GROUP_PROTOCOL": protocol, "PROCESSOR_BATCH_RECORDS_MAX": "1000"}
        # More workers than partitions: one without any is as ready as the others.
        workers = [site.worker(f"worker-{number}", settings, await_ready=False) for number in range(3)]
        for worker in workers:
            worker.wait_ready()
        site.wait_done()
        model = site.model()
        assert not model.reasons
        assert site.letters() == []
        assert site.entries() == model.entries
        if protocol == "classic":
            assert sum(len(entries) for entries in model.entries.values()) > 20_000


class Desk:
    """Writes events of one partition, one after the other, and knows what each was."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock_ms = NOW_MS - HOUR_MS
        self.count = 0
        self.last = Topic.PLACED

    def write(self, topic: Topic, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        if topic is not self.last:
            # What stands on two topics must be there in the order in which it happened.
            self.site.installation.flush()
        self.last = topic
        self.clock_ms += 1000
        self.site.installation.write(topic, key, value, headers=headers, partition=0, timestamp_ms=self.clock_ms)

    def event(self, topic: Topic, order_id: str, event_id: str | None = None, **fields: Any) -> None:
        self.count += 1
        event = {"event_id": f"e{self.count}" if event_id is None else event_id, "order_id": order_id, **fields}
        value = self.site.installation.encode(topic, event)
        self.write(topic, order_id.encode(), value, [("traceparent", b"00-1"), ("blob", b"\xff\x00"), ("blob", None)])

    def place(self, order_id: str, *lines: Mapping[str, Any], event_id: str | None = None) -> None:
        self.event(
            Topic.PLACED,
            order_id,
            event_id,
            placed_at=self.clock_ms,
            currency="EUR",
            customer=dict.fromkeys(("first_name", "last_name", "email", "phone")),
            billing_address={"country": "DE"},
            line_items=list(lines) or [line("l")],
        )

    def move(
        self,
        topic: Topic,
        order_id: str,
        at: str,
        *items: tuple[str, int],
        at_ms: int | None = None,
        event_id: str | None = None,
    ) -> None:
        moved = [{"line_item_id": name, "quantity": n, at: at_ms or self.clock_ms} for name, n in items]
        self.event(topic, order_id, event_id, items=moved)

    def fulfil(
        self, order_id: str, *items: tuple[str, int], at_ms: int | None = None, event_id: str | None = None
    ) -> None:
        self.move(Topic.FULFILLED, order_id, "fulfilled_at", *(items or (("l", 1),)), at_ms=at_ms, event_id=event_id)

    def refund(
        self, order_id: str, *items: tuple[str, int], at_ms: int | None = None, event_id: str | None = None
    ) -> None:
        self.move(Topic.REFUNDED, order_id, "refunded_at", *(items or (("l", 1),)), at_ms=at_ms, event_id=event_id)

    def cancel_lines(
        self, order_id: str, *items: tuple[str, int], at_ms: int | None = None, event_id: str | None = None
    ) -> None:
        named = items or (("l", 1),)
        self.move(Topic.LINE_ITEMS_CANCELLED, order_id, "cancelled_at", *named, at_ms=at_ms, event_id=event_id)

    def cancel(self, order_id: str) -> None:
        self.event(Topic.CANCELLED, order_id, cancelled_at=self.clock_ms)

    def done(self) -> None:
        self.site.installation.flush()
        self.site.wait_done()


def line(name: str, quantity: int = 2, protects: str | None = None) -> dict[str, Any]:
    insured = None if protects is None else {"protects_line_item_id": protects, "offer_id": None, "plan_id": None}
    return {
        **dict.fromkeys(("product_id", "product_title", "product_brand"), name),
        "id": name,
        "quantity": quantity,
        "price_amount": 1,
        "protection": insured,
    }


@pytest.fixture(scope="module")
def desk(kafka: str, schema_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One partition, a worker that parks for two seconds only, and topics that let records of 8 MB pass."""
    with Site(kafka, schema_registry, tmp_path_factory.mktemp("desk"), partitions=1) as site:
        wide = {"max.message.bytes": str(8 << 20), "message.timestamp.after.max.ms": str(2**62)}
        site.space.configure(*ORDER_TOPICS, config=wide)
        site.worker(settings={"PROCESSOR_PARK_FOR": "2s", "PROCESSOR_DEAD_LETTER_SHARE_MAX": "1"})
        yield Desk(site)


def test_every_row_of_the_table_is_a_dead_letter_with_its_reason(desk: Desk) -> None:
    desk.write(Topic.FULFILLED, b"u1", b"no avro at all")
    desk.write(Topic.FULFILLED, b"u2", b"\x00\x7f\xff\xff\xff\x02a")
    desk.write(Topic.FULFILLED, b"u3", b"")
    desk.place("double", line("l"), line("l"))
    desk.place("astray")
    desk.write(Topic.FULFILLED, None, desk.site.installation.encode(Topic.FULFILLED, _fulfilled("astray")))
    desk.fulfil("astray", ("nothing", 1))
    desk.fulfil("astray", ("l", 3))
    desk.refund("astray", ("l", -1))
    desk.fulfil("astray", at_ms=desk.clock_ms // 1000)
    desk.fulfil("astray", event_id="")
    desk.place("off")
    desk.cancel("off")
    off_at_ms = desk.clock_ms - 1000
    desk.fulfil("off", at_ms=off_at_ms + 1)
    desk.cancel_lines("off", at_ms=off_at_ms + 1)
    desk.place("off")
    desk.place("dangling", line("l"), line("p", protects="nobody"))
    wanted = [
        *("undecodable",) * 4,
        "time_implausible",
        *("line_item_duplicate", "key_mismatch", "line_item_unknown", "quantity_exceeded", "quantity_exceeded"),
        *("order_cancelled", "order_cancelled", "order_exists", "protection_dangling"),
    ]
    for _ in range(101):
        desk.fulfil("early")
    wanted.append("parked_too_many")
    desk.done()
    letters = [head.reason for head, _ in desk.site.letters()]
    assert Counter(letters) - Counter(wanted) <= Counter({"order_unknown": 100})
    assert not Counter(wanted) - Counter(letters)


def _fulfilled(order_id: str) -> dict[str, Any]:
    items = [{"line_item_id": "l", "quantity": 1, "fulfilled_at": NOW_MS}]
    return {"event_id": "k", "order_id": order_id, "items": items}


def test_a_letter_has_everything_of_its_record_and_says_what_happened(desk: Desk) -> None:
    desk.place("letter")
    desk.fulfil("letter", ("nothing", 1))
    desk.done()
    source = desk.site.records(Topic.FULFILLED)[-1]
    ((head, letter),) = [each for each in desk.site.letters() if each[1].key == b"letter"]
    assert (letter.key, letter.value, letter.timestamp_ms) == (source.key, source.value, source.timestamp_ms)
    assert letter.headers[:3] == [("traceparent", b"00-1"), ("blob", b"\xff\x00"), ("blob", None)]
    assert (head.origin, head.stage, head.reason) == (source.position, "transform", "line_item_unknown")
    assert "nothing" in head.message
    assert (head.http_status, head.error_code, head.validation_errors) == (None, None, ())


def test_what_needs_nothing_is_ignored_and_no_letter(desk: Desk) -> None:
    before = len(desk.site.letters())
    desk.place("ignored", event_id="same")
    desk.place("ignored", event_id="same")
    desk.fulfil("ignored")
    desk.cancel("ignored")
    at_ms = desk.clock_ms - 1000
    desk.refund("ignored")
    desk.cancel("ignored")
    desk.fulfil("ignored", at_ms=at_ms - 500)
    desk.done()
    assert len(desk.site.letters()) == before
    types = [json.loads(body)["type"] for _, body in desk.site.entries()["ignored"]]
    assert types == ["order_placed", "order_fulfillment_added", "order_cancelled", "order_fulfillment_added"]


def test_protection_goes_along_with_its_product(desk: Desk) -> None:
    desk.place("insured", line("l", 3), line("p", 2, protects="l"))
    desk.fulfil("insured", ("l", 1))
    desk.refund("insured", ("l", 3))
    desk.done()
    _, fulfilment, refund = (json.loads(body)["payload"] for _, body in desk.site.entries()["insured"])
    assert [(i["line_item_id"], i["quantity"]) for i in fulfilment["fulfillment_items"]] == [("l", 1), ("p", 1)]
    assert [(i["line_item_id"], i["quantity"]) for i in refund["refund_items"]] == [("l", 3), ("p", 2)]


def test_what_shops_do_is_told_as_it_is_meant(desk: Desk) -> None:
    """Two systems tell of one refund; an edited order keeps what was removed with quantity 0; an action gives its ID to
    both events that it makes; a refund from before the cancellation comes after it."""
    before = len(desk.site.letters())
    lines = (line("l", 2), line("gone", 0), line("p", 2, protects="l"), line("b", 1))
    desk.place("shop", *lines)
    desk.refund("shop", ("l", 1), event_id="action")
    desk.refund("shop", ("p", 1), ("b", 1), ("gone", 0))
    desk.refund("shop", ("l", 0))
    desk.cancel_lines("shop", ("l", 1), event_id="action")
    desk.refund("shop", ("p", 1))
    desk.place("late", line("l"), line("p", protects="l"))
    at_ms = desk.clock_ms
    desk.cancel("late")
    desk.refund("late", ("l", 1), at_ms=desk.clock_ms)
    desk.refund("late", ("l", 2), at_ms=at_ms)
    desk.done()
    assert len(desk.site.letters()) == before
    assert [moved(body) for _, body in desk.site.entries()["shop"]] == [
        ("order_placed", [("l", 2), ("p", 2), ("b", 1)]),
        ("order_refund_added", [("l", 1), ("p", 1)]),
        ("order_refund_added", [("b", 1)]),
        ("order_line_items_cancelled", [("l", 1), ("p", 1)]),
    ]
    assert [moved(body) for _, body in desk.site.entries()["late"]][1:] == [
        ("order_cancelled", []),
        ("order_refund_added", [("l", 2), ("p", 2)]),
    ]


def moved(body: bytes) -> tuple[str, list[tuple[str, int]]]:
    """An entry's type, and the units of each line item in it."""
    entry = json.loads(body)
    lists = [value for value in entry["payload"].values() if isinstance(value, list)]
    return entry["type"], [(item.get("line_item_id", item.get("id")), item["quantity"]) for item in chain(*lists)]


def test_an_event_that_waited_too_long_for_its_order_is_a_dead_letter(desk: Desk) -> None:
    desk.fulfil("never")
    desk.done()
    desk.site.wait(
        lambda: any(head.reason == "order_unknown" and letter.key == b"never" for head, letter in desk.site.letters()),
        "the parked event is let go",
        20,
    )
    assert desk.site.running.get("/metrics").text.count("processor_parked_events{")
    desk.place("never")
    desk.done()
    assert len(desk.site.entries()["never"]) == 1


def test_a_null_value_erases_the_order_and_its_changelog_entry(desk: Desk) -> None:
    desk.place("forgotten")
    desk.done()
    desk.write(Topic.CANCELLED, b"forgotten", None)
    desk.done()
    assert [r.value for r in desk.site.records(Topic.CHANGELOG) if r.key == b"forgotten"][1:] == [None]
    assert len(desk.site.entries()["forgotten"]) == 1
    desk.place("forgotten", event_id="once more")
    desk.done()
    assert len(desk.site.entries()["forgotten"]) == 2, "an order of that ID begins anew"


def test_records_of_five_megabytes_are_taken_or_are_dead_letters(desk: Desk) -> None:
    size = 5 << 20
    desk.write(Topic.FULFILLED, b"huge", b"\x07" * size)
    desk.place("huge", line("l") | {"product_title": "x" * size})
    desk.fulfil("huge-early", ("x" * size, 1))
    desk.fulfil("huge")
    desk.done()
    letters = [(head.reason, letter) for head, letter in desk.site.letters() if letter.key in (b"huge", b"huge-early")]
    assert [reason for reason, _ in letters] == ["undecodable", "too_large"]
    assert len(letters[0][1].value or b"") == size
    assert len(desk.site.entries()["huge"][0][1]) > size


def test_times_and_texts_at_their_limits_are_taken(desk: Desk) -> None:
    desk.place("limits-\0-👩‍🚀", line("\u202e\0", 2**31 - 1))
    desk.fulfil("limits-\0-👩‍🚀", ("\u202e\0", 2**31 - 1), at_ms=946_684_800_000)
    for at_ms in (946_684_799_999, -62_135_596_800_000, -(2**63), 2**60, 2**63 - 1):
        desk.fulfil("limits-2", ("l", 1), at_ms=at_ms)
    desk.clock_ms += 400 * 24 * HOUR_MS  # a record from the future, whose letter must stand there, too
    desk.fulfil("limits-\0-👩‍🚀", ("\u202e\0", 1))
    desk.done()
    desk.clock_ms -= 400 * 24 * HOUR_MS
    bodies = [json.loads(body) for _, body in desk.site.entries()["limits-\0-👩‍🚀"]]
    assert bodies[1]["payload"]["fulfillment_items"][0]["fulfilled_at"] == "2000-01-01T00:00:00.000Z"
    assert {head.reason for head, letter in desk.site.letters() if (letter.key or b"").startswith(b"limits")} == {
        "time_implausible",
        "quantity_exceeded",
    }


def test_a_registry_that_is_down_is_waited_for_at_start_and_later(kafka: str, tmp_path: Path) -> None:
    api = RegistryApi()
    registry = Loopback(StandIn(api), free_ports(1)[0])
    with registry, Site(kafka, registry.url, tmp_path, partitions=1) as site:
        registry.stop()
        worker = site.worker(await_ready=False)
        site.wait(lambda: site.answers(worker) and "registry" in str(reasons_of(worker)), "it says what it waits for")
        registry.start()
        worker.wait_ready()
        desk = Desk(site)
        desk.place("known")
        desk.done()
        evolved = json.loads(reader_schema(Topic.FULFILLED))
        evolved["fields"].append({"name": "carrier", "type": ["null", "string"], "default": None})
        site.installation.use(Topic.FULFILLED, json.dumps(evolved))
        registry.stop()
        desk.fulfil("known")
        site.installation.flush()
        site.wait(lambda: not worker.ready() and "registry" in str(reasons_of(worker)), "it says what it waits for")
        assert site.left()
        registry.start()
        site.wait_done()
        worker.wait_ready()
        assert len(site.entries()["known"]) == 2
        assert site.letters() == []


def test_a_flood_stops_the_role_before_it_writes_and_leaves_it_up_and_unready(
    kafka: str, schema_registry: str, tmp_path: Path
) -> None:
    with Site(kafka, schema_registry, tmp_path, partitions=1) as site:
        desk = Desk(site)
        for number in range(1_500):
            desk.write(Topic.FULFILLED, b"k%d" % number, b"no avro")
        site.installation.flush()
        worker = site.worker(await_ready=False)
        site.wait(lambda: site.answers(worker) and "flood guard" in str(reasons_of(worker)), "the guard stops it")
        time.sleep(1.0)
        assert site.letters() == []
        assert site.left() == {"orders.fulfilled/0": 1_500}
        assert worker.get("/livez").is_success
        assert worker.terminate() == 0


def test_wrong_settings_are_all_named_at_once(start_worker: StartWorker) -> None:
    settings = {
        "PROCESSOR_PARK_FORR": "1h",
        "PROCESSOR_PARK_FOR": "soon",
        "KAFKA_ENABLE_AUTO_COMMIT": "true",
        "PROCESSOR_DEAD_LETTER_SHARE_MAX": "2",
    }
    worker = start_worker("run", "--role", "transform", environment=settings, await_ready=False)
    assert worker.wait(30) == 78
    for name in (*settings, "KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL"):
        assert name in worker.log_tail(), name


def test_topics_and_schemas_that_cannot_work_are_all_named(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    installation = Installation(topic_space, schema_registry, partitions=2)
    topic_space.grow(Topic.REFUNDED, 3)
    topic_space.configure(Topic.CHANGELOG, config={"cleanup.policy": "delete"})
    worker = start_worker("run", "--role", "transform", environment=installation.environment, await_ready=False)
    assert worker.wait(60) == 78
    log = worker.log_tail()
    assert f"{topic_space.name(Topic.REFUNDED)} has 3 partitions" in log
    assert f"{topic_space.name(Topic.CHANGELOG)} has cleanup.policy=delete and must be compacted" in log
