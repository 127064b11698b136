"""What each role, and an operator who replays, must be allowed, in the words of Kafka's ACLs. Pure; deploy/README.md
mirrors it.

Describe comes with Read, Write and Delete. DescribeConfigs is for the start, where a role looks whether its topics are
such that it can work; a worker writes to its own transactional IDs, which begin with its group's name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from processor.config import Role
from processor.hakuna import Api
from processor.operate.replay.survey import Field, Route
from processor.topics import DEAD_LETTER_TOPICS, ORDER_TOPICS, REKEYED, STOCK_TOPICS, Topic
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
"""Whose records a role deletes: what transform has taken of rekeyed topics."""
TRANSACTIONAL: Final = frozenset({Role.TRANSFORM, Role.REKEY})
"""Roles that write in transactions, and so need Write on their transactional IDs."""


def marks(role: Role, api: Api) -> bool:
    """Whether a role notes down that a newer snapshot, or a newer value, has superseded a letter. It works without, so
    the topic of resolutions is not among those that it needs; the letters would stay open until they are replayed."""
    return role is Role.HAKO or (role is Role.SEND and api is Api.FEED)


def needed(role: Role, api: Api, *, rekey: bool = False) -> Mapping[Topic, frozenset[str]]:
    """By topic, the operations that a role has to be allowed."""
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
        # Open letters are the second witness of what is held, should the topic of holds be made anew.
        found[Topic.HAKUNA_DEAD_LETTERS] |= {READ}
        found[Topic.RESOLUTIONS] = frozenset({READ})
    return found


_BOOKS_AND_LETTERS: Final = frozenset({READ, DESCRIBE_CONFIGS})
OPERATOR: Final[Mapping[Topic, frozenset[str]]] = {
    **dict.fromkeys(DEAD_LETTER_TOPICS, _BOOKS_AND_LETTERS | {DELETE}),
    **dict.fromkeys(
        (Topic.RESOLUTIONS, Topic.HOLDS, Topic.OUTBOX, *ORDER_TOPICS, *STOCK_TOPICS), _BOOKS_AND_LETTERS | {WRITE}
    ),
    **dict.fromkeys((Topic.DELIVERIES, Topic.CHANGELOG, Topic.SEND_OFFSETS), _BOOKS_AND_LETTERS),
}
"""By topic, what the commands of an operator need: `status`, `order`, `dead-letters`."""
OPERATOR_WITH_REKEY: Final[Mapping[Topic, frozenset[str]]] = {
    **OPERATOR,
    **dict.fromkeys(REKEYED.values(), _BOOKS_AND_LETTERS | {WRITE}),
}
OPERATOR_PLACE: Final = "dead-letters"
"""The group, and the beginning of the transactional ID, of a replay: one at a time."""


def to_resolve(field: Field, targets: Collection[str]) -> Mapping[str, frozenset[str]]:
    """By topic, whole names, what writes a replay's copies to `targets` (none: a discard), its resolutions, and the
    holds that it takes off."""
    holds = [field.holds] if field.route is Route.OUTBOX else []
    return dict.fromkeys([field.resolutions, *holds, *sorted(targets)], frozenset({WRITE}))


def to_purge(field: Field) -> Mapping[str, frozenset[str]]:
    """The same for the deletion of what is resolved."""
    return {field.letters: frozenset({DELETE}), field.resolutions: frozenset({WRITE})}


def missing(wanted: frozenset[str], allowed: frozenset[str] | None) -> list[str]:
    """What is wanted and not allowed, as ACL commands spell it. `allowed` None: the broker does not say."""
    if not allowed:
        return []
    return sorted(operation.replace("_", " ").title().replace(" ", "") for operation in wanted - allowed)
