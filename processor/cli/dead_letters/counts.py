"""`dead-letters list`: reads and shows the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from processor.cli.dead_letters.desk import Desk
from processor.cli.output import console, print_json, table
from processor.moments import iso
from processor.operate.replay.listing import Count, Kind, Tally
from processor.operate.replay.noted import Resolved
from processor.operate.replay.reading import read
from processor.operate.replay.survey import home
from processor.records import TopicPartition


def count(desk: Desk, topics: Sequence[str], tally: Tally, *, all_letters: bool) -> None:
    """Number by number: a partition of the resolutions, then the letters that it speaks of."""
    reader = desk.reader()
    numbers = {topic: desk.offsets.partitions(topic) or 0 for topic in topics}
    wheres = [TopicPartition(topic, number) for topic, count in numbers.items() for number in range(count)]
    beginnings, ends = desk.offsets.beginnings(wheres), desk.offsets.ends(wheres)
    homes = desk.offsets.partitions(desk.resolutions) or 0
    for number in range(max(homes, 1)):
        resolved = Resolved()
        if homes:
            where = TopicPartition(desk.resolutions, number)
            begin, end = desk.offsets.beginnings([where])[where], desk.offsets.ends([where])[where]
            for records in read(reader, desk.clock, where, begin, end, lambda _count: None):
                resolved.take(records)
        for where in wheres:
            if home(where.partition, max(homes, 1)) == number:
                for records in read(reader, desk.clock, where, beginnings[where], ends[where], desk.step):
                    tally.take(records, resolved.of(where), all_letters=all_letters)


def show_counts(desk: Desk, tally: Tally, topics: Sequence[str], *, all_letters: bool, output: str) -> None:
    now_ms = desk.clock.now_ms()
    rows = sorted(tally.counts.items(), key=lambda item: (item[0].topic, -item[1].letters, item[0]))
    if output == "json":
        counts = [_values(kind, count, now_ms) for kind, count in rows]
        print_json({"read": tally.read, "letters": tally.letters, "topics": list(topics), "counts": counts})
        return
    if tally.unknown:
        click.echo(
            f"{tally.unknown} letters have no headers that are known: where they came from, nobody says", err=True
        )
    if not rows:
        what = "letter" if all_letters else "open letter"
        resolved = "; --all counts those that are resolved too" if tally.read and not all_letters else ""
        click.echo(f"no {what} fits, of {tally.read:,} in {', '.join(topics)}{resolved}", err=True)
        return
    columns = ["topic", "from", "reason", "error code", "letters", "oldest", "newest", "age", "resolution"]
    shown = len(columns) if all_letters else len(columns) - 1
    cells = [_cells(kind, count, now_ms)[:shown] for kind, count in rows]
    console().print(table(columns[:shown], cells))


def _cells(kind: Kind, count: Count, now_ms: int) -> list[str]:
    return [
        kind.topic,
        kind.origin,
        kind.reason,
        kind.error_code,
        f"{count.letters:,}",
        iso(count.first_ms),
        iso(count.last_ms),
        age(now_ms - count.first_ms),
        kind.how or "open",
    ]


def _values(kind: Kind, count: Count, now_ms: int) -> dict[str, Any]:
    return {
        "topic": kind.topic,
        "from": kind.origin or None,
        "reason": kind.reason,
        "error_code": kind.error_code or None,
        "resolution": kind.how or None,
        "letters": count.letters,
        "first_failed_at": count.first_ms,
        "last_failed_at": count.last_ms,
        "age_seconds": max(0, now_ms - count.first_ms) // 1000,
    }


def age(age_ms: int) -> str:
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if age_ms >= unit_ms:
            return f"{age_ms // unit_ms}{unit}"
    return f"{max(age_ms, 0) // 1000}s"
