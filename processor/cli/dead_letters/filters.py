"""The filters that every `dead-letters` command has, and what is made of them."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from processor.cli.dead_letters.desk import Desk
    from processor.operate.replay.selection import Selection

Command = Callable[..., Any]

EVERYTHING: Final = "--everything"
"""The option that stands in place of filters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The filters as they were given. `reason_option` is the name of the one for reasons."""

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
        return bool(
            self.letters
            or self.topics
            or self.reasons
            or self.error_codes
            or self.order_ids
            or self.since
            or self.until
        )

    def words(self) -> list[str]:
        """To be said again on a command line."""
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
        """The command in the words that select."""
        return shlex.join([verb, *(self.words() if self.any else [EVERYTHING]), *more])

    def resolved(self, desk: Desk) -> tuple[list[str], Selection]:
        """The dead-letter topics that are meant, and their letters. Raises `Refused`."""
        from processor.operate.replay.selection import Selection, parse_letter

        places = []
        for letter in self.letters:
            try:
                places.append(parse_letter(letter))
            except ValueError as wrong:
                raise click.BadParameter(f"{letter!r} is not {wrong}", param_hint="LETTER") from wrong
        if places:
            topics, origins = desk.topics([place.topic for place in places])
            places = [place._replace(topic=desk.topics([place.topic])[0][0]) for place in places]
        else:
            topics, origins = desk.topics(self.topics)
        since_ms = self._moment(desk, "--since", self.since)
        until_ms = self._moment(desk, "--until", self.until)
        if since_ms is not None and until_ms is not None and since_ms >= until_ms:
            raise click.UsageError("--since has to be before --until: no letter would be selected")
        selection = Selection(
            reasons=self.reasons,
            error_codes=self.error_codes,
            order_ids=self.order_ids,
            origins=origins,
            letters=tuple(str(place) for place in places),
            since_ms=since_ms,
            until_ms=until_ms,
        )
        return topics, selection

    def _moment(self, desk: Desk, option: str, text: str | None) -> int | None:
        from processor.moments import parse_moment

        if text is None:
            return None
        try:
            return parse_moment(text, desk.clock.now_ms())
        except ValueError as wrong:
            raise click.BadParameter(f"{text!r} is not {wrong}", param_hint=option) from wrong


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


def filters(*, letters: int = 0, reason_option: str = "--reason") -> Callable[[Command], Command]:
    """Gives a command the filters, as its argument `filters`. `letters`: how many it takes by their place (-1: any)."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_filters(**given: Any) -> Any:
            named = given.pop("letters", ())
            chosen = Filters(
                letters=(named,) if isinstance(named, str) else tuple(named or ()),
                topics=given.pop("topics"),
                reasons=given.pop("reasons"),
                error_codes=given.pop("error_codes"),
                order_ids=given.pop("order_ids"),
                since=given.pop("since"),
                until=given.pop("until"),
                reason_option=reason_option,
            )
            return command(filters=chosen, **given)

        options = [
            click.option(
                reason_option, "reasons", multiple=True, metavar="REASON", help="Select letters with this reason."
            ),
            *_OPTIONS,
        ]
        if letters:
            options.append(click.argument("letters", nargs=letters, required=False))
        for option in reversed(options):
            with_filters = option(with_filters)
        return with_filters

    return decorate
