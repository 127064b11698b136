"""What the newest records of the source topics say of their producers, as findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from processor.config import Role, Settings
from processor.edges.kafka.admin import TopicState
from processor.edges.kafka.survey import survey
from processor.errors import BrokerOutage, Fatal
from processor.operate.check.findings import Area, Finding, Heard, Verdict, note
from processor.sources.survey import judged
from processor.topics import ORDER_TOPICS

_CLIENT_ID: Final = "hakuna-processor-check"


def check_producers(
    settings: Settings, kafka: Mapping[str, str], described: Mapping[str, TopicState | None], heard: Heard
) -> list[Finding]:
    """`described` are the topics that may be looked at, by whole name."""
    there = {
        name: state for topic in ORDER_TOPICS if (state := described.get(name := settings.topic(topic))) is not None
    }
    if not there:
        return []
    counts = {name: state.partitions for name, state in there.items()}
    try:
        role = Role.REKEY if settings.rekey else Role.TRANSFORM
        found = survey(kafka, counts, group=settings.group(role), client_id=_CLIENT_ID, log=heard)
    except (BrokerOutage, Fatal) as refused:
        return [note(Area.TOPICS, "orders.*", f"the newest records cannot be read: {refused}")]
    return [
        Finding(Area.TOPICS, said.topic, Verdict(said.weight.value), said.what, said.remedy)
        for said in judged(found, {name: state.config for name, state in there.items()}, rekey=settings.rekey)
    ]
