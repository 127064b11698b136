"""A change of Hako's is what the shop said, and what can never be sent is said to be so."""

from __future__ import annotations

import base64
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from processor.api.verdicts import OTHERWISE, Answer, Delivered, Denied, Doubted, KeyRefused, Rejected, RetryLater
from processor.errors import BadRecord
from processor.hako.answers import reconsidered, verdict
from processor.hako.changes import WHOLE_MAX, Change, Table, Verb, check_times, read_change
from processor.hako.destination import Hako
from processor.records import Reason

ITEM = {"sku": "hk-001", "name": "Tee", "expires": 1_496_203_446_999, "price": 25}
LEVEL = {"sku": "a/b", "warehouse_id": "w", "quantity": 3, "occurred_at": 7}


def change(table: Table, key: str, value: dict[str, Any] | None, verb: Verb = Verb.POST) -> Change:
    made = read_change(table, key.encode(), value, rank=5, at_ms=1000)
    made.verb = verb
    return made


def body(table: Table, key: str, value: dict[str, Any] | None, verb: Verb = Verb.POST) -> Any:
    return json.loads(change(table, key, value, verb).body())


def test_bodies_are_those_of_the_reference() -> None:
    item = {"sku": "hk-001", "name": "Tee", "expires": 1_496_203_446, "price": 25}
    updates = {name: value for name, value in item.items() if name != "sku"}
    assert body(Table.ITEMS, "hk-001", ITEM) == item
    assert body(Table.ITEMS, "hk-001", ITEM, Verb.PUT) == {"sku": "hk-001", "updates": updates}
    assert body(Table.ITEMS, "hk-001", None, Verb.DELETE) == {"sku": "hk-001"}
    assert body(Table.WAREHOUSES, "w", {"warehouse_id": "w", "name": "W"}) == {"warehouseID": "w", "name": "W"}
    level = {"sku": "a/b", "warehouseID": "w"}
    assert body(Table.INVENTORY, "w/a/b", LEVEL) == level | {"quantity": 3}
    assert body(Table.INVENTORY, "w/a/b", LEVEL, Verb.PUT) == level | {"updates": {"quantity": 3}}
    assert body(Table.INVENTORY, "w/a/b", None, Verb.DELETE) == level


def test_nulls_are_left_out() -> None:
    nothing = ITEM | {"name": None, "expires": None, "price": None}
    assert body(Table.ITEMS, "hk-001", nothing) == {"sku": "hk-001"}
    assert body(Table.ITEMS, "hk-001", nothing, Verb.PUT) == {"sku": "hk-001", "updates": {}}


def test_negative_and_large_quantities_go_as_they_are() -> None:
    for quantity in (-5, 0, WHOLE_MAX, -WHOLE_MAX):
        assert body(Table.INVENTORY, "w/a/b", LEVEL | {"quantity": quantity})["quantity"] == quantity


@pytest.mark.parametrize("quantity", [2**53, -(2**53), 2**63 - 1])
def test_a_quantity_that_would_arrive_as_another_is_refused(quantity: int) -> None:
    with pytest.raises(BadRecord) as refused:
        change(Table.INVENTORY, "w/a/b", LEVEL | {"quantity": quantity})
    assert refused.value.reason is Reason.QUANTITY_EXCEEDED


NOW_MS = 1_795_255_200_123


