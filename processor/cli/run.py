"""`hakuna-processor run`: a worker."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from processor.cli.settings import env_file, settings_or_exit
from processor.config import Role

_ALL = "all"


def _before_the_worker(number: int, _frame: FrameType | None) -> None:
    """Until the worker listens itself, some seconds on a busy machine: nothing has begun that a drain would end."""
    sys.exit(0)


@click.command("run", short_help="run the roles of a worker")
@click.option(
    "--role",
    type=click.Choice([*(known.value for known in Role), _ALL]),
    default=_ALL,
    help="Run this role; `all` runs those that are configured (a registry, a key of their API).",
)
@env_file
def command(role: str, env_file: Path | None) -> None:
    """Run the roles of a worker until SIGTERM or SIGINT, then drain and exit 0.

    \b
    hakuna-processor run --role transform
    hakuna-processor run --role send --env-file worker.env
    hakuna-processor run --role hako
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _before_the_worker)
    roles = settings_or_exit(env_file, None).configured_roles() if role == _ALL else (Role(role),)
    settings = settings_or_exit(env_file, roles)

    # After the settings, so that a misspelt one is named at once.
    from processor.edges import logs
    from processor.run.process import run

    logs.configure(settings.log_format, settings.log_level)
    code = run(settings, roles)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not `sys.exit`: all that has to be is closed, and the interpreter's own end would wait for librdkafka's threads,
    # of which one may be waiting for the interpreter.
    os._exit(code)
