"""`dead-letters list`: reads and shows the counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import click

from processor.cli.dead_letters.desk import Desk
from processor.cli.output import print_json, printable, say, show, table
from processor.letters.resolutions import How
from processor.moments import iso
from processor.operate.replay.listing import Count, Each, Kind, Tally
from processor.operate.replay.noted import OffsetSet, with_resolved
from processor.records import Record


def walk(desk: Desk, topics: Sequence[str]) -> Iterator[tuple[Sequence[Record], Mapping[How, OffsetSet]]]:
    """Yields all letters in batches, each with what is resolved of its partition. Raises `BrokerOutage`."""
    reading = desk.reading()
    wheres = [where for topic in topics for where in reading.partitions(topic)]
    beginnings, ends = desk.offsets.beginnings(wheres), desk.offsets.ends(wheres)
    for where, resolved in with_resolved(reading, desk.resolutions, beginnings, ends):
        for records in reading.part(where, beginnings[where], ends[where]):
            yield records, resolved


def count(desk: Desk, topics: Sequence[str], tally: Tally, *, all_letters: bool) -> None:
    for records, resolved in walk(desk, topics):
        tally.take(records, resolved, all_letters=all_letters)


def show_each(desk: Desk, topics: Sequence[str], tally: Tally, *, all_letters: bool, output: str) -> None:
    """Prints each letter when it is read: there may be millions."""
    now_ms = desk.clock.now_ms()
    for records, resolved in walk(desk, topics):
        for letter in tally.each(records, resolved, all_letters=all_letters):
            if output == "ndjson":
                print_json(_each_values(letter, now_ms))
            else:
                place = f"{letter.place.removeprefix(desk.settings.topic_prefix):<30}"
                since = age(now_ms - letter.facts.first_failed_ms)
                words = f"{place} {since:>4}  {printable(letter.facts.reason, 40):<22} {printable(letter.order_id, 80)}"
                click.echo(f"{words}  {letter.how}" if letter.how else words)
    if not tally.letters:
        _say_none(tally, topics, all_letters=all_letters)


def _each_values(letter: Each, now_ms: int) -> dict[str, Any]:
    facts = letter.facts
    return {
        "letter": letter.place,
        "order_id": letter.order_id,
        "from": None if facts.origin is None else str(facts.origin),
        "reason": facts.reason,
        "error_code": facts.error_code,
        "resolution": letter.how or None,
        **_times(facts.first_failed_ms, facts.last_failed_ms, now_ms),
    }


def _times(first_ms: int, last_ms: int, now_ms: int) -> dict[str, int]:
    age_s = max(0, now_ms - first_ms) // 1000
    return {"first_failed_at": first_ms, "last_failed_at": last_ms, "age_seconds": age_s}


def show_counts(desk: Desk, tally: Tally, topics: Sequence[str], *, all_letters: bool, wide: bool, output: str) -> None:
    now_ms = desk.clock.now_ms()
    rows = sorted(tally.counts.items(), key=lambda item: (item[0].topic, -item[1].letters, item[0]))
    if output == "json":
        counts = [_values(kind, count, now_ms) for kind, count in rows]
        print_json({"read": tally.read, "letters": tally.letters, "topics": list(topics), "counts": counts})
    if tally.unknown:
        click.echo(f"{tally.unknown} letters have no headers that are known: their origin is unknown", err=True)
    if not rows:
        _say_none(tally, topics, all_letters=all_letters)
    if not rows or output == "json":
        return
    cells = [_cells(kind, count, now_ms, desk.settings.topic_prefix) for kind, count in rows]
    wanted = {"letters", "age", "reason", "from", "topic", *(("oldest", "newest") if wide else ())}
    if wide or any(row["code"] for row in cells):
        wanted.add("code")  # the API's own word, mostly the reason itself
    if all_letters:
        wanted.add("resolution")
    columns = [name for name in cells[0] if name in wanted]
    show(table(columns, ([row[name] for name in columns] for row in cells)))


def _say_none(tally: Tally, topics: Sequence[str], *, all_letters: bool) -> None:
    what = "letter" if all_letters else "open letter"
    resolved = "; --all counts those that are resolved too" if tally.read and not all_letters else ""
    say(f"no {what} fits, of {tally.read:,} in {', '.join(topics)}{resolved}", err=True)
    if unheard := unheard_of(tally.asked_reasons, tally.reasons):
        say(unheard, err=True)


def unheard_of(asked: Collection[str], there: Mapping[str, int]) -> str | None:
    """Returns the message for reasons that no letter has: the nearest reason, and all that letters have."""
    unknown = [reason for reason in asked if reason not in there]
    if not unknown or not there:
        return None
    named = ", ".join(f"{reason} ({count:,})" for reason, count in sorted(there.items(), key=lambda one: -one[1]))
    return f"no open letter has the reason {printable(', '.join(unknown))}; letters have {printable(named)}"


def _cells(kind: Kind, count: Count, now_ms: int, prefix: str) -> dict[str, str]:
    return {
        "letters": f"{count.letters:,}",
        "age": age(now_ms - count.first_ms),
        "reason": kind.reason,
        "code": "" if kind.error_code == kind.reason else kind.error_code,
        "from": kind.origin.removeprefix(prefix),
        "topic": kind.topic.removeprefix(prefix),
        "resolution": kind.how or "open",
        "oldest": iso(count.first_ms),
        "newest": iso(count.last_ms),
    }


def _values(kind: Kind, count: Count, now_ms: int) -> dict[str, Any]:
    return {
        "topic": kind.topic,
        "from": kind.origin or None,
        "reason": kind.reason,
        "error_code": kind.error_code or None,
        "resolution": kind.how or None,
        "letters": count.letters,
        **_times(count.first_ms, count.last_ms, now_ms),
    }


def age(age_ms: int) -> str:
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if age_ms >= unit_ms:
            return f"{age_ms // unit_ms}{unit}"
    return f"{max(age_ms, 0) // 1000}s"