@pytest.mark.parametrize(
    ("table", "value", "why"),
    [
        (Table.ITEMS, ITEM | {"expires": NOW_MS * 1000}, "expires: .* microseconds?"),
        (Table.ITEMS, ITEM | {"expires": NOW_MS // 1000}, "expires: .* seconds?"),
        (Table.INVENTORY, LEVEL | {"occurred_at": NOW_MS * 1000}, "occurred_at: .* microseconds?"),
        (Table.INVENTORY, LEVEL | {"occurred_at": NOW_MS // 1000}, "occurred_at: .* seconds?"),
        (Table.INVENTORY, LEVEL, "occurred_at: 7 ms is before 2000"),
    ],
)
def test_a_time_that_a_shop_cannot_have_meant_is_refused(table: Table, value: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRecord, match=why.replace("?", r"\?")) as refused:
        check_times(table, value, NOW_MS)
    assert refused.value.reason is Reason.TIME_IMPLAUSIBLE


def test_other_times_and_none_at_all_are_taken() -> None:
    check_times(Table.ITEMS, ITEM, NOW_MS)
    check_times(Table.ITEMS, ITEM | {"expires": None}, NOW_MS)
    check_times(Table.ITEMS, ITEM | {"expires": NOW_MS + 365 * 86_400_000}, NOW_MS)
    check_times(Table.INVENTORY, LEVEL | {"occurred_at": NOW_MS}, NOW_MS)
    check_times(Table.WAREHOUSES, {"warehouse_id": "w", "name": None}, NOW_MS)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (Table.INVENTORY, b"no-slash", None),
        (Table.INVENTORY, b"/a", None),
        (Table.INVENTORY, b"w/", None),
        (Table.INVENTORY, b"w/a", LEVEL),
        (Table.ITEMS, None, None),
        (Table.ITEMS, b"", None),
        (Table.ITEMS, b"\xff", None),
        (Table.ITEMS, b"other", ITEM),
    ],
)
def test_a_key_that_names_no_object_or_another_is_refused(
    table: Table, key: bytes | None, value: dict[str, Any] | None
) -> None:
    with pytest.raises(BadRecord) as refused:
        read_change(table, key, value, rank=0, at_ms=0)
    assert refused.value.reason is Reason.KEY_MISMATCH


@given(st.text(min_size=1), st.text())
def test_any_text_goes_through_json_unharmed(sku: str, name: str) -> None:
    sku, name = (text.encode("utf-8", "replace").decode() for text in (sku, name))
    assert body(Table.ITEMS, sku, ITEM | {"sku": sku, "name": name})["name"] == name
    assert body(Table.ITEMS, sku, ITEM | {"sku": sku, "name": name})["sku"] == sku


def test_an_array_goes_to_the_path_of_its_table_with_the_key_as_user_name() -> None:
    hako = Hako("test/1", 10, 1000, 0.0, 1000, lambda change: True)
    method, path, sent, own = hako.request([change(Table.ITEMS, "hk-001", ITEM)] * 2)
    assert (method, path, len(json.loads(sent)), own) == ("POST", "/items", 2, ())
    headers = dict(hako.headers("sk_live"))
    assert base64.b64decode(headers[b"Authorization"].removeprefix(b"Basic ")) == b"sk_live:"
    assert headers[b"Content-Type"] == b"application/json"


@given(st.integers(100, 599), st.binary(max_size=20))
def test_every_status_has_a_verdict(status: int, said: bytes) -> None:
    judged = verdict(Answer(status, {}, said), 0)
    match status:
        case _ if 200 <= status < 300:
            assert isinstance(judged, Delivered | Doubted)
        case 401:
            assert isinstance(judged, KeyRefused)
        case 403:
            assert isinstance(judged, KeyRefused | Denied)
        case _ if status in (408, 425, 429) or status >= 500 or status < 200:
            assert isinstance(judged, RetryLater)
        case _ if isinstance(judged, Doubted):
            assert judged.rejected.reason == f"http_{status}"
        case _:
            assert isinstance(judged, Rejected)
            assert judged.reason == f"http_{status}"


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (b'{"message": "no such thing"}', None, ("no such thing",)),
        (b'{"error_code": "sku_unknown"}', "sku_unknown", ()),
        (b'{"code": "sku_unknown", "message": "no such SKU"}', "sku_unknown", ("no such SKU",)),
        (b'{"error": {"code": 17, "message": "no such SKU"}}', "17", ("no such SKU",)),
        (b'{"errors": [{"code": "sku_unknown", "message": "no such SKU"}]}', "sku_unknown", ("no such SKU",)),
        (b'[{"errorCode": "sku_unknown"}]', "sku_unknown", ()),
        (b'{"error": "no such SKU"}', None, ("no such SKU",)),
    ],
)
def test_hakos_own_code_and_words_stand_in_the_dead_letter(
    said: bytes, code: str | None, words: tuple[str, ...]
) -> None:
    judged = verdict(Answer(400, {}, said), 0)
    assert isinstance(judged, Rejected)
    assert (judged.reason, judged.error_code, judged.validation_errors) == ("http_400", code, words)


