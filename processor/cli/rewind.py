"""`hakuna-processor rewind`: a stopped role reads its topics again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from processor.cli.output import output_option, print_json, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file, moment_ms
from processor.config import Role

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
    from processor.operate.check.findings import Heard
    from processor.operate.recover import rewind

    moves = asked_of_brokers(settings, lambda: rewind(settings, Role(role), since_ms, Heard(), dry_run=dry_run))
    if output == "json":
        print_json([move._asdict() for move in moves])
    else:
        rows = [
            (one.topic, str(one.partition), "-" if one.was is None else str(one.was), str(one.to), str(one.again))
            for one in moves
        ]
        show(table(("topic", "partition", "was", "will be" if dry_run else "is", "read again"), rows))
    sys.exit(0)
