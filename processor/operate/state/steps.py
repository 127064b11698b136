"""`topics grow` and `rebuild-changelog`, step by step. Each looks first, says what it does, and may be run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from processor.config import Role, Settings
from processor.edges.clock import SystemClock
from processor.edges.kafka.admin import KafkaAdmin, TopicState
from processor.edges.kafka.changes import OffsetsOfGroup
from processor.edges.kafka.client import Log
from processor.edges.kafka.groups import KafkaGroups
from processor.edges.kafka.looks import KafkaBooks, by_number, numbered
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.transaction import KafkaTransaction
from processor.edges.rocks import Volume
from processor.errors import BrokerOutage, Fatal, Unusable
from processor.operate.state.grow import Grower, Growth, Moved, family_of
from processor.operate.state.rebuild import Found, furthest, lacks, positions, rebuild
from processor.operate.state.writing import Nobody, Writing
from processor.operate.status.brokers import Brokers
from processor.records import NewRecord, Position, TopicPartition
from processor.run.start import here_of, sources
from processor.sources.placements import explain
from processor.sources.starts import Mark
from processor.topics import ORDER_TOPICS, Topic
from processor.transform.book import BOOK_KEY, Book, Here, encode_book, new_book

VISIBLE_S_MAX: Final = 30.0
GROWING: Final = (
    *ORDER_TOPICS, Topic.CHANGELOG, Topic.OUTBOX, Topic.ORDER_DEAD_LETTERS, Topic.DELIVERIES,
    Topic.HAKUNA_DEAD_LETTERS, Topic.HOLDS, Topic.SEND_OFFSETS, Topic.RESOLUTIONS,
)  # fmt: skip
"""The topics of orders that must have the same number of partitions."""

Say = Callable[[str], None]
"""Is called with each step, for the operator who watches."""


@dataclass(frozen=True)
class Installation:
    """The clients of one command, and its topics as the cluster describes them."""

    settings: Settings
    client_id: str
    admin: KafkaAdmin
    groups: KafkaGroups
    described: Mapping[str, TopicState]

    @classmethod
    def of(cls, settings: Settings, client_id: str, topics: Sequence[Topic], log: Log) -> Installation:
        """Raises `Fatal` if a topic is missing, `BrokerOutage`."""
        admin = KafkaAdmin(settings.librdkafka, client_id=client_id, log=log)
        groups = KafkaGroups(settings.librdkafka, client_id=client_id, log=log)
        described = admin.describe([settings.topic(topic) for topic in topics])
        if absent := [name for name, state in described.items() if state is None]:
            raise Fatal(f"topics are missing: {', '.join(absent)}; `hakuna-processor topics create`")
        return cls(
            settings, client_id, admin, groups, {name: state for name, state in described.items() if state is not None}
        )

    def nobody(self, *roles: Role) -> None:
        """Raises `Fatal` if one of these roles has a worker."""
        for role in roles:
            group = self.settings.group(role)
            if members := self.groups.members(group):
                raise Fatal(
                    f"{group} has {len(members)} member{'s' if len(members) > 1 else ''}: stop the role first, and "
                    "wait until a killed worker's session has ended"
                )

    @property
    def changelog(self) -> str:
        return self.settings.topic(Topic.CHANGELOG)

    @property
    def sources(self) -> list[str]:
        return sources(self.settings)

    @property
    def here(self) -> Here:
        return here_of(self.settings, self.admin, self.described)

    def identities(self) -> dict[str, str]:
        return {source: self.described[source].topic_id for source in self.sources}

    def books(self) -> Mapping[int, Book]:
        partitions = numbered(self.changelog, self.described[self.changelog].partitions)
        group = self.settings.group(Role.TRANSFORM)
        found = KafkaBooks(self.settings.librdkafka, self.changelog, group=group, client_id=self.client_id)
        return found.newest(by_number(self.admin.ends(partitions)), by_number(self.admin.beginnings(partitions)))

    def committed(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int | None]:
        group = self.settings.group(Role.TRANSFORM)
        return {where: one.next_offset for where, one in self.groups.committed(group, partitions).items()}

    def set(self, offsets: Mapping[TopicPartition, int]) -> None:
        if offsets:
            OffsetsOfGroup(self.settings.librdkafka, self.settings.group(Role.TRANSFORM), client_id=self.client_id).set(
                [Position(*where, offset) for where, offset in offsets.items()]
            )

    @contextmanager
    def writing(self) -> Iterator[tuple[KafkaReader, Writing]]:
        group = self.settings.group(Role.TRANSFORM)
        reader = KafkaReader(self.settings.librdkafka, group=group, client_id=self.client_id)
        transaction = KafkaTransaction(
            self.settings.librdkafka, transactional_id=f"{group}.state", consumer=Nobody(), client_id=self.client_id
        )
        transaction.fit(min(int(state.config["max.message.bytes"]) for state in self.described.values()))
        try:
            yield reader, Writing(transaction, SystemClock())
        finally:
            transaction.close()
            reader.close()


def grow(settings: Settings, partitions: int, log: Log, say: Say, *, dry_run: bool) -> tuple[Growth, Moved]:
    """Gives the topics of orders this many partitions. Raises `Fatal` and `Unusable` before anything is done."""
    found = Installation.of(settings, "hakuna-processor-grow", GROWING, log)
    found.nobody(Role.TRANSFORM, Role.SEND)
    most = max(state.partitions for state in found.described.values())
    if partitions < most:
        raise Fatal(f"there are {most} partitions already, and a topic cannot be made smaller: give {most} or more")
    by = settings.group(Role.TRANSFORM)
    with found.writing() as (reader, writing):
        grower = Grower(reader, writing, SystemClock(), by)
        growth = _growth(found, grower, partitions)
        grown = any(found.described[source].partitions > growth.was for source in found.sources)
        _nothing_unread(settings, log, grown=grown)
        say(f"from {growth.was} to {growth.to} partitions; keys are placed by {growth.family.name}")
    if dry_run:
        return growth, Moved()
    found = _made(found, growth, log, say)
    with found.writing() as (reader, writing):  # clients that have never known fewer partitions
        return growth, _moved(found, Grower(reader, writing, SystemClock(), by), growth, say)


def _growth(found: Installation, grower: Grower, partitions: int) -> Growth:
    """Finds the old number of partitions in the books; without a book, by the places of the orders."""
    known = {book.partitions for book in found.books().values()}
    count = found.described[found.changelog].partitions
    sample = grower.sample(found.changelog, count)
    if known:
        was = min(known)
    else:
        candidates = [number for number in range(count, 0, -1) if all(at < number for _, at in sample)]
        was = next((one for one in candidates if explain(sample, one).family is not None), count)
    now = max(found.described[source].partitions for source in found.sources)
    return Growth(was, partitions, family_of(sample, was, now))


def _nothing_unread(settings: Settings, log: Log, *, grown: bool) -> None:
    brokers = Brokers(settings, log)
    try:
        behind = [one for one in brokers.ask() if one.lag]
    finally:
        brokers.close()
    for role in (Role.SEND,) if grown else (Role.TRANSFORM, Role.SEND):
        if left := sum(one.lag for one in behind if one.role is role):
            raise Fatal(f"{role} has {left} records left: start it, let it come to its end, and stop it again")


def _made(found: Installation, growth: Growth, log: Log, say: Say) -> Installation:
    for topic, state in found.described.items():
        if state.partitions < growth.to:
            say(f"{topic}: {state.partitions} → {growth.to} partitions")
            found.admin.grow(topic, growth.to)
    until_s = time.monotonic() + VISIBLE_S_MAX
    while True:
        now = Installation.of(found.settings, found.client_id, GROWING, log)
        if all(state.partitions == growth.to for state in now.described.values()) and _led(now, growth):
            return now
        if time.monotonic() > until_s:
            raise Fatal("the brokers do not show the new partitions yet; give the command again")
        time.sleep(0.2)


def _led(found: Installation, growth: Growth) -> bool:
    """Returns true if each of the partitions has a leader."""
    try:
        found.admin.ends([TopicPartition(topic, number) for topic in found.described for number in range(growth.to)])
    except BrokerOutage:
        return False
    return True


def _moved(found: Installation, grower: Grower, growth: Growth, say: Say) -> Moved:
    topic = found.settings.topic
    known = found.books()
    sources = [TopicPartition(name, number) for name in found.sources for number in range(growth.to)]
    committed = found.committed(sources)
    beginnings, ends = found.admin.beginnings(sources), found.admin.ends(sources)
    starts: dict[TopicPartition, int] = {}
    for where in sources:
        book, at = known.get(where.partition), committed[where]
        mark = None if book is None else book.marks.get(where.topic)
        starts[where] = max(beginnings[where], at if at is not None else 0 if mark is None else mark.next_offset)
    moved = grower.states(found.changelog, growth)
    say(f"{moved.orders} orders moved, {moved.given_back} parked events given back to their topics")
    holds = grower.keyed(topic(Topic.HOLDS), growth)
    of_letters = (topic(Topic.ORDER_DEAD_LETTERS), topic(Topic.HAKUNA_DEAD_LETTERS))
    letters = sum(grower.letters(one, topic(Topic.RESOLUTIONS), growth) for one in of_letters)
    say(f"{holds} holds and {letters} open letters moved")
    if wrong := grower.misplaced([found.changelog, topic(Topic.HOLDS)], growth):
        raise Fatal(f"not all is where it belongs: {', '.join(wrong)}; give the command again")
    rewritten = 0
    for number in range(growth.to):
        count = grower.unread(found.sources, number, growth, starts, ends)
        rewritten += count
        if count:
            of_number = [TopicPartition(name, number) for name in found.sources]
            starts.update({where: ends[where] for where in of_number})
            found.set({where: ends[where] for where in of_number})
    found.set({where: start for where, start in starts.items() if committed[where] is None})
    write_books(found, known, dict.fromkeys(range(growth.to), starts))
    say("every partition's book says so: transform and send may be started")
    return moved._replace(holds=holds, letters=letters, rewritten=rewritten)


def write_books(
    found: Installation,
    known: Mapping[int, Book],
    offsets: Mapping[int, Mapping[TopicPartition, int]],
    whole_from: Mapping[int, int] | None = None,
    *,
    decided: bool = True,
) -> None:
    """Writes the books of these partition numbers. `whole_from` None: as before; `decided`: by an operator, now."""
    now_ms = SystemClock().now_ms()
    with found.writing() as (_, writing):
        for number, at in offsets.items():
            before = known.get(number)
            book = moved_book(
                before,
                found.here,
                number,
                at,
                found.identities(),
                decided_ms=now_ms if decided else 0 if before is None else before.decided_ms,
                whole_from=(0 if before is None else before.whole_from) if whole_from is None else whole_from[number],
            )
            writing.add([NewRecord(found.changelog, number, BOOK_KEY, encode_book(book), [])])
        writing.commit()


def moved_book(
    known: Book | None,
    here: Here,
    number: int,
    offsets: Mapping[TopicPartition, int],
    identities: Mapping[str, str],
    *,
    decided_ms: int,
    whole_from: int,
) -> Book:
    """Returns the book of one partition number that reads on from these offsets: the state is from now on what the
    changelog holds from `whole_from` on. `identities` are the topics' IDs by name. `decided_ms` is when an operator
    decided what the state is to be; this drops stores of another changelog. Pure."""
    base = new_book(here) if known is None else known
    marks = {
        where.topic: Mark(identities[where.topic], at) for where, at in offsets.items() if where.partition == number
    }
    return msgspec.structs.replace(
        base,
        cluster=here.cluster,
        # What a worker wrote into another changelog stays known as that until an operator decides.
        changelog=here.changelog if known is None or decided_ms != known.decided_ms else known.changelog,
        partitions=here.partitions,
        whole_from=whole_from,
        decided_ms=decided_ms,
        marks={**base.marks, **marks},
        orders=-1,
    )


def rebuild_changelog(settings: Settings, log: Log, say: Say) -> dict[int, int]:
    """Returns the number of orders written by partition number, for changelog partitions that had less than a store
    here. Raises `Fatal`."""
    found = Installation.of(settings, "hakuna-processor-rebuild", (*ORDER_TOPICS, Topic.CHANGELOG), log)
    found.nobody(Role.TRANSFORM)
    volume = Volume(Path(settings.state_dir))
    try:
        stores = furthest(volume.stores())
        if not stores:
            raise Unusable([f"PROCESSOR_STATE_DIR: there is no store with any order in {settings.state_dir}"])
        written = {
            number: count
            for number in sorted(stores)
            if number < found.described[found.changelog].partitions
            and (count := _rebuilt(found, number, stores[number], say)) is not None
        }
        for one in stores.values():
            one.store.close()
        return written
    finally:
        volume.close()


def _rebuilt(found: Installation, number: int, of: Found, say: Say) -> int | None:
    where = TopicPartition(found.changelog, number)
    beginning, end = found.admin.beginnings([where])[where], found.admin.ends([where])[where]
    known = found.books().get(number)
    identity = f"{found.changelog}/{found.described[found.changelog].topic_id}/{number}"
    if not lacks(of, identity, known, beginning, end):
        say(f"{found.changelog}/{number} has all that the store here has")
        return None
    with found.writing() as (reader, writing):
        count = rebuild(reader, writing, SystemClock(), where, of)
    sources = [TopicPartition(name, number) for name in found.sources]
    committed = found.committed(sources)
    at = positions(of, committed, found.identities(), number)
    found.set({source: offset for source, offset in at.items() if committed[source] != offset})
    write_books(found, {} if known is None else {number: known}, {number: at}, {number: beginning})
    say(f"{found.changelog}/{number}: {count} orders written from the store")
    return count
