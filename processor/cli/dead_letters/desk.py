"""The clients and topics of the `dead-letters` commands. A client is opened when it is first needed.

Each command makes one desk. `topics` turns `--topic` into the dead-letter topics to read and the origins to select.
`field` says where a topic's letters go, and which topic shows what became of them.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

import click

from processor.config import Role, Settings
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.barrier import KafkaBarrier
from processor.edges.kafka.changes import RecordDeletion
from processor.edges.kafka.client import KafkaSettings
from processor.edges.kafka.consumer import Assignment, KafkaConsumer
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.transaction import KafkaTransaction
from processor.errors import Fatal, Unusable
from processor.hakuna import Api
from processor.interfaces import Consumer
from processor.operate.replay.campaign import Refused
from processor.operate.replay.contents import Decode, Edit, Rebuild
from processor.operate.replay.making import Content
from processor.operate.replay.place import SESSION_MS, Clients, Exclusive, Ledger
from processor.operate.replay.reading import Reading
from processor.operate.replay.rekeying import Rekey
from processor.operate.replay.selection import Selection
from processor.operate.replay.sources import Sources
from processor.operate.replay.survey import Field, Route, Task
from processor.records import EntryType, Position, TopicPartition
from processor.topics import CONFIG, ORDER_TOPICS, REKEYED, STOCK_TOPICS, Topic, sources_of

LETTER_TOPICS: Final = tuple(topic for topic in Topic if topic.endswith(".dead-letters"))
GROUP: Final = "hakuna-processor.dead-letters"
"""The group that is the place of one command at a time, and the transactional ID that goes with it."""
QUOTA_SHARE: Final = 0.2
"""The share of the quota that a replay uses without --rate. A setting limits it, and the senders enforce that."""
RATE_S: Final = 50.0
"""Letters a second of a replay without --rate and without a quota."""


_READ_AHEAD: Final = {"queued.max.messages.kbytes": 4_096, "fetch.message.max.bytes": 512 * 1024}
"""Limits what is fetched ahead. Letters of one shop are alike and grow twentyfold when they are unpacked, so a fetch of
4 MiB is 80 MB of memory. This is well below the memory of a Job, and reads as fast."""
_TO_THE_END: Final = {**_READ_AHEAD, "fetch.wait.max.ms": 20}
"""A fetch that finds nothing shows the end of a partition. Brokers delay its answer by half a second, and the next
partition's first fetch waits behind it: a purge of a dozen empty partitions took half a minute."""


class ClusterOffsets:
    """The cluster, as `Offsets` describes it. Mutable: `_topics`, as they were at the first question."""

    def __init__(self, admin: KafkaAdmin, groups: KafkaGroups) -> None:
        self._admin = admin
        self._topics: dict[str, TopicState | None] = {}
        self.beginnings, self.ends, self.stable_ends = admin.beginnings, admin.ends, admin.stable_ends
        self.committed = groups.committed

    def partitions(self, topic: str) -> int | None:
        state = self._state(topic)
        return None if state is None else state.partitions

    def retention_ms(self, topic: str) -> int | None:
        state = self._state(topic)
        if state is None or "delete" not in state.config.get("cleanup.policy", "delete"):
            return None
        retention_ms = int(state.config.get("retention.ms", "-1"))
        return retention_ms if retention_ms >= 0 else None

    def since(self, partitions: Sequence[TopicPartition], at_ms: int) -> Mapping[TopicPartition, int]:
        found, ends = self._admin.at(partitions, at_ms), self.ends(partitions)
        return {where: ends[where] if offset is None else offset for where, offset in found.items()}

    def _state(self, topic: str) -> TopicState | None:
        if topic not in self._topics:
            self._topics[topic] = self._admin.describe([topic])[topic] if topic else None
        return self._topics[topic]


