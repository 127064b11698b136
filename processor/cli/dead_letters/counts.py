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
from processor.operate.replay.noted import Resolved
from processor.operate.replay.offset_set import OffsetSet
from processor.operate.replay.reading import begun_ms, read
from processor.operate.replay.survey import home
from processor.records import Record, TopicPartition


def walk(desk: Desk, topics: Sequence[str]) -> Iterator[tuple[Sequence[Record], Mapping[How, OffsetSet]]]:
    """Letters as they are read, with what is resolved of their partition. Number by number: a partition of the
    resolutions, then the letters that it speaks of."""
    reader = desk.reader()
    numbers = {topic: desk.offsets.partitions(topic) or 0 for topic in topics}
    wheres = [TopicPartition(topic, number) for topic, count in numbers.items() for number in range(count)]
    beginnings, ends = desk.offsets.beginnings(wheres), desk.offsets.ends(wheres)
    homes = desk.offsets.partitions(desk.resolutions) or 0
    begun = begun_ms(reader, desk.clock, beginnings, ends)
    for number in range(max(homes, 1)):
        resolved = Resolved(begun)
        if homes:
            where = TopicPartition(desk.resolutions, number)
            begin, end = desk.offsets.beginnings([where])[where], desk.offsets.ends([where])[where]
            for records in read(reader, desk.clock, where, begin, end, lambda _count: None):
                resolved.take(records)
        for where in wheres:
            if home(where.partition, max(homes, 1)) == number:
                for records in read(reader, desk.clock, where, beginnings[where], ends[where], desk.step):
                    yield records, resolved.of(where)


def count(desk: Desk, topics: Sequence[str], tally: Tally, *, all_letters: bool) -> None:
    for records, resolved in walk(desk, topics):
        tally.take(records, resolved, all_letters=all_letters)


def show_each(desk: Desk, topics: Sequence[str], tally: Tally, *, all_letters: bool, output: str) -> None:
    """One line a letter, as they are read: there may be millions."""
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
        "first_failed_at": facts.first_failed_ms,
        "last_failed_at": facts.last_failed_ms,
        "age_seconds": max(0, now_ms - facts.first_failed_ms) // 1000,
    }


def show_counts(desk: Desk, tally: Tally, topics: Sequence[str], *, all_letters: bool, wide: bool, output: str) -> None:
    now_ms = desk.clock.now_ms()
    rows = sorted(tally.counts.items(), key=lambda item: (item[0].topic, -item[1].letters, item[0]))
    if output == "json":
        counts = [_values(kind, count, now_ms) for kind, count in rows]
        print_json({"read": tally.read, "letters": tally.letters, "topics": list(topics), "counts": counts})
        return
    if tally.unknown:
        click.echo(f"{tally.unknown} letters have no headers that are known: their origin is unknown", err=True)
    if not rows:
        _say_none(tally, topics, all_letters=all_letters)
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
    return f"no open letter has the reason {printable(', '.join(unknown))}; those that there are: {printable(named)}"


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
        "first_failed_at": count.first_ms,
        "last_failed_at": count.last_ms,
        "age_seconds": max(0, now_ms - count.first_ms) // 1000,
    }


def age(age_ms: int) -> str:
    for unit, unit_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if age_ms >= unit_ms:
            return f"{age_ms // unit_ms}{unit}"
    return f"{max(age_ms, 0) // 1000}s"
