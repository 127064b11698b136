"""The registry stand-in, by Confluent's REST API and under the processor's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from processor.edges.registry import Registry
from processor.errors import RegistryOutage, Unusable
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Fault, Script
from processor.sandbox.apis.stand_in import StandIn
from tests.support.loopback import LOOPBACK

SCHEMAS = Path(__file__).parents[4] / "schemas"
PLACED = (SCHEMAS / "order_placed.avsc").read_text()
CANCELLED = (SCHEMAS / "order_cancelled.avsc").read_text()


@pytest.fixture
def registry() -> StandIn:
    return StandIn(RegistryApi())


@pytest.fixture
def url(registry: StandIn) -> Iterator[str]:
    with Loopback(registry) as loopback:
        yield loopback.url


def test_a_schema_is_registered_once_and_found_in_every_way(url: str) -> None:
    client = Registry(url)
    first = client.register("orders.placed-value", PLACED)
    assert client.register("orders.placed-value", PLACED) == first
    second = client.register("orders.placed-value", CANCELLED)
    assert client.register("other-value", PLACED) == first, "one ID for one schema, whatever the subject"
    found = client.schema(first)
    assert found is not None
    assert json.loads(found[0]) == json.loads(PLACED)
    latest = client.version("orders.placed-value", "latest")
    assert latest is not None
    assert (latest.schema_id, latest.number) == (second, 2)
    guid = LOOPBACK.get(f"{url}/subjects/orders.placed-value/versions/latest").json()["guid"]
    assert client.schema(guid) == (latest.schema, {})
    old = client.version("orders.placed-value", 1)
    assert old is not None
    assert old.schema_id == first
    assert client.versions("orders.placed-value") == [1, 2]
    assert client.subjects() == ["orders.placed-value", "other-value"]
    assert client.level("orders.placed-value") == "NONE"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/schemas/ids/77", None, 404, 40403),
        ("GET", "/schemas/guids/748192be-4d2d-53a0-9dee-000000000000", None, 404, 40403),
        ("GET", "/subjects/none-value/versions/latest", None, 404, 40401),
        ("GET", "/subjects/none-value/versions", None, 404, 40401),
        ("GET", "/subjects/orders.placed-value/versions/9", None, 404, 40402),
        ("POST", "/subjects/x/versions", {"schema": '{"type": "record"}'}, 422, 42201),
        ("POST", "/subjects/x/versions", {"schema": "no JSON"}, 422, 42201),
        ("POST", "/subjects/x/versions", {"schema": "{}", "schemaType": "JSON"}, 422, 42201),
        ("POST", "/compatibility/subjects/orders.placed-value/versions/latest", {"schema": CANCELLED}, 404, 404),
    ],
)
def test_what_is_not_there_or_wrong_has_confluents_code(
    url: str, method: str, path: str, body: object, status: int, code: int
) -> None:
    Registry(url).register("orders.placed-value", PLACED)
    refused = LOOPBACK.request(method, url + path, json=body)
    assert (refused.status_code, refused.json()["error_code"]) == (status, code)


def test_what_it_refuses_is_named_to_whoever_registers(url: str) -> None:
    with pytest.raises(Unusable, match="x: the schema registry refuses the schema: Invalid schema"):
        Registry(url).register("x", "no JSON")


def test_a_subject_may_be_called_anything(url: str) -> None:
    name = "a/b c.ü-value"
    client = Registry(url)
    client.register(name, PLACED)
    assert client.subjects() == [name]
    assert client.versions(name) == [1]
    assert LOOPBACK.get(f"{url}/subjects/{quote(name, safe='')}/versions/latest").json()["version"] == 1


def test_credentials_are_asked_for_when_there_are_any() -> None:
    with Loopback(StandIn(RegistryApi("user:secret"))) as loopback:
        with pytest.raises(RegistryOutage, match="HTTP 401"):
            Registry(loopback.url).subjects()
        assert Registry(loopback.url, "user:secret").subjects() == []


def test_without_guids_it_knows_none_and_is_no_outage() -> None:
    with Loopback(StandIn(RegistryApi(guids=False))) as loopback:
        answer = LOOPBACK.get(f"{loopback.url}/schemas/guids/748192be-4d2d-53a0-9dee-000000000000")
        assert (answer.status_code, answer.json()) == (404, "Not Found")
        assert Registry(loopback.url).schema("748192be-4d2d-53a0-9dee-000000000000") is None


def test_an_outage_and_a_page_of_a_proxy_can_be_scripted(registry: StandIn, url: str) -> None:
    registry.script = Script(shares={Fault.UNAVAILABLE: 1.0})
    with pytest.raises(RegistryOutage, match="HTTP 503"):
        Registry(url).subjects()
    registry.script = Script(shares={Fault.PAGE: 1.0})
    with pytest.raises(RegistryOutage, match="answers with JSON"):
        Registry(url).subjects()
