"""Why records of an order wait: what the worker that has their partition says, or that no worker has it.

Asked only if something waits: a question to a group takes 65 ms, one to a worker the import of an HTTP client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processor.config import Role, Settings
from processor.edges.kafka.client import Log
from processor.edges.kafka.groups import KafkaGroups
from processor.errors import BrokerOutage, Fatal
from processor.moments import iso
from processor.operate.order.gather import Found
from processor.records import TopicPartition
from processor.topics import ORDER_TOPICS, Topic


def waits(settings: Settings, found: Found, workers: Sequence[str], log: Log) -> dict[TopicPartition, str]:
    """Returns by partition why a record of the order in it waits. `workers` are URLs of metrics ports."""
    readers = {**dict.fromkeys(ORDER_TOPICS, Role.REKEY if settings.rekey else Role.TRANSFORM), Topic.OUTBOX: Role.SEND}
    waiting = _waiting(found, readers)
    if not waiting:
        return {}
    answers = _told(workers, waiting)
    groups = KafkaGroups(settings.librdkafka, client_id="hakuna-processor-order", log=log)
    for role in sorted(set(waiting.values()) if waiting.keys() - answers.keys() else ()):
        try:
            members = groups.members(settings.group(role))
        except (BrokerOutage, Fatal):
            continue
        assigned = {where for member in members for where in member.partitions}
        for where in (where for where, reader in waiting.items() if reader is role and where not in answers):
            if where not in assigned:
                answers[where] = f"no worker has its partition: start one (`hakuna-processor run --role {role}`)"
            elif not workers:
                answers[where] = "--workers asks the worker that has its partition why"
    return answers


def _waiting(found: Found, readers: Mapping[Topic, Role]) -> dict[TopicPartition, Role]:
    """Returns the partitions with a record of the order that its reader has not committed, each with that reader."""
    waiting = {}
    for topic, role in readers.items():
        for record in found.records.get(topic, ()):
            where = TopicPartition(record.topic, record.partition)
            committed = found.committed.get(where)
            if committed is None or record.offset >= committed:
                waiting[where] = role
    return waiting


def _told(workers: Sequence[str], waiting: Mapping[TopicPartition, Role]) -> dict[TopicPartition, str]:
    if not workers:
        return {}
    from processor.operate.status.workers import ask

    answers = {}
    for worker in ask(workers):
        for said in (said for role in worker.roles for said in role.get("partitions", []) if isinstance(said, dict)):
            where = TopicPartition(str(said.get("topic")), int(said.get("partition", -1)))
            if where in waiting and said.get("blocked_by"):
                since = said.get("blocked_since")
                answers[where] = str(said["blocked_by"]) + (f", since {iso(since)}" if isinstance(since, int) else "")
    return answers
