"""Avro as shops write it, at workers on a real Kafka and a real Apicurio: times in their own unit, nested schemas, what
is no Avro, a stray registration. One start of each role."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from processor.edges.avro import reader_schema
from processor.edges.avro_schema import parse
from processor.moments import iso
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.integration.test_hako import QUOTA, settings_of, wait_until_done
from tests.support.avro_writer import encoded
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.json_output import printed
from tests.support.loopback import LOOPBACK
from tests.support.registry import schema_registry_url
from tests.support.topics import TopicSpace
from tests.support.transform_site import Site
from tests.unit.edges.avro_pairs import connect, logical, put

pytestmark = pytest.mark.timeout(240)

NOW_MS = int(time.time() * 1000) - 3_600_000
LOCAL, NANOS, MICROS = (logical(name) for name in ("local-timestamp-millis", "timestamp-nanos", "timestamp-micros"))
DEBEZIUM = connect("io.debezium.time.MicroTimestamp")
GUID = bytes(range(16))


@pytest.fixture(scope="module")
def schema_registry() -> Iterator[str]:
    """This module's own: `lax` is for all who use it."""
    with schema_registry_url() as url:
        yield url


@contextmanager
def lax(installation: Installation) -> Iterator[None]:
    """Apicurio's own default: whatever is registered becomes the latest. (A subject's NONE gives way to the global.)"""
    place = f"{installation.registry_url}/config"
    LOOPBACK.put(place, json={"compatibility": "NONE"}, timeout=20).raise_for_status()
    try:
        yield
    finally:
        LOOPBACK.put(place, json={"compatibility": "BACKWARD"}, timeout=20).raise_for_status()


def written_as(installation: Installation, topic: Topic, name: str, kind: Any, value: Any) -> bytes:
    """A value of our schema with one field of another type."""
    schema = json.loads(reader_schema(topic))
    next(one for one in schema["fields"] if one["name"] == name)["type"] = kind
    schema_id = installation.register(topic, json.dumps(schema))
    return b"\0" + schema_id.to_bytes(4, "big") + encoded(parse(json.dumps(schema)), value)


def cancelled(order_id: str, at: int) -> dict[str, Any]:
    return {"event_id": f"c-{order_id}", "order_id": order_id, "cancelled_at": at}


def placed(order_id: str) -> dict[str, Any]:
    line = dict.fromkeys(("id", "product_id", "product_title", "product_brand"), "x")
    return {
        "event_id": f"p-{order_id}",
        "order_id": order_id,
        "placed_at": NOW_MS,
        "currency": "EUR",
        "customer": dict.fromkeys(("first_name", "last_name", "email", "phone"), "c"),
        "billing_address": dict.fromkeys(("address_line_1", "address_line_2", "city", "zip", "country"), "DE"),
        "line_items": [line | {"quantity": 1, "price_amount": 5, "protection": None}],
    }


class Nested:
    """`OrderPlaced` in six schemas that refer to each other, two levels and a diamond, as the topic's latest."""

    def __init__(self, installation: Installation) -> None:
        self._url = installation.registry_url
        self._prefix = installation.space.name(Topic.PLACED)
        self._texts: dict[str, str] = {}
        order = json.loads(reader_schema(Topic.PLACED))
        by_name = {one["name"]: one for one in order["fields"]}
        address = by_name["billing_address"]["type"]
        customer = by_name["customer"]["type"]
        line = by_name["line_items"]["type"]["items"]
        protection = line["fields"][-1]["type"][1]
        line["fields"][-1]["type"][1] = "orders.v1.Protection"
        customer["fields"].append({"name": "home", "type": ["null", "orders.v1.Address"], "default": None})
        by_name["billing_address"]["type"], by_name["customer"]["type"] = "orders.v1.Address", "orders.v1.Customer"
        by_name["line_items"]["type"]["items"] = "orders.v1.LineItem"
        self._register(address, ())
        self._register(customer, ("Address",))
        self._register(protection, ())
        self._register(line, ("Protection",))
        self._text = json.dumps(order)
        subject = f"{self._prefix}-value"
        # Apicurio 3.0.9 checks a version with references against one without, and finds it invalid: it is the first.
        LOOPBACK.delete(f"{self._url}/subjects/{subject}", timeout=20).raise_for_status()
        self.schema_id = self._post(subject, self._text, ("Address", "Customer", "LineItem"))

    def value(self, order_id: str) -> bytes:
        references = {f"orders.v1.{name}": text for name, text in self._texts.items()}
        event = put(placed(order_id), "customer", placed(order_id)["customer"] | {"home": None})
        return b"\0" + self.schema_id.to_bytes(4, "big") + encoded(parse(self._text, references), event)

    def _register(self, schema: dict[str, Any], references: tuple[str, ...]) -> None:
        whole = copy.deepcopy(schema) | {"namespace": "orders.v1"}
        self._texts[whole["name"]] = json.dumps(whole)
        self._post(f"{self._prefix}.{whole['name']}", json.dumps(whole), references)

    def _post(self, subject: str, schema: str, references: tuple[str, ...]) -> int:
        named = [{"name": f"orders.v1.{one}", "subject": f"{self._prefix}.{one}", "version": 1} for one in references]
        place = f"{self._url}/subjects/{subject}/versions"
        answer = LOOPBACK.post(place, json={"schema": schema, "references": named}, timeout=20)
        answer.raise_for_status()
        schema_id: int = answer.json()["id"]
        return schema_id


