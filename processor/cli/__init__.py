"""The command line: one thin module a command, loaded when it is called.

`hakuna-processor COMMAND --help` must answer in an instant, so nothing is imported before the command is known.

Exit codes, the same for every command: 0: done, and all is well. 1: it could not be done, or what was asked about is
not well, or the command line makes no sense. 78: the settings, or what they point at, cannot work. 130: interrupted.

    dead_letters/    the `dead-letters` commands
    settings.py      how a command gets its settings, and says that no broker answers
    shop.py          the options of the commands that have a shop
    output.py        JSON or a table on standard output
    recover.py       `rewind`, `resend` and `rebuild-changelog`

The others are a command each: run.py, check.py, topics.py, schemas.py, status.py, order.py, sku.py, erase.py,
simulate.py, demo.py.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS: Final = {
    "run": "run the roles of a worker",
    "check": "find everything that would keep a worker from working",
    "topics": "plan, create and grow the topics",
    "schemas": "check and register the schemas",
    "status": "show who has what, how far behind, and what blocks it",
    "order": "show everything known of one order",
    "sku": "show everything known of one SKU",
    "dead-letters": "list, show, replay and discard what was refused",
    "erase": "forget an order, and say what of it is left",
    "rewind": "set a stopped role back, to read its topics again",
    "rebuild-changelog": "write the changelog again from the stores of a volume",
    "resend": "send the order feed snapshots of orders once more, as they are now",
    "simulate": "run stand-ins for Hakuna and Hako on loopback",
    "demo": "show the whole path at work, with a broker and stand-ins for the APIs inside",
}

_RECOVERY: Final = ("rewind", "rebuild-changelog", "resend")
INTERRUPTED: Final = 130
"""128 + SIGINT: what a shell makes of a command that Ctrl-C ended."""


class _Lazy(click.Group):
    """A group whose commands are modules of this package, each with a `command`; those of recovery share one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        is_recovery = cmd_name in _RECOVERY
        module = importlib.import_module(f"processor.cli.{'recover' if is_recovery else name}")
        command: click.Command = getattr(module, name if is_recovery else "command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command as click does; for a misspelt name, the error names the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as unknown:
            from difflib import get_close_matches

            nearest = get_close_matches(args[0], _COMMANDS, 1)
            if nearest:
                raise click.UsageError(f"{unknown.message} The nearest is {nearest[0]}.", ctx) from unknown
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names without loading the commands, which click would do for their help."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's own, but Ctrl-C is 130 and without a word, at any moment."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            sys.exit(super().main(args, prog_name, complete_var, False, **extra))
        except click.ClickException as refused:
            if isinstance(refused, click.UsageError):
                refused.show()
            else:
                from processor.cli.output import say

                say(f"Error: {refused.format_message()}", err=True)
            sys.exit(1)  # click has 2 for its usage errors
        except click.Abort:
            # Not `sys.exit`: a thread of ours may wait inside librdkafka for another ten seconds.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """Turns what the project raises into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as raised:
            from processor.errors import ProcessorError, Unusable

            if isinstance(raised, Unusable):
                from processor.cli.settings import exit_unusable

                exit_unusable(raised)
            if isinstance(raised, ProcessorError):
                raise click.ClickException(str(raised)) from raised
            raise


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog='Completion, in the start-up file of bash: eval "$(_HAKUNA_PROCESSOR_COMPLETE=bash_source hakuna-processor)"'
    " (zsh: zsh_source; fish: _HAKUNA_PROCESSOR_COMPLETE=fish_source hakuna-processor | source).",
)
@click.version_option(package_name="hakuna-processor")
def main() -> None:
    """Order events from Kafka to Hakuna: exactly once up to the outbox, in order to the API.

    Settings are environment variables; deploy/SETTINGS.md has the table.

    \b
    hakuna-processor check && hakuna-processor run
    hakuna-processor order ord-123
    hakuna-processor status --watch --workers http://worker-0:9400,http://worker-1:9400
    """
