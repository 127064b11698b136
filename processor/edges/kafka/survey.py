"""survey: reads the newest records of each source topic, whose keys and timestamps show who wrote them.

Owned by its caller: `check`, and a thread beside a running transform. Bounded: at most RECORDS_MAX records a topic,
SECONDS_MAX in all, no values kept. Reads committed records, writes nothing and joins no group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import KafkaSettings, Log
from processor.edges.kafka.scan import KafkaScan, Window
from processor.records import Record, TopicPartition
from processor.sources.survey import Surveyed, surveyed

RECORDS_MAX: Final = 1_000
"""Records of a topic: enough to see a producer of one in a hundred, and some 0.2 s for five topics."""
SECONDS_MAX: Final = 1.5
_QUEUE_KBYTES: Final = 8 * 1024


def survey(
    kafka: KafkaSettings, topics: Mapping[str, int], *, group: str, client_id: str, log: Log
) -> dict[str, Surveyed]:
    """`topics` are whole names with their partitions; `group` is needed by librdkafka only. Raises `BrokerOutage`, and
    `Fatal` if a right is missing."""
    admin = KafkaAdmin(kafka, client_id=client_id, log=log)
    settings = dict(kafka) | {"queued.max.messages.kbytes": str(_QUEUE_KBYTES)}
    scan = KafkaScan(settings, group=group, client_id=client_id, log=log)
    try:
        partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
        beginnings, ends = admin.beginnings(partitions), admin.ends(partitions)
        windows = [
            Window(*one, max(beginnings[one], ends[one] - max(1, RECORDS_MAX // topics[one.topic])), ends[one])
            for one in partitions
        ]
        read: dict[str, list[Record]] = {topic: [] for topic in topics}
        for record in scan.heads(windows, SECONDS_MAX):
            read[record.topic].append(record)
    finally:
        scan.close()
    return {topic: surveyed(records, topics[topic]) for topic, records in read.items()}
