"""`hakuna-processor topics plan|create`: the topics of an installation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from processor.cli.settings import env_file, settings_or_exit
from processor.config import duration_s

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.edges.kafka_admin import KafkaAdmin
    from processor.topics_plan import Step

_SIGNS: Final = {"create": "+", "change": "~", "leave": " ", "refuse": "!"}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        env_file,
        click.option(
            "--partitions",
            type=click.IntRange(1),
            default=12,
            show_default=True,
            help="Of each topic, where no source topic is there yet to follow.",
        ),
        click.option(
            "--replication-factor",
            type=click.IntRange(-1),
            default=-1,
            show_default=True,
            help="Of new topics; -1 is the cluster's default.",
        ),
        click.option("--retention", help="Of topics that are deleted by age (such as 7d); dead letters are kept."),
        click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
    ):
        command = option(command)
    return command


@click.group("topics", short_help="plans and creates the topics")
def command() -> None:
    """Plans and creates the topics of an installation; never deletes, lowers or repartitions one."""


@command.command("plan")
@_options
def plan(env_file: Path | None, partitions: int, replication_factor: int, retention: str | None, output: str) -> None:
    """Says what `topics create` would do. Exit 1 where something stands in the way.

    \b
    hakuna-processor topics plan --partitions 12
    """
    steps, _ = _planned(env_file, partitions, retention)
    _show(steps, output)
    sys.exit(1 if any(step.action == "refuse" for step in steps) else 0)


@command.command("create")
@_options
def create(env_file: Path | None, partitions: int, replication_factor: int, retention: str | None, output: str) -> None:
    """Creates and mends topics; what is as it should be is left alone. Exit 1 where something stands in the way.

    \b
    hakuna-processor topics create --partitions 12 --replication-factor 3
    """
    from processor.topics_plan import Action

    steps, admin = _planned(env_file, partitions, retention)
    refused = [step for step in steps if step.action is Action.REFUSE]
    if not refused:
        for step in steps:
            match step.action:
                case Action.CREATE:
                    admin.create(
                        step.topic, partitions=step.partitions, replicas=replication_factor, config=step.config
                    )
                case Action.CHANGE:
                    admin.configure(step.topic, step.config)
                case Action.LEAVE | Action.REFUSE:
                    pass
    _show(steps, output)
    sys.exit(1 if refused else 0)


def _planned(file: Path | None, partitions: int, retention: str | None) -> tuple[Sequence[Step], KafkaAdmin]:
    settings = _settings(file)
    from processor.edges import logs
    from processor.edges.kafka_admin import KafkaAdmin
    from processor.errors import BrokerOutage, Fatal
    from processor.topics import TOPICS
    from processor.topics_plan import plan

    logs.configure(settings.log_format, settings.log_level)
    admin = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-topics")
    try:
        retention_ms = None if retention is None else round(duration_s(retention) * 1000)
    except ValueError as wrong:
        raise click.BadParameter(f"{retention!r} is not {wrong}", param_hint="--retention") from wrong
    try:
        described = admin.describe([settings.topic_prefix + one.topic for one in TOPICS])
    except (BrokerOutage, Fatal) as outage:
        raise click.ClickException(f"{settings.bootstrap_servers}: {outage}") from outage
    return plan(described, settings.topic_prefix, partitions=partitions, retention_ms=retention_ms), admin


def _settings(file: Path | None) -> Settings:
    settings = settings_or_exit(file, None)
    if not settings.bootstrap_servers:
        raise click.UsageError("KAFKA_BOOTSTRAP_SERVERS is not set; such as kafka-1:9092,kafka-2:9092")
    return settings


def _show(steps: Sequence[Step], output: str) -> None:
    if output == "json":
        click.echo(json.dumps([asdict(step) for step in steps]))
        return
    for step in steps:
        config = " ".join(f"{key}={value}" for key, value in step.config.items())
        click.echo(
            f"{_SIGNS[step.action]} {step.action:<7} {step.topic}  partitions={step.partitions} {config}".rstrip()
        )
        click.echo(f"          {step.why}")
