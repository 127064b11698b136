"""`dead-letters replay` and `discard`: prints the plan, carries it out under a bar, and reports; `abandon`, `purge`.

The rights of this user are checked before the first record is written: a right that is found missing half way leaves
letters sent and their orders held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Final

import click
import msgspec

from processor.cli.dead_letters.counts import unheard_of
from processor.cli.dead_letters.desk import Desk
from processor.cli.dead_letters.progress import Bar, counting
from processor.cli.dead_letters.view import resolution_of
from processor.cli.output import console, many, print_json, printable, table
from processor.cli.output import say as write
from processor.edges.kafka.rights import group_rights, topic_rights
from processor.moments import iso
from processor.operate.check.rights import missing, to_purge, to_resolve
from processor.operate.replay.campaign import Campaign, Refused, Report, Summary, note_run, unfinished
from processor.operate.replay.contents import as_sent
from processor.operate.replay.making import Content
from processor.operate.replay.noted import RunState
from processor.operate.replay.place import Clients
from processor.operate.replay.purge import Cut, Purge
from processor.operate.replay.replay import Ending
from processor.operate.replay.selection import Selection, parse_letter
from processor.operate.replay.survey import UNPACED_S, Field, Task


def has_rights(
    desk: Desk, wanted: Mapping[str, Collection[str]], groups: Collection[str] = (), *, dry_run: bool
) -> bool:
    """Returns true if this user has the rights `wanted`, by topic, and to describe `groups`. Otherwise a dry run prints
    those that are missing; else raises `Refused`."""
    allowed = topic_rights(desk.admin, list(wanted))
    lacks = [
        f"{' and '.join(named)} the topic {topic}"
        for topic, operations in wanted.items()
        if (named := missing(frozenset(operations), allowed[topic].operations))
    ]
    lacks += [f"Describe the group {group}" for group in groups if group_rights(desk.admin, group).refused]
    if lacks and not dry_run:
        what = f"this user may not {', nor '.join(lacks)}"
        raise Refused(f"nothing was done: {what}; have it allowed (deploy/README.md, Rights)")
    for one in lacks:
        write(f"  it would be refused: this user may not {one}", err=True)
    return not lacks


Tell = Callable[[str], object]
"""Prints one line of a plan."""

ORDERS_NAMED: Final = 5
LETTERS_NAMED: Final = 5
"""The most letters that stay and are named; JSON has more of them."""


def refuse_resolved(desk: Desk, clients: Clients, selection: Selection) -> None:
    """Raises if a letter that was named by its place is resolved already, unless the run that resolved it has not
    ended: the same command goes on with it."""
    found = []
    for letter in selection.letters:
        resolution = resolution_of(desk, clients.reading, parse_letter(letter))
        if resolution is not None:
            found.append(f"{letter} was {resolution.how} by {resolution.by} at {iso(resolution.at_ms)}")
    topics = {parse_letter(letter).topic for letter in selection.letters}
    if found and not any(unfinished(clients.reading, desk.field(topic)) for topic in topics):
        raise click.ClickException("; ".join(found))


def run(
    desk: Desk, clients: Clients, task: Task, content: Content = as_sent, *, dry_run: bool, output: str
) -> Report | Summary | None:
    """Replays or discards the letters of one topic. Returns the summary of a dry run; None if no letter fits."""
    done = "sent again" if task.discard is None else "put aside"
    # A dry run's plan is what was asked for; before a run it is a word on the way.
    tell = partial(write, err=not dry_run or output == "json")
    with closing(Campaign(task, clients, content)) as campaign:
        with counting(desk, f"{task.field.letters}: letters"):
            summary = campaign.begin(name_all=dry_run)
        if not campaign.has_work:
            _say_stays(summary, tell)
            tell(f"{task.field.letters}: no open letter fits that could be {done}")
            if unheard := unheard_of(task.selection.reasons, campaign.open_reasons()):
                tell(unheard)
            return summary if dry_run or summary.stays else None
        say(summary, done, tell)
        targets = campaign.targets()
        groups = {topic: task.groups[topic] for topic in targets if topic in task.groups}
        wanted = to_resolve(task.field, targets)
        allowed = has_rights(desk, wanted, dict.fromkeys(groups.values()), dry_run=dry_run)
        unread = {} if not allowed else {topic: group for topic, group in groups.items() if not desk.is_read(group)}
        say_unread(unread, tell)
        if dry_run:
            return msgspec.structs.replace(summary, unread=tuple(unread))
        with Bar() as bar:
            return campaign.execute(bar.show, bar.stopped)


def stopped_early(report: Report | Summary | None) -> bool:
    return isinstance(report, Report) and report.ending != Ending.DONE.value


def in_turn(fields: Iterable[Field], do: Callable[[Field], Report | Summary | None], output: str) -> None:
    """Does one topic after the other, until one of them stops early, and prints the reports; those of the topics that
    were done before one fails too. Exit 1 if one stopped early."""
    reports: list[Report | Summary] = []
    try:
        for field in fields:
            report = do(field)
            reports += [] if report is None else [report]
            if stopped_early(report):
                break
    except BaseException:
        if reports:
            _print(reports, output)
        raise
    _print(reports, output)
    if any(stopped_early(report) for report in reports):
        sys.exit(1)


def _print(reports: Sequence[Report | Summary], output: str) -> None:
    if output == "json":
        print_json(reports)
        return
    for report in reports:
        if isinstance(report, Report):
            console().print(table(["", ""], _rows(report)))


def _rows(report: Report) -> list[tuple[str, str]]:
    values: dict[str, Any] = msgspec.to_builtins(report)
    return [
        (
            name.replace("_", " "),
            ", ".join(f"{one}: {count}" for one, count in value.items()) if isinstance(value, dict) else str(value),
        )
        for name, value in values.items()
        if value or name in ("sent", "left")
    ]


def say_unread(unread: Mapping[str, str], tell: Tell) -> None:
    """`unread`: the topics that letters go to, each with the group that has no member."""
    for topic, group in unread.items():
        role = group.rpartition(".")[2]
        tell(
            f"nobody reads {topic}: the group {group} has no member. What is sent waits there, and nothing is heard of "
            f"it, until the role is started (`hakuna-processor run --role {role}`)"
        )


def say(summary: Summary, done: str, tell: Tell) -> None:
    words = [f"{summary.topic}: {many(summary.goes, 'letter')} of {many(summary.orders, 'order')} will be {done}"]
    if summary.of_which_follow:
        words.append(f"{summary.of_which_follow} of them wait behind the selected ones")
    if summary.rate_s < UNPACED_S:
        paced_by = f" ({summary.paced_by})" if summary.paced_by else ""
        words.append(f"{length(summary.seconds)} or longer at {summary.rate_s:g} a second{paced_by}")
    if summary.resumed:
        words.insert(0, f"{summary.replay_id} goes on")
    tell("; ".join(words))
    if summary.order_ids:
        named = ", ".join(summary.order_ids[:ORDERS_NAMED])
        more = summary.orders - min(len(summary.order_ids), ORDERS_NAMED)
        tell(f"  orders: {printable(named)}{f' and {more:,} more' if more > 0 else ''}")
    if summary.held_orders:
        tell(f"  {summary.held_orders:>8}  of the orders are held: what comes live of them goes behind")
    for reason, count in summary.reasons.items():
        tell(f"  {count:>8}  {printable(reason)}")
    for why, count in summary.superseded.items():
        tell(f"  {count:>8}  superseded: {why}")
    _say_stays(summary, tell)


def length(seconds: float) -> str:
    """`7.5 s`, `12 min`, `3.5 h`."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3600:.1f} h"


