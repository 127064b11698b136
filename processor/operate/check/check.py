"""All that `check` looks at, side by side, since each has its own to wait for.

settings ──► what is usable of them ─┬─► cluster   ┐
                                     ├─► schemas   ├─► findings, in the areas' order
                                     ├─► disk      │
                                     └─► apis      ┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from processor.config import Role, Settings, Traces
from processor.edges.kafka.admin import KafkaAdmin
from processor.edges.traces import traces_problem
from processor.errors import Problem, Unusable
from processor.operate.check.api import check_hako, check_hakuna
from processor.operate.check.cluster import check_cluster
from processor.operate.check.findings import Area, Finding, Heard, found_of, problems
from processor.operate.check.options import usable
from processor.operate.check.places import check_disk, check_schemas

_RANK: Final = {area: number for number, area in enumerate(Area)}


def check(
    environment: Mapping[str, str],
    roles: tuple[Role, ...] | None,
    *,
    try_key: bool | None,
    unread: Sequence[Problem] = (),
) -> list[Finding]:
    """Everything found, the same thing once. `roles` None: those that are configured; `try_key` None: where no quota
    is set. `unread` is what could not be read of the settings."""
    settings, found = usable(environment, roles)
    if unread:  # a quota may be among it
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
    if not settings.bootstrap_servers:
        return []  # complained of with the settings
    heard = Heard()
    try:
        client = KafkaAdmin(settings.librdkafka, client_id="hakuna-processor-check", log=heard)
    except Unusable:
        return []  # complained of with the settings
    return check_cluster(settings, settings.librdkafka, client, heard, roles)
