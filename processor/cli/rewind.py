"""`hakuna-processor rewind`: a stopped role reads its topics again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from processor.cli.output import output_option, print_json, printable, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file
from processor.config import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from processor.config import Settings
    from processor.edges.kafka.admin import KafkaAdmin, TopicState
    from processor.edges.kafka.groups import KafkaGroups
    from processor.operate.recover import Move
    from processor.records import TopicPartition
    from processor.send.kafka_thread.beginnings import Book

EARLIEST: Final = "earliest"


@click.command("rewind", short_help="set a stopped role back, to read its topics again")
@click.option(
    "--role", type=click.Choice([role.value for role in Role]), required=True, help="Set the group of this role back."
)
@click.option(
    "--to",
    metavar=f"{EARLIEST}|TIME",
    required=True,
    help="Read from earliest, from 2026-05-09T03:00:00Z, or from 90m ago.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing.")
@output_option
@env_file
def command(role: str, to: str, dry_run: bool, output: str, env_file: Path | None) -> None:
    """Set a role's group back, never forward. Stop all workers of the role first. The role reads the records again:
    transform ignores events that its state has, send repeats requests with the same Idempotency-Keys.

    \b
    hakuna-processor rewind --role transform --to earliest --dry-run
    hakuna-processor rewind --role send --to 2026-11-28T02:00:00Z
    """
    since_ms = None if to == EARLIEST else moment_ms(to, "--to")
    settings = cluster_settings_or_exit(env_file)
    moves = asked_of_brokers(settings, lambda: _rewound(settings, Role(role), since_ms, dry_run=dry_run))
    if output == "json":
        print_json([move._asdict() for move in moves])
    else:
        rows = [
            (one.topic, str(one.partition), "-" if one.was is None else str(one.was), str(one.to), str(one.again))
            for one in moves
        ]
        show(table(("topic", "partition", "was", "will be" if dry_run else "is", "read again"), rows))
    sys.exit(0)


def _rewound(settings: Settings, role: Role, since_ms: int | None, *, dry_run: bool) -> list[Move]:
    from processor.edges.kafka.admin import KafkaAdmin
    from processor.edges.kafka.changes import OffsetsOfGroup
    from processor.edges.kafka.groups import KafkaGroups
    from processor.operate.recover import moves
    from processor.records import Position, TopicPartition
    from processor.topics import sources_of

    names = [settings.topic(topic) for topic in sources_of(role, rekey=settings.rekey)]
    client_id, kafka, group = "hakuna-processor-rewind", settings.librdkafka, settings.group(role)
    admin, groups = KafkaAdmin(kafka, client_id=client_id), KafkaGroups(kafka, client_id=client_id)
    nobody(groups, group)
    described = admin.describe(names)
    if absent := [name for name, state in described.items() if state is None]:
        raise click.ClickException(f"topics are missing: {', '.join(absent)}; `hakuna-processor topics create`")
    partitions = [
        TopicPartition(name, number)
        for name, state in described.items()
        if state is not None
        for number in range(state.partitions)
    ]
    beginnings = admin.beginnings(partitions)
    targets = dict(beginnings) if since_ms is None else admin.at(partitions, since_ms)
    found = moves(partitions, groups.committed(group, partitions), beginnings, admin.ends(partitions), targets)
    if not dry_run:
        if role is Role.SEND:
            _move_the_book(settings, {name: state for name, state in described.items() if state is not None}, found)
        OffsetsOfGroup(kafka, group, client_id=client_id).set(
            [Position(one.topic, one.partition, one.to) for one in found]
        )
        if role is Role.TRANSFORM:
            _move_the_books(settings, found, anew=since_ms is None)
    return found


def _move_the_book(settings: Settings, described: Mapping[str, TopicState], found: Sequence[Move]) -> None:
    """Sets send's book to the same offsets: send goes on from its book if the group's offsets are lost. What else the
    book says stays: which topic the holds were read from, and what retention deleted."""
    from processor.edges.kafka.admin import KafkaAdmin
    from processor.edges.kafka.producer import KafkaProducer
    from processor.interfaces import Seen
    from processor.operate.recover import Writes
    from processor.records import NewRecord, TopicPartition
    from processor.send.kafka_thread.beginnings import encode_book
    from processor.topics import Topic

    client_id, books = "hakuna-processor-rewind", settings.topic(Topic.SEND_OFFSETS)
    admin = KafkaAdmin(settings.librdkafka, client_id=client_id)
    if admin.describe([books])[books] is None:
        return  # send makes it, and begins with what its group says
    cluster_id = admin.cluster_id()
    known = _books_of_send(settings, admin, [TopicPartition(books, one.partition) for one in found], client_id)
    producer, writes = KafkaProducer(settings.librdkafka, client_id=client_id), Writes("books")
    try:
        for one in found:
            state = described[one.topic]
            place = Seen(cluster_id, state.topic_id, state.partitions).place
            old = known.get(one.partition)
            value = encode_book(place, old and old.past, one.to, [], old and old.gap)
            producer.produce(NewRecord(books, one.partition, b"%d" % one.partition, value, []), writes.answer)
        writes.all_there(len(found), producer.flush)
    finally:
        producer.close()


def _books_of_send(
    settings: Settings, admin: KafkaAdmin, partitions: Sequence[TopicPartition], client_id: str
) -> dict[int, Book]:
    """Returns send's books by partition number: each is the last record of its partition."""
    from processor.edges.kafka.scan import KafkaScan, Window
    from processor.operate.check.findings import Heard
    from processor.send.kafka_thread.beginnings import decode_book

    beginnings, ends = admin.beginnings(partitions), admin.ends(partitions)
    tails = [Window(*where, max(beginnings[where], end - 1), end) for where, end in ends.items()]
    scan = KafkaScan(settings.librdkafka, group=settings.group(Role.SEND), client_id=client_id, log=Heard())
    try:
        records = scan.find([tail for tail in tails if tail.start < tail.end], None)
    finally:
        scan.close()
    books = {one.partition: decode_book(one.value) for one in records if one.value is not None}
    return {partition: book for partition, book in books.items() if book is not None}


