"""The registry stand-in under confluent-kafka's own client."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Fault, Script
from processor.sandbox.apis.stand_in import StandIn

with warnings.catch_warnings(record=True):
    # The client imports an OAuth module of Authlib's that warns about its own future, and insists on being shown.
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

SCHEMAS = Path(__file__).parents[4] / "schemas"
PLACED = Schema((SCHEMAS / "order_placed.avsc").read_text(), "AVRO")
CANCELLED = Schema((SCHEMAS / "order_cancelled.avsc").read_text(), "AVRO")


@pytest.fixture
def registry() -> StandIn:
    return StandIn(RegistryApi())


@pytest.fixture
def url(registry: StandIn) -> Iterator[str]:
    with Loopback(registry) as loopback:
        yield loopback.url


class Connect(Protocol):
    """Makes clients of a registry, each without a cache of what another one knows."""

    def __call__(self, url: str, **settings: str) -> SchemaRegistryClient: ...


@pytest.fixture
def client() -> Iterator[Connect]:
    with ExitStack() as clients:

        def connect(url: str, **settings: str) -> SchemaRegistryClient:
            made = SchemaRegistryClient({"url": url, "max.retries": 0} | settings)
            clients.enter_context(made)
            return made

        yield connect


def test_a_schema_is_registered_once_and_found_in_every_way(client: Connect, url: str) -> None:
    first = client(url).register_schema("orders.placed-value", PLACED)
    assert client(url).register_schema("orders.placed-value", PLACED) == first
    second = client(url).register_schema("orders.placed-value", CANCELLED)
    assert client(url).register_schema("other-value", PLACED) == first, "one ID for one schema, whatever the subject"
    text = client(url).get_schema(first).schema_str
    assert client(url).get_schema(first, "orders.placed-value").schema_str == text
    latest = client(url).get_latest_version("orders.placed-value")
    assert (latest.schema_id, latest.version) == (second, 2)
    assert latest.guid is not None
    assert client(url).get_schema_by_guid(latest.guid).schema_str == latest.schema.schema_str
    assert client(url).get_version("orders.placed-value", 1).schema_id == first
    assert client(url).get_versions("orders.placed-value") == [1, 2]
    assert client(url).get_subjects() == ["orders.placed-value", "other-value"]
    assert client(url).lookup_schema("orders.placed-value", CANCELLED).version == 2
    assert client(url).get_compatibility() == "NONE"


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda one: one.get_schema(77), 404, 40403),
        (lambda one: one.get_schema(1, "other-value"), 404, 40403),
        (lambda one: one.get_schema_by_guid("748192be-4d2d-53a0-9dee-000000000000"), 404, 40403),
        (lambda one: one.get_latest_version("none-value"), 404, 40401),
        (lambda one: one.get_versions("none-value"), 404, 40401),
        (lambda one: one.get_version("orders.placed-value", 9), 404, 40402),
        (lambda one: one.lookup_schema("orders.placed-value", CANCELLED), 404, 40403),
        (lambda one: one.lookup_schema("none-value", PLACED), 404, 40401),
        (lambda one: one.register_schema("x", Schema('{"type": "record"}', "AVRO")), 422, 42201),
        (lambda one: one.register_schema("x", Schema("no JSON", "AVRO")), 422, 42201),
        (lambda one: one.register_schema("x", Schema("{}", "JSON")), 422, 42201),
        (lambda one: one.test_compatibility("orders.placed-value", CANCELLED), 404, 404),
        (lambda one: one.set_compatibility("x", "BACKWARD"), 422, 42203),
    ],
)
def test_what_is_not_there_or_wrong_has_confluents_code(
    client: Connect, url: str, ask: Callable[[SchemaRegistryClient], object], status: int, code: int
) -> None:
    client(url).register_schema("orders.placed-value", PLACED)
    with pytest.raises(SchemaRegistryError) as refused:
        ask(client(url))
    assert (refused.value.http_status_code, refused.value.error_code) == (status, code)


def test_a_subject_may_be_called_anything(client: Connect, url: str) -> None:
    client(url).register_schema("a/b c.ü-value", PLACED)
    assert client(url).get_subjects() == ["a/b c.ü-value"]
    assert client(url).get_latest_version("a/b c.ü-value").version == 1


def test_credentials_are_asked_for_when_there_are_any(client: Connect) -> None:
    with Loopback(StandIn(RegistryApi("user:secret"))) as loopback:
        with pytest.raises(SchemaRegistryError) as refused:
            client(loopback.url).get_subjects()
        assert refused.value.http_status_code == 401
        known = client(loopback.url, **{"basic.auth.user.info": "user:secret"})
        assert known.get_subjects() == []


def test_an_outage_and_a_page_of_a_proxy_can_be_scripted(client: Connect, registry: StandIn, url: str) -> None:
    registry.script = Script(shares={Fault.UNAVAILABLE: 1.0})
    with pytest.raises(SchemaRegistryError) as refused:
        client(url).get_subjects()
    assert refused.value.http_status_code == 503
    registry.script = Script(shares={Fault.PAGE: 1.0})
    with pytest.raises(ValueError, match="Expecting value"):
        client(url).get_subjects()
