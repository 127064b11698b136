"""What each role needs to be allowed, in the words of Kafka's ACLs. Pure; deploy/README.md mirrors it.

Describe comes with Read and Write. DescribeConfigs is for the start, where a role looks whether its topics are such
that it can work; a worker writes to its own transactional IDs, which begin with its group's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from processor.config import Role
from processor.topics import NEEDED, ORDER_TOPICS, STOCK_TOPICS, Topic

READ: Final = "READ"
WRITE: Final = "WRITE"
DESCRIBE_CONFIGS: Final = "DESCRIBE_CONFIGS"

_READS: Final[Mapping[Role, frozenset[Topic]]] = {
    Role.TRANSFORM: frozenset({*ORDER_TOPICS, Topic.CHANGELOG}),
    Role.SEND: frozenset({Topic.OUTBOX, Topic.HOLDS, Topic.SEND_OFFSETS}),
    Role.HAKO: frozenset({*STOCK_TOPICS, Topic.HAKO_SENT}),
}
_WRITES: Final[Mapping[Role, frozenset[Topic]]] = {
    Role.TRANSFORM: frozenset({Topic.CHANGELOG, Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS}),
    Role.SEND: frozenset({Topic.DELIVERIES, Topic.HAKUNA_DEAD_LETTERS, Topic.HOLDS, Topic.SEND_OFFSETS}),
    Role.HAKO: frozenset({Topic.HAKO_SENT, Topic.HAKO_DEAD_LETTERS}),
}
TRANSACTIONAL: Final = frozenset({Role.TRANSFORM})
"""Roles that write in transactions, and so need Write on their transactional IDs."""


_MARKS: Final[Mapping[Role, Topic]] = {Role.HAKO: Topic.RESOLUTIONS}
"""Where a role says that a letter is superseded. It works without, so the topic is not among those that it needs."""


def needed(role: Role) -> Mapping[Topic, frozenset[str]]:
    """By topic, the operations that a role has to be allowed."""
    reads, writes = _READS.get(role, frozenset()), _WRITES.get(role, frozenset())
    found = {
        topic: frozenset({DESCRIBE_CONFIGS})
        | (frozenset({READ}) if topic in reads else frozenset())
        | (frozenset({WRITE}) if topic in writes else frozenset())
        for topic in NEEDED.get(role, ())
    }
    if role in _MARKS:
        found[_MARKS[role]] = frozenset({DESCRIBE_CONFIGS, WRITE})
    return found


def missing(wanted: frozenset[str], allowed: frozenset[str] | None) -> list[str]:
    """What is wanted and not allowed, as ACL commands spell it. `allowed` None: the broker does not say."""
    if not allowed:
        return []
    return sorted(operation.replace("_", " ").title().replace(" ", "") for operation in wanted - allowed)
