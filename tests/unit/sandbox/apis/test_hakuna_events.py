"""The stand-in for the Events API takes what the reference shows and names what is wrong with everything else."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Request
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import Answer, Call
from tests.unit.sandbox.apis.reference import (
    CANCELLED,
    FULFILLED,
    HEADERS,
    ITEMS_CANCELLED,
    PLACED,
    REFUNDED,
    Json,
    put,
    without,
)


def post(api: HakunaApi, body: Any, script: Script | None = None, path: str = "/sandbox/events") -> Answer:
    """What the API answers, all in one go."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    understood = api.understand(Request("POST", path, "", HEADERS, raw), script or Script())
    return understood.perform() if isinstance(understood, Call) else understood


def problems(answer: Answer) -> str:
    """The validation errors, if the answer is a refusal of a mistake in the reference's form."""
    assert answer.status == 400, (answer.status, answer.body)
    error = orjson.loads(answer.body)["error"]
    assert error["error_code"] == "invalid_request_parameters"
    assert tuple(error["validation_errors"]) == answer.problems
    return "; ".join(error["validation_errors"])


@pytest.fixture
def placed() -> HakunaApi:
    """An API that knows the reference's order."""
    api = HakunaApi()
    assert post(api, PLACED).succeeded
    return api


@pytest.mark.parametrize("path", ["/events", "/sandbox/events"])
def test_an_order_is_placed_with_or_without_the_sandbox_prefix(path: str) -> None:
    answer = post(HakunaApi(), PLACED, path=path)
    assert answer.status == 201
    assert orjson.loads(answer.body)["event_id"].startswith("evt-")
    assert answer.accepted == (("ord-123", orjson.dumps(PLACED)),)


OF_A_PLAN = "payload.line_items.1.custom_properties"
FULFILLED_ITEM = "payload.fulfillment_items.0"
_refunds = REFUNDED["payload"]["refund_items"]
ALONE = "line-item-id-3311 without its protection line-item-id-3322"


@pytest.mark.parametrize("event", [FULFILLED, REFUNDED, ITEMS_CANCELLED, CANCELLED])
def test_each_example_of_the_reference_is_taken_after_its_order(placed: HakunaApi, event: Json) -> None:
    assert post(placed, event).status == 201


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("type", "order_shipped", "type: 'order_shipped'"),
        ("payload.order_id", 123, "Expected `str`, got `int` - at `$.payload.order_id`"),
        ("payload.order_id", "", "length >= 1 - at `$.payload.order_id`"),
        ("payload.placed_at", "2022-02-20T00:00:00Z", "`$.payload.placed_at`"),
        ("payload.placed_at", "2022-02-20T00:00:00.000+00:00", "`$.payload.placed_at`"),
        ("payload.placed_at", "2022-02-30T00:00:00.000Z", "2022-02-30T00:00:00.000Z is no time"),
        ("payload.order_currency", "EUR", "`$.payload.order_currency`"),
        ("payload.customer_billing_address.country", "DE", "`$.payload.customer_billing_address.country`"),
        ("payload.customer.email", None, "Expected `str`, got `null` - at `$.payload.customer.email`"),
        ("payload.customer.phone", "+49", "unknown field `phone` - at `$.payload.customer`"),
        ("payload.line_items", [], "length >= 1 - at `$.payload.line_items`"),
        ("payload.line_items.0.quantity", 0, "`int` >= 1 - at `$.payload.line_items[0].quantity`"),
        ("payload.line_items.0.quantity", "1", "got `str` - at `$.payload.line_items[0].quantity`"),
        ("payload.line_items.0.price_amount", 899.5, "`$.payload.line_items[0].price_amount`"),
        ("payload.line_items.0.id", "line-item-id-4411", "2 of them have the id line-item-id-4411"),
        ("payload.line_items.0.custom_properties", {}, "`$.payload.line_items[0].custom_properties`"),
        ("payload.line_items.1.product_brand", "hakuna", "line_items[1].product_brand: 'hakuna'"),
        ("payload.line_items.0.product_brand", "HAKUNA", "line_items[0].custom_properties: a protection needs"),
        (f"{OF_A_PLAN}.product_reference", "line-item-id-3311", "line-item-id-3311 is no product of this order"),
        (f"{OF_A_PLAN}.offer_id", None, "`$.payload.line_items[1].custom_properties.offer_id`"),
        ("extra", 1, "unknown field `extra`"),
    ],
)
def test_what_is_wrong_with_a_placed_order_is_named(path: str, value: object, says: str) -> None:
    assert says in problems(post(HakunaApi(), put(PLACED, path, value)))


