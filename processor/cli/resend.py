"""`hakuna-processor resend`: sends today's snapshots of orders to the order feed once more."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from processor.cli.output import output_option, print_json
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file, moment_ms
from processor.hakuna import Api


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
    from processor.operate.check.findings import Heard
    from processor.operate.recover import resend

    counts = asked_of_brokers(settings, lambda: resend(settings, since_ms, Heard(), dry_run=dry_run))
    if output == "json":
        print_json({"partitions": counts, "orders": sum(counts.values()), "written": not dry_run})
    else:
        click.echo(f"{sum(counts.values())} orders {'would be' if dry_run else 'were'} written to the outbox")
    sys.exit(0)
