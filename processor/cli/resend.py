"""`hakuna-processor resend`: sends today's snapshots of orders to the order feed once more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from processor.cli.output import output_option, print_json
from processor.cli.rewind import moment_ms, nobody
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file
from processor.hakuna import Api

if TYPE_CHECKING:
    from processor.config import Settings


@click.command("resend", short_help="send the order feed snapshots of orders once more, as they are now")
@click.option(
    "--since",
    required=True,
    metavar="TIME",
    help="Select orders that changed at this time or later: 2026-05-09T03:00:00Z, or 90m ago.",
)
@click.option("--dry-run", is_flag=True, help="Print how many there are, and do nothing.")
@output_option
@env_file
def command(since: str, dry_run: bool, output: str, env_file: Path | None) -> None:
    """Write a snapshot of every order that has changed since a time to the outbox, made by today's code from today's
    state. Stop all workers of transform first. A snapshot replaces older ones that wait in the outbox. Works for the
    order feed only: the Events API accepts an entry once.

    \b
    hakuna-processor resend --since 2026-11-28T02:00:00Z --dry-run
    hakuna-processor resend --since 36h
    """
    since_ms = moment_ms(since, "--since")
    settings = cluster_settings_or_exit(env_file)
    if settings.hakuna_api is not Api.FEED:
        raise click.ClickException(
            "HAKUNA_API is events: an entry that was accepted cannot be taken back, what is to be said again is a new "
            "event; what was refused goes by `hakuna-processor dead-letters replay`"
        )
    counts = asked_of_brokers(settings, lambda: _resent(settings, since_ms, dry_run=dry_run))
    if output == "json":
        print_json({"partitions": counts, "orders": sum(counts.values()), "written": not dry_run})
    else:
        click.echo(f"{sum(counts.values())} orders {'would be' if dry_run else 'were'} written to the outbox")
    sys.exit(0)


def _resent(settings: Settings, since_ms: int, *, dry_run: bool) -> dict[int, int]:
    """Orders by partition."""
    from processor.config import Role
    from processor.edges.clock import SystemClock
    from processor.edges.kafka.admin import KafkaAdmin
    from processor.edges.kafka.groups import KafkaGroups
    from processor.edges.kafka.producer import KafkaProducer
    from processor.edges.kafka.reader import KafkaReader
    from processor.operate.recover import Writes, snapshots, touched
    from processor.records import TopicPartition
    from processor.topics import Topic

    kafka, client_id, group = settings.librdkafka, "hakuna-processor-resend", settings.group(Role.TRANSFORM)
    changelog, outbox = settings.topic(Topic.CHANGELOG), settings.topic(Topic.OUTBOX)
    admin = KafkaAdmin(kafka, client_id=client_id)
    nobody(KafkaGroups(kafka, client_id=client_id), group)
    described = admin.describe([changelog, outbox])
    if absent := [name for name, state in described.items() if state is None]:
        raise click.ClickException(f"topics are missing: {', '.join(absent)}; `hakuna-processor topics create`")
    state = described[changelog]
    assert state is not None
    partitions = [TopicPartition(changelog, number) for number in range(state.partitions)]
    beginnings, ends = admin.beginnings(partitions), admin.ends(partitions)
    reader = KafkaReader(kafka, group=group, client_id=client_id)
    producer = KafkaProducer(kafka, client_id=client_id)
    writes, counts = Writes(), {}
    try:
        for where in partitions:
            states = touched(
                reader, SystemClock(), where, beginnings[where], ends[where], since_ms, lambda _records: None
            )
            count = 0
            for snapshot in snapshots(states, outbox):
                count += 1
                while not dry_run and not producer.produce(snapshot, writes.answer):
                    producer.flush(0.1)
            counts[where.partition] = count
        if not dry_run:
            writes.all_there(sum(counts.values()), producer.flush)
    finally:
        producer.close()
        reader.close()
    return counts
