"""`hakuna-processor order ORDER_ID`: everything known of one order."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from processor.cli.output import output_option, print_json, printable, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file, fields_of, span_ms

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.operate.order.gather import Asked, Found
    from processor.operate.order.story import Happening


@click.command("order", short_help="show everything known of one order")
@click.argument("order_id")
@click.option("--since", help="Leave out what is older: 2026-05-09T03:00:00Z, or 90m for 90 minutes ago.")
@click.option("--until", help="Leave out what is newer; the same forms.")
@click.option("--full", is_flag=True, help="Read the topics from their beginning, however long it takes.")
@click.option(
    "--workers",
    envvar="STATUS_WORKERS",
    default="",
    show_default=False,
    help="Ask the workers at these URLs (metrics ports) why an entry waits.",
)
@click.option("--show-personal-data", is_flag=True, help="Show the customer's name, address, e-mail and phone.")
@output_option
@env_file
def command(
    order_id: str,
    since: str | None,
    until: str | None,
    full: bool,
    workers: str,
    show_personal_data: bool,
    output: str,
    env_file: Path | None,
) -> None:
    """Show everything known of one order in the order of time: its events with their outcomes and reasons, its entries,
    the answers to them, holds, dead letters with their resolutions, and the state now.

    ORDER_ID is the records' key, byte for byte; `-` reads it from standard input. Exit 1 when nothing is known.

    \b
    hakuna-processor order ord-123
    hakuna-processor order ord-123 --output json | jq '.timeline[] | select(.kind == "dead_letter")'
    hakuna-processor order --since 2d --show-personal-data -- -an-id-with-a-dash
    """
    from processor.operate.order.gather import Asked

    asked = Asked(*span_ms(since, until, "nothing would be shown"), full)
    settings = cluster_settings_or_exit(env_file)
    key = _key(order_id)
    urls = [url.strip() for url in workers.split(",") if url.strip()]
    _import_beside(settings, output)
    found, happenings = asked_of_brokers(
        settings, lambda: _told(settings, key, asked, urls, personal=show_personal_data)
    )
    shown = key.decode("utf-8", "backslashreplace")
    if output == "json":
        timeline = [one.as_json() for one in happenings]
        print_json({"order_id": shown, "timeline": timeline})
    elif happenings:
        from processor.operate.order.lines import line

        show(table(("time", "what", ""), (line(one, settings.topic_prefix) for one in happenings)))
    _note(settings, shown, found)
    sys.exit(0 if happenings else 1)


def _import_beside(settings: Settings, output: str) -> None:
    """Imports what the end of the command needs while the command waits for the brokers: saves 0.1 to 0.2 s."""

    def load() -> None:
        import processor.operate.order.story

        if settings.registry_url:
            import processor.edges.avro
            import processor.edges.registry  # noqa: F401  # as all of them: for whoever imports it next

        if output == "table":
            import rich.console
            import rich.table
            import rich.text  # noqa: F401

    threading.Thread(target=load, name="imports", daemon=True).start()


def _told(
    settings: Settings, key: bytes, asked: Asked, workers: Sequence[str], *, personal: bool
) -> tuple[Found, Sequence[Happening]]:
    from processor.operate.check.findings import Heard
    from processor.operate.order.gather import gather
    from processor.operate.order.waits import waits

    found = gather(settings, key, asked, Heard(), lambda text: click.echo(text, err=True))
    found.waits = waits(settings, found, workers, Heard())

    from processor.operate.order.story import tell
    from processor.topics import ORDER_TOPICS

    if not settings.registry_url:
        found.notes.append("what the source records say is not shown: SCHEMA_REGISTRY_URL is not set")
    topics = [topic for topic in ORDER_TOPICS if topic in found.records]
    return found, tell(found, fields_of(settings, topics), personal=personal)


def _note(settings: Settings, shown: str, found: Found) -> None:
    """Prints to standard error how complete the timeline is."""
    from processor.moments import iso

    if not found.anything:
        looked = f"all partitions of the topics {settings.topic_prefix}*"
        click.echo(f"nothing is known of order {printable(shown, 100)} (looked in {looked})", err=True)
    if not found.complete and not found.spans:
        click.echo(
            "it has no state: its dead letters and what transform has not taken yet were searched; --full reads all "
            "that is kept",
            err=True,
        )
    elif not found.complete:
        spans = ", ".join(
            f"{iso(one.from_ms or 0)} to {'now' if one.until_ms is None else iso(one.until_ms)}" for one in found.spans
        )
        click.echo(f"only the time around what is known was searched ({spans}); --full reads all", err=True)
    for text in found.notes:
        click.echo(printable(text, 1000), err=True)


def _key(order_id: str) -> bytes:
    """Arguments are bytes that Python made text of; the other way round gives them back, valid UTF-8 or not."""
    key = os.fsencode(order_id) if order_id != "-" else sys.stdin.buffer.read().removesuffix(b"\n")
    if not key:
        raise click.BadParameter("is empty", param_hint="ORDER_ID")
    return key