def test_what_is_not_hakos_is_doubted_whole_and_a_refusal_without_json_only_where_no_verb_is_left() -> None:
    for answer in (
        Answer(302, {"location": "https://login.test/"}, b""),
        Answer(404, {}, b"<html><title>404 Not Found</title></html>"),
        Answer(200, {}, b"<!doctype html><title>Sign in</title>"),
        Answer(200, {}, b'{"error": {"error_code": "unauthorized"}}'),
        Answer(200, {}, b'[{"error": {"error_code": "unauthorized"}}]'),
        Answer(404, {}, b'{"message":"no Route matched with those values"}'),
        Answer(404, {}, b'{"message":"Route POST:/v0/items not found","error":"Not Found","statusCode":404}'),
    ):
        judged = verdict(answer, 0)
        assert isinstance(judged, Doubted)
        assert judged.whole
    for body in (b"", b"Client sent an HTTP request to an HTTPS server.\n"):
        judged = verdict(Answer(400, {}, body), 0)
        assert isinstance(judged, Doubted)
        assert not judged.whole


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 412, 415, 422, 451])
def test_a_level_of_what_was_never_accepted_waits_whatever_the_status_is(status: int) -> None:
    level = change(Table.INVENTORY, "w/a", LEVEL | {"warehouse_id": "w", "sku": "a"})
    for _ in range(2):  # the other verb first, where the status may mean that
        judged = reconsidered([level], refused(status), 10_000_000, 86_400_000, lambda change: False)
        assert judged is OTHERWISE
        if level.waits:
            return
    raise AssertionError("it does not wait")


@pytest.mark.parametrize("status", [400, 402, 409, 412, 422])
def test_a_level_of_what_is_there_is_a_dead_letter(status: int) -> None:
    level = change(Table.INVENTORY, "w/a", LEVEL | {"warehouse_id": "w", "sku": "a"})
    judged = [reconsidered([level], refused(status), 10_000_000, 86_400_000, lambda change: True) for _ in range(2)]
    assert isinstance(judged[-1], Rejected)
    assert not level.waits


def refused(status: int) -> Rejected:
    judged = verdict(Answer(status, {}, b"{}"), 0)
    assert isinstance(judged, Rejected)
    return judged


@given(
    st.sampled_from(list(Table)),
    st.sampled_from(list(Verb)),
    st.lists(st.sampled_from([400, 404, 405, 409, 410, 413, 415, 422]), min_size=1, max_size=12),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_refused_array_ends_or_is_split_within_a_few_requests(
    table: Table, verb: Verb, statuses: list[int], count: int, grounded: bool
) -> None:
    """Whatever is answered in whatever order: nothing is tried for ever, but for a level that waits."""
    objects: dict[Table, tuple[str, dict[str, Any]]] = {
        Table.ITEMS: ("hk-001", ITEM),
        Table.WAREHOUSES: ("w", {"warehouse_id": "w", "name": None}),
        Table.INVENTORY: ("w/a/b", LEVEL),
    }
    key, value = objects[table]
    array = [change(table, key, None if verb is Verb.DELETE else value, verb) for _ in range(count)]
    for number, status in enumerate(statuses, 1):
        judged = reconsidered(array, refused(status), 10_000_000 + number, 1, lambda change: grounded)
        if judged is not OTHERWISE:
            return
        for one in array:
            if one.waits:
                one.verb, one.waits = Verb.POST, False
        assert number < 10
