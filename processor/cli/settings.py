"""How every command gets its settings: from the environment, over an env file if `--env-file` names one. And how a
command that asks the brokers says that none answers: what stands at each address, and what to do.

The modules that read settings are imported when they are used, so that `--help` stays fast.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from processor.cli.output import interruptible, printable, say

if TYPE_CHECKING:
    from processor.config import Role, Settings
    from processor.errors import Problem, Unusable
    from processor.operate.order.story import Fields
    from processor.topics import Topic

T = TypeVar("T")

UNUSABLE: Final = 78
"""EX_CONFIG of sysexits.h: settings that cannot work; a restart does not help."""

env_file: Callable[[Any], Any] = click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file; the environment wins over it.",
)
cluster_option: Callable[[Any], Any] = click.option(
    "--cluster",
    default="kafka",
    help="With --output strimzi: the name of the Kafka resource that the objects belong to.",
)


def settings_or_exit(file: Path | None, roles: tuple[Role, ...] | None) -> Settings:
    """The settings, or every problem on standard error and exit 78."""
    from processor.config import load
    from processor.errors import Unusable

    given, unread = environment(file)
    try:
        settings = load(given, roles, _refused)
    except Unusable as unusable:
        exit_unusable(Unusable([*unread, *unusable.problems]))
    if unread:
        exit_unusable(Unusable(unread))
    return settings


def _refused(kafka: Mapping[str, str]) -> list[Problem]:
    """Returns the Kafka settings that librdkafka refuses; asks it only if there are any settings."""
    if not kafka:
        return []
    from processor.edges.kafka.properties import refused

    return refused(kafka)


def cluster_settings_or_exit(file: Path | None) -> Settings:
    """Settings for a command that asks the cluster and runs no role."""
    from processor.errors import Unusable

    settings = settings_or_exit(file, None)
    if not settings.bootstrap_servers:
        exit_unusable(Unusable(["KAFKA_BOOTSTRAP_SERVERS: not set; such as kafka-1:9092,kafka-2:9092"]))
    return settings


def environment(file: Path | None) -> tuple[dict[str, str], list[Problem]]:
    """Returns the environment over what the file says, and what of the file cannot be read."""
    if file is None:
        return dict(os.environ), []
    from dotenv.parser import parse_stream

    from processor.errors import Problem

    of_file: dict[str, str] = {}
    unread: list[Problem] = []
    try:
        # As Docker and Kubernetes read such a file: a password may hold `${`.
        with file.open(encoding="utf-8") as lines:
            for line in parse_stream(lines):
                if line.error or (line.key is not None and line.value is None):
                    # Not the line itself: it may hold a password.
                    number = line.original.line + _blank_before(line.original.string)
                    where = f"--env-file {file}, line {number}"
                    unread.append(Problem(where, "is not an assignment", "write NAME=value"))
                elif line.key is not None and line.value is not None:
                    of_file[line.key] = line.value
    except UnicodeDecodeError as broken:
        what = f"is not UTF-8 text ({broken.reason} at byte {broken.start})"
        unread.append(Problem(f"--env-file {file}", what, "save it as UTF-8"))
    return {**of_file, **os.environ}, unread


def _blank_before(text: str) -> int:
    """Lines of white space before the first word: the parser takes them with what follows."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def exit_unusable(unusable: Unusable) -> NoReturn:
    count = len(unusable.problems)
    say(f"{count} problem{'s' if count != 1 else ''} with the settings:", err=True)
    for problem in unusable.problems:
        say(f"  {problem}", err=True)
    sys.exit(UNUSABLE)


def parsed(text: str, option: str, parse: Callable[[str], T]) -> T:
    """Returns what `parse` makes of an option's value. Raises `click.BadParameter` with what `parse` complains of."""
    try:
        return parse(text)
    except ValueError as wrong:
        raise click.BadParameter(f"{printable(text)!r} is not {wrong}", param_hint=option) from wrong


def duration_s(text: str, option: str) -> float:
    from processor.config import duration_s

    return parsed(text, option, duration_s)


def moment_ms(text: str, option: str) -> int:
    """Returns the epoch ms of an option's time."""
    from processor.moments import parse_moment

    return parsed(text, option, lambda given: parse_moment(given, int(time.time() * 1000)))


def span_ms(since: str | None, until: str | None, otherwise: str) -> tuple[int | None, int | None]:
    """Returns the epoch ms of `--since` and `--until`. If they leave no time between them, `otherwise` says what would
    follow."""
    since_ms = None if since is None else moment_ms(since, "--since")
    until_ms = None if until is None else moment_ms(until, "--until")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise click.UsageError(f"--since has to be before --until: {otherwise}")
    return since_ms, until_ms


def asked_of_brokers(settings: Settings, ask: Callable[[], T]) -> T:
    """Returns what `ask` returns. Raises `BrokerOutage` if no broker answers. Ctrl-C works while it waits."""

    def asked() -> T:
        at_the_door(settings)
        return ask()

    return interruptible(asked)


def fields_of(settings: Settings, topics: Iterable[Topic]) -> dict[Topic, Fields]:
    """Returns what reads the fields of a source record's value, by topic; empty without a registry."""
    if not settings.registry_url:
        return {}
    from processor.edges.avro import AvroDecoder, reader_schema
    from processor.edges.registry import Registry

    registry = Registry.at(settings)
    return {topic: AvroDecoder(reader_schema(topic), registry).decode for topic in topics}


def at_the_door(settings: Settings) -> None:
    """Raises `BrokerOutage` where no address has a broker that can be spoken to: within seconds, with the reason."""
    from processor.errors import BrokerOutage
    from processor.operate.check.doors import closed, let_in_by_none

    doors = closed(settings.bootstrap_servers, settings.kafka)
    if not doors and settings.kafka.get("security.protocol", "plaintext").lower() != "plaintext":
        from processor.edges.kafka.admin import KafkaAdmin
        from processor.operate.check.findings import Heard

        client = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor", log=Heard())
        if client.refusal() is not None:
            doors = [let_in_by_none(settings.bootstrap_servers, settings.kafka)]
    if doors:
        lines = [f"{address} {what}; {remedy}" for address, what, remedy in doors]
        raise BrokerOutage("\n  ".join(["no broker answers:", *lines]))
