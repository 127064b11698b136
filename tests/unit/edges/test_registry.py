"""What a registry's answer means: a schema, a clear no, or an outage that is nobody's fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from processor.config import load
from processor.edges.avro import reader_schema
from processor.edges.registry import Registry
from processor.errors import RegistryOutage
from processor.sandbox.apis.loopback import Loopback, Receive, Scope, Send, respond
from processor.sandbox.apis.registry import RegistryApi
from processor.sandbox.apis.script import Fault, Script
from processor.sandbox.apis.stand_in import StandIn
from processor.topics import Topic

SCHEMA = reader_schema(Topic.CANCELLED)
GUID_UNKNOWN = "00000000-0000-0000-0000-000000000000"


def client(url: str) -> Registry:
    return Registry.at(load({"SCHEMA_REGISTRY_URL": url}))


def latest(registry: Registry, subject: str) -> str | None:
    found = registry.version(subject, "latest")
    return None if found is None else found.schema


@dataclass
class Answers:
    """A server that answers everything alike."""

    status: int = 200
    body: bytes = b""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await respond(send, self.status, self.body, {"content-type": "application/json"})


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


@pytest.fixture(scope="module")
def anyone(answers: Answers) -> Iterator[str]:
    with Loopback(answers) as server:
        yield server.url


def test_a_schema_is_found_by_number_and_by_guid() -> None:
    api = RegistryApi()
    known = api.register("orders.cancelled-value", SCHEMA)
    with Loopback(StandIn(api)) as server:
        registry = client(server.url)
        assert registry.schema(known.id) == (known.text, {})
        assert registry.schema(known.guid) == (known.text, {})
        assert latest(registry, "orders.cancelled-value") == known.text
        assert registry.schema(known.id + 1) is None
        assert registry.schema(GUID_UNKNOWN) is None
        assert latest(registry, "orders.placed-value") is None


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.UNAVAILABLE, Fault.TOO_MANY, Fault.RESET, Fault.PAGE])
def test_a_registry_in_trouble_is_an_outage(fault: Fault) -> None:
    with Loopback(StandIn(RegistryApi(), Script(shares={fault: 1.0}))) as server:
        registry = client(server.url)
        asked: list[Callable[[], object]] = [lambda: registry.schema(1), lambda: latest(registry, "s")]
        for ask in asked:
            with pytest.raises(RegistryOutage):
                ask()


def test_a_registry_that_is_not_there_or_does_not_know_us_is_an_outage() -> None:
    with Loopback(StandIn(RegistryApi("user:password"))) as server, pytest.raises(RegistryOutage, match="401"):
        client(server.url).schema(1)
    with pytest.raises(RegistryOutage, match="does not answer"):
        client(server.url).schema(1)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error_code": 40401, "message": "another 404"}'),
        (404, b"<html>not found</html>"),
        (404, b""),
        (200, b"<html>sign in</html>"),
        (200, b""),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'"text"'),
        (200, b'{"schema": 5}'),
        (200, b'{"schema": null}'),
        (200, b'{"schema": "\\"string\\"", "references": [{"name": "n"}]}'),
        (200, b'{"schema": "\\"string\\"", "references": 5}'),
        (500, b"{"),
    ],
)
def test_an_answer_of_another_shape_is_an_outage_and_no_verdict_on_a_record(
    answers: Answers, anyone: str, status: int, body: bytes
) -> None:
    answers.status, answers.body = status, body
    for schema_id in (1, GUID_UNKNOWN):
        with pytest.raises(RegistryOutage):
            client(anyone).schema(schema_id)


def test_only_the_registrys_own_word_makes_a_schema_unknown(answers: Answers, anyone: str) -> None:
    answers.status, answers.body = 404, b'{"error_code": 40403, "message": "Schema not found"}'
    registry = client(anyone)
    assert registry.schema(1) is None
    with pytest.raises(RegistryOutage):
        latest(registry, "s")
    answers.body = b'{"error_code": 40401, "message": "Subject not found"}'
    assert latest(registry, "s") is None
