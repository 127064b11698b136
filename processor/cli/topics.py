"""`hakuna-processor topics plan|create|grow`: the topics of an installation."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from processor.cli.output import interruptible, many, noted, output_option, print_json, say_step, show, table
from processor.cli.settings import (
    asked_of_brokers,
    cluster_option,
    cluster_settings_or_exit,
    duration_s,
    env_file,
    settings_or_exit,
)

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.edges.kafka.admin import KafkaAdmin, TopicState
    from processor.topics import Step

_VISIBLE_S_MAX: Final = 10.0
_NO_LIMIT: Final = 1 << 62
"""Above this a time has no limit: Kafka uses the largest number for it."""
_SIGNS: Final = {"create": "+", "change": "~", "leave": " ", "refuse": "!"}
_PLANNED: Final = {action: action for action in _SIGNS}
_DONE: Final = {"create": "created", "change": "changed", "leave": "left as it was", "refuse": "refused"}
_STYLES: Final = {"create": "green", "change": "yellow", "leave": "dim", "refuse": "bold red"}


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        env_file,
        click.option(
            "--partitions",
            type=click.IntRange(1),
            default=12,
            help="Give each topic this many partitions where no source topic exists yet.",
        ),
        click.option(
            "--replication-factor",
            type=click.IntRange(-1),
            default=-1,
            help="Give new topics this many replicas; -1 is the cluster's default.",
        ),
        click.option("--all", "everything", is_flag=True, help="Include Hako's topics where no key of Hako's is set."),
        click.option("--retention", help="Keep records this long, such as 7d; dead letters are kept for ever."),
        click.option(
            "--max-message-bytes",
            type=click.IntRange(1_048_588),
            default=16 * 1024 * 1024,
            help="Lower the largest record of our topics to this, where a policy of the cluster asks for it.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The options of `plan` and `create`, as they were given."""

    partitions: int
    replication_factor: int
    everything: bool
    retention: str | None
    max_message_bytes: int

    def retention_ms(self) -> int | None:
        return None if self.retention is None else round(duration_s(self.retention, "--retention") * 1000)


@click.group("topics", short_help="plan, create and grow the topics")
def command() -> None:
    """Plan, create and grow the topics of an installation. No topic is ever deleted or lowered."""


@command.command("plan")
@_options
@click.option(
    "--output",
    type=click.Choice(["table", "json", "strimzi"]),
    default="table",
    help="Print a table, JSON, or KafkaTopics for a new installation (without asking a broker).",
)
@cluster_option
def plan(env_file: Path | None, output: str, cluster: str, **given: Any) -> None:
    """Show what `topics create` would do. Exit 1 when it would refuse a topic.

    \b
    hakuna-processor topics plan --partitions 12
    hakuna-processor topics plan --partitions 12 --output strimzi --cluster main | kubectl apply -f -
    """
    wanted = _Wanted(**given)
    if output == "strimzi":
        _strimzi(env_file, wanted, cluster)
        return
    steps, _ = _planned(env_file, wanted)
    _end(steps, output, _PLANNED)


@command.command("create")
@_options
@output_option
def create(env_file: Path | None, output: str, **given: Any) -> None:
    """Create missing topics and correct settings; leave sound topics alone. Exit 1 when a topic is refused.

    \b
    hakuna-processor topics create --partitions 12 --replication-factor 3
    """
    wanted = _Wanted(**given)
    steps, admin = _planned(env_file, wanted)
    if any(step.action == "refuse" for step in steps):
        click.echo("nothing was done: mend what is refused first", err=True)
        _end(steps, output, _PLANNED)
    done: list[str] = []
    try:
        interruptible(lambda: _do(steps, admin, wanted.replication_factor, done))
    finally:
        if len(done) < sum(step.action != "leave" for step in steps):
            click.echo(f"done before that: {', '.join(done) or 'nothing'}", err=True)
    # What follows from the number of replicas is known once the cluster has chosen it.
    mended, _ = _planned(env_file, wanted)
    interruptible(lambda: _do(mended, admin, wanted.replication_factor, done))
    _end(_both(steps, mended), output, _DONE)


def _both(steps: Sequence[Step], mended: Sequence[Step]) -> list[Step]:
    """Returns the steps, each with what was set once its topic was there."""
    from dataclasses import replace

    later = {step.topic: step.config for step in mended if step.action == "change"}
    return [replace(step, config={**step.config, **later.get(step.topic, {})}) for step in steps]


