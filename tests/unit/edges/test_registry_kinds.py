"""What registries of other makers answer, and what stands in front of them: recorded, and the same to all that ask."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from processor.edges.avro import AvroDecoder, reader_schema
from processor.edges.avro_letters import AvroLetters
from processor.edges.avro_plan import judged
from processor.edges.avro_schema import parse
from processor.edges.avro_wire import GlobalId
from processor.edges.registry import Registry
from processor.errors import BadRecord, RegistryOutage
from processor.records import Headers
from processor.sandbox.apis.loopback import Loopback, Receive, Scope, Send, respond
from processor.topics import Topic
from tests.support import registry_answers
from tests.support.avro_writer import encoded
from tests.support.registry_answers import GUIDS, RECORDED, SUBJECT
from tests.unit.edges.avro_pairs import VALUES
from tests.unit.edges.test_avro import record

GUID = GUIDS[0]
OURS = reader_schema(Topic.CANCELLED)
JSON, HTML = "application/json", "text/html"


@dataclass
class Recorded:
    """Answers by path: status, type, body, and where it sends on to. `asked` are the paths in their order, with what
    was said of credentials."""

    answers: dict[str, tuple[int, str, str]]
    otherwise: tuple[int, str, str]
    sends_on: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode()
        path = scope["path"] + (f"?{query}" if query else "")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], path, headers.get("authorization", "")))
        if path in self.sends_on:
            status, location = self.sends_on[path]
            await respond(send, status, b"", {"location": location})
            return
        status, kind, body = self.answers.get(path, self.otherwise)
        await respond(send, status, body.encode(), {"content-type": kind})


def found(schema: str, **more: object) -> tuple[int, str, str]:
    return 200, JSON, json.dumps({"schema": schema} | more)


SUBJECTS = (200, JSON, '["orders.cancelled-value"]')
KARAPACE = Recorded({"/subjects": SUBJECTS, "/schemas/ids/1": found(OURS)}, (404, JSON, '"Not Found"'))
UNKNOWN = 999_999


def recorded(name: str) -> Recorded:
    """What `registry_answers.py` has written down of a real one."""
    lines = [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    answers = {one["path"]: (one["status"], one["type"], one["body"]) for one in lines if one["method"] == "GET"}
    return Recorded(answers, answers[f"/apis/ccompat/v7/schemas/guids/{GUID}"])


APICURIO_3, APICURIO_2 = recorded("apicurio-3.0.9"), recorded("apicurio-2.6.13")
KINDS = {
    "karapace": (KARAPACE, ""),
    "apicurio3": (APICURIO_3, "/apis/ccompat/v7"),
    "apicurio2": (APICURIO_2, "/apis/ccompat/v7"),
}


@contextmanager
def serving(recorded: Recorded, path: str = "", auth: str = "") -> Iterator[Registry]:
    recorded.asked.clear()
    with Loopback(recorded) as server:
        yield Registry(server.url + path, auth)


@pytest.mark.parametrize("kind", KINDS)
def test_a_guid_is_the_records_fault_where_the_registry_has_none_and_it_is_asked_for_once(kind: str) -> None:
    """One such value kept all topics of its partition waiting for ever."""
    recorded, path = KINDS[kind]
    with serving(recorded, path) as registry:
        decoder = AvroDecoder(OURS, registry)
        for garbage in (bytes.fromhex("01" + GUID.replace("-", "")) + b"x", b"\x01" * 40):
            with pytest.raises(BadRecord, match="knows no schema"):
                decoder.decode(record(garbage))
        assert [asked for _, asked, _ in recorded.asked] == [
            f"{path}/schemas/guids/{GUID}",
            f"{path}/schemas/guids/00000000-0000-0000-0000-000000000000",
            f"{path}/subjects",
        ]


def test_a_guid_is_waited_for_while_anything_else_stands_where_the_registry_should() -> None:
    gateway = Recorded({}, (404, JSON, '{"message":"no Route matched with those values"}'))
    with serving(gateway) as registry, pytest.raises(RegistryOutage, match="no Route matched"):
        registry.schema(GUID)
    with serving(Recorded({}, (404, HTML, "<html>"))) as registry, pytest.raises(RegistryOutage, match="JSON"):
        registry.schema(GUID)


@pytest.mark.parametrize(
    "body", ['{"error_code":404,"message":"HTTP 404 Not Found"}', '{"message":"no Route matched"}', '"x"']
)
def test_a_404_without_the_registrys_own_code_is_an_outage_whatever_was_asked(body: str) -> None:
    asks: list[Callable[[Registry], object]] = [
        lambda registry: registry.schema(1),
        lambda registry: registry.versions("s"),
        lambda registry: registry.version("s", "latest"),
        lambda registry: registry.level("s"),
        lambda registry: registry.subjects(),
    ]
    with serving(Recorded({}, (404, JSON, body))) as registry:
        for ask in asks:
            with pytest.raises(RegistryOutage, match="HTTP 404"):
                ask(registry)


@pytest.mark.parametrize("number", [2**31, 2**32 - 1])
def test_an_id_that_no_registry_has_is_not_asked_for(number: int) -> None:
    with serving(KARAPACE) as registry, pytest.raises(BadRecord, match="IDs end at 2147483647"):
        AvroDecoder(OURS, registry).decode(record(b"\0" + number.to_bytes(4, "big") + b"x"))
    assert KARAPACE.asked == []


BODY = encoded(parse(OURS), VALUES[Topic.CANCELLED])


def header(name: str, number: int) -> Headers:
    return [("apicurio.value.encoding", b"BINARY"), (f"apicurio.value.{name}", number.to_bytes(8, "big"))]


@pytest.mark.parametrize("kind", ["apicurio2", "apicurio3"])
def test_apicurios_headers_are_read(kind: str) -> None:
    recorded, path = KINDS[kind]
    with serving(recorded, path, "user:p") as registry:
        decoder = AvroDecoder(OURS, registry)
        assert decoder.decode(record(BODY, header("contentId", 1))) == VALUES[Topic.CANCELLED]
        assert decoder.decode(record(BODY, header("globalId", 1))) == VALUES[Topic.CANCELLED]
        with pytest.raises(BadRecord, match=f"knows no schema globalId {UNKNOWN}"):
            decoder.decode(record(BODY, header("globalId", UNKNOWN)))
        assert {said for _, _, said in recorded.asked} == {"Basic dXNlcjpw"}


def test_a_global_id_is_the_records_fault_at_a_registry_that_is_not_apicurios() -> None:
    with serving(KARAPACE) as registry:
        assert registry.schema(GlobalId(7)) is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_registry_that_sends_on_within_its_host_is_followed_by_whatever_is_asked(status: int) -> None:
    place = "/registry/subjects/s/versions"
    recorded = Recorded(
        {"/registry/schemas/ids/1": found(OURS), place: (200, JSON, '{"id": 5}')},
        (500, JSON, "{}"),
        {"/schemas/ids/1": (status, "/registry/schemas/ids/1"), "/subjects/s/versions": (status, place)},
    )
    with serving(recorded, auth="user:p") as registry:
        assert registry.schema(1) == (OURS, {})
        assert registry.register("s", OURS) == 5
    assert [asked[:2] for asked in recorded.asked[2:]] == [("POST", "/subjects/s/versions"), ("POST", place)]
    assert {said for _, _, said in recorded.asked} == {"Basic dXNlcjpw"}


@pytest.mark.parametrize("onward", ["http://registry.other:1/x", "https://registry.other/"])
def test_a_registry_that_sends_on_to_another_host_is_named_and_told_no_credentials(onward: str) -> None:
    recorded = Recorded({}, (500, JSON, "{}"), {"/schemas/ids/1": (302, onward)})
    named = r"registry\.other.*SCHEMA_REGISTRY_URL"
    with serving(recorded, auth="user:p") as registry, pytest.raises(RegistryOutage, match=named):
        registry.schema(1)


def test_a_registry_that_sends_on_in_a_circle_is_an_outage() -> None:
    recorded = Recorded({}, (500, JSON, "{}"), {"/schemas/ids/1": (302, "/schemas/ids/1")})
    with serving(recorded) as registry, pytest.raises(RegistryOutage, match="on and on"):
        registry.schema(1)
    assert len(recorded.asked) == 5


def test_a_level_of_none_is_asked_of_the_registry_as_a_whole() -> None:
    with serving(APICURIO_2, "/apis/ccompat/v7") as registry:
        assert registry.level(SUBJECT) == "BACKWARD"
        asked = [path for _, path, _ in APICURIO_2.asked]
    assert asked == [f"/apis/ccompat/v7/config/{SUBJECT}?defaultToGlobal=true", "/apis/ccompat/v7/config"]


@pytest.mark.parametrize("kind", ["apicurio2", "apicurio3"])
def test_whatever_the_processor_asks_has_the_same_meaning_at_both_apicurios(kind: str) -> None:
    answers, path = KINDS[kind]
    with serving(answers, path) as registry:
        assert SUBJECT in registry.subjects()
        assert list(registry.versions(SUBJECT)) == [1]
        assert list(registry.versions("nobody")) == []
        assert registry.version("nobody", "latest") is None
        assert {registry.level(subject) for subject in (SUBJECT, "nobody")} == {"BACKWARD"}
        assert registry.schema(1) == (OURS, {})
        assert registry.schema(UNKNOWN) is None
        assert registry.schema(3) == (registry_answers.ORDER, {"o.Address": registry_answers.ADDRESS})
        latest = registry.version("order", "latest")
        assert latest is not None
        assert (latest.schema_id, list(latest.references)) == (3, ["o.Address"])
        whole = registry.schema(GlobalId(3))
        assert whole is not None
        assert judged(READER_OF_HOME, *whole).refusal is None, "a schema with its references in it"


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_with_or_without_a_slash_at_its_end_is_the_registrys_place(slash: str) -> None:
    with serving(APICURIO_3, "/apis/ccompat/v7" + slash) as registry:
        assert registry.schema(1) == (OURS, {})


READER_OF_HOME = (
    '{"type":"record","name":"Order","namespace":"x","fields":[{"name":"home","type":{"type":"record","name":"Address",'
    '"fields":[{"name":"city","type":"string"}]}}]}'
)
ADDRESS = '{"type":"record","name":"Address","namespace":"o","fields":[{"name":"city","type":"string"}]}'
CUSTOMER = '{"type":"record","name":"Customer","namespace":"o","fields":[{"name":"home","type":"o.Address"}]}'
ORDER = (
    '{"type":"record","name":"Order","namespace":"o","fields":[{"name":"customer","type":"Customer"},'
    '{"name":"billing","type":"Address"},{"name":"order_id","type":"string"}]}'
)
READER = (
    '{"type":"record","name":"Order","namespace":"x","fields":[{"name":"order_id","type":"string"},'
    f'{{"name":"billing","type":{ADDRESS}}}]}}'
)


def reference(name: str) -> dict[str, object]:
    return {"name": f"o.{name}", "subject": name, "version": 1}


BOTH = [reference("Customer"), reference("Address")]
NESTED = Recorded(
    {
        "/schemas/ids/1": found(ORDER, references=BOTH),
        "/subjects/order/versions/latest": found(ORDER, references=BOTH, version=3, id=1, subject="order"),
        "/subjects/Customer/versions/1": found(CUSTOMER, references=[reference("Address")], version=1, id=2),
        "/subjects/Address/versions/1": found(ADDRESS, version=1, id=3),
    },
    (404, JSON, '{"error_code":40401,"message":"no"}'),
)


def test_schemas_that_refer_to_others_are_read_everywhere_alike_and_each_is_asked_for_once() -> None:
    """Two levels, and a diamond's foot."""
    with serving(NESTED) as registry:
        whole = registry.schema(1)
        assert whole == (ORDER, {"o.Address": ADDRESS, "o.Customer": CUSTOMER})
        assert len(NESTED.asked) == 3
        latest = registry.version("order", "latest")
        assert latest is not None
        assert judged(READER, latest.schema, latest.references).refusal is None
        value = b"\0\0\0\0\1" + b"\x06Ulm\x04Au\x02o"
        assert AvroDecoder(READER, registry).decode(record(value)) == {"order_id": "o", "billing": {"city": "Au"}}
        letters = AvroLetters(registry)
        assert letters.fields(record(value)) == {
            "customer": {"home": {"city": "Ulm"}},
            "billing": {"city": "Au"},
            "order_id": "o",
        }
        assert letters.edited(record(value), {"billing": {"city": "Hof"}}) == b"\0\0\0\0\1" + b"\x06Ulm\x06Hof\x02o"


