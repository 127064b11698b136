"""How every command gets its settings: from the environment, over an env file where one is named."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from dotenv import dotenv_values

from processor.config import Role, Settings, load
from processor.errors import Unusable

UNUSABLE: Final = 78
"""EX_CONFIG of sysexits.h: settings that cannot work; a restart does not help."""

env_file: Callable[[Any], Any] = click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file; the environment wins over it.",
)


def settings_or_exit(file: Path | None, roles: tuple[Role, ...] | None) -> Settings:
    """The settings, or every problem on standard error and exit 78."""
    try:
        return load(environment(file), roles)
    except Unusable as unusable:
        exit_unusable(unusable)


def environment(file: Path | None) -> dict[str, str]:
    of_file = {name: value for name, value in dotenv_values(file).items() if value is not None} if file else {}
    return {**of_file, **os.environ}


def exit_unusable(unusable: Unusable) -> NoReturn:
    count = len(unusable.problems)
    click.echo(f"{count} problem{'s' if count != 1 else ''} with the settings:", err=True)
    for problem in unusable.problems:
        click.echo(f"  {problem}", err=True)
    sys.exit(UNUSABLE)
