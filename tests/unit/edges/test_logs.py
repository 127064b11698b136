"""Logs: one line an event whatever others wrote, and no value out of a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from processor.config import LogFormat, LogLevel
from processor.edges import logs

KEY = "sk_live_of_nobody"
FORGED = 'ord-1\n{"event": "all is well", "level": "info"}\r\x1b[2J\x9b31m\u2028\u202edne\x07'


@pytest.fixture(autouse=True)
def configured(request: pytest.FixtureRequest) -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def told(log_format: LogFormat, capsys: pytest.CaptureFixture[str], *, by_library: bool) -> str:
    """What stands in the log after an error whose frames hold a key, in a field and in its own words."""
    logs.configure(log_format, LogLevel.INFO)
    try:
        post(KEY)
    except ValueError as wrong:
        if by_library:
            logging.getLogger("asyncio").error(f"of {FORGED}", exc_info=wrong)
        else:
            structlog.get_logger("of.this.test").error("not sent", order_id=FORGED, exc_info=wrong)
    return capsys.readouterr().err


def post(authorization: str) -> None:
    order = {"email": "max@example.com"}
    raise ValueError(f"{len(authorization)} {len(order)} {FORGED}")


@pytest.mark.parametrize("by_library", [False, True])
@pytest.mark.parametrize("log_format", LogFormat)
def test_a_traceback_says_where_and_shows_no_variable(
    log_format: LogFormat, by_library: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(log_format, capsys, by_library=by_library)
    assert "ValueError" in text
    assert "post" in text
    assert KEY not in text
    assert "max@example.com" not in text


@pytest.mark.parametrize("by_library", [False, True])
def test_nothing_that_others_wrote_begins_a_line_of_json(by_library: bool, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(LogFormat.JSON, capsys, by_library=by_library)
    assert text.isascii()
    (line,) = text.splitlines()
    assert json.loads(line)["level" if not by_library else "exception"]


@pytest.mark.parametrize("by_library", [False, True])
def test_nothing_that_others_wrote_moves_the_cursor_of_a_console(
    by_library: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(LogFormat.CONSOLE, capsys, by_library=by_library)
    assert all(one.isprintable() for one in text.replace("\n", ""))
    heads = [line for line in text.split("\n") if "not sent" in line or "[error" in line]
    assert len(heads) == 1
    assert "all is well" in heads[0], "the event's own fields stay in its line"
