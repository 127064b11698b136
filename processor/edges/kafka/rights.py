"""The rights of this user: asked for if the broker tells them, else tried, with no trace left.

Owned by `check`. Topics and groups are described with the operations that are allowed on them. Nothing describes a
transactional ID, so a producer asks for one with a timeout above the broker's `transaction.max.timeout.ms`: the broker
checks the right first (TRANSACTIONAL_ID_AUTHORIZATION_FAILED), then the timeout (INVALID_TRANSACTION_TIMEOUT), and only
then stores the ID.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from enum import Enum
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from processor.edges.kafka.admin import ANSWER_S_MAX, NO_COORDINATOR_YET, KafkaAdmin
from processor.edges.kafka.client import KafkaSettings, error_of, merged, new_producer
from processor.errors import Unusable

_NEVER_GRANTED_MS: Final = 2_000_000_000
"""Above every `transaction.max.timeout.ms` (15 min by default), and with librdkafka's addition still below 32 bits."""

COORDINATOR_TRIES_MAX: Final = 20
_COORDINATOR_S: Final = 0.25


class Allowed(NamedTuple):
    """`operations` by their Kafka names, None if the broker does not tell; `refused` is why it gave no description;
    `members` counts those of a group."""

    operations: frozenset[str] | None
    refused: str | None = None
    members: int = 0


def topic_rights(admin: KafkaAdmin, topics: Sequence[str]) -> Mapping[str, Allowed]:
    """Returns the rights to each topic; None for one that does not exist."""
    found: dict[str, Allowed] = {}
    for name, future in admin.topics_soon(topics).items():
        try:
            found[name] = Allowed(_names(future.result(timeout=2 * ANSWER_S_MAX).authorized_operations))
        except (KafkaException, FutureTimeout) as refused:
            found[name] = Allowed(None, _why(refused))
    return found


def group_rights(admin: KafkaAdmin, group: str) -> Allowed:
    """Returns the rights to a group. A group that does not exist yet has a description, too."""
    for _ in range(COORDINATOR_TRIES_MAX):
        try:
            described = admin.group_soon(group).result(timeout=2 * ANSWER_S_MAX)
        except (KafkaException, FutureTimeout) as refused:
            code = error_of(refused).code() if isinstance(refused, KafkaException) else None
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return Allowed(None)
            if code not in NO_COORDINATOR_YET:
                return Allowed(None, _why(refused))
            time.sleep(_COORDINATOR_S)
        else:
            return Allowed(_names(described.authorized_operations), None, len(described.members))
    return Allowed(None, "no broker coordinates the group")


def may_write_transactions(settings: KafkaSettings, transactional_id: str) -> str | None:
    """Returns why a producer with this ID would be refused. Returns None if it would not."""
    config: dict[str, Any] = merged(
        {},
        {name: value for name, value in settings.items() if not name.startswith(("group.", "message.timeout"))},
        {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": _NEVER_GRANTED_MS,
            "client.id": "hakuna-processor-check",
        },
    )
    try:
        new_producer(config, lambda _error: None, None).init_transactions(ANSWER_S_MAX)
    except Unusable as refused:
        return str(refused)
    except KafkaException as refused:
        error = error_of(refused)
        if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            return None
        return error.str()
    # A broker whose limit is above 23 days has let it in: the right exists, and the broker forgets the unused ID.
    return None


def _names(operations: Iterable[Enum] | None) -> frozenset[str] | None:
    return frozenset(operation.name for operation in operations) if operations else None


def _why(refused: KafkaException | FutureTimeout) -> str:
    return error_of(refused).str() if isinstance(refused, KafkaException) else "no broker answers"
