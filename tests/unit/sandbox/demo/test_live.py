"""What the demo shows fits a terminal of 80 columns, and a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from processor.records import Outcome, Position, Reason
from processor.sandbox.apis.record import Record
from processor.sandbox.demo.demo import Phase, Report, View
from processor.sandbox.demo.live import Screen, ending, line, page, problems, summary
from processor.sandbox.demo.watch import parsed
from processor.sandbox.shop.history import Expected, Step
from processor.topics import Topic
from tests.unit.sandbox.demo.test_watch import SEND, TRANSFORM

BEFORE = parsed([], 1.0)
SIGHT = parsed([TRANSFORM, SEND], 3.0)
FEEDING = View(Phase.FEEDING, 12.3, 1_234, (), BEFORE, SIGHT)
STARTING = View(Phase.STARTING, 1.0, 0, ("transform: waiting",), BEFORE, BEFORE)
MISMATCH = Step(Topic.PLACED, b"k", b"v", 1, Expected(Outcome.DEAD_LETTERED, Reason.KEY_MISMATCH))
REPORT = Report(
    orders=10,
    written={Position("orders.placed", 0, 0): MISMATCH},
    sight=SIGHT,
    seen=Record(),
    letters={"orders.placed/0/0": "key_mismatch"},
    seconds=40.0,
    wrong=(),
)


def recorded(width: int = 80, *, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=terminal or None), file


def shown(what: RenderableType, width: int = 80) -> str:
    console, file = recorded(width)
    console.print(what)
    return file.getvalue()


@pytest.mark.parametrize(
    "what", [page(FEEDING), page(STARTING), summary(REPORT), ending(REPORT, "hakuna-processor"), problems(["x"])]
)
@pytest.mark.parametrize("width", [80, 200])
def test_everything_fits_its_terminal(what: RenderableType, width: int) -> None:
    text = shown(what, width)
    assert text.strip()
    assert max(len(row) for row in text.splitlines()) <= width


def test_the_page_tells_lag_rates_codes_and_letters_of_both_roles() -> None:
    rows = shown(page(FEEDING)).splitlines()
    assert rows[0].startswith("feeding, 12 s, 1,234 records written")
    assert rows[2].split() == ["transform", "0", "1.5", "s", "12", "6"]
    assert any(row.startswith("latency") and "p50 0.10 s" in row for row in rows)


def test_a_line_tells_the_same_for_a_log() -> None:
    text = line(FEEDING)
    assert "\n" not in text
    assert "written 1,234  transform 12 (lag 0, 6/s)  send 7 (lag 0, 4/s)" in text
    assert line(STARTING).endswith("transform: waiting")


def test_the_summary_sets_dead_letters_beside_what_was_expected() -> None:
    text = shown(summary(REPORT))
    assert "10 in 1 records, 40 s in all" in text
    assert ["key_mismatch", "1", "1"] in [row.split() for row in text.splitlines()]


def test_a_log_gets_a_line_now_and_then_and_the_last_one_always() -> None:
    console, file = recorded()
    with Screen(console) as screen:
        for since_s in (0.0, 0.5, 1.0, 3.1, 3.6):
            screen.show(View(Phase.FEEDING, since_s, 0, (), BEFORE, SIGHT))
        screen.show(View(Phase.DONE, 4.0, 0, (), BEFORE, SIGHT))
    assert [row.split()[0] for row in file.getvalue().splitlines()] == ["0", "3", "4"]


def test_a_terminal_gets_a_page_that_is_gone_afterwards() -> None:
    console, file = recorded(terminal=True)
    with Screen(console) as screen:
        screen.show(FEEDING)
    assert "feeding" in file.getvalue()
    assert "\x1b[2K" in file.getvalue(), "the lines are erased at the end"
