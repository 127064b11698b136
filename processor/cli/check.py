"""`hakuna-processor check`: everything that would keep a worker from working."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from processor.cli.output import interruptible, noted, print_json, printable, show, table
from processor.cli.settings import UNUSABLE, cluster_option, env_file, environment, settings_or_exit

if TYPE_CHECKING:
    from processor.operate.check.findings import Finding

_STYLES: Final = {"sound": "green", "note": "yellow", "problem": "bold red"}


@click.command("check", short_help="find everything that would keep a worker from working")
@click.option(
    "--role",
    type=click.Choice(["transform", "send", "hako", "rekey", "all"]),
    default="all",
    help="Check this role; `all` checks those that are configured.",
)
@click.option(
    "--try-key/--no-try-key",
    default=None,
    help="Send the API a request that changes nothing, to see whether it accepts the key. Default: only without a "
    "quota, because this request would not be counted in it.",
)
@click.option("--rights", is_flag=True, help="Print the rights that each role needs, without asking a broker.")
@click.option(
    "--output",
    type=click.Choice(["table", "json", "acls", "strimzi"]),
    default="table",
    help="Print a table or JSON; with --rights also kafka-acls.sh commands or Strimzi's KafkaUsers.",
)
@cluster_option
@env_file
def command(role: str, try_key: bool | None, rights: bool, output: str, cluster: str, env_file: Path | None) -> None:
    """Find everything that would keep a worker from working, and print each problem with its remedy.

    Look at the settings, brokers, topics, groups, rights, registry, state directory, API key and clocks; write nothing.
    Exit 0 when all is sound, 78 when there is a problem: fit for an init container.

    \b
    hakuna-processor check
    hakuna-processor check --role send --no-try-key --env-file worker.env
    hakuna-processor check --output json | jq '.findings[] | select(.verdict == "problem")'
    hakuna-processor check --rights --output strimzi --cluster main | kubectl apply -f -
    """
    if rights:
        _rights(role, output, cluster, env_file)
        return
    if output in ("acls", "strimzi"):
        raise click.UsageError(f"--output {output} goes with --rights")
    from processor.config import Role
    from processor.operate.check.check import check
    from processor.operate.check.findings import problems

    roles = None if role == "all" else (Role(role),)
    settings, unread = environment(env_file)
    found = interruptible(lambda: check(settings, roles, try_key=try_key, unread=unread))
    wrong = problems(found)
    if output == "json":
        print_json({"sound": not wrong, "problems": len(wrong), "findings": found})
    else:
        _show(found, len(wrong))
    sys.exit(UNUSABLE if wrong else 0)


def _rights(role: str, output: str, cluster: str, file: Path | None) -> None:
    """Each role's user and rights; `all`: those of every role."""
    from processor.config import Role
    from processor.operate.check.rights import acl_commands, grants, kafka_users, operator_grants

    settings = settings_or_exit(file, None)
    roles = tuple(Role) if role == "all" else (Role(role),)
    users = {f"kafka-{one.value}": grants(settings, one) for one in roles}
    if role == "all":
        users["kafka-operator"] = operator_grants(settings)
    match output:
        case "acls":
            for line in acl_commands(settings.bootstrap_servers or "localhost:9092", users):
                click.echo(line)
        case "strimzi":
            print_json(kafka_users(cluster, users))
        case "json":
            print_json(users)
        case _:
            rows = [
                (user, grant.kind, grant.name + ("*" if grant.prefixed else ""), ", ".join(grant.operations))
                for user, granted in users.items()
                for grant in granted
            ]
            show(table(("user", "kind", "name", "operations"), rows))


_SUBJECTS: Final = {"topics": "topics", "registry": "subjects", "rights": "topics", "groups": "groups"}
"""How findings of an area are counted together, as in `3 topics`."""


def _gathered(found: Sequence[Finding]) -> list[Finding]:
    """Returns the findings with those that say the same, with the same remedy, put together: a dozen missing topics are
    one thing to do."""
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for one in found:
        alike.setdefault((one.verdict, one.area, one.what, one.remedy), []).append(one)
    return [one if not others else _as_one([one, *others]) for one, *others in alike.values()]


def _as_one(alike: Sequence[Finding]) -> Finding:
    from dataclasses import replace

    subjects = ", ".join(one.subject for one in alike)
    named = _SUBJECTS.get(alike[0].area.value, "of them")
    return replace(alike[0], subject=f"{len(alike)} {named}", what=f"{alike[0].what}: {subjects}")


def _show(found: Sequence[Finding], wrong: int) -> None:
    from rich.text import Text

    for finding in _gathered(found):
        verdict = f"{finding.verdict.value:<8}", _STYLES[finding.verdict]
        head = Text.assemble(verdict, f" {finding.area.value:<8}  {printable(finding.subject)}")
        show(noted(head, printable(finding.what), printable(finding.remedy or "")))
    click.echo("all is sound" if not wrong else f"{wrong} problem{'s' if wrong != 1 else ''}", err=True)
