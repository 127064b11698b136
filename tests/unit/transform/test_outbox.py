"""The outbox record of an applied event."""

from __future__ import annotations

import re

import msgspec
import orjson
import pytest

from processor.hakuna import Api
from processor.hakuna.entry_ids import entry_id as make_entry_id
from processor.hakuna.entry_ids import of_bytes
from processor.records import HeaderName, NewRecord, OrderEvent, Record
from processor.transform.outbox import entries
from processor.transform.rules import apply
from processor.transform.transitions import Applied, Taken
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


def written(event: OrderEvent, api: Api, origin: Record = ORIGIN) -> NewRecord:
    state = None if event.event_id == "placed" else after(placed(product("l", 2)))
    (effect,) = apply(state, Taken(event, origin), rules(api), NOW_MS).effects
    assert isinstance(effect, Applied)
    return entries(api, "outbox")(effect)


def test_key_partition_and_time() -> None:
    made = written(placed(product("l")), Api.EVENTS)
    assert (made.topic, made.partition, made.key, made.timestamp_ms) == ("outbox", 7, ORDER.encode(), 0)


@pytest.mark.parametrize("api", Api)
def test_headers_say_what_it_is_and_where_it_came_from(api: Api) -> None:
    first, *others = written(placed(product("l")), api).headers
    pattern = {Api.EVENTS: rb"events/[0-9a-f]{32}", Api.FEED: rb"feed/[0-9a-f]{32}~[0-9a-f]{12}"}[api]
    assert first[0] == "entry-id"
    assert re.fullmatch(pattern, first[1] or b"")
    assert others == [
        ("entry-type", b"order" if api is Api.FEED else b"order_placed"),
        ("source", b"shop.orders.placed/7/42"),
        ("occurred-at", b"%d" % AT_MS),
    ]


def entry_id(event: OrderEvent, api: Api, origin: Record = ORIGIN) -> bytes:
    return dict(written(event, api, origin).headers)["entry-id"] or b""


@pytest.mark.parametrize("api", Api)
def test_an_entry_id_is_of_its_event_and_of_no_place(api: Api) -> None:
    """One event in two partitions is one request; a topic that is made again gives nobody the key of another."""
    event = fulfilled(("l", 1))
    elsewhere = msgspec.structs.replace(ORIGIN, topic="t", partition=1, offset=0, timestamp_ms=1)
    assert entry_id(event, api, elsewhere) == entry_id(event, api)
    others: list[OrderEvent] = [
        fulfilled(("l", 1), event_id="other"),
        refunded(("l", 1), event_id="fulfilled"),
        lines_cancelled(("l", 1), event_id="fulfilled"),
        cancelled(event_id="fulfilled"),
    ]
    assert len({entry_id(one, api) for one in [event, *others]}) == 5


def test_the_feeds_entry_id_is_of_the_bytes_too_and_the_events_apis_is_not() -> None:
    one, two = fulfilled(("l", 1)), fulfilled(("l", 2))
    assert entry_id(one, Api.EVENTS) == entry_id(two, Api.EVENTS)
    assert entry_id(one, Api.FEED) != entry_id(two, Api.FEED)
    body = written(one, Api.FEED).value
    assert body is not None
    assert of_bytes(entry_id(two, Api.FEED).decode(), body).encode() == entry_id(one, Api.FEED), "as a rebuild makes it"


def test_ids_of_any_characters_are_told_apart() -> None:
    names = ["", "a", "ab", "b", "1:a", "a1:b", "\0", "/", "~"]
    pairs = {(order, event): make_entry_id("events", "k", order, event) for order in names for event in names}
    assert len(set(pairs.values())) == len(pairs)


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