@pytest.mark.parametrize(
    "path",
    [
        "payload",
        "payload.order_currency",
        "payload.customer.first_name",
        "payload.customer_billing_address.zip",
        "payload.line_items",
    ],
)
def test_nothing_may_be_missing(path: str) -> None:
    assert f"missing required field `{path.rpartition('.')[2]}`" in problems(post(HakunaApi(), without(PLACED, path)))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"null", orjson.dumps([PLACED])])
def test_what_is_no_event_at_all_is_a_mistake_and_no_crash(body: bytes) -> None:
    assert problems(post(HakunaApi(), body))


@pytest.mark.parametrize(
    ("event", "path", "value", "says"),
    [
        (FULFILLED, f"{FULFILLED_ITEM}.line_item_id", "line-x", "line-x is no line item of this order"),
        (FULFILLED, f"{FULFILLED_ITEM}.quantity", 2, "2 of line-item-id-3311 are more than the 1 that remain"),
        (FULFILLED, f"{FULFILLED_ITEM}.quantity", -1, "fulfillment_items[0].quantity"),
        (REFUNDED, "payload.refund_items.2.quantity", 2, "more than the 1 that remain"),
        (REFUNDED, "payload.refund_items", [_refunds[0]], ALONE),
        (
            ITEMS_CANCELLED,
            "payload.cancelled_line_items",
            ITEMS_CANCELLED["payload"]["cancelled_line_items"][:1],
            ALONE,
        ),
        (ITEMS_CANCELLED, "payload.cancelled_line_items.1", _refunds[1], "unknown field `refunded_at`"),
        (CANCELLED, "payload.cancelled_at", 1645369200000, "`$.payload.cancelled_at`"),
    ],
)
def test_what_does_not_fit_the_order_is_named(
    placed: HakunaApi, event: Json, path: str, value: object, says: str
) -> None:
    assert says in problems(post(placed, put(event, path, value)))


def test_an_event_that_is_refused_changes_nothing(placed: HakunaApi) -> None:
    before = placed.contents()
    assert not post(placed, put(REFUNDED, "payload.refund_items.2.quantity", 2)).succeeded
    assert placed.contents() == before


def test_units_are_counted_across_events(placed: HakunaApi) -> None:
    assert post(placed, REFUNDED).succeeded
    assert "more than the 0 that remain" in problems(post(placed, REFUNDED))


def test_an_order_that_nobody_placed_is_not_found() -> None:
    answer = post(HakunaApi(), FULFILLED)
    assert answer.status == 404
    assert orjson.loads(answer.body)["error"]["error_code"] == "invalid_request_parameters"


def test_an_order_is_placed_once(placed: HakunaApi) -> None:
    assert "was placed before" in problems(post(placed, PLACED))


@pytest.mark.parametrize("first", [CANCELLED, FULFILLED])
def test_an_order_that_is_cancelled_or_fulfilled_declines_its_cancellation(placed: HakunaApi, first: Json) -> None:
    assert post(placed, first).succeeded
    answer = post(placed, CANCELLED)
    assert (answer.status, answer.error_code) == (422, "cancel_decline")
    assert answer.problems == (), "a refusal, but no mistake of the client's"


