"""`hakuna-processor schemas check|register`: the schemas of the source topics, under `<topic>-value`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from processor.cli.output import interruptible, output_option, print_json, show, table
from processor.cli.settings import env_file, exit_unusable, settings_or_exit

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.operate.schemas import SchemaStep

_STYLES: Final = {"register": "green", "leave": "dim", "refuse": "bold red"}
_FIELD_STYLES: Final = {"refused": "bold red", "partly": "yellow", "dropped": "dim", "defaulted": "dim"}


@click.group("schemas", short_help="check and register the schemas")
def command() -> None:
    """Check and register the schemas of the source topics, each under its topic's name and `-value`."""


@command.command("check")
@output_option
@env_file
def check(output: str, env_file: Path | None) -> None:
    """Show whether the registered schemas can be read, and what `schemas register` would do. For each version, show
    which fields are converted, defaulted, dropped or refused. Exit 1 when `schemas register` would refuse.

    \b
    hakuna-processor schemas check
    """
    settings = _settings(env_file)
    _end(interruptible(lambda: _steps(settings, register=False)), output)


@command.command("register")
@output_option
@env_file
def register(output: str, env_file: Path | None) -> None:
    """Register the schemas that are missing. When one is not compatible with a registered schema, register none and
    exit 1.

    \b
    hakuna-processor schemas register
    """
    settings = _settings(env_file)
    _end(interruptible(lambda: _steps(settings, register=True)), output)


def _steps(settings: Settings, *, register: bool) -> list[SchemaStep]:
    from processor.edges.avro import reader_schema
    from processor.edges.registry import Registry
    from processor.operate.schemas import SchemaAction, schema_step
    from processor.topics import ORDER_TOPICS, STOCK_TOPICS

    registry = Registry.at(settings)
    steps, schemas = [], {}
    for topic in (*ORDER_TOPICS, *STOCK_TOPICS):
        subject = f"{settings.topic(topic)}-value"
        numbers = registry.versions(subject)
        level = registry.level(subject)
        there = [version for number in numbers if (version := registry.version(subject, number)) is not None]
        schemas[subject] = reader_schema(topic)
        steps.append(schema_step(subject, schemas[subject], there, level))
    if register and not any(step.action is SchemaAction.REFUSE for step in steps):
        for step in steps:
            if step.action is SchemaAction.REGISTER:
                registry.register(step.subject, schemas[step.subject])
    return steps


def _settings(file: Path | None) -> Settings:
    from processor.errors import Unusable

    settings = settings_or_exit(file, None)
    if not settings.registry_url:
        exit_unusable(Unusable(["SCHEMA_REGISTRY_URL: not set; such as http://registry:8081"]))
    return settings


def _end(steps: Sequence[SchemaStep], output: str) -> None:
    if output == "json":
        print_json(steps)
    else:
        from rich.text import Text

        rows = [(Text(step.action.value, style=_STYLES[step.action]), step.subject, step.why) for step in steps]
        show(table(("", "subject", "why"), rows))
        fields = [
            (
                step.subject,
                str(version.version),
                Text(one.what, style=_FIELD_STYLES.get(one.what, "")),
                one.field,
                one.why,
            )
            for step in steps
            for version in step.versions
            for one in version.fields
        ]
        if fields:
            show(table(("subject", "version", "", "field", "why"), fields))
    sys.exit(1 if any(step.action == "refuse" for step in steps) else 0)
