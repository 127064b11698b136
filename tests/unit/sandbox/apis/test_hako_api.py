"""The stand-in for Hako keeps three tables as the reference says, takes arrays whole, and names what is wrong."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson
import pytest

from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.loopback import Request
from processor.sandbox.apis.script import Script
from processor.sandbox.apis.stand_in import Answer, Call

HEADERS = {
    "authorization": "Basic " + base64.b64encode(b"sk_test_sandbox:").decode(),
    "content-type": "application/json",
}
ITEM = {"sku": "hk-001", "name": "Long Sleeve Tshirt", "expires": 1496203446, "price": 25}
WAREHOUSE = {"warehouseID": "warehouse-010", "name": "San Francisco Warehouse"}
LEVEL = {"sku": "hk-001", "warehouseID": "warehouse-010", "quantity": 15}


def ask(
    api: HakoApi, method: str, path: str, body: object, script: Script | None = None, headers: dict[str, str] = HEADERS
) -> Answer:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    understood = api.understand(Request(method, path, "", headers, raw), script or Script())
    return understood.perform() if isinstance(understood, Call) else understood


def message(answer: Answer, status: int) -> str:
    assert answer.status == status, answer.body
    return msgspec.json.decode(answer.body, type=dict[str, str])["message"]


def tables(api: HakoApi) -> dict[str, list[dict[str, Any]]]:
    return msgspec.convert(api.contents(), dict[str, list[dict[str, Any]]])


@pytest.fixture
def stocked() -> HakoApi:
    """The objects of the reference's examples."""
    api = HakoApi()
    for table, one in (("items", ITEM), ("warehouses", WAREHOUSE), ("inventory", LEVEL)):
        assert ask(api, "POST", f"/v0/{table}", [one]).status == 200
    return api


def test_the_examples_of_the_reference_create_three_objects(stocked: HakoApi) -> None:
    assert tables(stocked) == {"items": [ITEM], "warehouses": [WAREHOUSE], "inventory": [LEVEL]}


def test_an_answer_is_the_array_of_what_was_created() -> None:
    answer = ask(HakoApi(), "POST", "/items", [ITEM, {"sku": "hk-002"}])
    assert orjson.loads(answer.body) == [{"id": 1} | ITEM, {"id": 2, "sku": "hk-002"}]
    assert [name for name, _ in answer.accepted] == ["items/hk-001", "items/hk-002"]


@pytest.mark.parametrize(
    ("path", "body", "field", "value"),
    [
        ("/items", {"sku": "hk-001", "updates": {"name": 'Men"s'}}, "name", 'Men"s'),
        ("/warehouses", {"warehouseID": "warehouse-010", "updates": {"name": "Bayview"}}, "name", "Bayview"),
        ("/inventory", {"sku": "hk-001", "warehouseID": "warehouse-010", "updates": {"quantity": 14}}, "quantity", 14),
    ],
)
def test_an_update_changes_what_it_names_and_leaves_the_rest(
    stocked: HakoApi, path: str, body: dict[str, Any], field: str, value: object
) -> None:
    before = tables(stocked)[path[1:]][0]
    assert ask(stocked, "PUT", path, [body]).status == 200
    assert tables(stocked)[path[1:]] == [before | {field: value}]


def test_deleted_objects_are_gone_and_their_inventory_with_them(stocked: HakoApi) -> None:
    answer = ask(stocked, "DELETE", "/items", [{"sku": "hk-001"}])
    assert orjson.loads(answer.body) == ["hk-001"]
    assert tables(stocked) == {"items": [], "warehouses": [WAREHOUSE], "inventory": []}


def test_a_deleted_level_is_answered_with_its_names(stocked: HakoApi) -> None:
    names = {"sku": "hk-001", "warehouseID": "warehouse-010"}
    answer = ask(stocked, "DELETE", "/inventory", [names])
    assert orjson.loads(answer.body) == [names]
    assert tables(stocked)["inventory"] == []


@pytest.mark.parametrize(("path", "one"), [("/items", ITEM), ("/warehouses", WAREHOUSE), ("/inventory", LEVEL)])
def test_creating_what_exists_is_400(stocked: HakoApi, path: str, one: dict[str, Any]) -> None:
    assert "exists already" in message(ask(stocked, "POST", path, [one]), 400)


