"""The rights that each role and an operator need, in the words of Kafka's ACLs, and as input of the tools that grant
them and make topics: `kafka-acls.sh` and Strimzi's operator. Pure; deploy/README.md mirrors it.

Describe comes with Read, Write and Delete. DescribeConfigs is for the start, when a role checks its topics. A worker
writes to its own transactional IDs, which begin with its group's name.

Strimzi's objects come as one Kubernetes List, for `kubectl apply -f -`. Their version, `kafka.strimzi.io/v1`, is that
of Strimzi 0.49 and later. A KafkaUser has the name of the secret from which the manifests read its password: `kafka-`
and the role."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from processor.config import Role, Settings
from processor.hakuna import Api
from processor.operate.replay.survey import Field, Route
from processor.topics import DEAD_LETTER_TOPICS, NEEDED, ORDER_TOPICS, REKEYED, STOCK_TOPICS, Action, Step, Topic
from processor.topics import needed as needed_topics

READ: Final = "READ"
WRITE: Final = "WRITE"
DELETE: Final = "DELETE"
DESCRIBE_CONFIGS: Final = "DESCRIBE_CONFIGS"

_READS: Final[Mapping[Role, frozenset[Topic]]] = {
    Role.TRANSFORM: frozenset({*ORDER_TOPICS, *REKEYED.values(), Topic.CHANGELOG}),
    Role.REKEY: frozenset({*ORDER_TOPICS, Topic.REKEYED_EVENTS}),
    Role.SEND: frozenset({Topic.OUTBOX, Topic.HOLDS, Topic.SEND_OFFSETS}),
    Role.HAKO: frozenset({*STOCK_TOPICS, Topic.HAKO_SENT}),
}
_WRITES: Final[Mapping[Role, frozenset[Topic]]] = {
    Role.TRANSFORM: frozenset({Topic.CHANGELOG, Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS}),
    Role.REKEY: frozenset({*REKEYED.values(), Topic.REKEYED_EVENTS, Topic.ORDER_DEAD_LETTERS}),
    Role.SEND: frozenset({Topic.DELIVERIES, Topic.HAKUNA_DEAD_LETTERS, Topic.HOLDS, Topic.SEND_OFFSETS}),
    Role.HAKO: frozenset({Topic.HAKO_SENT, Topic.HAKO_DEAD_LETTERS}),
}
_DELETES: Final[Mapping[Role, frozenset[Topic]]] = {Role.TRANSFORM: frozenset(REKEYED.values())}
"""The topics whose records a role deletes: transform deletes what it has taken of rekeyed topics."""
TRANSACTIONAL: Final = frozenset({Role.TRANSFORM, Role.REKEY})
"""Roles that write in transactions and need Write on their transactional IDs."""


def marks(role: Role, api: Api) -> bool:
    """Returns true if a role writes that a newer snapshot or value has superseded a letter. The role works without it,
    so it does not need the topic of resolutions; the letters would stay open until they are replayed."""
    return role is Role.HAKO or (role is Role.SEND and api is Api.FEED)


def needed(role: Role, api: Api, *, rekey: bool = False) -> Mapping[Topic, frozenset[str]]:
    """Returns the operations that a role needs, by topic."""
    reads, writes, deletes = (of.get(role, frozenset()) for of in (_READS, _WRITES, _DELETES))
    found = {
        topic: frozenset({DESCRIBE_CONFIGS})
        | (frozenset({READ}) if topic in reads else frozenset())
        | (frozenset({WRITE}) if topic in writes else frozenset())
        | (frozenset({DELETE}) if topic in deletes else frozenset())
        for topic in needed_topics(role, rekey=rekey)
    }
    if marks(role, api):
        found[Topic.RESOLUTIONS] = frozenset({DESCRIBE_CONFIGS, WRITE})
    if role is Role.SEND and api is Api.EVENTS:
        # Open letters show what is held if the topic of holds is made again.
        found[Topic.HAKUNA_DEAD_LETTERS] |= {READ}
        found[Topic.RESOLUTIONS] = frozenset({READ})
    return found


_BOOKS_AND_LETTERS: Final = frozenset({READ, DESCRIBE_CONFIGS})
OPERATOR: Final[Mapping[Topic, frozenset[str]]] = {
    **dict.fromkeys(DEAD_LETTER_TOPICS, _BOOKS_AND_LETTERS | {DELETE}),
    **dict.fromkeys(
        (Topic.RESOLUTIONS, Topic.HOLDS, Topic.OUTBOX, *ORDER_TOPICS, *STOCK_TOPICS), _BOOKS_AND_LETTERS | {WRITE}
    ),
    **dict.fromkeys((Topic.DELIVERIES, Topic.CHANGELOG, Topic.SEND_OFFSETS, Topic.HAKO_SENT), _BOOKS_AND_LETTERS),
}
"""What the commands of an operator need, by topic: `status`, `order`, `sku`, `dead-letters`."""
OPERATOR_WITH_REKEY: Final[Mapping[Topic, frozenset[str]]] = {
    **OPERATOR,
    **dict.fromkeys(REKEYED.values(), _BOOKS_AND_LETTERS | {WRITE}),
}
OPERATOR_PLACE: Final = "dead-letters"
"""The group of a replay, and the beginning of its transactional ID."""


def to_resolve(field: Field, targets: Collection[str]) -> Mapping[str, frozenset[str]]:
    """Returns the operations that a replay needs, by whole name of the topic: to write copies to `targets` (none for a
    discard), resolutions, and the tombstones that take holds off."""
    holds = [field.holds] if field.route is Route.OUTBOX else []
    return dict.fromkeys([field.resolutions, *holds, *sorted(targets)], frozenset({WRITE}))


def to_purge(field: Field) -> Mapping[str, frozenset[str]]:
    """Returns the operations that a purge needs, by whole name of the topic."""
    return {field.letters: frozenset({DELETE}), field.resolutions: frozenset({WRITE})}


def missing(wanted: frozenset[str], allowed: frozenset[str] | None) -> list[str]:
    """Returns what is wanted and not allowed, as ACL commands spell it; nothing if the broker does not say (None)."""
    if not allowed:
        return []
    return sorted(operation.replace("_", " ").title().replace(" ", "") for operation in wanted - allowed)


_VERSION: Final = "kafka.strimzi.io/v1"
_CLUSTER: Final = "strimzi.io/cluster"
_ACL_FLAGS: Final = {"topic": "--topic", "group": "--group", "transactionalId": "--transactional-id"}


class Grant(NamedTuple):
    """Operations on one resource, as ACLs spell them (`Read`). `kind` is topic, group or transactionalId; `prefixed`
    means every resource whose name begins so."""

    kind: str
    name: str
    operations: tuple[str, ...]
    prefixed: bool = False


def grants(settings: Settings, role: Role) -> list[Grant]:
    """Returns the rights that one role needs, whole names."""
    group = settings.group(role)
    of_topics = needed(role, settings.hakuna_api, rekey=settings.rekey).items()
    found = [Grant("topic", settings.topic(topic), _spelled(operations)) for topic, operations in of_topics]
    found.append(Grant("group", group, ("Read",)))
    if role in TRANSACTIONAL:
        found.append(Grant("transactionalId", f"{group}.", ("Write",), prefixed=True))
    return found


def operator_grants(settings: Settings) -> list[Grant]:
    """Returns the rights that an operator's commands need, except `topics create`."""
    of_topics = OPERATOR_WITH_REKEY if settings.rekey else OPERATOR
    roles = [role for role in NEEDED if role is not Role.REKEY or settings.rekey]
    place = f"{settings.group_prefix}hakuna-processor.{OPERATOR_PLACE}"
    return [
        *(Grant("topic", settings.topic(topic), _spelled(operations)) for topic, operations in of_topics.items()),
        Grant("group", place, ("Read",)),
        *(Grant("group", settings.group(role), ("Describe",)) for role in roles),
        Grant("transactionalId", place, ("Write",), prefixed=True),
    ]


