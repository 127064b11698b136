"""`hakuna-processor check`: everything that would keep a worker from working."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from processor.cli.output import interruptible, output_option, print_json, printable, show, table
from processor.cli.settings import UNUSABLE, env_file, environment

if TYPE_CHECKING:
    from processor.operate.check.findings import Finding

_STYLES: Final = {"sound": "green", "note": "yellow", "problem": "bold red"}


@click.command("check", short_help="finds everything that would keep a worker from working")
@click.option(
    "--role",
    type=click.Choice(["transform", "send", "hako", "all"]),
    default="all",
    show_default=True,
    help="For which role; `all` checks those that are configured.",
)
@click.option(
    "--try-key/--no-try-key",
    default=None,
    help="Send the API a request that changes nothing, to see whether it takes the key. Without either: where no quota "
    "is set, since the request would not be counted in it.",
)
@output_option
@env_file
def command(role: str, try_key: bool | None, output: str, env_file: Path | None) -> None:
    """Finds everything that would keep a worker from working, at once, each with what to do about it.

    Looks at the settings, brokers, topics, groups, rights, registry, state directory, API key and clocks; writes
    nothing. Exit 0 when all is sound, 78 when something is not: fit for an init container.

    \b
    hakuna-processor check
    hakuna-processor check --role send --no-try-key --env-file worker.env
    hakuna-processor check --output json | jq '.findings[] | select(.verdict == "problem")'
    """
    from processor.config import Role
    from processor.operate.check.check import check
    from processor.operate.check.findings import problems

    roles = None if role == "all" else (Role(role),)
    settings = environment(env_file)
    found = interruptible(lambda: check(settings, roles, try_key=try_key))
    wrong = problems(found)
    if output == "json":
        print_json({"sound": not wrong, "problems": len(wrong), "findings": found})
    else:
        _show(found, len(wrong))
    sys.exit(UNUSABLE if wrong else 0)


def _show(found: Sequence[Finding], wrong: int) -> None:
    from rich.text import Text

    rows = []
    for finding in found:
        said = Text(printable(finding.what))
        if finding.remedy:
            said.append(f"\n→ {printable(finding.remedy)}", style="italic")
        verdict = Text(finding.verdict.value, style=_STYLES[finding.verdict])
        rows.append((verdict, finding.area.value, finding.subject, said))
    show(table(("", "area", "what", ""), rows))
    click.echo("all is sound" if not wrong else f"{wrong} problem{'s' if wrong != 1 else ''}", err=True)
