"""`hakuna-processor dead-letters list|show|replay|discard|abandon|purge`: what was refused, and what is done about it.

    filters.py    the filters of all of them            desk.py       the edges, and which topics are meant
    counts.py     list                                  view.py       show
    runs.py       replay, discard; the rights for it    progress.py   what a person sees meanwhile

Tables and JSON go to standard output, everything else to standard error. Exit codes are those of every command;
`replay` ends with 1 when it stopped early, and says what is left.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from processor.cli.dead_letters.filters import Filters, filters
from processor.cli.output import interruptible, output_option
from processor.cli.settings import at_the_door, cluster_settings_or_exit, duration_s, env_file

if TYPE_CHECKING:
    from processor.cli.dead_letters.desk import Desk
    from processor.operate.replay.campaign import Report, Summary
    from processor.operate.replay.making import Content
    from processor.operate.replay.place import Clients
    from processor.operate.replay.selection import Selection
    from processor.operate.replay.survey import Field, Task

_dry_run = click.option("--dry-run", is_flag=True, help="Print the plan, and do nothing.")
_everything = click.option("--everything", is_flag=True, help="Select every open letter.")
_by = click.option("--by", metavar="NAME", help="Record this name. Default: PROCESSOR_OPERATOR.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """How letters are to be replayed, as the options say it."""

    mode: str | None
    edit: Path | None
    rekey: bool
    erased: bool
    canary: int
    stop_on_error_share: float
    rate: float | None
    max_replays: int
    wait_max: str

    def words(self) -> list[str]:
        """Returns the options that change what is sent, as they stand on a command line."""
        words = [f"--{self.mode}"] if self.mode else []
        words += ["--edit", str(self.edit)] if self.edit else []
        return [*words, *(["--erased"] if self.erased else []), *(["--rekey"] if self.rekey else [])]


@click.group("dead-letters", short_help="list, show, replay and discard what was refused")
def command() -> None:
    """List refused records, show why they were refused, send them again, or discard them.

    \b
    hakuna-processor dead-letters list
    hakuna-processor dead-letters show hakuna.dead-letters/3/17
    hakuna-processor dead-letters replay --reason location_unsupported --dry-run
    """


@command.command("list")
@filters()
@click.option("--all", "all_letters", is_flag=True, help="Include resolved letters.")
@click.option("--each", is_flag=True, help="Print one line a letter: place, age, reason, order.")
@click.option("--wide", is_flag=True, help="Add times and the API's error code.")
@click.option(
    "--output",
    type=click.Choice(["table", "json", "ndjson"]),
    default="table",
    help="Print a table, one JSON document, or one JSON object a letter and line.",
)
@env_file
def list_letters(
    filters: Filters, all_letters: bool, each: bool, wide: bool, output: str, env_file: Path | None
) -> None:
    """Count open letters by topic, reason and error code, with their age; or list each letter.

    \b
    hakuna-processor dead-letters list
    hakuna-processor dead-letters list --each --reason location_unsupported
    hakuna-processor dead-letters list --output ndjson | jq -r .order_id | sort -u
    """
    if each and output == "json":
        output = "ndjson"
    with closing(desk_of(env_file)) as desk:
        from processor.cli.dead_letters.counts import count, show_counts, show_each
        from processor.cli.dead_letters.progress import counting
        from processor.operate.replay.listing import Tally

        topics, selection = filters.resolved(desk)
        tally = Tally(selection)
        if each or output == "ndjson":
            interruptible(lambda: show_each(desk, topics, tally, all_letters=all_letters, output=output))
            return
        with counting(desk, "letters"):
            interruptible(lambda: count(desk, topics, tally, all_letters=all_letters))
        show_counts(desk, tally, topics, all_letters=all_letters, wide=wide, output=output)


@command.command("show")
@filters(letters=1)
@click.option("--show-personal-data", is_flag=True, help="Print personal data and foreign payloads.")
@click.option("--timeline/--no-timeline", default=True, help="Add the timeline of the order.")
@output_option
@env_file
def show(filters: Filters, show_personal_data: bool, timeline: bool, output: str, env_file: Path | None) -> None:
    """Show one letter, decoded: the letter at this place, or the first open one that the filters select. With
    --order-id, show all letters of that order, resolved ones too."""
    with closing(desk_of(env_file)) as desk:
        from processor.cli.dead_letters import view as views
        from processor.cli.dead_letters.progress import counting

        topics, selection = filters.resolved(desk)
        if selection.order_ids and not selection.letters:
            with counting(desk, "letters"):
                letters = interruptible(lambda: views.find_letters(desk, topics, selection))
            if not letters:
                raise click.ClickException("no letter fits these filters")
            if len(letters) == views.LETTERS_MAX:
                click.echo(f"the first {len(letters):,} letters are shown; list --each names all of them", err=True)
            order = interruptible(lambda: views.order_view(desk, letters, plain=show_personal_data, timeline=timeline))
            views.print_view(order, output, desk.settings.topic_prefix)
            return
        with counting(desk, "letters"):
            found = interruptible(lambda: views.find_letter(desk, topics, selection))
        if found is None:
            named = ", ".join(selection.letters)
            raise click.ClickException(f"there is no letter {named}" if named else "no open letter fits these filters")
        view = interruptible(lambda: views.letter_view(desk, found, plain=show_personal_data, timeline=timeline))
        views.print_view(view, output, desk.settings.topic_prefix)


@command.command("replay")
@filters(letters=-1)
@click.option("--as-sent", "mode", flag_value="as-sent", help="Send the stored bytes. Default for orders.dead-letters.")
@click.option(
    "--rebuild", "mode", flag_value="rebuild", help="Make entries from today's state and code. Default for the outbox."
)
@click.option(
    "--edit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Apply the JSON merge patch in this file to the stored bytes.",
)
@click.option("--rekey", is_flag=True, help="Write each letter under its order ID, where the order lives.")
@_everything
@click.option("--erased", is_flag=True, help="Include letters of erased orders; they hold personal data.")
@_dry_run
@_by
@click.option("--canary", type=click.IntRange(0), default=10, help="Send this many letters first and wait for them.")
@click.option(
    "--stop-on-error-share",
    type=click.FloatRange(0, 1),
    default=0.1,
    help="Stop when more than this share of the letters comes back.",
)
@click.option("--rate", type=float, help="Send this many letters a second. Default: 20 % of the quota.")
@click.option("--max-replays", type=click.IntRange(1), default=3, help="Replay one record this often at most.")
@click.option("--wait-max", default="15m", help="Stop when no letter is answered for this long.")
@output_option
@env_file
def replay(
    filters: Filters, everything: bool, dry_run: bool, by: str | None, output: str, env_file: Path | None, **how: Any
) -> None:
    """Send letters again: print the plan, send a few letters, and go on when enough of them are accepted.

    Entries that wait behind a letter are sent with it. After a stop or a kill, the same command goes on where it was.

    \b
    hakuna-processor dead-letters replay --reason location_unsupported --since 24h --canary 20 --rate 5
    hakuna-processor dead-letters replay --reason key_mismatch --rekey --dry-run
    """
    _need_some(filters, everything=everything)
    wanted = _Wanted(**how)
    patch = None if wanted.edit is None else _patch(wanted.edit)
    if patch is not None and wanted.mode == "rebuild":
        raise click.UsageError("--edit changes the stored bytes, so it does not go with --rebuild")
    rate = wanted.rate
    if rate is not None and not 0 < rate < float("inf"):
        raise click.BadParameter(
            f"at {rate:g} letters a second nothing would be sent: say how many, or leave it out (a fifth of the quota)",
            param_hint="--rate",
        )
    if not 0 <= wanted.stop_on_error_share <= 1:
        raise click.BadParameter("no number: a share from 0 to 1", param_hint="--stop-on-error-share")
    silence_s = duration_s(wanted.wait_max, "--wait-max")
    with closing(desk_of(env_file, by)) as desk:
        from processor.cli.dead_letters.runs import in_turn, refuse_resolved, run
        from processor.operate.replay.survey import Route

        topics, selection = filters.resolved(desk)
        desk.needs_resolutions()
        fields = [desk.field(topic) for topic in topics]
        if wanted.mode == "rebuild" and any(field.route is not Route.OUTBOX for field in fields):
            raise click.UsageError("a rebuild is for letters of the outbox: name it with --topic hakuna.dead-letters")
        clients = desk.looking() if dry_run else desk.working()
        refuse_resolved(desk, clients, selection)
        more = {"edit": patch, "silence_s_max": silence_s}

        def one(field: Field) -> Report | Summary | None:
            task, content = _task(desk, clients, field, selection, filters, wanted, **more)
            return run(desk, clients, task, content, dry_run=dry_run, output=output)

        in_turn(fields, one, output)


def _task(
    desk: Desk, clients: Clients, field: Field, selection: Selection, filters: Filters, wanted: _Wanted, **more: Any
) -> tuple[Task, Content]:
    """Returns the task for one topic: what is done with its letters, and what of each letter is sent. `more` are other
    fields of the task."""
    from processor.cli.dead_letters.desk import letters_s
    from processor.operate.replay.contents import as_sent
    from processor.operate.replay.survey import Route

    patch = more["edit"]
    rebuild = patch is None and wanted.mode != "as-sent" and field.route is Route.OUTBOX
    rate_s, paced_by = letters_s(desk.settings, wanted.rate, field.route)
    content = desk.rebuild(clients) if rebuild else as_sent if patch is None else desk.edit(patch, field)
    task = desk.task(
        field,
        filters.given("replay", *wanted.words()),
        selection,
        rebuild=rebuild,
        erased=wanted.erased,
        rekey=desk.rekey() if wanted.rekey else None,
        replays_max=wanted.max_replays,
        canary=wanted.canary,
        share_max=wanted.stop_on_error_share,
        rate_s=rate_s,
        paced_by=paced_by,
        **more,
    )
    return task, content


@command.command("discard")
@filters(letters=-1, reason_option="--letter-reason")
@click.option("--reason", "text", required=True, metavar="TEXT", help="Record why these letters are no longer needed.")
@_everything
@_dry_run
@_by
@output_option
@env_file
def discard(
    filters: Filters, text: str, everything: bool, dry_run: bool, by: str | None, output: str, env_file: Path | None
) -> None:
    """Discard letters: record them as resolved, and do not send them. Entries that wait behind them stay, unless they
    are selected too.

    \b
    hakuna-processor dead-letters discard hakuna.dead-letters/3/17 --reason "cancelled by hand in the console"
    """
    _need_some(filters, everything=everything)
    if not text.strip():
        raise click.UsageError("--reason must say something: it is all that is left of the decision")
    with closing(desk_of(env_file, by)) as desk:
        from processor.cli.dead_letters.runs import in_turn, refuse_resolved, run

        topics, selection = filters.resolved(desk)
        desk.needs_resolutions()
        clients = desk.looking() if dry_run else desk.working()
        refuse_resolved(desk, clients, selection)
        given = filters.given("discard", "--reason", text)

        def one(field: Field) -> Report | Summary | None:
            return run(desk, clients, desk.task(field, given, selection, discard=text), dry_run=dry_run, output=output)

        in_turn(map(desk.field, topics), one, output)


@command.command("abandon")
@click.option("--topic", required=True, metavar="TOPIC", help="Name the dead-letter topic.")
@env_file
def abandon(topic: str, env_file: Path | None) -> None:
    """Abandon an unfinished replay or discard. Letters that it sent stay sent; orders that it did not release stay
    held."""
    with closing(desk_of(env_file)) as desk:
        from processor.cli.dead_letters import runs

        runs.abandon(desk, topic)


@command.command("purge")
@click.option(
    "--older-than",
    required=True,
    metavar="DURATION",
    help="Delete letters that last failed this long ago, such as 90d.",
)
@click.option(
    "--topic", "topics", multiple=True, metavar="TOPIC", help="Purge this dead-letter topic. Default: all of ours."
)
@_dry_run
@output_option
@env_file
def purge(older_than: str, topics: tuple[str, ...], dry_run: bool, output: str, env_file: Path | None) -> None:
    """Delete resolved letters, up to the oldest open one, and print which stay and why.

    \b
    hakuna-processor dead-letters purge --older-than 90d
    """
    age_ms = round(duration_s(older_than, "--older-than") * 1000)
    with closing(desk_of(env_file)) as desk:
        from processor.cli.dead_letters import runs

        runs.purge(desk, topics, age_ms, dry_run=dry_run, output=output)


def _need_some(filters: Filters, *, everything: bool) -> None:
    if not filters.any and not everything:
        raise click.UsageError("name letters or a filter, or say --everything")


def desk_of(file: Path | None, by: str | None = None) -> Desk:
    """Returns the desk of a command. Raises `BrokerOutage`."""
    settings = cluster_settings_or_exit(file)
    at_the_door(settings)
    from processor.cli.dead_letters.desk import Desk
    from processor.config import LogLevel
    from processor.edges import logs

    # On a terminal, log lines would break the bar and the sentences.
    logs.configure(settings.log_format, LogLevel.ERROR if sys.stderr.isatty() else settings.log_level)
    return Desk(settings, by)


def _patch(file: Path) -> dict[str, Any]:
    from processor.operate.replay.contents import parse_patch

    try:
        return parse_patch(file.read_bytes())
    except ValueError as wrong:
        raise click.BadParameter(f"{file}: {wrong}", param_hint="--edit") from wrong