def test_an_order_that_is_fulfilled_in_part_can_be_cancelled(placed: HakunaApi) -> None:
    items = FULFILLED["payload"]["fulfillment_items"][:1]
    assert post(placed, put(FULFILLED, "payload.fulfillment_items", items)).succeeded
    assert post(placed, CANCELLED).succeeded


def test_what_was_shipped_before_the_cancellation_may_be_told_after_it(placed: HakunaApi) -> None:
    assert post(placed, CANCELLED).succeeded
    assert "the order was cancelled at" in problems(post(placed, FULFILLED))
    early = FULFILLED
    for number in (0, 1):
        early = put(early, f"payload.fulfillment_items.{number}.fulfilled_at", "2022-02-20T14:59:59.999Z")
    assert post(placed, early).succeeded
    assert "cancelled" in problems(post(placed, REFUNDED)), "a refund of a cancelled order is never sent"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Script(refused_countries=frozenset({"de"})), "location_unsupported"),
        (Script(refused_products=frozenset({"prd-airpods-gen3"})), "product_unsupported"),
    ],
)
def test_an_order_that_the_script_refuses_is_refused_and_not_known(script: Script, code: str) -> None:
    api = HakunaApi()
    answer = post(api, PLACED, script)
    assert (answer.status, answer.error_code) == (422, code)
    assert post(api, FULFILLED, script).status == 404


@pytest.mark.parametrize(
    ("header", "value", "status", "says"),
    [
        ("authorization", None, 401, "Authorization: Bearer <key> is missing"),
        ("authorization", "sk_test_sandbox", 401, "Authorization: Bearer <key> is missing"),
        ("content-type", "text/plain", 415, "Content-Type: text/plain"),
        ("content-type", None, 415, "Content-Type: missing"),
        ("hakuna-version", None, 400, "Hakuna-Version: missing"),
        ("hakuna-version", "1.2", 400, "Hakuna-Version: 1.2"),
        ("idempotency-key", None, 400, "Idempotency-Key"),
        ("idempotency-key", "3f2c1d", 400, "Idempotency-Key"),
        ("idempotency-key", '""', 400, "Idempotency-Key"),
        ("idempotency-key", f'"{"x" * 256}"', 400, "Idempotency-Key"),
        ("user-agent", None, 400, "User-Agent: missing"),
        ("traceparent", "00-1-2-03", 400, "traceparent"),
    ],
)
def test_each_header_is_checked(header: str, value: str | None, status: int, says: str) -> None:
    headers = {name: text for name, text in (HEADERS | {header: value}).items() if text is not None}
    answer = HakunaApi().understand(Request("POST", "/events", "", headers, orjson.dumps(PLACED)), Script())
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert says in "; ".join(answer.problems)


@pytest.mark.parametrize("script", [Script(revoked=True), Script(key="sk_test_other")])
def test_a_key_that_is_not_valid_is_401_without_a_body(script: Script) -> None:
    answer = post(HakunaApi(), PLACED, script)
    assert (answer.status, answer.body, answer.problems) == (401, b"", ())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/events", 405), ("PUT", "/feeds/order", 405), ("POST", "/event", 404), ("POST", "/", 404)],
)
def test_only_the_two_endpoints_exist(method: str, path: str, status: int) -> None:
    answer = HakunaApi().understand(Request(method, path, "", HEADERS, b"{}"), Script())
    assert isinstance(answer, Answer)
    assert answer.status == status


def test_the_contents_tell_what_moved(placed: HakunaApi) -> None:
    assert post(placed, FULFILLED).succeeded
    told = msgspec.convert(placed.contents(), dict[str, Any])["events"]["ord-123"]
    assert told["events"] == 2
    assert told["line_items"]["line-item-id-3311"] == {"ordered": 1, "fulfilled": 1, "refunded": 0, "cancelled": 0}
