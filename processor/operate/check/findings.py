"""What `check` finds: sound, a note, or a problem with its remedy. Pure.

`Heard` keeps what a Kafka client says while it works. A command that shows results on a screen has no log, because log
lines would stand between its rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from processor.errors import Problem
from processor.sources.survey import Weight


class Area(StrEnum):
    """What a finding is about, in the order of the report."""

    SETTINGS = "settings"
    BROKERS = "brokers"
    TOPICS = "topics"
    GROUPS = "groups"
    RIGHTS = "rights"
    REGISTRY = "registry"
    STATE = "state"
    KEYS = "keys"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `subject` is a setting, a topic or an address, `what` what was found, `remedy` what to do
    (empty: nothing)."""

    area: Area
    subject: str
    verdict: Weight
    what: str
    remedy: str = ""


def sound(area: Area, subject: str, what: str) -> Finding:
    return Finding(area, subject, Weight.SOUND, what)


def note(area: Area, subject: str, what: str, remedy: str = "") -> Finding:
    return Finding(area, subject, Weight.NOTE, what, remedy)


def problem(area: Area, subject: str, what: str, remedy: str) -> Finding:
    assert remedy, f"a problem without a remedy: {subject}: {what}"
    return Finding(area, subject, Weight.PROBLEM, what, remedy)


def found_of(area: Area, given: Problem) -> Finding:
    """Returns the finding for a problem that another package has found."""
    remedy = given.remedy or ("write it in that form" if " is not " in given.what else "change one of them")
    return problem(area, given.subject, given.what, remedy)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is Weight.PROBLEM]


LINES_MAX: Final = 50
"""A client that cannot connect says so every second."""


class Heard:
    """A logger (`edges.kafka.client.Log`) that keeps the last lines. Mutable: `_lines` grows up to LINES_MAX; any
    thread may write."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_MAX)

    def debug(self, event: str, **facts: Any) -> None:
        self._lines.append(str(facts.get("detail", event)))

    info = warning = error = debug

    def about(self, *words: str) -> str | None:
        """Returns the last line with one of these words in it, or None."""
        return next((line for line in reversed(self._lines) if any(word in line.lower() for word in words)), None)
