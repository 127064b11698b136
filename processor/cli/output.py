"""The output of all commands: JSON or a table on standard output, everything else on standard error.

Colours and bars are for terminals: rich leaves them out if there is no terminal, or if `NO_COLOR` is set. A table that
goes into a pipe is not folded to a width. Text from outside (order IDs, titles, an API's messages) passes `printable`
before it goes into a table, because a terminal obeys control characters.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

PIPE_COLUMNS: Final = 10_000
"""The width of a table in a pipe or a file: one line a row, so that grep finds whole rows."""
TEXT_CHARS_MAX: Final = 500
"""The longest foreign text in a table: an order ID may have a megabyte."""

T = TypeVar("T")

output_option: Callable[[Any], Any] = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", help="Print a table or JSON on standard output."
)


def print_json(value: object) -> None:
    """Writes one line to standard output. Bytes that are not UTF-8 (an argument may hold any) are escaped."""
    import msgspec

    try:
        text = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        import json

        text = json.dumps(value)
    click.echo(text)


def console() -> Console:
    """Returns a console on standard output, for tables."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False, width=width)


def show(what: RenderableType) -> None:
    """Prints to standard output; into a pipe without the blanks at the ends of a table's lines."""
    screen = console()
    if screen.is_terminal:
        screen.print(what)
        return
    with screen.capture() as captured:
        screen.print(what)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], whole: int = 0) -> Table:
    """Returns a table without lines; a cell is a text or anything that rich can show. The first `whole` columns are
    never broken over lines; the last column takes the rest of the width."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        made.add_column(name, overflow="fold", ratio=None if number < len(columns) - 1 else 1, no_wrap=number < whole)
    for row in rows:
        made.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))  # type: ignore[arg-type]  # a renderable
    return made


def say(text: str, err: bool = False) -> None:
    """Prints a sentence to standard output or standard error; on a terminal it breaks lines between words."""
    stream = sys.stderr if err else sys.stdout
    click.echo(folded(text) if stream.isatty() else text, err=err)


def say_step(step: str) -> None:
    """Prints what a command is doing."""
    click.echo(step, err=True)


def folded(text: str) -> str:
    """Returns the text in lines of the terminal's width; the lines after the first are indented."""
    import shutil
    import textwrap

    columns = shutil.get_terminal_size().columns - 1
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        parts = textwrap.wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        lines += parts or [""]
    return "\n".join(lines)


def noted(line: Text, note: str, remedy: str = "") -> RenderableType:
    """Returns a line with a note: beside it if there is room, else below; a remedy is always below."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    below = [Text(f"→ {remedy}", style="italic")] if remedy else []
    if line.cell_len + 2 + len(note) <= console().width:
        line = Text.assemble(line, "  ", note)
    else:
        below.insert(0, Text(note))
    return Group(line, *(Padding(text, (0, 0, 0, 4)) for text in below))


def printable(text: str, chars_max: int = TEXT_CHARS_MAX) -> str:
    """Returns the text on one line, with control characters escaped, cut to `chars_max`."""
    cut = text if len(text) <= chars_max else f"{text[:chars_max]}… ({len(text)} characters)"
    if cut.isprintable():
        return cut
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in cut)


def many(count: int, what: str) -> str:
    """`1 letter`, `2 letters`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def interruptible(work: Callable[[], T]) -> T:
    """Runs `work` in another thread, so that Ctrl-C works at once: librdkafka waits for answers in C, for ten seconds
    and more, and Python handles no signal meanwhile. Returns or raises what `work` does."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as failure:
            done.set_exception(failure)

    threading.Thread(target=run, name="command", daemon=True).start()
    return done.result()
