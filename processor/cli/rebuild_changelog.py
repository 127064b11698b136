"""`hakuna-processor rebuild-changelog`: the changelog, written again from the stores of a volume."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from processor.cli.output import output_option, print_json, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file


@click.command("rebuild-changelog", short_help="write the changelog again from the stores of a volume")
@output_option
@env_file
def command(output: str, env_file: Path | None) -> None:
    """Write the states that the stores under PROCESSOR_STATE_DIR have and the changelog lacks to the changelog, after
    it was deleted and made again, or cut. Stop transform first. Run the command once on each worker's volume. It
    deletes and overwrites nothing, so you may run it again.

    \b
    PROCESSOR_STATE_DIR=/var/lib/hakuna-processor hakuna-processor rebuild-changelog
    """
    settings = cluster_settings_or_exit(env_file)
    from processor.operate.check.findings import Heard
    from processor.operate.state.steps import rebuild_changelog

    def say(step: str) -> None:
        click.echo(step, err=True)

    written = asked_of_brokers(settings, lambda: rebuild_changelog(settings, Heard(), say))
    if output == "json":
        print_json([{"partition": number, "orders": count} for number, count in written.items()])
    else:
        show(table(("partition", "orders written"), [(str(number), str(count)) for number, count in written.items()]))
    sys.exit(0)
