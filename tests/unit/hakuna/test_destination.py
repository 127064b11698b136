"""How entries become requests to Hakuna, on both of its ways."""

from __future__ import annotations

import pytest

from processor.hakuna.destination import Hakuna, events_api, order_feed
from processor.records import EntryId, EntryType, Headers, OrderId, OutboxEntry, Reason

EVENTS = events_api("v1.2", "hakuna-processor/1")
FEED = order_feed("v1.2", "hakuna-processor/1", 100, 1_000_000, 0.2)
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def entry(number: int = 1, entry_id: str | None = None, headers: Headers | None = None) -> OutboxEntry:
    name = EntryId(entry_id or f"events/orders.placed/0/{number}")
    body = b'{"n":%d}' % number
    return OutboxEntry(OrderId("a"), name, EntryType.ORDER_PLACED, body, 1, headers or [])


def own(request: tuple[str, str, bytes, object]) -> dict[bytes, bytes]:
    return dict(request[3])  # type: ignore[call-overload, no-any-return]  # pairs of bytes


def test_an_event_is_posted_as_it_stands_with_its_id_as_the_quoted_key() -> None:
    method, path, body, headers = EVENTS.request([entry()])
    assert (method, path, body) == ("POST", "/events", b'{"n":1}')
    assert list(headers) == [(b"Idempotency-Key", b'"events/orders.placed/0/1"')]


def test_quotes_and_backslashes_in_an_id_are_escaped_as_structured_fields_want_it() -> None:
    assert own(EVENTS.request([entry(entry_id='a"b\\c')]))[b"Idempotency-Key"] == rb'"a\"b\\c"'


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (TRACE, True),
        (TRACE + b"-future", True),
        (b"00-of-another-kind", True),
        (TRACE + b"\r\nX-Injected: 1", False),
        (b"\xff", False),
        (b"x" * 257, False),
        (b"", False),
        (None, False),
    ],
)
def test_a_traceparent_goes_along_if_it_can_stand_in_a_header(value: bytes | None, sent: bool) -> None:
    headers: Headers = [("other", b"x"), ("traceparent", value)]
    assert (b"traceparent" in own(EVENTS.request([entry(headers=headers)]))) is sent


@pytest.mark.parametrize("destination", [EVENTS, FEED])
def test_of_two_traceparents_the_last_one_goes_along(destination: Hakuna) -> None:
    """Who hands a record on adds its own behind: Kafka's `lastHeader`."""
    headers: Headers = [("traceparent", b"00-of-the-shop"), ("other", b"x"), ("traceparent", TRACE)]
    assert own(destination.request([entry(headers=headers)]))[b"traceparent"] == TRACE
    assert b"traceparent" not in own(destination.request([entry(headers=[*headers, ("traceparent", None)])]))


def test_the_feed_sends_an_array_whose_key_follows_from_its_entries_in_their_order() -> None:
    _, path, body, _ = FEED.request([entry(1), entry(2)])
    assert (path, body) == ("/feeds/order", b'[{"n":1},{"n":2}]')
    keys = [own(FEED.request(entries))[b"Idempotency-Key"] for entries in (
        [entry(1), entry(2)], [entry(1), entry(2)], [entry(2), entry(1)], [entry(1)], [entry(1), entry(3)],
    )]  # fmt: skip
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert keys[3] == b'"events/orders.placed/0/1"'


def test_common_headers_carry_the_key_and_the_version() -> None:
    headers = dict(EVENTS.headers("sk_1"))
    assert headers[b"Authorization"] == b"Bearer sk_1"
    assert headers[b"Hakuna-Version"] == b"v1.2"
    assert headers[b"User-Agent"] == b"hakuna-processor/1"
    assert headers == dict(FEED.headers("sk_1"))


def test_which_refusals_hold_an_order() -> None:
    assert EVENTS.holds(Reason.INVALID_REQUEST_PARAMETERS)
    assert EVENTS.holds("http_404")
    assert EVENTS.holds(Reason.SERVER_ERROR)
    assert not EVENTS.holds(Reason.CANCEL_DECLINE)
    assert not FEED.holds(Reason.INVALID_REQUEST_PARAMETERS)


def test_each_way_takes_its_own_kind_of_entry() -> None:
    assert EVENTS.entry_types | FEED.entry_types == frozenset(EntryType)
    assert not EVENTS.entry_types & FEED.entry_types