class Desk:
    """Mutable: `_open` closes the clients that were opened; `step` is called after every reading (it counts on a
    terminal)."""

    def __init__(self, settings: Settings, by: str | None = None) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.client_id = re.sub(r"[^A-Za-z0-9._-]", "-", f"dead-letters-{_who()}-{os.getpid()}")
        self.admin = KafkaAdmin(settings.librdkafka, client_id=self.client_id)
        self._members = KafkaGroups(settings.librdkafka, client_id=self.client_id)
        self.offsets = ClusterOffsets(self.admin, self._members)
        self.step: Callable[[int], None] = lambda _records: None
        self.resolutions = settings.topic(Topic.RESOLUTIONS)
        self.by = by or settings.operator or _who()
        self._open: list[Callable[[], None]] = []

    def close(self) -> None:
        for close in reversed(self._open):
            close()
        self._open.clear()

    def topics(self, given: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
        """Returns the dead-letter topics, and the origins of the letters to select; among these a dead-letter topic
        that is named itself. Raises `Refused`."""
        named = self.settings.topic
        letters: dict[str, bool] = {}
        origins: list[str] = []
        whole: list[str] = []
        for name in given:
            bare = name.removeprefix(self.settings.topic_prefix)
            if bare in LETTER_TOPICS:
                letters[named(bare)] = True
                whole.append(named(bare))
            elif bare in ORDER_TOPICS or bare in REKEYED.values():
                origins += [named(bare)] + ([named(REKEYED[Topic(bare)])] if bare in ORDER_TOPICS else [])
                letters[named(Topic.ORDER_DEAD_LETTERS)] = True
            elif bare == Topic.OUTBOX:
                letters[named(Topic.HAKUNA_DEAD_LETTERS)] = True
            elif bare in STOCK_TOPICS:
                origins.append(named(bare))
                letters[named(Topic.HAKO_DEAD_LETTERS)] = True
            else:
                letters[name] = True
                whole.append(name)
        ours = [named(topic) for topic in LETTER_TOPICS]
        if not given:
            there = [name for name in ours if self.offsets.partitions(name) is not None]
            if not there:
                raise Refused(f"none of these topics is there: {', '.join(ours)}; make them with `topics create`")
            return there, ()
        for name in letters:
            if self.offsets.partitions(name) is None:
                raise Refused(f"there is no topic {name}; ours for dead letters are {', '.join(ours)}")
        return list(letters), (*origins, *whole) if origins else ()

    def place(self, given: Position) -> Position:
        """Returns the place of a letter, with the whole name of its topic. Raises `Refused` for that of another
        record."""
        (topic, *_), _ = self.topics([given.topic])
        if given.topic not in (topic, topic.removeprefix(self.settings.topic_prefix)):
            raise Refused(f"{given} is no letter's place: those are on {topic}, and `list --each` names them")
        return given._replace(topic=topic)

    def needs_resolutions(self) -> None:
        """Makes the topic of resolutions if it is missing beside a topic of letters. Raises `Refused` if nothing can be
        resolved."""
        if self.offsets.partitions(self.resolutions) is not None:
            return
        letters = self.admin.describe([self.settings.topic(topic) for topic in LETTER_TOPICS])
        model = next((state for state in letters.values() if state is not None), None)
        why = "no dead-letter topic of ours is there either"
        if model is not None:
            try:
                self.admin.create(
                    self.resolutions,
                    partitions=model.partitions,
                    replicas=model.replicas,
                    config=CONFIG[Topic.RESOLUTIONS],
                )
                return
            except Fatal as refused:
                why = str(refused)
        raise Refused(f"there is no topic {self.resolutions}; make it with `hakuna-processor topics create` ({why})")

    def field(self, letters: str) -> Field:
        settings = self.settings
        routes = {Topic.HAKUNA_DEAD_LETTERS: Route.OUTBOX, Topic.ORDER_DEAD_LETTERS: Route.SOURCE}
        route = {settings.topic(topic): route for topic, route in routes.items()}.get(letters, Route.FOREIGN)
        return Field(
            letters=letters,
            resolutions=self.resolutions,
            holds=settings.topic(Topic.HOLDS),
            deliveries=settings.topic(Topic.DELIVERIES),
            changelog=settings.topic(Topic.CHANGELOG),
            outbox=settings.topic(Topic.OUTBOX),
            route=route,
            ranks={
                settings.topic(topic): rank
                for rank, source in enumerate(ORDER_TOPICS)
                for topic in ((source, REKEYED[source]) if self.settings.rekey else (source,))
            },
        )

    def is_read(self, group: str) -> bool:
        """True if the group has members. Raises `BrokerOutage`, `Fatal`."""
        return bool(self._members.members(group))

    def task(self, field: Field, given: str, selection: Selection, **more: Any) -> Task:
        """Returns a task of this operator. `more` are other fields of the task."""
        tells = {Route.OUTBOX: field.deliveries, Route.SOURCE: field.outbox, Route.FOREIGN: None}[field.route]
        groups = self.groups()
        return Task(field=field, given=given, selection=selection, by=self.by, tells=tells, groups=groups, **more)

    def groups(self) -> dict[str, str]:
        """Returns the group that finishes each topic that letters go back to."""
        settings = self.settings
        roles = [role for role in Role if role is not Role.REKEY or settings.rekey]
        pairs = [(topic, role) for role in roles for topic in sources_of(role, rekey=settings.rekey)]
        return {settings.topic(topic): settings.group(role) for topic, role in pairs}

    def reading(self) -> Reading:
        return Reading(self._reader(_TO_THE_END), self.offsets, self.clock, lambda records: self.step(records))

    def _reader(self, defaults: KafkaSettings) -> KafkaReader:
        settings = {**defaults, **self.settings.librdkafka}
        reader = KafkaReader(settings, group=self.settings.group_prefix + GROUP, client_id=self.client_id)
        self._open.append(reader.close)
        return reader

    def looking(self) -> Clients:
        """Returns clients that cannot write, for a `--dry-run`."""
        nobody, reading = _Nobody(), self.reading()
        ledger = Ledger(nobody, reading, self.resolutions, self.wait)  # type: ignore[arg-type]
        return Clients(reading, reading.reader, Sources(self.reading()), ledger, nobody, lambda: None)  # type: ignore[arg-type]

    def working(self) -> Clients:
        """Returns clients that may write: the place is taken, and the transactional ID is ours. Raises `Busy`,
        `Fatal`."""
        group = self.settings.group_prefix + GROUP
        kafka = {name: value for name, value in self.settings.librdkafka.items() if not name.startswith("group.")}

        place: KafkaSettings = {**kafka, "session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": SESSION_MS // 5}

        def join() -> Consumer:
            return KafkaConsumer(place, group=group, assignment=Assignment.RANGE, client_id=self.client_id)

        exclusive = Exclusive(self._members, group, self.resolutions, self.client_id, self.clock, Random(), join)
        consumer = exclusive.take(self.wait)
        self._open.append(exclusive.leave)
        assert isinstance(consumer, KafkaConsumer)
        transaction = KafkaTransaction(kafka, transactional_id=group, consumer=consumer, client_id=self.client_id)
        self._open.append(transaction.close)
        barrier = KafkaBarrier(kafka, transactional_id=f"{group}.barrier", client_id=self.client_id)
        self._open.append(barrier.close)

        def step(records: int) -> None:
            exclusive.keep()
            self.step(records)

        reading = replace(self.reading(), step=step)
        ledger = Ledger(transaction, reading, self.resolutions, self.wait)
        ledger.open()
        sources = Sources(replace(self.reading(), step=step))
        return Clients(reading, self._reader(_READ_AHEAD), sources, ledger, barrier, exclusive.keep)

    def deletion(self) -> RecordDeletion:
        return RecordDeletion(self.settings.librdkafka, client_id=self.client_id)

    def wait(self, seconds: float, why: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"waiting {why}", err=True)
        until_s = self.clock.monotonic_s() + seconds
        while (left_s := until_s - self.clock.monotonic_s()) > 0:
            time.sleep(min(left_s, 0.1))

    def decoders(self, what_for: str) -> Mapping[str, Decode]:
        """Returns the decoders by source topic. Raises `Unusable` without a registry."""
        return self._registered(what_for)[0]

    def rebuild(self, clients: Clients) -> Content:
        reads_events = self.settings.hakuna_api is Api.EVENTS
        why = "a rebuild reads source records again; --as-sent needs none"
        decoders = self.decoders(why) if reads_events else {}
        return Rebuild(clients.sources, decoders, fulfil_protection=self.settings.hakuna_fulfil_protection)

    def rekey(self) -> Rekey:
        """Returns what finds the home of a letter's order. Raises `Unusable` without a registry, `BrokerOutage`."""
        from processor.edges.kafka.looks import survey
        from processor.operate.check.findings import Heard
        from processor.sources.placements import Placement, explain

        decoders = self.decoders("--rekey reads the order ID of each event")
        placed = self.settings.topic(REKEYED[Topic.PLACED] if self.settings.rekey else Topic.PLACED)
        count = self.offsets.partitions(placed)
        if count is None:
            raise Refused(f"there is no topic {placed}, so nothing says where orders live")
        if self.settings.rekey:
            return Rekey(decoders, Placement(count, 0))  # rekey puts them where Java's clients would
        group = self.settings.group_prefix + GROUP
        kafka = self.settings.librdkafka
        found = survey(kafka, {placed: count}, group=group, client_id=self.client_id, log=Heard())
        return Rekey(decoders, explain(found[placed].sample.pairs, count))

    def edit(self, patch: dict[str, Any], field: Field) -> Content:
        from processor.edges.avro_letters import AvroLetters

        if field.route is not Route.SOURCE:
            return Edit(patch, lambda _letter, _patch: b"", {}, entry_fault)
        decoders, registry = self._registered("an edited event is written in its own schema")
        return Edit(patch, AvroLetters(registry).edited, decoders, entry_fault)

    def _registered(self, what_for: str) -> tuple[Mapping[str, Decode], Any]:
        from processor.edges.registry import Registry
        from processor.run.transform import decoders

        if not self.settings.registry_url:
            raise Unusable([f"SCHEMA_REGISTRY_URL: not set; {what_for}"])
        registry = Registry.at(self.settings)
        return decoders(self.settings, registry), registry


def letters_s(settings: Settings, given: float | None, route: Route) -> tuple[float, str]:
    """Returns letters a second, and where the rate comes from. The senders give a replay only its share, so letters of
    a faster rate would wait in the outbox."""
    quota = settings.hakuna_quota
    if route is Route.FOREIGN or quota is None:
        return given or RATE_S, "as given" if given else "no quota to go by"
    a_request = settings.feed_batch_max if settings.hakuna_api is Api.FEED else 1
    quota_s = quota.requests / quota.window_s * a_request
    share_max = settings.replay_share_max
    if given is None:
        share = min(QUOTA_SHARE, share_max)
        return quota_s * share, f"{share:.0%} of the quota {quota}, live traffic goes first"
    if given > quota_s * share_max:
        return quota_s * share_max, f"not {given:g}: {share_max:.0%} of the quota {quota} is a replay's at most"
    return given, f"as given, of the quota {quota}"


class _Nobody:
    """Takes the place of a transaction and a barrier in a command that writes nothing."""

    record_bytes_max: Final = 0


def entry_fault(entry_type: EntryType, body: bytes) -> str | None:
    """Returns how a payload breaks the rules of Hakuna's reference."""
    from processor.sandbox.apis.hakuna_events import Events, Refusal
    from processor.sandbox.apis.hakuna_feed import Feed
    from processor.sandbox.apis.script import Script

    script = Script()
    told = Feed().read(b"[" + body + b"]", script) if entry_type is EntryType.ORDER else Events().read(body, script)
    return "; ".join(told.problems) if isinstance(told, Refusal) else None


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