def _say_stays(summary: Summary, tell: Tell) -> None:
    for why, count in summary.stays.items():
        tell(f"  {count:>8}  stay: {printable(why)}")
    for letter in summary.letters[:LETTERS_NAMED]:
        tell(f"            {printable(letter)}")


def abandon(desk: Desk, topic: str) -> None:
    (letters, *_), _ = desk.topics([topic])
    desk.needs_resolutions()
    clients, field = desk.working(), desk.field(letters)
    unended = unfinished(clients.reading, field)
    if unended is None:
        raise click.ClickException(f"nothing is unfinished on {letters}")
    note_run(clients.ledger, field, msgspec.structs.replace(unended, state=RunState.STOPPED))
    click.echo(f"{unended.replay_id} is given up", err=True)


def purge(desk: Desk, topics: Sequence[str], age_ms: int, *, dry_run: bool, output: str) -> None:
    chosen, origins = desk.topics(topics)
    if origins:
        raise Refused(f"a purge is of a whole dead-letter topic: name {', '.join(chosen)}")
    desk.needs_resolutions()
    clients = desk.looking() if dry_run else desk.working()
    work = Purge(clients.reading, desk.deletion(), desk.resolutions)
    cuts: list[Cut] = []
    wanted = {name: needs for topic in chosen for name, needs in to_purge(desk.field(topic)).items()}
    has_rights(desk, wanted, dry_run=dry_run)
    with counting(desk, "letters"):
        for topic in chosen:  # all of them, before anything is deleted
            unended = unfinished(clients.reading, desk.field(topic))
            if unended is not None:
                raise Refused(f"{unended.replay_id} on {topic} is not finished, and needs its letters: finish it first")
        try:
            for topic in chosen:
                found = work.cuts(topic, desk.clock.now_ms() - age_ms)
                if not dry_run:
                    work.delete(found)
                cuts += found
                if not dry_run:
                    work.forget(topic, clients.ledger)
        except BaseException:
            if cuts:  # says what was deleted before
                _print_cuts(cuts, dry_run=dry_run, output=output)
            raise
    _print_cuts(cuts, dry_run=dry_run, output=output)


def _print_cuts(cuts: Sequence[Cut], *, dry_run: bool, output: str) -> None:
    if output == "json":
        print_json({"dry_run": dry_run, "partitions": cuts})
        return
    rows = [
        (f"{cut.topic}/{cut.partition}", f"{cut.deleted:,}", f"{cut.stays:,}", cut.because, cut.letter) for cut in cuts
    ]
    columns = ["partition", "would be deleted" if dry_run else "deleted", "stays", "because it is", "from"]
    console().print(table(columns, rows))
