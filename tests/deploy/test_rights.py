"""The rights, and the settings of TLS and SASL, in deploy/README.md, on a broker with an authoriser: each role works
with exactly these, and says what it lacks when one is taken away, and why it is not let in."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import httpx
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but it does not say so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from processor.config import Role
from processor.hakuna import Api
from processor.operate.check.rights import TRANSACTIONAL, needed
from processor.records import Headers
from processor.sandbox.apis.hako_api import HakoApi
from processor.sandbox.apis.hakuna_api import HakunaApi
from processor.sandbox.apis.loopback import Loopback
from processor.sandbox.apis.script import SANDBOX_KEY
from processor.sandbox.apis.stand_in import StandIn
from processor.sandbox.shop.orders import Shop, shop
from processor.topics import REKEYED, Topic
from tests.conftest import StartWorker
from tests.deploy.test_runbook import TEXT, table
from tests.support.certificates import Authority
from tests.support.children import wait_until
from tests.support.commands import ask
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.secured_kafka import PASSWORD, USER, SecuredKafka
from tests.support.topics import TopicSpace

SAID_SECONDS_MAX = 75.0
REFUSAL = re.compile(r"not allowed|AUTHORIZATION_FAILED|authorization failed|not authorized", re.IGNORECASE)
REMEDY = "allow it to this user; `hakuna-processor check` lists every right that is missing"
ENTRY: Headers = [("entry-id", b"e-1"), ("entry-type", b"order_cancelled"), ("source", b"a/0/0"), ("occurred-at", b"1")]
KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional ID": ResourceType.TRANSACTIONAL_ID}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Delete": AclOperation.DELETE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "Create": AclOperation.CREATE,
    "AlterConfigs": AclOperation.ALTER_CONFIGS,
}


class Right(NamedTuple):
    """One operation on one resource; `kind` and `operation` as the table has them. No role: whoever replays."""

    role: Role | None
    kind: str
    name: str
    operation: str

    def binding(self, prefix: str) -> AclBinding:
        whole = ResourcePatternType.PREFIXED if self.kind == "transactional ID" else ResourcePatternType.LITERAL
        operation = OPERATIONS[self.operation]
        name = prefix + self.name
        return AclBinding(KINDS[self.kind], name, whole, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)


ROWS = [
    [Right(Role(role.partition(",")[0]), kind, name, operation) for name in re.findall(r"`([^`]*)`", names)]
    for role, kind, names, operations in table("Rights")
    for operation in operations.split(", ")
]
"""One row of the table and operation each: what is granted, and taken away, together."""
RIGHTS = [right for row in ROWS for right in row]
TAKEN = [
    next(row for row in ROWS if (row[0].role, row[0].kind, row[0].operation) == sort)
    for sort in dict.fromkeys((right.role, right.kind, right.operation) for right in RIGHTS)
]
"""One of each sort and role: what is said is the same for its siblings."""
NAMED = {"topic": "", "group": "GROUP_AUTHORIZATION_FAILED", "transactional ID": "transactional"}
"""How a refusal names what it is about; a topic's by its name."""


def test_the_table_is_what_check_asks_for() -> None:
    """That of both APIs: the feed marks letters superseded, the events' send reads them for what they hold."""
    for role in Role:
        told: dict[str, set[str]] = {}
        for right in RIGHTS:
            if right.role is role and right.kind == "topic":
                told.setdefault(right.name, set()).add(OPERATIONS[right.operation].name)
        wanted: dict[str, set[str]] = {}
        for api in Api:
            for rekey in (False, True):
                for topic, operations in needed(role, api, rekey=rekey).items():
                    wanted.setdefault(str(topic), set()).update(operations)
        assert told == wanted
        others = {(right.kind, right.operation) for right in RIGHTS if right.role is role and right.kind != "topic"}
        assert others == {("group", "Read")} | ({("transactional ID", "Write")} if role in TRANSACTIONAL else set())


class Guarded(NamedTuple):
    """A broker with an authoriser, and an installation on it with an API."""

    kafka: SecuredKafka
    installation: Installation
    settings: dict[str, str]

    @property
    def prefix(self) -> str:
        return self.installation.space.prefix

    def allow(self, rights: list[Right]) -> None:
        allow(self.kafka, self.prefix, rights)


