"""The difference between this machine's clock and the brokers', found by the timestamps that they accept.

Kafka has no request for a broker's time. But since 4.0 a broker refuses a record that is more than
`message.timestamp.after.max.ms` ahead of its own clock, and reports which records of a batch were. So one batch is
sent, with a record for each possible difference between the clocks, and one that no difference explains. That one makes
the broker refuse the whole batch: nothing is written, and the answers to the others give the difference.

    sent, as seen from here:  limit − 1 h … limit − 13 s, limit, limit + 13 s … limit + 1 h … limit + 10 years
    refused for themselves:                         └── the brokers' clock is this far behind ours ──┘

If a topic has no such limit (brokers before 4.0, other makes), nothing is sent and nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError

from processor.edges.kafka.client import KafkaSettings, merged, new_producer, said
from processor.errors import BrokerOutage, Fatal

ANSWER_S_MAX: Final = 3.0
LIMIT: Final = "message.timestamp.after.max.ms"
_LIMIT_MS_MAX: Final = 366 * 86_400_000
"""A limit above this is meant to allow any time."""
_STEP: Final = 1.3
_STEPS: Final = tuple(round(10_000 * _STEP**number) for number in range(1, 66))
"""From 13 s to ten years, each a third more than the last."""
_NEVER_MS: Final = 100 * 365 * 86_400_000
_KEY: Final = b"\xffclock"
"""Not a key of ours: a broker that accepts it in spite of its configuration has a tombstone of nothing."""


def limit_ms(config: Mapping[str, str]) -> int | None:
    """Returns how far ahead of their clock the brokers accept a record of a topic with this configuration. Returns None
    if they do not check."""
    given = config.get(LIMIT, "")
    if config.get("message.timestamp.type", "CreateTime") != "CreateTime" or not given.isdigit():
        return None
    return int(given) if int(given) <= _LIMIT_MS_MAX else None


def ahead_s(
    settings: KafkaSettings, topic: str, config: Mapping[str, str], now_ms: int, *, client_id: str
) -> float | None:
    """Returns by how many seconds, at least, `now_ms` is ahead of the brokers' clock; negative if it is behind, 0
    within some seconds, None if unknown. `config` is that of `topic`, to which this user may write. Raises
    `BrokerOutage` without an answer, `Fatal` without the right."""
    limit = limit_ms(config)
    if limit is None:
        return None
    # Distances to the limit. The brokers accept them by how far our clock is ahead, right, or behind. One is our own
    # time: if that is refused, nothing can be written.
    offs = {*(-step for step in _STEPS), -limit, 0, *_STEPS}
    refused = _refused(settings, topic, {off: now_ms + limit + off for off in (*offs, _NEVER_MS)}, client_id)
    taken = offs - refused
    if _NEVER_MS not in refused or not taken:
        return None  # the broker does not report single records
    nearest = max(taken)
    if nearest >= _STEPS[0]:
        return -nearest / 1000
    return max(0.0, -min(off for off in refused if off > nearest) / 1000)


def _refused(settings: KafkaSettings, topic: str, times: Mapping[int, int], client_id: str) -> frozenset[int]:
    """Returns the names of the times that were refused for themselves."""
    config: dict[str, Any] = merged(
        {},
        settings,
        {
            "client.id": client_id,
            "enable.idempotence": False,
            "acks": "all",
            "retries": 0,
            "linger.ms": 2_000,  # until the flush: one batch
            "message.timeout.ms": round(ANSWER_S_MAX * 1000),
            "allow.auto.create.topics": False,
        },
    )
    answers: dict[int, KafkaError | None] = {}
    producer = new_producer(config, lambda _error: None, None)
    for name, time_ms in times.items():

        def answered(error: KafkaError | None, _message: object, name: int = name) -> None:
            answers[name] = error

        producer.produce(topic, None, _KEY, 0, on_delivery=answered, timestamp=max(0, time_ms))
    producer.flush(ANSWER_S_MAX + 1)
    codes = {error.code() for error in answers.values() if error is not None}
    for error in answers.values():
        if error is not None and error.code() not in _JUDGED:
            raised = Fatal if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else BrokerOutage
            raise raised(f"{topic}: {error.name()}: {said(error)}")
    if len(answers) < len(times) or not codes:
        return frozenset()
    return frozenset(
        name
        for name, error in answers.items()
        if error is not None and error.code() in (KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP)
    )


_JUDGED: Final = frozenset(
    {KafkaError.INVALID_RECORD, KafkaError.INVALID_TIMESTAMP, KafkaError._INVALID_DIFFERENT_RECORD}
)
