"""`hakuna-processor sku SKU`: everything known of one SKU at Hako."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from processor.cli.output import output_option, print_json, printable, show, table
from processor.cli.settings import asked_of_brokers, cluster_settings_or_exit, env_file, fields_of

if TYPE_CHECKING:
    from processor.config import Settings
    from processor.operate.order.sku import FoundSku
    from processor.operate.order.story import Happening


@click.command("sku", short_help="show everything known of one SKU")
@click.argument("sku")
@output_option
@env_file
def command(sku: str, output: str, env_file: Path | None) -> None:
    """Show everything known of one SKU in the order of time: changes of the item and of its levels with their outcomes,
    what Hako has accepted, and dead letters. Exit 1 when nothing is known.

    \b
    hakuna-processor sku hk-001
    hakuna-processor sku hk-001 --output json | jq '.timeline[] | select(.kind == "delivery")'
    """
    from processor.moments import iso

    settings = cluster_settings_or_exit(env_file)
    key = os.fsencode(sku)
    found, happenings = asked_of_brokers(settings, lambda: _told(settings, key))
    shown = key.decode("utf-8", "backslashreplace")
    if output == "json":
        timeline = [one.as_json() for one in happenings]
        print_json({"sku": shown, "timeline": timeline})
    elif happenings:
        from processor.operate.order.sku import sku_line

        rows = (("" if one.at_ms is None else iso(one.at_ms), *sku_line(one)) for one in happenings)
        show(table(("time", "what", ""), rows))
    if not happenings:
        click.echo(f"nothing is known of SKU {printable(shown, 100)}", err=True)
    for text in found.notes:
        click.echo(printable(text, 1000), err=True)
    sys.exit(0 if happenings else 1)


def _told(settings: Settings, sku: bytes) -> tuple[FoundSku, Sequence[Happening]]:
    from processor.operate.check.findings import Heard
    from processor.operate.order.sku import gather_sku, tell_sku
    from processor.topics import Topic

    found = gather_sku(settings, sku, Heard())
    if not settings.registry_url:
        found.notes.append("what the source records say is not shown: SCHEMA_REGISTRY_URL is not set")
    return found, tell_sku(found, fields_of(settings, (Topic.ITEMS, Topic.LEVELS)))
