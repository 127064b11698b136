"""`hakuna-processor erase ORDER_ID`: forgets an order, and says what of it stands where and for how long."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from processor.cli.dead_letters import desk_of
from processor.cli.output import console, interruptible, output_option, print_json, printable, say, table
from processor.cli.settings import env_file

if TYPE_CHECKING:
    from processor.cli.dead_letters.desk import Desk
    from processor.operate.erase import Left

REASON: Final = "its order was erased"


@click.command("erase", short_help="forget an order, and say what of it is left")
@click.argument("order_id")
@click.option(
    "--letters", is_flag=True, help="Discard the order's dead letters, and delete them where Kafka allows it."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and what is there, and do nothing.")
@click.option("--by", metavar="NAME", help="Record this name. Default: PROCESSOR_OPERATOR.")
@output_option
@env_file
def command(order_id: str, letters: bool, dry_run: bool, by: str | None, output: str, env_file: Path | None) -> None:
    """Write a null value under the order's key to orders.placed. Transform then deletes the order from its state and
    its changelog, and sends nothing. Then list the order's records in topics that are not compacted, and how long
    each is kept.

    Exit 1 when --letters had to leave some letters. Try --dry-run first.

    \b
    hakuna-processor erase ord-123 --dry-run
    hakuna-processor erase ord-123 --letters --by "A. Lovelace, ticket 4711"
    """
    key = os.fsencode(order_id)
    if not key:
        raise click.BadParameter("is empty", param_hint="ORDER_ID")
    with closing(desk_of(env_file, by)) as desk:
        erasure = _Erasure(desk, key, letters=letters, dry_run=dry_run, tell=output == "table")
        done = interruptible(erasure.do) if dry_run else erasure.do()
    if output == "json":
        print_json(done)
    sys.exit(1 if done["letters"]["stay"] and letters and not dry_run else 0)


class _Erasure:
    """One run of the command. Mutable: nothing but what `do` notes."""

    def __init__(self, desk: Desk, key: bytes, *, letters: bool, dry_run: bool, tell: bool) -> None:
        self._desk = desk
        self._key = key
        self._shown = key.decode("utf-8", "backslashreplace")
        self._letters = letters
        self._dry_run = dry_run
        self._tells = tell

    def do(self) -> dict[str, Any]:
        import structlog

        from processor.operate.erase import home, left, letters, stands, write_null
        from processor.operate.order.gather import Asked, gather

        desk, log = self._desk, structlog.get_logger(__name__)
        settings = desk.settings
        found = gather(settings, self._key, Asked(full=True), log)
        placed = settings.topic("orders.placed")
        described = desk.admin.describe(sorted({placed, *(settings.topic(topic) for topic in found.records)}))
        state = described[placed]
        if state is None:
            raise click.ClickException(f"there is no topic {placed}; an erasure is a null value in it")
        partition = home(found, state.partitions)
        still = left(settings, found, described)
        if not stands(found):
            self._say(f"nothing is known of order {self._shown} that a null could make transform forget")
        where = None if self._dry_run else str(write_null(settings, self._key, partition, log))
        self._say(
            f"a null value under {self._shown} would go to {placed}/{partition}"
            if where is None
            else f"erased by {where}; transform takes it in its time (`hakuna-processor order {self._shown}` shows it)"
        )
        self._say_unread(placed)
        its_letters = letters(found)
        gone = self._put_away(its_letters) if self._letters and its_letters and not self._dry_run else {}
        self._show(still, its_letters, gone)
        return {
            "order_id": self._shown,
            "dry_run": self._dry_run,
            "partition": partition,
            "erasure": where,
            "left": still,
            "letters": {
                "found": [str(letter.position) for letter in its_letters],
                "stay": [str(letter.position) for letter in its_letters if letter.position not in gone],
            },
        }

    def _say_unread(self, placed: str) -> None:
        from processor.cli.dead_letters.runs import say_unread

        group = self._desk.groups()[placed]
        if not self._desk.is_read(group):
            say_unread({placed: group}, self._say)

    def _put_away(self, letters: list[Any]) -> set[Any]:
        """Discards the open letters, and deletes those that are not behind an open letter of another order. Returns the
        places of the deleted ones."""
        from processor.cli.dead_letters.runs import run
        from processor.operate.replay.purge import Purge
        from processor.operate.replay.selection import Selection

        desk = self._desk
        desk.needs_resolutions()
        clients = desk.working()
        purge = Purge(clients.reading, desk.deletion(), desk.resolutions)
        selection = Selection(order_ids=(self._key.decode("utf-8", "replace"),))
        gone = set()
        for topic in sorted({letter.topic for letter in letters}):
            given = f"discard --reason {REASON!r} --order-id {self._shown}"
            task = desk.task(desk.field(topic), given, selection, discard=REASON)
            run(desk, clients, task, dry_run=False, output="json")
            ours = sorted((one for one in letters if one.topic == topic), key=lambda one: one.offset)
            until = {(one.topic, one.partition): one.offset + 1 for one in ours}
            cuts = purge.cuts(topic, desk.clock.now_ms() + 1, until)
            purge.delete(cuts)
            purge.forget(topic, clients.ledger)
            for cut in cuts:
                mine = [one for one in letters if (one.topic, one.partition) == (cut.topic, cut.partition)]
                gone |= {one.position for one in mine if one.offset < cut.offset}
                if any(one.offset >= cut.offset for one in mine):
                    place = f"{cut.topic}/{cut.partition}"
                    self._say(f"{place}: its letters stay behind {cut.letter}, which is {cut.because}")
        return gone

    def _show(self, still: list[Left], letters: list[Any], gone: Any) -> None:
        from processor.moments import iso

        if not self._tells:
            return
        if still:
            rows = []
            for one in still:
                until = "until it is purged" if one.kept_until is None else f"until {iso(one.kept_until)}"
                rows.append((one.topic.removeprefix(self._desk.settings.topic_prefix), f"{one.records:,}", until))
            click.echo("what holds data of it" + (", before this" if gone else "") + ":")
            console().print(table(["topic", "records", "kept"], rows))
        if letters and not self._letters:
            click.echo(f"--letters discards and deletes its {len(letters)} dead letters")
        elif letters and self._dry_run:
            what = f"its {len(letters)} dead letters would be discarded, and deleted"
            say(f"{what} where no open letter of another order stands before them")
        elif letters:
            click.echo(f"{len(gone)} of its {len(letters)} dead letters are deleted")

    def _say(self, text: str) -> None:
        say(printable(text, 1_000), err=not self._tells)
