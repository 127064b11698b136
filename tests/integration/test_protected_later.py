"""`HAKUNA_ORDERS=protected`: protection that is sold after the order was placed, by real workers and a stand-in."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from processor.moments import iso
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker
from tests.support.children import wait_until
from tests.support.transform_site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PLACED_MS = round(time.time() * 1000) - 3_600_000
FULFILLED_MS, AGAIN_MS, REFUNDED_MS = PLACED_MS + 60_000, PLACED_MS + 120_000, PLACED_MS + 180_000
PERSON = {"first_name": "Wilhelmine", "last_name": "Unversichert", "email": "w.u@example.org", "phone": "+4915112345"}
HOME = {"address_line_1": "Einzelhof 77", "address_line_2": "Hinterhaus", "city": "Niederpersondorf", "zip": "98765"}
PERSONAL = tuple(text.encode() for text in (*PERSON.values(), *HOME.values()))
ORDER = "late-1"
REFUNDED = "refunded_at"
PLAN = {"protects_line_item_id": "tv", "offer_id": None, "plan_id": None}


def placed(event_id: str, at_ms: int, *lines: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "order_id": ORDER,
        "placed_at": at_ms,
        "currency": "EUR",
        "customer": PERSON,
        "billing_address": {**HOME, "country": "DE"},
        "line_items": lines,
    }


def line(line_id: str, quantity: int, protection: object = None) -> dict[str, Any]:
    of_product = dict.fromkeys(("product_id", "product_title", "product_brand"), line_id)
    return of_product | {"id": line_id, "quantity": quantity, "price_amount": 100, "protection": protection}


def moved(event_id: str, field: str, at_ms: int) -> dict[str, Any]:
    return {"event_id": event_id, "order_id": ORDER, "items": [{"line_item_id": "tv", "quantity": 1, field: at_ms}]}


def stored(directory: Path) -> bytes:
    """All bytes of a worker's state, its store's log of writes among them."""
    return b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())


@pytest.mark.parametrize("api_name", ["events", "feed"])
def test_an_order_that_is_protected_later_is_told_whole_and_nobody_is_known_before(
    kafka: str, schema_registry: str, tmp_path: Path, start_worker: StartWorker, api_name: str
) -> None:
    hakuna = StandIn(HakunaApi(), Script(key=SANDBOX_KEY))
    settings = {"HAKUNA_API": api_name, "HAKUNA_ORDERS": "protected"}
    with Site(kafka, schema_registry, tmp_path, partitions=1) as site, Loopback(hakuna) as api:
        event, space = site.installation.event, site.space
        send = start_worker(
            "run",
            "--role",
            "send",
            environment=space.environment | settings | {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY},
            name="send",
        )
        first = site.worker("first", settings)
        event(Topic.PLACED, placed("p1", PLACED_MS, line("tv", 2)), timestamp_ms=PLACED_MS)
        event(Topic.FULFILLED, moved("f1", "fulfilled_at", FULFILLED_MS), timestamp_ms=FULFILLED_MS)
        site.installation.flush()
        site.wait_done()
        assert not space.records(Topic.OUTBOX)
        ignored = [text for text in first.get("/metrics").text.splitlines() if 'reason="unprotected"' in text]
        assert [float(text.rpartition(" ")[2]) for text in ignored] == [1, 1]
        assert first.terminate() == 0
        kept = b"".join(one.value() or b"" for one in space.records(Topic.CHANGELOG) if one.key() == ORDER.encode())
        assert b"tv" in kept
        bytes_kept = kept + stored(first.directory)
        assert ORDER.encode() in bytes_kept, "the state is not where it was looked for"
        assert not [text for text in PERSONAL if text in bytes_kept]

        site.worker("heir", settings)  # its state is the changelog's
        lines = line("tv", 2), line("plan", 2, PLAN)
        event(Topic.PLACED, placed("p2", AGAIN_MS, *lines), timestamp_ms=AGAIN_MS)
        event(Topic.REFUNDED, moved("r1", REFUNDED, REFUNDED_MS), timestamp_ms=REFUNDED_MS)
        site.installation.flush()
        site.wait_done()
        wait_until(lambda: REFUNDED in told(hakuna), what="all is told", timeout_s=60, child=send.child)
        assert not site.letters()
        assert not space.records(Topic.HAKUNA_DEAD_LETTERS)

    assert hakuna.record.mistakes() == []
    bodies = [json.loads(one.body) for one in hakuna.record.history(ORDER)]
    if api_name == "events":
        assert [body["type"] for body in bodies] == ["order_placed", "order_fulfillment_added", "order_refund_added"]
        placement, fulfilment, refund = (body["payload"] for body in bodies)
        assert placement["customer"]["email"] == PERSON["email"]
        assert moves(fulfilment["fulfillment_items"], "fulfilled_at") == both(iso(FULFILLED_MS))
        assert moves(refund["refund_items"], "refunded_at") == both(iso(REFUNDED_MS))
    else:
        assert bodies[-1]["customer"]["email"] == PERSON["email"]
        lines_told = {one["id"]: one for one in bodies[-1]["line_items"]}
        assert lines_told.keys() == {"tv", "plan"}
        for one in lines_told.values():
            assert one["fulfillments"] == [{"quantity": 1, "fulfilled_at": FULFILLED_MS}]
            assert one["refunds"] == [{"quantity": 1, "refunded_at": REFUNDED_MS}]


def told(hakuna: StandIn) -> str:
    return "".join(one.body.decode() for one in hakuna.record.history(ORDER))


def moves(items: list[dict[str, Any]], at: str) -> list[tuple[str, int, str]]:
    return [(one["line_item_id"], one["quantity"], one[at]) for one in items]


def both(at: str) -> list[tuple[str, int, str]]:
    """A product's unit takes its protection's along."""
    return [("tv", 1, at), ("plan", 1, at)]
