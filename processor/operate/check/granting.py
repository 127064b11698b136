"""Rights and topics in the words of what grants and makes them: `kafka-acls.sh`, or Strimzi's operator. Pure.

Strimzi's objects come as one Kubernetes List, which `kubectl apply -f -` takes. Their version, `kafka.strimzi.io/v1`,
is that of Strimzi 0.49 and later. A KafkaUser has the name of the secret that the manifests read its password
from: `kafka-` and the role.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from processor.config import Role, Settings
from processor.operate.check import rights
from processor.topics import NEEDED, Action, Step

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
    """What one role has to be allowed, whole names."""
    group = settings.group(role)
    found = [
        Grant("topic", settings.topic(topic), _spelled(operations))
        for topic, operations in rights.needed(role, settings.hakuna_api, rekey=settings.rekey).items()
    ]
    found.append(Grant("group", group, ("Read",)))
    if role in rights.TRANSACTIONAL:
        found.append(Grant("transactionalId", f"{group}.", ("Write",), prefixed=True))
    return found


def operator_grants(settings: Settings) -> list[Grant]:
    """What the user of an operator's commands has to be allowed, `topics create` apart."""
    of_topics = rights.OPERATOR_WITH_REKEY if settings.rekey else rights.OPERATOR
    roles = [role for role in NEEDED if role is not Role.REKEY or settings.rekey]
    place = f"{settings.group_prefix}hakuna-processor.{rights.OPERATOR_PLACE}"
    return [
        *(Grant("topic", settings.topic(topic), _spelled(operations)) for topic, operations in of_topics.items()),
        Grant("group", place, ("Read",)),
        *(Grant("group", settings.group(role), ("Describe",)) for role in roles),
        Grant("transactionalId", place, ("Write",), prefixed=True),
    ]


def acl_commands(bootstrap: str, users: Mapping[str, Sequence[Grant]]) -> list[str]:
    """One command a grant, for a shell."""
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
    """A KafkaUser each, with SCRAM-SHA-512."""
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
    """A KafkaTopic for each topic that a plan creates. `replicas` -1: the cluster's default."""
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
    pattern = "prefix" if grant.prefixed else "literal"
    return {
        "resource": {"type": grant.kind, "name": grant.name, "patternType": pattern},
        "operations": list(grant.operations),
    }


def _spelled(operations: frozenset[str]) -> tuple[str, ...]:
    """READ, DESCRIBE_CONFIGS → Read, DescribeConfigs."""
    return tuple(rights.missing(operations, frozenset({"DESCRIBE"})))


def _object_name(topic: str) -> str:
    """A topic's name as Kubernetes takes names: lowercase letters, digits, `-` and `.`."""
    return re.sub(r"[^a-z0-9.-]", "-", topic.lower()).strip("-.")