def _move_the_books(settings: Settings, moves: Sequence[Move], *, anew: bool) -> None:
    """Sets transform's book to the same offsets as its group. `anew`: accept the changelog as it is, whatever it has
    lost, and take the state on from there."""
    from processor.operate.check.findings import Heard
    from processor.operate.state.steps import Installation, write_books
    from processor.records import TopicPartition
    from processor.topics import ORDER_TOPICS, Topic

    topics = (*ORDER_TOPICS, Topic.CHANGELOG)
    found = Installation.of(settings, "hakuna-processor-rewind", topics, Heard())
    known = found.books()
    at: dict[int, dict[TopicPartition, int]] = {}
    for one in moves:
        at.setdefault(one.partition, {})[TopicPartition(one.topic, one.partition)] = one.to
    beginnings = found.admin.beginnings([TopicPartition(found.changelog, number) for number in at])
    if anew:
        write_books(found, known, at, {where.partition: beginning for where, beginning in beginnings.items()})
    else:
        write_books(found, known, at, decided=False)


def nobody(groups: KafkaGroups, group: str) -> None:
    """Raises if the group has members: the command needs them stopped."""
    members = groups.members(group)
    if members:
        raise click.ClickException(
            f"{group} has {len(members)} member{'s' if len(members) > 1 else ''}: stop the role first, "
            "and wait until a killed worker's session has ended"
        )


def moment_ms(text: str, option: str) -> int:
    """Returns the epoch ms of an option's time. Raises `click.BadParameter`."""
    from processor.moments import parse_moment

    try:
        return parse_moment(text, int(time.time() * 1000))
    except ValueError as wrong:
        raise click.BadParameter(f"{printable(text)!r} is not {wrong}", param_hint=option) from wrong