def test_orders_are_read_as_shops_write_them(kafka: str, schema_registry: str, tmp_path: Path) -> None:
    with Site(kafka, schema_registry, tmp_path, partitions=1) as site:
        installation = site.installation
        nested = Nested(installation)
        orders = ("micros", "nanos", "debezium", "local", "seconds", "garbage")
        for order_id in orders:
            installation.write(Topic.PLACED, order_id.encode(), nested.value(order_id))
        installation.write(Topic.PLACED, b"another", nested.value("other"))
        for order_id, kind, at in (
            ("micros", MICROS, NOW_MS * 1000 + 7),
            ("nanos", NANOS, NOW_MS * 1_000_000 + 7),
            ("debezium", DEBEZIUM, NOW_MS * 1000),
            ("local", LOCAL, NOW_MS),
            ("seconds", "long", NOW_MS // 1000),
        ):
            value = written_as(installation, Topic.CANCELLED, "cancelled_at", kind, cancelled(order_id, at))
            installation.write(Topic.CANCELLED, order_id.encode(), value)
        installation.write(Topic.CANCELLED, b"garbage", b"\x01" + GUID + b"x")
        installation.event(Topic.CANCELLED, cancelled("garbage", NOW_MS))
        stray = {"type": "record", "name": "Record1", "fields": [{"name": "cancelled_at", "type": "float"}]}
        with lax(installation):
            installation.register(Topic.CANCELLED, json.dumps(stray))
        installation.flush()

        worker = site.worker()
        site.wait_done()
        bodies = {order_id: [json.loads(body) for _, body in sent] for order_id, sent in site.entries().items()}
        letters = {(letter.key or b"").decode(): head for head, letter in site.letters()}
        metrics = worker.get("/metrics").text
        environment = installation.environment
        said = ask("check", "--role", "transform", "--output", "json", environment=environment)
        steps = ask("schemas", "check", "--output", "json", environment=environment)
        name = site.space.name(Topic.ORDER_DEAD_LETTERS)
        offset = next(letter.offset for _, letter in site.letters() if letter.key == b"another")
        shown = ask(
            "dead-letters",
            "show",
            f"{name}/0/{offset}",
            "--show-personal-data",
            "--no-timeline",
            "--output",
            "json",
            environment=environment,
        )

    told = {order_id: body[-1]["payload"].get("cancelled_at") for order_id, body in bodies.items() if len(body) == 2}
    assert told == dict.fromkeys(("micros", "nanos", "debezium", "garbage"), iso(NOW_MS))
    assert set(bodies) == set(orders)
    assert {key: head.reason for key, head in letters.items()} == {
        "another": "key_mismatch",
        "local": "undecodable",
        "seconds": "time_implausible",
        "garbage": "undecodable",
    }
    assert letters["local"].message.startswith("field cancelled_at: written as long (local-timestamp-millis)")
    assert letters["seconds"].message.endswith("seconds?")
    cancelled_topic = site.space.name(Topic.CANCELLED)
    assert f'processor_schema_unreadable{{topic="{cancelled_topic}"}} 1.0' in metrics
    findings = {one["subject"]: one for one in printed("check", said.out)["findings"] if one["area"] == "registry"}
    assert findings[f"{site.space.name(Topic.PLACED)}-value"]["verdict"] == "sound"
    assert "field event_id" in findings[f"{cancelled_topic}-value"]["what"]
    versions = {one["subject"]: one["versions"] for one in printed("schemas", steps.out)}
    (latest,) = versions[f"{site.space.name(Topic.PLACED)}-value"]
    assert latest["readable"]
    assert latest["fields"] == [{"field": "customer.home", "what": "dropped", "why": "written, and not ours"}]
    dates = [(one["field"], one["what"]) for one in versions[f"{cancelled_topic}-value"][1]["fields"]]
    assert dates == [("cancelled_at", "converted")]
    assert shown.code == 0, shown
    assert '"city":"DE"' in shown.out


@pytest.mark.slow
def test_a_level_once_in_microseconds_hides_no_later_one(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker
) -> None:
    """The shop sold what was gone: quantity 0, an hour later and in milliseconds, was taken for old."""
    installation = Installation(topic_space, schema_registry, partitions=1)
    item = {"sku": "s", "name": "S", "expires": NOW_MS * 1000, "price": 5}
    value = written_as(installation, Topic.ITEMS, "expires", ["null", MICROS], item)
    installation.write(Topic.ITEMS, b"s", value)
    installation.write(
        Topic.WAREHOUSES, b"w", installation.encode(Topic.WAREHOUSES, {"warehouse_id": "w", "name": "W"})
    )
    level = {"sku": "s", "warehouse_id": "w", "quantity": 7, "occurred_at": NOW_MS * 1000}
    installation.write(Topic.LEVELS, b"w/s", written_as(installation, Topic.LEVELS, "occurred_at", MICROS, level))
    installation.flush()
    hako = StandIn(HakoApi(), Script(key=SANDBOX_KEY, quota=QUOTA))
    with Loopback(hako) as api:
        worker = start_worker("run", "--role", "hako", environment=settings_of(installation, api.url))
        wait_until_done(worker)
        later = level | {"quantity": 0, "occurred_at": NOW_MS + 3_600_000}
        installation.write(Topic.LEVELS, b"w/s", installation.encode(Topic.LEVELS, later))
        installation.flush()
        wait_until_done(worker)
    contents = json.loads(json.dumps(hako.api.contents()))
    assert contents["inventory"] == [{"sku": "s", "warehouseID": "w", "quantity": 0}]
    assert contents["items"] == [{"sku": "s", "name": "S", "expires": NOW_MS // 1000, "price": 5}]
