"""The filters that every `dead-letters` command has, and the selection that they make."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from processor.cli.settings import parsed, span_ms

if TYPE_CHECKING:
    from processor.cli.dead_letters.desk import Desk
    from processor.operate.replay.selection import Selection

Command = Callable[..., Any]

EVERYTHING: Final = "--everything"
"""The option that stands in place of filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters as they were given. `reason_option` is the name of the option for reasons."""

    letters: tuple[str, ...]
    topics: tuple[str, ...]
    reasons: tuple[str, ...]
    error_codes: tuple[str, ...]
    order_ids: tuple[str, ...]
    since: str | None
    until: str | None
    reason_option: str

    @property
    def any(self) -> bool:
        return bool(self.words())

    def words(self) -> list[str]:
        """Returns the filters as they stand on a command line."""
        words = list(self.letters)
        for option, values in (
            ("--topic", self.topics),
            (self.reason_option, self.reasons),
            ("--error-code", self.error_codes),
            ("--order-id", self.order_ids),
            ("--since", (self.since,) if self.since else ()),
            ("--until", (self.until,) if self.until else ()),
        ):
            for value in values:
                words += [option, value]
        return words

    def given(self, verb: str, *more: str) -> str:
        """Returns the command line, without the options that select nothing."""
        return shlex.join([verb, *(self.words() if self.any else [EVERYTHING]), *more])

    def resolved(self, desk: Desk) -> tuple[list[str], Selection]:
        """Returns the dead-letter topics to read, and which of their letters are selected. Raises `Refused`."""
        from processor.operate.replay.selection import Selection, parse_letter

        topics, origins = desk.topics(self.topics) if self.topics or not self.letters else ([], ())
        places = [desk.place(parsed(letter, "LETTER", parse_letter)) for letter in self.letters]
        if places:
            named = list(dict.fromkeys(place.topic for place in places))
            topics = [topic for topic in named if topic in topics or not self.topics]
            if not topics:
                raise click.UsageError("none of the named letters is on a topic of --topic")
        since_ms, until_ms = span_ms(self.since, self.until, "no letter would be selected")
        selection = Selection(
            reasons=self.reasons,
            error_codes=self.error_codes,
            order_ids=self.order_ids,
            origins=origins,
            letters=tuple(map(str, places)),
            since_ms=since_ms,
            until_ms=until_ms,
        )
        return topics, selection


_OPTIONS: Final = (
    click.option(
        "--topic",
        "topics",
        multiple=True,
        metavar="TOPIC",
        help="Select letters on this dead-letter topic, or letters that came from this topic.",
    ),
    click.option(
        "--error-code",
        "error_codes",
        multiple=True,
        metavar="CODE",
        help="Select letters with this error code of the API.",
    ),
    click.option("--order-id", "order_ids", multiple=True, metavar="ORDER_ID", help="Select letters of this order."),
    click.option(
        "--since", metavar="TIME", help="Select letters that last failed at this time or later; 90m is 90 minutes ago."
    ),
    click.option("--until", metavar="TIME", help="Select letters that last failed before this time."),
)
_FILTERS: Final = ("topics", "reasons", "error_codes", "order_ids", "since", "until")


def filters(*, letters: int = 0, reason_option: str = "--reason") -> Callable[[Command], Command]:
    """Gives a command the filters, as its argument `filters`. `letters` is how many places of letters it takes (-1: any
    number)."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_filters(**given: Any) -> Any:
            named = given.pop("letters", ())
            letters = (named,) if isinstance(named, str) else tuple(named or ())
            values = {name: given.pop(name) for name in _FILTERS}
            return command(filters=Filters(letters=letters, reason_option=reason_option, **values), **given)

        what = "Select letters with this reason."
        options = [click.option(reason_option, "reasons", multiple=True, metavar="REASON", help=what), *_OPTIONS]
        if letters:
            options.append(click.argument("letters", nargs=letters, required=False))
        for option in reversed(options):
            with_filters = option(with_filters)
        return with_filters

    return decorate
