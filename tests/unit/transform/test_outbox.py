"""The outbox record of an applied event."""

from __future__ import annotations

import orjson
import pytest

from processor.hakuna import Api
from processor.records import HeaderName, OrderEvent, Record
from processor.transform.outbox import Outgoing, entries
from processor.transform.rules import Applied, Taken, apply
from tests.unit.order_events import (
    AT_MS,
    NOW_MS,
    ORDER,
    cancelled,
    fulfilled,
    lines_cancelled,
    placed,
    product,
    refunded,
)
from tests.unit.transform.histories import after, rules

ORIGIN = Record("shop.orders.placed", 7, 42, AT_MS, ORDER.encode(), b"avro", [])


def written(event: OrderEvent, api: Api, origin: Record = ORIGIN) -> Outgoing:
    state = None if event.event_id == "placed" else after(placed(product("l", 2)))
    (effect,) = apply(state, Taken(event, origin), rules(api), NOW_MS).effects
    assert isinstance(effect, Applied)
    return entries(api, "outbox")(effect)


def test_key_partition_and_time() -> None:
    made = written(placed(product("l")), Api.EVENTS)
    assert (made.topic, made.partition, made.key, made.timestamp_ms) == ("outbox", 7, ORDER.encode(), 0)


@pytest.mark.parametrize("api", Api)
def test_headers_say_what_it_is_and_where_it_came_from(api: Api) -> None:
    assert written(placed(product("l")), api).headers == [
        ("entry-id", b"%s/shop.orders.placed/7/42" % api.value.encode()),
        ("entry-type", b"order" if api is Api.FEED else b"order_placed"),
        ("source", b"shop.orders.placed/7/42"),
        ("occurred-at", b"%d" % AT_MS),
    ]


@pytest.mark.parametrize(
    ("event", "entry_type"),
    [
        (placed(product("l")), b"order_placed"),
        (fulfilled(("l", 1)), b"order_fulfillment_added"),
        (refunded(("l", 1)), b"order_refund_added"),
        (lines_cancelled(("l", 1)), b"order_line_items_cancelled"),
        (cancelled(), b"order_cancelled"),
    ],
)
def test_the_events_api_gets_one_entry_an_event_of_its_own_type(event: OrderEvent, entry_type: bytes) -> None:
    made = written(event, Api.EVENTS)
    assert dict(made.headers)[HeaderName.ENTRY_TYPE] == entry_type
    assert orjson.loads(made.value or b"")["type"].encode() == entry_type
    feed = orjson.loads(written(event, Api.FEED).value or b"")
    assert feed["id"] == ORDER


def test_the_source_records_own_headers_go_along_and_none_of_ours_stands_twice() -> None:
    theirs = [("traceparent", b"00-1"), ("shop", None), ("shop", b"\xff"), ("entry-id", b"x"), ("source", b"y")]
    origin = Record("t", 0, 0, AT_MS, ORDER.encode(), b"avro", theirs)
    headers = written(placed(product("l")), Api.EVENTS, origin).headers
    assert headers[4:] == theirs[:3]
    assert len({name for name, _ in headers[:4]}) == 4


def test_the_same_record_makes_the_same_bytes() -> None:
    assert written(placed(product("l")), Api.EVENTS) == written(placed(product("l")), Api.EVENTS)
