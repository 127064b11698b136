"""The command line: one thin module a command, loaded when it is called.

`hakuna-processor COMMAND --help` must answer in an instant, so nothing is imported before the command is known.
"""

from __future__ import annotations

import importlib
from typing import Final

import click

_COMMANDS: Final = {
    "run": "runs the roles of a worker",
    "demo": "shows the whole path at work, with a broker and a stand-in for Hakuna inside",
    "topics": "plans and creates the topics",
    "simulate": "runs stand-ins for Hakuna and Hako on loopback",
}


class _Lazy(click.Group):
    """A group whose commands are modules of this package, each with a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"processor.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hakuna-processor")
def main() -> None:
    """Order events from Kafka to Hakuna: exactly once up to the outbox, in order to the API.

    Settings are environment variables; the README has the table.
    """