def test_references_that_come_back_to_themselves_end() -> None:
    circle = Recorded(
        {
            "/schemas/ids/1": found('"o.A"', references=[reference("A")]),
            "/subjects/A/versions/1": found('"o.B"', references=[reference("A")], version=1, id=2),
        },
        (500, JSON, "{}"),
    )
    with serving(circle) as registry:
        assert registry.schema(1) == ('"o.A"', {"o.A": '"o.B"'})
        with pytest.raises(BadRecord, match="which nothing defines"):
            AvroDecoder(READER, registry).decode(record(b"\0\0\0\0\1x"))
    no = (404, JSON, '{"error_code":40401}')
    missing = Recorded({"/schemas/ids/1": found('"o.A"', references=[reference("A")])}, no)
    with serving(missing) as registry, pytest.raises(RegistryOutage, match="which does not exist"):
        registry.schema(1)


@pytest.mark.parametrize(
    ("value", "headers", "words"),
    [
        (b"\x03\x00" + bytes(16) + b"x", [], "AWS Glue's framing"),
        (b"\x03\x05" + bytes(16) + b"x", [], "AWS Glue's framing, compressed"),
        (b"\xc3\x01" + bytes(8) + b"x", [], "single-object encoding"),
        (b'{"event_id": "e"}', [], "JSON"),
        (b"Obj\x01rest", [], "object container"),
        (b"\x02e\x02o", [("content-type", b"avro/binary+0123")], "Azure's framing"),
        (b"\0" + (7).to_bytes(8, "big") + b"x", [], "Apicurio's IDs of 8 bytes"),
        (b"x", [("apicurio.value.encoding", b"JSON")], "apicurio.registry.avro.encoding=BINARY"),
        (b"x", [("apicurio.value.artifactId", b"a")], "without contentId and globalId"),
        (b"x", [("apicurio.value.contentId", b"a")], "not a number of 8 bytes"),
        (b"abc", [], "3 bytes that start with 61"),
    ],
)
def test_what_other_serialisers_write_is_named_with_what_to_set(value: bytes, headers: Headers, words: str) -> None:
    recorded = Recorded({}, (404, JSON, '{"error_code":40403,"message":"no"}'))
    with serving(recorded) as registry, pytest.raises(BadRecord) as bad:
        AvroDecoder(OURS, registry).decode(record(value, headers))
    assert words in str(bad.value)
    assert len(str(bad.value)) <= 500
