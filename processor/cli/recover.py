"""`hakuna-processor rewind`, `resend` and `rebuild-changelog`: the commands after a disaster."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from processor.cli.output import output_option, print_json, say_step, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file, moment_ms
from processor.config import Role
from processor.hakuna import Api

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
def rewind(role: str, to: str, dry_run: bool, output: str, env_file: Path | None) -> None:
    """Set a role's group back, never forward. Stop all workers of the role first. The role reads the records again:
    transform ignores events that its state has, send repeats requests with the same Idempotency-Keys.

    \b
    hakuna-processor rewind --role transform --to earliest --dry-run
    hakuna-processor rewind --role send --to 2026-11-28T02:00:00Z
    """
    since_ms = None if to == EARLIEST else moment_ms(to, "--to")
    settings = cluster_settings_or_exit(env_file)
    from processor.operate import recover
    from processor.operate.check.findings import Heard

    moves = asked_of_brokers(settings, lambda: recover.rewind(settings, Role(role), since_ms, Heard(), dry_run=dry_run))
    if output == "json":
        print_json([move._asdict() for move in moves])
    else:
        rows = [
            (one.topic, str(one.partition), "-" if one.was is None else str(one.was), str(one.to), str(one.again))
            for one in moves
        ]
        show(table(("topic", "partition", "was", "will be" if dry_run else "is", "read again"), rows))


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
def resend(since: str, dry_run: bool, output: str, env_file: Path | None) -> None:
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
    from processor.operate import recover
    from processor.operate.check.findings import Heard

    counts = asked_of_brokers(settings, lambda: recover.resend(settings, since_ms, Heard(), dry_run=dry_run))
    if output == "json":
        print_json({"partitions": counts, "orders": sum(counts.values()), "written": not dry_run})
    else:
        click.echo(f"{sum(counts.values())} orders {'would be' if dry_run else 'were'} written to the outbox")


@click.command("rebuild-changelog", short_help="write the changelog again from the stores of a volume")
@output_option
@env_file
def rebuild_changelog(output: str, env_file: Path | None) -> None:
    """Write the states that the stores under PROCESSOR_STATE_DIR have and the changelog lacks to the changelog, after
    it was deleted and made again, or cut. Stop transform first. Run the command once on each worker's volume. It
    deletes and overwrites nothing, so you may run it again.

    \b
    PROCESSOR_STATE_DIR=/var/lib/hakuna-processor hakuna-processor rebuild-changelog
    """
    settings = cluster_settings_or_exit(env_file)
    from processor.operate.check.findings import Heard
    from processor.operate.state import steps

    written = asked_of_brokers(settings, lambda: steps.rebuild_changelog(settings, Heard(), say_step))
    if output == "json":
        print_json([{"partition": number, "orders": count} for number, count in written.items()])
    else:
        show(table(("partition", "orders written"), [(str(number), str(count)) for number, count in written.items()]))