def allow(kafka: SecuredKafka, prefix: str, rights: list[Right]) -> None:
    """Exactly these, and nothing that was allowed before."""
    admin = AdminClient({"bootstrap.servers": kafka.anybody, "log_level": 3})
    every = AclBindingFilter(
        ResourceType.ANY,
        cast("str", None),  # any; the stub does not know
        ResourcePatternType.ANY,
        f"User:{USER}",
        cast("str", None),
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    for future in admin.delete_acls([every]).values():
        future.result(timeout=30)
    bindings = list({right.binding(prefix): None for right in rights})
    for future in admin.create_acls(bindings).values():
        future.result(timeout=30)


def documented(kafka: SecuredKafka, protocol: str) -> dict[str, str]:
    """The settings of this protocol as the README has them, with this broker's own files, name and password."""
    section = TEXT.split("\n## TLS and SASL\n")[1].split("\n## ")[0]
    blocks = re.findall(r"(?:^    KAFKA_.*\n)+", section, re.MULTILINE)
    (block,) = [one for one in blocks if f"KAFKA_SECURITY_PROTOCOL={protocol}\n" in one]
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    told: dict[str, str] = {name: value for name, _, value in (line.partition("=") for line in lines)}
    ours = {
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_SSL_CA_LOCATION": str(kafka.authority.ca),
        "KAFKA_SSL_CERTIFICATE_LOCATION": str(kafka.client.certificate),
        "KAFKA_SSL_KEY_LOCATION": str(kafka.client.key),
    }
    return {name: ours.get(name, value) for name, value in told.items()}


@pytest.fixture(scope="module")
def guarded(secured: SecuredKafka, schema_registry: str) -> Iterator[Guarded]:
    """Its settings come in by the door that asks for TLS and SCRAM."""
    with Loopback(StandIn(HakunaApi())) as api, Loopback(StandIn(HakoApi())) as hako_api:
        installation = Installation(TopicSpace(secured.anybody), schema_registry, partitions=1, sources={})
        hakuna = {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
        hako = {"HAKO_BASE_URL": f"{hako_api.url}/v0", "HAKO_API_KEY": SANDBOX_KEY, "HAKO_QUOTA": "20/1s"}
        door = {**documented(secured, "SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": secured.scram}
        yield Guarded(secured, installation, {**installation.environment, **door, **hakuna, **hako})


@pytest.mark.kafka
@pytest.mark.slow
def test_the_roles_work_with_exactly_these(guarded: Guarded, start_worker: StartWorker) -> None:
    guarded.allow(RIGHTS)
    for role in Role:
        start_worker("run", "--role", role.value, environment=guarded.settings, name=role.value)
    start_ms = round(time.time() * 1000) - 60_000
    steps = guarded.installation.play(shop(Shop(orders=20, rate=10, bad_share=0.3, seed=3, start_ms=start_ms)))
    assert steps
    stock(guarded.installation)
    space = guarded.installation.space
    wait_until(
        lambda: (
            len(space.records("hakuna.deliveries")) + len(space.records("hakuna.dead-letters"))
            >= len(space.records("hakuna.outbox"))
            > 0
        ),
        what="all that was to be sent",
        timeout_s=60,
    )
    assert space.records("orders.dead-letters")
    wait_until(lambda: len(space.records("hako.sent")) > 0, what="an item at Hako", timeout_s=60)
    assert space.records("hako.dead-letters")


def stock(installation: Installation) -> None:
    """An item, and a deletion of nothing that has a name."""
    sku = f"sku-{time.time_ns()}"
    item = {"sku": sku, "name": None, "expires": None, "price": 1}
    installation.write(Topic.ITEMS, sku.encode(), installation.encode(Topic.ITEMS, item))
    installation.write(Topic.LEVELS, b"no-slash", None)
    installation.flush()


def said(worker: Worker) -> str:
    """All that a worker has told anybody so far: its log and, while it runs, /readyz."""
    try:
        return worker.log_tail(400) + worker.get("/readyz").text
    except httpx.TransportError:
        return worker.log_tail(400)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("taken", TAKEN, ids=lambda row: f"{row[0].role}-{row[0].kind}-{row[0].operation}")
def test_a_worker_says_what_it_lacks(taken: list[Right], guarded: Guarded, start_worker: StartWorker) -> None:
    right = taken[0]
    assert right.role is not None, "a right of no role's"
    guarded.allow([other for other in RIGHTS if other.role is right.role and other not in taken])
    rekey = right.role is Role.REKEY or "rekeyed" in right.name  # with it transform reads other topics
    environment = {**guarded.settings, "PROCESSOR_REKEY": "on" if rekey else "off"}
    worker = start_worker("run", "--role", right.role.value, environment=environment, await_ready=False)
    start_ms = round(time.time() * 1000) - 60_000
    guarded.installation.play(shop(Shop(orders=5, rate=10, bad_share=0, seed=time.time_ns(), start_ms=start_ms)))
    if rekey:  # what rekey would have written
        guarded.installation.write(REKEYED[Topic.PLACED], b"ord-1", b"no Avro")
    guarded.installation.write(Topic.OUTBOX, b"ord-1", b"{}", headers=ENTRY)
    stock(guarded.installation)
    wait_until(
        lambda: refused(said(worker), taken, guarded.prefix),
        what=f"A word about {right.operation} on {right.name}",
        timeout_s=SAID_SECONDS_MAX,
    )
    if worker.running:
        wait_until(lambda: not worker.ready(), what="/readyz that says so too", timeout_s=10)


def refused(text: str, taken: list[Right], prefix: str) -> bool:
    about = NAMED[taken[0].kind] in text and (
        taken[0].kind != "topic" or any(prefix + right.name in text for right in taken)
    )
    return about and REFUSAL.search(text) is not None and REMEDY in text


@pytest.mark.kafka
def test_mutual_tls_is_let_in_with_the_documented_settings(guarded: Guarded, start_worker: StartWorker) -> None:
    guarded.allow(RIGHTS)
    others = {
        name: value for name, value in guarded.settings.items() if not name.startswith(("KAFKA_SASL", "KAFKA_SSL"))
    }
    door = {**documented(guarded.kafka, "SSL"), "KAFKA_BOOTSTRAP_SERVERS": guarded.kafka.tls}
    start_worker("run", environment={**others, **door})  # all three roles, ready


class WrongDoor(NamedTuple):
    """`settings` as they are changed (None: taken out), the words of the client, the remedy's."""

    settings: dict[str, str | None]
    words: str
    remedy: str


WRONG_DOORS = {
    "password": WrongDoor({"KAFKA_SASL_PASSWORD": "wrong"}, "invalid credentials", "KAFKA_SASL_PASSWORD"),
    "mechanism": WrongDoor({"KAFKA_SASL_MECHANISM": "PLAIN"}, "PLAIN", "KAFKA_SASL_MECHANISM"),
    "authority": WrongDoor({"KAFKA_SSL_CA_LOCATION": "OTHER"}, "certificate verify failed", "KAFKA_SSL_CA_LOCATION"),
    "no TLS": WrongDoor(
        dict.fromkeys(("KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SSL_CA_LOCATION")),
        "brokers are down",
        "`hakuna-processor check`",
    ),
}
TOLD_BY_CHECK = {"no TLS": "asks for TLS"}


@pytest.mark.kafka
@pytest.mark.parametrize("wrong", WRONG_DOORS)
def test_who_is_not_let_in_says_why_and_what_to_do(
    wrong: str, guarded: Guarded, start_worker: StartWorker, tmp_path: Path
) -> None:
    """`check`, `/readyz` and the log of a worker."""
    changes, words, remedy = WRONG_DOORS[wrong]
    other = str(Authority(tmp_path, "other").ca)
    settings = guarded.settings | {name: value or "" for name, value in changes.items()}
    settings = {name: other if value == "OTHER" else value for name, value in settings.items() if value}
    worker = start_worker("run", "--role", "send", environment=settings, await_ready=False)
    checked = ask("check", "--role", "send", environment=settings | {"PROCESSOR_STATE_DIR": str(tmp_path / "state")})
    assert checked.code == 78
    told = " ".join((checked.out + checked.err).split())
    assert TOLD_BY_CHECK.get(wrong, words) in told
    assert remedy in told or wrong == "no TLS"
    wait_until(lambda: words in said(worker) and remedy in said(worker), what=f"{words}; {remedy}", timeout_s=45)
    assert not worker.ready()
    assert worker.running, "it is let in as soon as this is mended"
    assert remedy in worker.get("/readyz").text
    assert '"kafka.trouble"' in worker.log_tail(400)
