"""The settings: every problem of theirs, and as much of them as can be used all the same.

A worker needs all of them; `check` goes on with what is left, so that a misspelt name does not hide a missing topic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from processor.config import Role, Settings, load
from processor.edges.kafka.properties import refused
from processor.errors import Unusable
from processor.operate.check.findings import Area, Finding, problem, sound, split

_NAMES: Final = re.compile(r"\b(?:KAFKA|SCHEMA_REGISTRY|HAKUNA|HAKO|PROCESSOR)_[A-Z_]+")


def usable(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> tuple[Settings, list[Finding]]:
    """The settings without those that are wrong, and what is wrong with those."""
    left = dict(environment)
    complaints: list[str] = []
    while (fresh := _complaints(left, None)) and not set(fresh) <= set(complaints):
        complaints += [one for one in fresh if one not in complaints]
        _leave_out(left, fresh)
    settings = load(left)
    # What a role needs and has not is asked last: which roles are configured shows in what is left.
    given = _complaints(left, settings.configured_roles() if roles is None else roles)
    complaints += [one for one in given if not _is_left_out(one, complaints)]
    if complaints:
        return settings, [_finding(complaint) for complaint in complaints]
    return settings, [sound(Area.SETTINGS, "environment", "every setting is known, and they go together")]


def _leave_out(environment: dict[str, str], complaints: list[str]) -> None:
    """What is complained of; where that is a default, what it does not go together with."""
    for complaint in complaints:
        head, _, text = complaint.partition(":")
        names = [name for name in head.split(", ") if name in environment]
        for name in names or _NAMES.findall(text):
            environment.pop(name, None)


def _is_left_out(complaint: str, before: list[str]) -> bool:
    """Whether a setting is missing only because it was wrong."""
    heads = {name for other in before for name in other.partition(":")[0].split(", ")}
    return bool(heads & set(complaint.partition(":")[0].split(", ")))


def _complaints(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> list[str]:
    try:
        load(environment, roles, refused)
    except Unusable as unusable:
        return list(unusable.problems)
    return []


def _finding(complaint: str) -> Finding:
    name, _, text = complaint.partition(": ")
    what, remedy = split(text)
    return problem(Area.SETTINGS, name, what, remedy)
