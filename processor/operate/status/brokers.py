"""Asks the brokers how far each role is: the commits and members of its group, the ends of its topics, and the age of
its oldest unfinished record.

Owned by the `status` command; its clients are kept from one look to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from processor.config import Role, Settings
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import Log
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.scan import KafkaScan, Window
from processor.errors import Fatal
from processor.records import TopicPartition
from processor.topics import Topic, none_there, sources_of

_CLIENT_ID: Final = "hakuna-processor-status"
_LOOK_RECORDS: Final = 20
"""After the committed offset there may be transaction markers; the first record is among this many offsets."""


class Behind(NamedTuple):
    """One partition of one role. `lag` counts transaction markers that the role has not passed; `oldest_ms` is the
    timestamp of its oldest unfinished record, None if there is none; `member` is the client that has it; `missed` is
    how many offsets were deleted before they were committed, if no worker has come to them yet."""

    role: Role
    where: TopicPartition
    committed: int | None
    end: int
    lag: int
    oldest_ms: int | None
    member: str | None
    missed: int = 0


class Brokers:
    """See the module."""

    def __init__(self, settings: Settings, log: Log) -> None:
        kafka = settings.librdkafka
        self._settings = settings
        self._admin = KafkaAdmin(kafka, client_id=_CLIENT_ID, log=log)
        self._groups = KafkaGroups(kafka, client_id=_CLIENT_ID, log=log)
        self._scan = KafkaScan(kafka, group=settings.group(Role.TRANSFORM), client_id=_CLIENT_ID, log=log)

    def ask(self) -> list[Behind]:
        """Returns every partition of every role whose topics exist. Raises `BrokerOutage`, `Fatal`."""
        counts = self._scan.partitions()
        roles = [role for role in Role if role is not Role.REKEY or self._settings.rekey]
        sources = {role: sources_of(role, rekey=self._settings.rekey) for role in roles}
        if not any(self._settings.topic(topic) in counts for topics in sources.values() for topic in topics):
            raise Fatal(none_there(self._settings.topic_prefix))
        found: list[Behind] = []
        for role, topics in sources.items():
            names = [self._settings.topic(topic) for topic in topics]
            partitions = [TopicPartition(name, number) for name in names for number in range(counts.get(name, 0))]
            of_role = self._role(role, partitions) if partitions else []
            unused = all(one.committed is None and one.member is None for one in of_role)
            if role is not Role.HAKO or not unused or self._settings.hako_key is not None:
                found += of_role  # Hako's topics alone do not mean that it is wanted
        return found

    def held(self) -> int | None:
        """Returns how many orders are held, by the topic of holds; None if it does not exist or may not be read. Raises
        `BrokerOutage`."""
        topic = self._settings.topic(Topic.HOLDS)
        wheres = [TopicPartition(topic, number) for number in range(self._scan.partitions().get(topic, 0))]
        if not wheres:
            return None
        try:
            begins, ends = self._admin.beginnings(wheres), self._admin.ends(wheres)
            windows = [Window(*where, begins[where], ends[where]) for where in wheres if begins[where] < ends[where]]
            held: dict[bytes | None, bool] = {}
            for record in self._scan.find(windows, None):
                held[record.key] = record.value is not None
        except Fatal:
            return None
        return sum(held.values())

    def close(self) -> None:
        self._scan.close()

    def _role(self, role: Role, partitions: Sequence[TopicPartition]) -> list[Behind]:
        group = self._settings.group(role)
        committed = {where: one.next_offset for where, one in self._groups.committed(group, partitions).items()}
        beginnings, ends = self._admin.beginnings(partitions), self._admin.ends(partitions)
        starts = {where: max(committed.get(where) or 0, beginnings[where]) for where in partitions}
        members = {where: member.client_id for member in self._groups.members(group) for where in member.partitions}
        behind = {where: start for where, start in starts.items() if start < ends[where]}
        looks = [Window(*one, start, min(start + _LOOK_RECORDS, ends[one])) for one, start in behind.items()]
        oldest: dict[TopicPartition, int] = {}
        for record in self._scan.find(looks, None):
            oldest.setdefault(TopicPartition(record.topic, record.partition), record.timestamp_ms)
        return [
            Behind(
                role,
                where,
                committed.get(where),
                ends[where],
                # Without a record, these are only markers.
                0 if where not in oldest and ends[where] - start <= _LOOK_RECORDS else ends[where] - start,
                oldest.get(where),
                members.get(where),
                0 if (at := committed.get(where)) is None else max(0, beginnings[where] - at),
            )
            for where, start in starts.items()
        ]
