"""The settings: every problem, and as many of the settings as can be used in spite of the problems.

A worker needs all of them; `check` goes on with what is left, so that a misspelt name does not hide a missing topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from processor.config import Role, Settings, load
from processor.edges.kafka.properties import refused
from processor.errors import Problem, Unusable
from processor.operate.check.findings import Area, Finding, found_of, sound


def usable(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> tuple[Settings, list[Finding]]:
    """The settings without those that are wrong, and what is wrong with those."""
    left = dict(environment)
    wrong: list[Problem] = []
    while (fresh := _problems(left, None)) and not set(fresh) <= set(wrong):
        wrong += [one for one in fresh if one not in wrong]
        _leave_out(left, fresh)
    settings = load(left)
    # What a role needs and has not is asked last: which roles are configured shows in what is left. A setting that is
    # missing only because it was wrong is no second problem.
    given = _problems(left, settings.configured_roles() if roles is None else roles)
    names = {name for one in wrong for name in _settings(one)}
    wrong += [one for one in given if not names & set(_settings(one))]
    if wrong:
        return settings, [found_of(Area.SETTINGS, one) for one in wrong]
    return settings, [sound(Area.SETTINGS, "environment", "every setting is known, and they go together")]


def _settings(one: Problem) -> list[str]:
    return one.subject.split(", ")


def _leave_out(environment: dict[str, str], wrong: Sequence[Problem]) -> None:
    """Takes out what is wrong; if that is a default, what it does not go together with."""
    for one in wrong:
        names = [name for name in _settings(one) if name in environment]
        for name in names or one.settings:
            environment.pop(name, None)


def _problems(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> Sequence[Problem]:
    try:
        load(environment, roles, refused)
    except Unusable as unusable:
        return unusable.named
    return []