@command.command("grow")
@env_file
@click.option(
    "--partitions", type=click.IntRange(1), required=True, help="Give each topic of orders this many partitions."
)
@click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing.")
@output_option
def grow(env_file: Path | None, partitions: int, dry_run: bool, output: str) -> None:
    """Give all topics of orders more partitions, and move state, holds and open letters to the new partitions of their
    keys. First let transform and send read everything, then stop them. If the command was killed, run it again.

    \b
    hakuna-processor topics grow --partitions 24 --dry-run
    hakuna-processor topics grow --partitions 24
    """
    settings = cluster_settings_or_exit(env_file)
    from processor.operate.check.findings import Heard
    from processor.operate.state.steps import grow as grown

    growth, moved = asked_of_brokers(settings, lambda: grown(settings, partitions, Heard(), say_step, dry_run=dry_run))
    told = {"was": growth.was, "partitions": growth.to, "partitioner": growth.family.name, **moved._asdict()}
    if output == "json":
        print_json(told)
    else:
        show(table(("", "", ""), [(name.replace("_", " "), str(value), "") for name, value in told.items()]))


def _strimzi(file: Path | None, wanted: _Wanted, cluster: str) -> None:
    from processor.operate.check.rights import kafka_topics

    steps = _steps(settings_or_exit(file, None), wanted, {})
    print_json(kafka_topics(cluster, steps, wanted.replication_factor))


def _planned(file: Path | None, wanted: _Wanted) -> tuple[Sequence[Step], KafkaAdmin]:
    wanted.retention_ms()  # a word that is no duration is refused before any broker is asked
    settings = cluster_settings_or_exit(file)
    from processor.edges.kafka.admin import KafkaAdmin
    from processor.operate.check.findings import Heard
    from processor.topics import plans

    admin = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-topics", log=Heard())
    names = [settings.topic(one.topic) for one in plans(rekey=settings.rekey)]
    described = asked_of_brokers(settings, lambda: admin.describe(names))
    return _steps(settings, wanted, described), admin


def _steps(settings: Settings, wanted: _Wanted, described: Mapping[str, TopicState | None]) -> Sequence[Step]:
    """Returns one step for each topic of the installation; of Hako's if it is configured or has one of them."""
    from processor.config import Role
    from processor.topics import NEEDED, plan, plans

    topics = plans(rekey=settings.rekey)
    of_hako = NEEDED[Role.HAKO]
    has_hako = settings.hako_key is not None or any(described.get(settings.topic(topic)) for topic in of_hako)
    return plan(
        described,
        settings.topic_prefix,
        partitions=wanted.partitions,
        retention_ms=wanted.retention_ms(),
        only=[one for one in topics if wanted.everything or has_hako or one.topic not in of_hako],
        rekey=settings.rekey,
        replicas=wanted.replication_factor,
        message_bytes_max=wanted.max_message_bytes,
    )


def _do(steps: Sequence[Step], admin: KafkaAdmin, replicas: int, done: list[str]) -> None:
    """Returns when every broker that is asked knows of the new topics, so that the next command finds them. Notes in
    `done` what it has done, for the message about a failure in between."""
    from processor.topics import Action

    for step in steps:
        match step.action:
            case Action.CREATE:
                admin.create(step.topic, partitions=step.partitions, replicas=replicas, config=step.config)
            case Action.CHANGE:
                admin.configure(step.topic, step.config)
            case Action.LEAVE | Action.REFUSE:
                continue
        done.append(f"{step.action} {step.topic}")
    created = [step.topic for step in steps if step.action is Action.CREATE]
    until_s = time.monotonic() + _VISIBLE_S_MAX
    while created and None in admin.describe(created).values() and time.monotonic() < until_s:
        time.sleep(0.1)


def _shown(key: str, value: str) -> str:
    """A setting as people say it: `7d`, `16 MiB`, `no limit`."""
    if not value.lstrip("-").isdecimal():
        return value
    number = int(value)
    if key.endswith(".ms"):
        if number < 0 or number >= _NO_LIMIT:
            return "no limit"
        for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
            if number and number % unit_ms == 0:
                return f"{number // unit_ms}{unit}"
        return f"{number}ms"
    if key.endswith(".bytes"):
        for unit, unit_bytes in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
            if number and number % unit_bytes == 0:
                return f"{number // unit_bytes} {unit}"
    return value


def _end(steps: Sequence[Step], output: str, words: Mapping[str, str]) -> NoReturn:
    """`words` for what is, or was, done."""
    if output == "json":
        print_json(steps)
    else:
        from rich.text import Text

        acted, named = max(len(words[step.action]) for step in steps), max(len(step.topic) for step in steps)
        for step in steps:
            config = "".join(f" {key}={_shown(key, value)}" for key, value in step.config.items())
            action = f"{_SIGNS[step.action]} {words[step.action]:<{acted}}", _STYLES[step.action]
            head = Text.assemble(action, f"  {step.topic:<{named}}  {many(step.partitions, 'partition')}")
            show(noted(head, f"{step.why}{';' if config else ''}{config}"))
    if words is _DONE and not any(step.action == "refuse" for step in steps):
        sums = Counter(words[step.action] for step in steps)
        click.echo(", ".join(f"{word} {many(sums[word], 'topic')}" for word in _DONE.values() if sums[word]), err=True)
    sys.exit(1 if any(step.action == "refuse" for step in steps) else 0)
