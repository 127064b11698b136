"""The rights in deploy/README.md, on a broker with an authoriser: each role works with exactly these, and says what it
lacks when one is taken away."""

import re
import time
from collections.abc import Iterator
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
from processor.preflight.rights import TRANSACTIONAL, needed
from processor.records import Headers
from processor.sandbox.hako_api import HakoApi
from processor.sandbox.hakuna_api import HakunaApi
from processor.sandbox.loopback import Loopback
from processor.sandbox.orders import Shop, shop
from processor.sandbox.script import SANDBOX_KEY
from processor.sandbox.stand_in import StandIn
from processor.topics import Topic
from tests.conftest import StartWorker, not_to_be_had
from tests.deploy.test_runbook import table
from tests.support.children import Unavailable, wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.secured_kafka import USER, SecuredKafka, secured_kafka
from tests.support.topics import TopicSpace

SAID_SECONDS_MAX = 45.0
REFUSAL = re.compile(r"not allowed|AUTHORIZATION_FAILED|authorization failed|not authorized", re.IGNORECASE)
ENTRY: Headers = [("entry-id", b"e-1"), ("entry-type", b"order_cancelled"), ("source", b"a/0/0"), ("occurred-at", b"1")]
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional ID": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


class Right(NamedTuple):
    """One operation on one resource; `kind` and `operation` as the table has them."""

    role: Role
    kind: str
    name: str
    operation: str

    def binding(self, prefix: str) -> AclBinding:
        whole = ResourcePatternType.PREFIXED if self.kind == "transactional ID" else ResourcePatternType.LITERAL
        operation = OPERATIONS[self.operation]
        name = prefix + self.name
        return AclBinding(KINDS[self.kind], name, whole, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)


ROWS = [
    [Right(Role(role), kind, name, operation) for name in re.findall(r"`([^`]*)`", names)]
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
    for role in Role:
        told: dict[str, set[str]] = {}
        for right in RIGHTS:
            if right.role is role and right.kind == "topic":
                told.setdefault(right.name, set()).add(OPERATIONS[right.operation].name)
        assert told == {str(topic): set(operations) for topic, operations in needed(role).items()}
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
        """Exactly these, and nothing that was allowed before."""
        admin = AdminClient({"bootstrap.servers": self.kafka.anybody, "log_level": 3})
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
        bindings = list({right.binding(self.prefix): None for right in rights})
        for future in admin.create_acls(bindings).values():
            future.result(timeout=30)


@pytest.fixture(scope="module")
def guarded(schema_registry: str) -> Iterator[Guarded]:
    try:
        with (
            secured_kafka() as kafka,
            Loopback(StandIn(HakunaApi())) as api,
            Loopback(StandIn(HakoApi())) as hako_api,
        ):
            installation = Installation(TopicSpace(kafka.anybody), schema_registry, partitions=1)
            hakuna = {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
            hako = {"HAKO_BASE_URL": f"{hako_api.url}/v0", "HAKO_API_KEY": SANDBOX_KEY, "HAKO_QUOTA": "20/1s"}
            settings = {**installation.environment, **kafka.credentials, **hakuna, **hako}
            yield Guarded(kafka, installation, settings)
    except Unavailable as reason:
        not_to_be_had(reason)


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
    guarded.allow([other for other in RIGHTS if other.role is right.role and other not in taken])
    worker = start_worker("run", "--role", right.role.value, environment=guarded.settings, await_ready=False)
    start_ms = round(time.time() * 1000) - 60_000
    guarded.installation.play(shop(Shop(orders=5, rate=10, bad_share=0, seed=time.time_ns(), start_ms=start_ms)))
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
    return about and REFUSAL.search(text) is not None
