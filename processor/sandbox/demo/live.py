"""What the demo shows: a page that is redrawn on a terminal, else a line every few seconds; at the end a summary.

Pure, except `Screen`, which draws. For 80 columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from processor.config import Role
from processor.sandbox.demo.demo import Phase, Report, View
from processor.sandbox.demo.watch import Sight

LINE_EVERY_S: Final = 3.0
_DESTINATIONS: Final = ("Hakuna", "Hako")
_LATENCY: Final = "processor_delivery_latency_seconds"


class Screen:
    """`with Screen(console) as screen: … screen.show(view)`. Mutable: `_line_s` is the time of the last line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._line_s = -LINE_EVERY_S

    def show(self, view: View) -> None:
        if self._live is not None:
            self._live.update(page(view), refresh=True)
        elif view.since_s - self._line_s >= LINE_EVERY_S or view.phase in (Phase.DONE, Phase.FAILED):
            self._line_s = view.since_s
            self._console.print(line(view), highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def page(view: View) -> RenderableType:
    """Returns the page for a terminal."""
    head = Text(f"{view.phase.value}, {view.since_s:.0f} s, {view.written:,} records written", style="bold")
    if view.phase is Phase.STARTING:
        return Group(head, *(Text(f"  {reason}", style="dim") for reason in view.waiting_for))
    roles = Table("role", "lag", "oldest", "finished", "a second", box=None, header_style="dim", pad_edge=False)
    for column in roles.columns[1:]:
        column.justify = "right"
        column.min_width = 9
    for role in view.roles:
        roles.add_row(
            role.value,
            f"{view.sight.sum('processor_consumer_lag_records', role=role.value):,.0f}",
            f"{view.sight.most('processor_consumer_lag_seconds', role=role.value):.1f} s",
            f"{_finished(view.sight, role):,.0f}",
            f"{_rate(view, role):,.0f}",
        )
    facts = Table.grid(padding=(0, 2))
    for destination, counts in _requests(view.sight).items():
        facts.add_row(f"to {destination}", _counts(counts))
    facts.add_row("in flight", f"{view.sight.sum('processor_in_flight_requests'):.0f}")
    for title, label in (
        ("error codes", "error_code"),
        ("retries", "reason"),
        ("dead letters", "reason"),
        ("ignored", "reason"),
    ):
        name = f"processor_{title.replace(' ', '_')}_total"
        facts.add_row(title, _counts(view.sight.by(name, label)))
    facts.add_row("latency", _latency(view.sight))
    return Group(head, roles, facts)


def line(view: View) -> str:
    """Returns the page as one line, for a log."""
    at = f"{view.since_s:4.0f} s  {view.phase.value:<9}"
    if view.phase is Phase.STARTING:
        return f"{at}  {'; '.join(view.waiting_for)}"
    roles = "  ".join(
        f"{role.value} {_finished(view.sight, role):,.0f}"
        f" (lag {view.sight.sum('processor_consumer_lag_records', role=role.value):,.0f}, {_rate(view, role):,.0f}/s)"
        for role in view.roles
    )
    requests = _counts(view.sight.by("processor_requests_total", "status"))
    letters = view.sight.sum("processor_dead_letters_total")
    return f"{at}  written {view.written:,}  {roles}  requests {requests}  dead letters {letters:,.0f}"


def summary(report: Report) -> RenderableType:
    """Returns the summary at the end."""
    sight = report.sight
    facts = Table.grid(padding=(0, 2))
    facts.add_row("orders", f"{report.orders:,} in {len(report.written):,} records, {report.seconds:.0f} s in all")
    facts.add_row("records", _counts(dict(sorted(report.outcomes.items()))))
    for destination, counts in _requests(sight).items():
        facts.add_row(f"to {destination}", f"{sum(counts.values()):,} requests: {_counts(counts)}")
    facts.add_row("repeats", f"{report.seen.repeats} after a lost answer, each under its first Idempotency-Key")
    facts.add_row("latency", _latency(sight))
    letters = Table("dead letters", "", "expected", box=None, header_style="dim", pad_edge=False)
    letters.columns[1].justify = letters.columns[2].justify = "right"
    found, expected = report.letter_counts
    for reason in sorted(found.keys() | expected.keys()):
        letters.add_row(reason, str(found[reason]), str(expected[reason]))
    return Group(facts, Text(), letters)


def ending(report: Report, program: str) -> str:
    """Returns the last lines of a success. `program` is the command as it is typed."""
    return (
        f"All as expected: {len(report.written):,} records ended as the rules say;\n"
        f"{report.seen.requests:,} requests were as the reference wants them, never two in flight for one\n"
        "order; Hako holds what was said of the stock last; all workers drained with\n"
        "exit 0, without a restart.\n\n"
        "Next: the same, left running to look around; then, on your own cluster, a shop and a\n"
        "worker in two terminals\n"
        f"  {program} demo --keep\n"
        f"  {program} simulate --help\n"
        f"  {program} run --help"
    )


def problems(wrong: Iterable[str]) -> RenderableType:
    return Group(Text("Not as expected:", style="bold red"), *(Text(f"  {problem}") for problem in wrong))


def _finished(sight: Sight, role: Role) -> float:
    return sight.sum("processor_records_total", role=role.value)


def _requests(sight: Sight) -> dict[str, dict[str, int]]:
    """Returns the requests by destination and status; a destination without requests is included."""
    return {one: sight.by("processor_requests_total", "status", destination=one.lower()) for one in _DESTINATIONS}


def _rate(view: View, role: Role) -> float:
    seconds = view.sight.at_s - view.before.at_s
    return max(0.0, _finished(view.sight, role) - _finished(view.before, role)) / seconds if seconds > 0 else 0.0


def _counts(counts: Mapping[str, int]) -> str:
    return "  ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def _latency(sight: Sight) -> str:
    middle, late = (sight.quantile(_LATENCY, share, destination="hakuna") for share in (0.5, 0.99))
    if math.isnan(middle):
        return "none yet"
    return f"p50 {middle:.2f} s  p99 {late:.2f} s  (from an order's record to Hakuna's 2xx)"
