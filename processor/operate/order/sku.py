"""One SKU's timeline: the events of the item and of its levels, what was sent of them, what was refused.

    catalog.items (key SKU) ─────────────────┐
    inventory.levels (key any warehouse/SKU) ─┼─► events, each with what it became
    hako.sent (both) ────────────────────────┼─► deliveries: the newest of each object, for the topic is compacted
    hako.dead-letters (both) ────────────────┘   dead letters

Owned by the `sku` command in one thread; reads committed records and writes nothing. The warehouses are not known
before the levels are read, so all levels are read, a slice at a time: a million compacted records take some seconds.
`gather_sku` reads, `tell_sku` is pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from processor.config import Role, Settings
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.client import Log
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.scan import KafkaScan, Window
from processor.errors import BadRecord, BrokerOutage, Fatal, Problem, RegistryOutage, Unusable
from processor.hako.changes import Table
from processor.letters.families import letter_facts
from processor.operate.order.story import Became, Fields, Happening, Kind, in_time, json_of, place_of, time_of
from processor.records import Position, Record, TopicPartition
from processor.topics import Topic

_CLIENT_ID: Final = "hakuna-processor-sku"
_SLICE_RECORDS: Final = 20_000
"""Offsets that are read at once: records of other SKUs need not stay in memory."""
SKU_TOPICS: Final = (Topic.ITEMS, Topic.LEVELS, Topic.HAKO_SENT, Topic.HAKO_DEAD_LETTERS)
_EVENTS: Final[Mapping[Topic, str]] = {Topic.ITEMS: "item_changed", Topic.LEVELS: "inventory_level_changed"}
_TABLES: Final[Mapping[Topic, Table]] = {Topic.ITEMS: Table.ITEMS, Topic.LEVELS: Table.INVENTORY}


@dataclass(slots=True)
class FoundSku:
    """What is known of a SKU. `committed` are the next offsets of the hako role, if it has some and they may be asked
    for; `notes` are for the reader of the timeline."""

    records: dict[Topic, list[Record]] = field(default_factory=dict)
    committed: Mapping[TopicPartition, int | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather_sku(settings: Settings, sku: bytes, log: Log) -> FoundSku:
    """Raises `BrokerOutage`, `Fatal` (a right is missing), `Unusable` (no such topics)."""
    kafka = settings.librdkafka
    group = settings.group(Role.HAKO)
    scan = KafkaScan(kafka, group=group, client_id=_CLIENT_ID, log=log)
    try:
        admin = KafkaAdmin(kafka, client_id=_CLIENT_ID, log=log)
        counts = scan.partitions()
        there = [topic for topic in SKU_TOPICS if settings.topic(topic) in counts]
        if not there:
            what = "these brokers have none of Hako's topics (or this user may not see them)"
            raise Unusable([Problem("KAFKA_BOOTSTRAP_SERVERS, PROCESSOR_TOPIC_PREFIX", what)])
        found = FoundSku()
        absent = [settings.topic(topic) for topic in SKU_TOPICS if topic not in there]
        if absent:
            found.notes.append(f"not there, and so not searched: {', '.join(absent)}")
        for topic in there:
            name = settings.topic(topic)
            partitions = [TopicPartition(name, number) for number in range(counts[name])]
            beginnings, ends = admin.beginnings(partitions), admin.ends(partitions)
            records = found.records.setdefault(topic, [])
            for where in partitions:
                for start in range(beginnings[where], ends[where], _SLICE_RECORDS):
                    window = Window(*where, start, min(start + _SLICE_RECORDS, ends[where]))
                    records += [record for record in scan.find([window], None) if is_of(record.key, sku)]
        events = [record for topic in _EVENTS for record in found.records.get(topic, [])]
        sources = [TopicPartition(record.topic, record.partition) for record in events]
        try:
            answer = KafkaGroups(kafka, client_id=_CLIENT_ID, log=log).committed(group, list(dict.fromkeys(sources)))
            found.committed = {where: one.next_offset for where, one in answer.items()}
        except (Fatal, BrokerOutage):
            pass  # a user who may read the topics may lack the right to ask about the group: it stays unknown
        return found
    finally:
        scan.close()


def is_of(key: bytes | None, sku: bytes) -> bool:
    """Returns true if a key of one of the topics names this SKU: SKU, WAREHOUSE/SKU, or one of them after its table."""
    if key is None:
        return False
    if key in (sku, b"items/" + sku):
        return True
    _, slash, rest = key.removeprefix(b"inventory/").partition(b"/")
    return bool(slash) and rest == sku


def tell_sku(found: FoundSku, fields: Mapping[Topic, Fields]) -> list[Happening]:
    """Returns the timeline in the order of time. `fields` reads the values of the source topics."""
    letters = {
        facts.origin: facts.reason
        for record in found.records.get(Topic.HAKO_DEAD_LETTERS, [])
        if (facts := letter_facts(record)).origin is not None
    }
    sent = {record.key: json_of(record) for record in found.records.get(Topic.HAKO_SENT, [])}
    happenings = [_delivery(record) for record in found.records.get(Topic.HAKO_SENT, [])]
    happenings += [_letter(record) for record in found.records.get(Topic.HAKO_DEAD_LETTERS, [])]
    for topic, event in _EVENTS.items():
        records = found.records.get(topic, [])
        newest = {record.key: record.offset for record in records}
        for record in records:
            assert record.key is not None, "a record without a key is of no SKU"
            key = f"{_TABLES[topic].value}/".encode() + record.key
            said = _said(record, fields.get(topic), found)
            where = TopicPartition(record.topic, record.partition)
            became = _became(record, said, letters, sent.get(key), newest[record.key], found.committed.get(where))
            told = {
                "event": event,
                **place_of(record),
                "key": record.key.decode("utf-8", "backslashreplace"),
                "deleted": record.value is None,
                "said": said,
                "became": became.value,
                "why": letters.get(record.position),
            }
            happenings.append(Happening(time_of(record), Kind.EVENT, told))
    return in_time(happenings)


def _became(
    record: Record,
    said: Mapping[str, Any] | None,
    letters: Mapping[Position, str],
    sent: Mapping[str, Any] | None,
    newest: int,
    committed: int | None,
) -> Became:
    if record.position in letters:
        return Became.DEAD_LETTERED
    if sent is not None and sent.get("rank") == record.offset:
        return Became.DELIVERED
    occurred_at, sent_at = (said or {}).get("occurred_at"), (sent or {}).get("occurred_at")
    if occurred_at is not None and sent_at is not None and occurred_at < sent_at and record.offset == newest:
        return Became.IGNORED
    if committed is not None and record.offset >= committed and record.offset == newest:
        return Became.WAITING
    if record.offset < newest or (sent is not None and int(sent.get("rank", -1)) > record.offset):
        return Became.SUPERSEDED  # or it was delivered first: only the newest delivery is kept
    if record.value is None and committed is not None:
        return Became.DELIVERED
    return Became.UNKNOWN


def _said(record: Record, fields: Callable[[Record], Mapping[str, Any]] | None, found: FoundSku) -> Any:
    if record.value is None or fields is None:
        return None
    try:
        return dict(fields(record))
    except BadRecord:
        return None
    except RegistryOutage as outage:
        note = f"what the source records say cannot be shown: {outage}"
        if note not in found.notes:
            found.notes.append(note)
        return None


def _delivery(record: Record) -> Happening:
    value = json_of(record)
    facts = {
        "key": (record.key or b"").decode("utf-8", "backslashreplace"),
        "verb": value.get("verb", "DELETE"),
        **{name: value.get(name) for name in ("status", "attempts", "entry_id", "object")},
    }
    return Happening(value.get("sent_at", record.timestamp_ms), Kind.DELIVERY, facts)


def _letter(record: Record) -> Happening:
    facts = letter_facts(record)
    said = {
        **place_of(record),
        "key": (record.key or b"").decode("utf-8", "backslashreplace"),
        "origin": None if facts.origin is None else str(facts.origin),
        "stage": facts.stage or None,
        "reason": facts.reason,
        "message": facts.message,
        "http_status": facts.http_status,
        "validation_errors": list(facts.validation_errors),
        "delivery_count": facts.delivery_count,
    }
    return Happening(facts.last_failed_ms or record.timestamp_ms, Kind.DEAD_LETTER, said)


def sku_line(happening: Happening) -> tuple[str, str]:
    """Returns the kind of a happening, and its description."""
    facts = happening.facts
    match happening.kind:
        case Kind.EVENT:
            said = facts["said"] or {}
            shown = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
            why = "" if facts["why"] is None else f" ({facts['why']})"
            words = f"{facts['key']}: {'deleted' if facts['deleted'] else shown} → {facts['became']}{why}"
        case Kind.DELIVERY:
            words = f"{facts['verb']} {facts['key']}: HTTP {facts['status'] or '2xx'}"
        case _:
            words = f"{facts['key']}: {facts['reason']}; {facts['message']} {' '.join(facts['validation_errors'])}"
    return happening.kind.value.replace("_", " "), words
