"""Two commands after a disaster: `resend` and `rewind`.

resend writes today's snapshot of every order that an event touched since a moment to the outbox once more.

    changelog ──read to its end, newest state of each key──► touched since? ──► snapshot ──► outbox

It is for the order feed, whose newest snapshot is complete by itself. After wrong code, the right snapshot replaces the
wrong one; after a lost outbox, the snapshots bring what was not sent. Transform must be stopped, and the command checks
that it is: transform could read a snapshot before ours and write it after ours, and the older one would go last.

The entry ID is made of the order, the time of its last event and a digest of the snapshot. It is new if the bytes are
new, and the same each time the command is given, so that a repeat after a kill is harmless.

rewind sets the offsets of a role's group back, and its books with them: send and transform go on from their books if
the group's offsets are lost. It never sets a group forward, because a group that is set forward leaves records untaken.

Each is one command in one thread. Memory: the states of one partition's orders that were touched since. Not chosen: a
resend of the Events API's entries (each is accepted once for all time; to say something again takes a new event, which
Hakuna has to agree to).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from processor.config import Role, Settings
from processor.edges.clock import SystemClock
from processor.edges.kafka.changes import OffsetsOfGroup
from processor.edges.kafka.client import Log
from processor.edges.kafka.producer import KafkaProducer
from processor.edges.kafka.reader import KafkaReader
from processor.edges.kafka.scan import KafkaScan, Window
from processor.errors import BrokerOutage
from processor.hakuna import Api, entry_ids, feed
from processor.interfaces import Clock, Committed, Reader, Seen
from processor.operate.replay.reading import read
from processor.operate.state.steps import Installation, write_books
from processor.records import EntryType, NewRecord, Position, Record, TopicPartition
from processor.send.kafka_thread.beginnings import BOOKS_READ, encode_book, newest_books
from processor.topics import ORDER_TOPICS, Topic, sources_of
from processor.transform import order_state, outbox
from processor.transform.book import BOOK_KEY

WRITTEN_S_MAX: Final = 60.0


def resend(settings: Settings, since_ms: int, log: Log, *, dry_run: bool) -> dict[int, int]:
    """Returns how many snapshots were written, or would be, by partition. Raises `Fatal`, `BrokerOutage`."""
    found = Installation.of(settings, "hakuna-processor-resend", (Topic.CHANGELOG, Topic.OUTBOX), log)
    found.nobody(Role.TRANSFORM)
    partitions = [TopicPartition(found.changelog, n) for n in range(found.described[found.changelog].partitions)]
    beginnings, ends = found.admin.beginnings(partitions), found.admin.ends(partitions)
    reader = KafkaReader(settings.librdkafka, group=settings.group(Role.TRANSFORM), client_id=found.client_id)
    counts = dict.fromkeys((where.partition for where in partitions), 0)

    def all_snapshots() -> Iterator[NewRecord]:
        for where in partitions:
            start, end = beginnings[where], ends[where]
            states = touched(reader, SystemClock(), where, start, end, since_ms)
            for snapshot in snapshots(states, settings.topic(Topic.OUTBOX)):
                counts[where.partition] += 1
                yield snapshot

    try:
        if dry_run:
            for _ in all_snapshots():
                pass
        else:
            write(found, all_snapshots(), "snapshots")
    finally:
        reader.close()
    return counts


def touched(
    reader: Reader, clock: Clock, where: TopicPartition, start: int, end: int, since_ms: int
) -> dict[bytes, Record]:
    """Returns the newest state by key of the orders in one changelog partition that an event touched at `since_ms` or
    later. Raises `BrokerOutage`."""
    newest: dict[bytes, Record] = {}
    for records in read(reader, clock, where, start, end):
        for record in records:
            if record.key is None or record.key == BOOK_KEY:
                continue
            if record.value is None or order_state.peek(record.value)[0] < since_ms:
                newest.pop(record.key, None)
            else:
                newest[record.key] = record
    return newest


def snapshots(states: dict[bytes, Record], to: str) -> Iterator[NewRecord]:
    """Yields the snapshots to send, built by the current code, as records for the topic `to`. An order that was never
    placed has none. Raises `StateCorrupt`."""
    for key, record in states.items():
        assert record.value is not None
        state = order_state.decode(record.value)
        if state.order is None:
            continue
        body = feed.snapshot(state.order)
        again = entry_ids.entry_id(Api.FEED, "resend", state.order.placed.order_id, f"{state.touched_at_ms}")
        origin = msgspec.structs.replace(record, headers=[])
        headers = outbox.headers(EntryType.ORDER, entry_ids.of_bytes(again, body), origin)
        yield NewRecord(to, record.partition, key, body, headers)


class Writes:
    """Counts acknowledgements. Mutable: `written` counts them, `refused` is the first error."""

    def __init__(self, what: str = "snapshots") -> None:
        self._what = what
        self.written = 0
        self.refused: str | None = None

    def answer(self, error: str | None, _offset: int) -> None:
        if error is None:
            self.written += 1
        else:
            self.refused = self.refused or error

    def all_there(self, count: int, flush: Callable[[float], int]) -> None:
        """Waits until `count` records are acknowledged. Raises `BrokerOutage` if one of them was not."""
        left = flush(WRITTEN_S_MAX)
        if left or self.refused or self.written != count:
            why = self.refused or f"{left} were not acknowledged in {WRITTEN_S_MAX:g} s"
            raise BrokerOutage(f"{self.written} of {count} {self._what} were written: {why}; give the command again")


def write(found: Installation, records: Iterable[NewRecord], what: str) -> None:
    """Writes records that need no transaction. Raises `BrokerOutage` if one of them was not acknowledged."""
    producer, writes = KafkaProducer(found.settings.librdkafka, client_id=found.client_id), Writes(what)
    count = 0
    try:
        for record in records:
            count += 1
            while not producer.produce(record, writes.answer):
                producer.flush(0.1)
        writes.all_there(count, producer.flush)
    finally:
        producer.close()


class Move(NamedTuple):
    """The next offset of one partition: `was` is the committed one (None: nothing was committed), `to` the new one,
    `again` the number of offsets between them."""

    topic: str
    partition: int
    was: int | None
    to: int
    again: int


def moves(
    partitions: Sequence[TopicPartition],
    committed: Mapping[TopicPartition, Committed],
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    targets: Mapping[TopicPartition, int | None],
) -> list[Move]:
    """Returns the move of each partition. `targets` are the offsets that were asked for; None is the end of the log. A
    commit beyond the end counts as none, because the topic was made again."""
    found = []
    for where in partitions:
        was = committed[where].next_offset
        target = targets[where]
        to = min(max(beginnings[where], ends[where] if target is None else target), ends[where])
        if was is not None and was <= ends[where]:
            to = min(to, max(was, beginnings[where]))
        found.append(Move(where.topic, where.partition, was, to, 0 if was is None else max(was - to, 0)))
    return found


def rewind(settings: Settings, role: Role, since_ms: int | None, log: Log, *, dry_run: bool) -> list[Move]:
    """Sets the role's group and its books back to a time, epoch ms; None: to the beginning of its topics. Returns what
    was done, or would be. Raises `Fatal`, `BrokerOutage`."""
    found = Installation.of(settings, "hakuna-processor-rewind", sources_of(role, rekey=settings.rekey), log)
    found.nobody(role)
    partitions = [
        TopicPartition(name, number) for name, state in found.described.items() for number in range(state.partitions)
    ]
    beginnings, ends = found.admin.beginnings(partitions), found.admin.ends(partitions)
    targets = dict(beginnings) if since_ms is None else found.admin.at(partitions, since_ms)
    group = settings.group(role)
    done = moves(partitions, found.groups.committed(group, partitions), beginnings, ends, targets)
    if not dry_run:
        if role is Role.SEND:
            _move_books_of_send(found, done, log)
        places = [Position(one.topic, one.partition, one.to) for one in done]
        OffsetsOfGroup(settings.librdkafka, group, client_id=found.client_id).set(places)
        if role is Role.TRANSFORM:
            _move_books_of_transform(settings, done, log, anew=since_ms is None)
    return done


def _move_books_of_send(found: Installation, done: Sequence[Move], log: Log) -> None:
    books = found.settings.topic(Topic.SEND_OFFSETS)
    if found.admin.describe([books])[books] is None:
        return  # send makes it, and begins with what its group says
    partitions = [TopicPartition(books, one.partition) for one in done]
    beginnings, ends = found.admin.beginnings(partitions), found.admin.ends(partitions)
    tails = [Window(*where, max(beginnings[where], end - BOOKS_READ), end) for where, end in ends.items()]
    group = found.settings.group(Role.SEND)
    scan = KafkaScan(found.settings.librdkafka, group=group, client_id=found.client_id, log=log)
    try:
        records = scan.find([tail for tail in tails if tail.start < tail.end], None)
    finally:
        scan.close()
    cluster = found.admin.cluster_id()
    places = {name: Seen(cluster, one.topic_id, one.partitions).place for name, one in found.described.items()}
    write(found, moved_books(books, done, places, records), "books")


def moved_books(
    books: str, done: Sequence[Move], places: Mapping[str, str], records: Iterable[Record]
) -> list[NewRecord]:
    """Returns send's books with the offsets that its group has now. `places` are the places of the outbox's logs by
    topic, `records` the ends of the topic `books`. The rest of each book stays as it is: the topic that the holds were
    read from, and what retention deleted."""
    known = newest_books(records)
    return [
        NewRecord(
            books,
            one.partition,
            b"%d" % one.partition,
            encode_book(places[one.topic], old and old.past, one.to, [], old and old.gap),
            [],
        )
        for one in done
        for old in [known.get(one.partition)]
    ]


def _move_books_of_transform(settings: Settings, done: Sequence[Move], log: Log, *, anew: bool) -> None:
    """`anew`: accepts the changelog as it is, with everything that it has lost, and takes the state on from there."""
    found = Installation.of(settings, "hakuna-processor-rewind", (*ORDER_TOPICS, Topic.CHANGELOG), log)
    at: dict[int, dict[TopicPartition, int]] = {}
    for one in done:
        at.setdefault(one.partition, {})[TopicPartition(one.topic, one.partition)] = one.to
    whole_from = None
    if anew:
        beginnings = found.admin.beginnings([TopicPartition(found.changelog, number) for number in at])
        whole_from = {where.partition: beginning for where, beginning in beginnings.items()}
    write_books(found, found.books(), at, whole_from, decided=anew)