@pytest.mark.parametrize(
    ("method", "path", "one"),
    [
        ("PUT", "/items", {"sku": "x", "updates": {"price": 1}}),
        ("DELETE", "/items", {"sku": "x"}),
        ("PUT", "/warehouses", {"warehouseID": "x", "updates": {}}),
        ("DELETE", "/inventory", {"sku": "x", "warehouseID": "warehouse-010"}),
        ("POST", "/inventory", LEVEL | {"sku": "x"}),
        ("POST", "/inventory", LEVEL | {"warehouseID": "x"}),
    ],
)
def test_naming_what_does_not_exist_is_404(stocked: HakoApi, method: str, path: str, one: object) -> None:
    assert "does not exist" in message(ask(stocked, method, path, [one]), 404)


def test_an_array_is_taken_whole_or_not_at_all(stocked: HakoApi) -> None:
    before = tables(stocked)
    assert ask(stocked, "POST", "/items", [{"sku": "hk-002"}, ITEM]).status == 400
    assert tables(stocked) == before


def test_a_refused_item_refuses_its_array() -> None:
    api = HakoApi()
    script = Script(refused_skus=frozenset({"hk-013"}))
    answer = ask(api, "POST", "/items", [ITEM, {"sku": "hk-013"}], script)
    assert "hk-013 is refused" in message(answer, 400)
    assert answer.problems == (), "a refusal, but no mistake of the client's"
    assert tables(api)["items"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "/items", ITEM, "Expected `array`"),
        ("POST", "/items", [], "an array of one or more objects"),
        ("POST", "/items", [{"name": "x"}], "missing required field `sku`"),
        ("POST", "/items", [{"sku": "x", "name": None}], "got `null`"),
        ("POST", "/items", [{"sku": "x", "expires": 1496203446000}], "`$[0].expires`"),
        ("POST", "/items", [{"sku": "x", "colour": "red"}], "unknown field `colour`"),
        ("POST", "/items", [{"sku": "x"}, {"sku": "x"}], "x stands 2 times"),
        ("PUT", "/items", [ITEM], "unknown field `name`"),
        ("POST", "/warehouses", [{"warehouse_id": "x"}], "unknown field `warehouse_id`"),
        ("POST", "/inventory", [{"sku": "x", "warehouseID": "y"}], "missing required field `quantity`"),
        ("POST", "/inventory", [LEVEL | {"quantity": "15"}], "`$[0].quantity`"),
        ("DELETE", "/items", ["hk-001"], "Expected `object`"),
        ("POST", "/items", b"\xff", "invalid"),
    ],
)
def test_what_is_wrong_is_named(method: str, path: str, body: object, says: str) -> None:
    answer = ask(HakoApi(), method, path, body)
    assert says.lower() in message(answer, 400).lower()
    assert answer.problems


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer sk_test_sandbox",
        "Basic " + base64.b64encode(b"sk_test_sandbox").decode(),
        "Basic " + base64.b64encode(b"sk_test_sandbox:secret").decode(),
        "Basic " + base64.b64encode(b"other:").decode(),
        "Basic not base64",
    ],
)
def test_the_key_is_the_user_name_of_basic_auth_without_a_password(authorization: str | None) -> None:
    headers = {"content-type": "application/json"}
    if authorization is not None:
        headers["authorization"] = authorization
    assert ask(HakoApi(), "POST", "/items", [ITEM], headers=headers).status == 401


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/orders", 404), ("PATCH", "/items", 405)])
def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    assert message(ask(HakoApi(), method, path, [ITEM]), status)


def test_objects_are_found_by_the_fields_in_the_body(stocked: HakoApi) -> None:
    assert ask(stocked, "POST", "/items", [{"sku": "hk-002"}]).succeeded
    assert len(orjson.loads(ask(stocked, "GET", "/items", b"").body)) == 2
    assert orjson.loads(ask(stocked, "GET", "/items", {"price": 25}).body) == [{"id": 1} | ITEM]
    assert orjson.loads(ask(stocked, "GET", "/items", {"sku": "none"}).body) == []