def acl_commands(bootstrap: str, users: Mapping[str, Sequence[Grant]]) -> list[str]:
    """Returns one shell command a grant."""
    return [
        shlex.join(
            ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--add", "--allow-principal", f"User:{user}"]
            + [word for operation in grant.operations for word in ("--operation", operation)]
            + [_ACL_FLAGS[grant.kind], grant.name]
            + (["--resource-pattern-type", "prefixed"] if grant.prefixed else [])
        )
        for user, granted in users.items()
        for grant in granted
    ]


def kafka_users(cluster: str, users: Mapping[str, Sequence[Grant]]) -> dict[str, Any]:
    """Returns a KafkaUser for each, with SCRAM-SHA-512."""
    return _listed(
        {
            "apiVersion": _VERSION,
            "kind": "KafkaUser",
            "metadata": {"name": user, "labels": {_CLUSTER: cluster}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": [_acl(grant) for grant in granted]},
            },
        }
        for user, granted in users.items()
    )


def kafka_topics(cluster: str, steps: Iterable[Step], replicas: int) -> dict[str, Any]:
    """Returns a KafkaTopic for each topic that a plan creates. `replicas` -1: the cluster's default."""
    return _listed(
        {
            "apiVersion": _VERSION,
            "kind": "KafkaTopic",
            "metadata": {"name": _object_name(step.topic), "labels": {_CLUSTER: cluster}},
            "spec": {
                "topicName": step.topic,
                "partitions": step.partitions,
                **({"replicas": replicas} if replicas > 0 else {}),
                "config": dict(step.config),
            },
        }
        for step in steps
        if step.action is Action.CREATE
    )


def _listed(items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def _acl(grant: Grant) -> dict[str, Any]:
    resource = {"type": grant.kind, "name": grant.name, "patternType": "prefix" if grant.prefixed else "literal"}
    return {"resource": resource, "operations": list(grant.operations)}


def _spelled(operations: frozenset[str]) -> tuple[str, ...]:
    """READ, DESCRIBE_CONFIGS → Read, DescribeConfigs."""
    return tuple(missing(operations, frozenset({"DESCRIBE"})))


def _object_name(topic: str) -> str:
    """Returns a topic's name as Kubernetes takes names: lowercase letters, digits, `-` and `.`."""
    return re.sub(r"[^a-z0-9.-]", "-", topic.lower()).strip("-.")
