"""Whether this user may do what a command is about to, asked before the first record is written: a right that is found
missing half way leaves letters sent and their orders held."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import click

from processor.cli.dead_letters.desk import Desk
from processor.dead_letters.campaign import Refused
from processor.edges.kafka_rights import group_rights, topic_rights
from processor.preflight.rights import missing


def lacking(desk: Desk, wanted: Mapping[str, Collection[str]], groups: Collection[str] = ()) -> list[str]:
    """What of `wanted`, by topic, is not allowed, and which of `groups` may not be described: in words."""
    allowed = topic_rights(desk.admin, list(wanted))
    found = [
        f"{' and '.join(named)} the topic {topic}"
        for topic, operations in wanted.items()
        if (named := missing(frozenset(operations), allowed[topic].operations))
    ]
    return found + [f"Describe the group {group}" for group in groups if group_rights(desk.admin, group).refused]


def refused(lacks: Collection[str]) -> Refused:
    return Refused(
        f"nothing was done: this user may not {', nor '.join(lacks)}; have it allowed (deploy/README.md, Rights)"
    )


def say_refused(lacks: Collection[str]) -> None:
    """A dry run's word on it."""
    for one in lacks:
        click.echo(f"  it would be refused: this user may not {one}", err=True)
