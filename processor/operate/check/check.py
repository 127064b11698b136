"""Everything that `check` looks at, side by side, because each part waits for answers of its own.

settings ──► those that can be used ─┬─► cluster   ┐
                                     ├─► schemas   ├─► findings, in the order of the areas
                                     ├─► disk      │
                                     └─► APIs      ┘

A worker needs all settings. `check` goes on with those that are right, so that a misspelt name does not hide a missing
topic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from processor.config import Role, Settings, Traces, load
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.kafka.properties import refused
from processor.edges.traces import traces_problem
from processor.errors import Problem, Unusable
from processor.operate.check.api import check_hako, check_hakuna
from processor.operate.check.cluster import CLIENT_ID, check_cluster
from processor.operate.check.findings import Area, Finding, Heard, found_of, problems, sound
from processor.operate.check.places import check_disk, check_schemas

_RANK: Final = {area: number for number, area in enumerate(Area)}


def check(
    environment: Mapping[str, str],
    roles: tuple[Role, ...] | None,
    *,
    try_key: bool | None,
    unread: Sequence[Problem] = (),
) -> list[Finding]:
    """Returns every finding once. `roles` None: those that are configured; `try_key` None: only without a quota.
    `unread` is what could not be read of the settings."""
    settings, found = usable(environment, roles)
    if unread:  # it may hold a quota
        found = [found_of(Area.SETTINGS, one) for one in unread] + problems(found)
        try_key = bool(try_key)
    if settings.traces is Traces.OTLP and (wrong := traces_problem()) is not None:
        found.append(found_of(Area.SETTINGS, wrong))
    chosen = settings.configured_roles() if roles is None else roles
    tasks: list[Callable[[], list[Finding]]] = [partial(_cluster, settings, chosen), partial(check_disk, settings)]
    if {Role.TRANSFORM, Role.REKEY, Role.HAKO} & set(chosen) and settings.registry_url:
        tasks.append(partial(check_schemas, settings, chosen))
    if Role.SEND in chosen:
        tasks.append(partial(check_hakuna, settings, try_key=try_key))
    if Role.HAKO in chosen:
        tasks.append(partial(check_hako, settings, try_key=try_key))
    with ThreadPoolExecutor(len(tasks)) as pool:
        for part in pool.map(lambda task: task(), tasks):
            found += part
    return sorted(dict.fromkeys(found), key=lambda one: _RANK[one.area])


def _cluster(settings: Settings, roles: tuple[Role, ...]) -> list[Finding]:
    """Returns nothing if the settings have the problem already."""
    if not settings.bootstrap_servers:
        return []
    heard = Heard()
    try:
        client = KafkaAdmin(settings.librdkafka, client_id=CLIENT_ID, log=heard)
    except Unusable:
        return []
    return check_cluster(settings, client, heard, roles)


def usable(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> tuple[Settings, list[Finding]]:
    """Returns the settings without those that are wrong, and what is wrong with those."""
    left = dict(environment)
    wrong: list[Problem] = []
    while (fresh := _problems(left, None)) and not set(fresh) <= set(wrong):
        wrong += [one for one in fresh if one not in wrong]
        for one in fresh:
            # A wrong setting is left out; if it is a default, the settings that it does not go together with.
            for name in [name for name in _settings(one) if name in left] or one.settings:
                left.pop(name, None)
    settings = load(left)
    # The needs of the roles come last: what is left shows which roles are configured. A setting that is missing only
    # because it was wrong is no second problem.
    given = _problems(left, settings.configured_roles() if roles is None else roles)
    names = {name for one in wrong for name in _settings(one)}
    wrong += [one for one in given if not names & set(_settings(one))]
    if wrong:
        return settings, [found_of(Area.SETTINGS, one) for one in wrong]
    return settings, [sound(Area.SETTINGS, "environment", "every setting is known, and they go together")]


def _settings(one: Problem) -> list[str]:
    return one.subject.split(", ")


def _problems(environment: Mapping[str, str], roles: tuple[Role, ...] | None) -> Sequence[Problem]:
    try:
        load(environment, roles, refused)
    except Unusable as unusable:
        return unusable.named
    return []
