"""The rights in deploy/README.md, on a broker with an authoriser: each role works with exactly these, and says what it
lacks when one is taken away."""

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

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
from processor.sandbox.hakuna_api import HakunaApi
from processor.sandbox.loopback import Loopback
from processor.sandbox.orders import Shop, shop
from processor.sandbox.script import SANDBOX_KEY
from processor.sandbox.stand_in import StandIn
from tests.conftest import StartWorker, not_to_be_had
from tests.deploy.test_runbook import table
from tests.support.children import Unavailable, wait_until
from tests.support.installation import Installation
from tests.support.processes import Worker
from tests.support.secured_kafka import USER, SecuredKafka, secured_kafka
from tests.support.topics import TopicSpace

SAID_SECONDS_MAX = 45.0
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


RIGHTS = [
    Right(Role(role), kind, name, operation)
    for role, kind, names, operations in table("Rights")
    for name in re.findall(r"`([^`]*)`", names)
    for operation in operations.split(", ")
]
TAKEN = [
    next(right for right in RIGHTS if (right.role, right.kind, right.operation) == one)
    for one in dict.fromkeys((right.role, right.kind, right.operation) for right in RIGHTS)
]
"""One right of each sort and role: what is said is the same for its siblings."""


def test_the_table_is_what_check_asks_for() -> None:
    for role in (Role.TRANSFORM, Role.SEND):
        told: dict[str, set[str]] = {}
        for right in RIGHTS:
            if right.role is role and right.kind == "topic":
                told.setdefault(right.name, set()).add(OPERATIONS[right.operation].name)
        assert told == {str(topic): set(operations) for topic, operations in needed(role).items()}
        others = {(right.kind, right.operation) for right in RIGHTS if right.role is role and right.kind != "topic"}
        assert others == {("group", "Read")} | ({("transactional ID", "Write")} if role in TRANSACTIONAL else set())


class Guarded(NamedTuple):
    """A broker with an authoriser, an installation on it, and an API."""

    kafka: SecuredKafka
    installation: Installation
    hakuna: StandIn
    settings: dict[str, str]

    @property
    def prefix(self) -> str:
        return self.installation.space.prefix

    def allow(self, rights: list[Right]) -> None:
        """Exactly these, and nothing that was allowed before."""
        admin = AdminClient({"bootstrap.servers": self.kafka.anybody, "log_level": 3})
        every = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            f"User:{USER}",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for future in admin.delete_acls([every]).values():
            future.result(timeout=30)
        for future in admin.create_acls([right.binding(self.prefix) for right in rights]).values():
            future.result(timeout=30)


@pytest.fixture(scope="module")
def guarded(schema_registry: str) -> Iterator[Guarded]:
    try:
        with secured_kafka() as kafka, Loopback(StandIn(HakunaApi())) as api:
            installation = Installation(TopicSpace(kafka.anybody), schema_registry, partitions=1)
            hakuna = {"HAKUNA_BASE_URL": api.url, "HAKUNA_API_KEY": SANDBOX_KEY}
            settings = {**installation.environment, **kafka.credentials, **hakuna}
            yield Guarded(kafka, installation, StandIn(HakunaApi()), settings)
    except Unavailable as reason:
        not_to_be_had(reason)


def of(role: Role) -> list[Right]:
    return [right for right in RIGHTS if right.role is role]


@pytest.mark.kafka
@pytest.mark.slow
def test_the_roles_work_with_exactly_these(guarded: Guarded, start_worker: StartWorker) -> None:
    guarded.allow(RIGHTS)
    for role in (Role.TRANSFORM, Role.SEND):
        start_worker("run", "--role", role.value, environment=guarded.settings, name=role.value)
    start_ms = round(time.time() * 1000) - 60_000
    steps = guarded.installation.play(shop(Shop(orders=20, rate=10, bad_share=0.3, seed=3, start_ms=start_ms)))
    assert steps
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


def said(worker: Worker) -> str:
    """All that a worker has told anybody so far: its log and, while it runs, /readyz."""
    try:
        return worker.log_tail(400) + worker.get("/readyz").text
    except httpx.TransportError:
        return worker.log_tail(400)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize("right", TAKEN, ids=lambda right: f"{right.role}-{right.kind}-{right.operation}")
def test_a_worker_says_what_it_lacks(right: Right, guarded: Guarded, start_worker: StartWorker) -> None:
    guarded.allow([other for other in of(right.role) if other != right])
    worker = start_worker("run", "--role", right.role.value, environment=guarded.settings, await_ready=False)
    start_ms = round(time.time() * 1000) - 60_000
    guarded.installation.play(shop(Shop(orders=5, rate=10, bad_share=0, seed=time.time_ns(), start_ms=start_ms)))
    refusal = re.compile(r"not allowed|AUTHORIZATION_FAILED|authorization failed|not authorized", re.IGNORECASE)
    wait_until(
        lambda: bool(refusal.search(said(worker))),
        what=f"A word about {right.operation} on {right.name}",
        timeout_s=SAID_SECONDS_MAX,
    )
    if worker.running:
        assert not worker.ready()
