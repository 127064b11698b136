"""Reads the settings from the environment and checks how they go together.

`load` returns a frozen `Settings`, or raises `Unusable` with every problem at once: a deployment that learns of one
mistake at each restart takes an evening. An unknown name is a problem that names the nearest known one, because a
misspelt setting that is ignored in silence is found at night.

Not chosen: pydantic-settings (it cannot refuse unknown environment variables, and costs 0.2 s of every start).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from processor.config.parsers import QUOTA
from processor.config.settings import KAFKA_OWNED, Role, Settings, declarations
from processor.errors import Problem, Unusable

PREFIXES: Final = ("KAFKA_", "SCHEMA_REGISTRY_", "HAKUNA_", "HAKO_", "PROCESSOR_")


def load(
    environment: Mapping[str, str],
    roles: tuple[Role, ...] | None = None,
    refused: Callable[[Mapping[str, str]], list[Problem]] = lambda _kafka: [],
) -> Settings:
    """Reads settings. `roles` are the roles to run (None: no role, check the syntax only); `refused` returns the Kafka
    settings that librdkafka refuses.

    Raises `Unusable` with every problem at once. An empty value counts as not set, as in most orchestrators.
    """
    given = {name: value for name, value in environment.items() if name.startswith(PREFIXES) and value != ""}
    problems = _service_links(given)
    values: dict[str, Any] = {}
    for declared in declarations():
        text = given.pop(declared.name, declared.default)
        if not text:
            values[declared.field] = None if declared.kind is QUOTA else ""
            continue
        try:
            values[declared.field] = declared.kind.parse(text)
        except ValueError as wrong:
            shown = "the value given" if declared.secret or "@" in text else repr(text)
            problems.append(Problem(declared.name, f"{shown} is not {wrong}"))
            values[declared.field] = None
    values["kafka"] = _librdkafka(given, problems)
    problems.extend(refused(values["kafka"]))
    values["proxies"] = _proxies(environment)
    problems.extend(_unknown(name) for name in sorted(given))
    problems.extend(_nearly_ours(environment))
    settings = Settings(**values)
    problems.extend(_relations(settings, roles, {problem.subject for problem in problems}))
    if problems:
        raise Unusable(problems)
    return settings


def _librdkafka(given: dict[str, str], problems: list[Problem]) -> dict[str, str]:
    """Takes what is left of `KAFKA_*` as librdkafka settings."""
    passed: dict[str, str] = {}
    for name in [name for name in given if name.startswith("KAFKA_")]:
        value = given.pop(name)
        key = name.removeprefix("KAFKA_").lower().replace("_", ".")
        if key in KAFKA_OWNED:
            problems.append(
                Problem(name, f"{key} belongs to the processor, since a guarantee rests on it", "leave it out")
            )
        else:
            passed[key] = value
    return passed


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Names in lower case win, as curl and Python have it. Which of them is used depends on the URL."""
    named = {kind: (f"{kind}_proxy", f"{kind.upper()}_PROXY") for kind in ("https", "http", "all", "no")}
    found = {kind: environment.get(lower) or environment.get(upper) or "" for kind, (lower, upper) in named.items()}
    return {kind: value for kind, value in found.items() if value}


def _unknown(name: str) -> Problem:
    """People take one prefix for another, and the whole of two names is alike by their prefix alone."""
    prefix, tail = _parted(name)

    def likeness(known: str) -> float:
        its_prefix, its_tail = _parted(known)
        return difflib.SequenceMatcher(None, tail, its_tail).ratio() + _SAME_PREFIX * (prefix == its_prefix)

    nearest, *others = sorted((one.name for one in declarations()), key=likeness, reverse=True)
    alike = [other for other in others if _parted(other)[1] == _parted(nearest)[1] == tail]
    return Problem(
        name, "no such setting", f"the nearest is {nearest}" + (f" (or {', '.join(alike)})" if alike else "")
    )


def _nearly_ours(environment: Mapping[str, str]) -> Iterator[Problem]:
    """Names that were meant for ours and begin otherwise: in lower case, with hyphens, or with a slip in the prefix."""
    ours = [(one.name, *_parted(one.name)) for one in declarations()]
    for name in sorted(environment):
        if name.startswith(PREFIXES) or environment[name] == "":
            continue
        spelt = name.upper().replace("-", "_").replace(".", "_")
        if spelt.startswith(PREFIXES):
            yield Problem(name, "no such setting", f"settings are in upper case with underscores, such as {spelt}")
            continue
        alike = {
            known: difflib.SequenceMatcher(None, name.removesuffix(tail), prefix).ratio()
            for known, prefix, tail in ours
            # One that holds a name of ours whole is somebody's own, such as MY_HAKUNA_API_KEY.
            if name.endswith(tail) and known not in name
        }
        nearest = max(alike, key=alike.__getitem__, default="")
        if nearest and alike[nearest] > _SLIP:
            yield Problem(name, "no such setting", f"the nearest is {nearest}")


_SAME_PREFIX: Final = 0.2
_SLIP: Final = 0.8
"""How alike two prefixes are of which one has a letter too many, too few, or two that changed places."""


def _parted(name: str) -> tuple[str, str]:
    prefix = next(one for one in PREFIXES if name.startswith(one))
    return prefix, name.removeprefix(prefix)


_LINK: Final = re.compile(
    r"(?P<service>\w+?)_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(?P<port>_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z"
)
_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://")


def _service_links(given: dict[str, str]) -> list[Problem]:
    """Takes away what Kubernetes sets in every pod for a Service whose name begins as our settings do."""
    links: dict[str, list[str]] = {}
    for name, value in given.items():
        link = _LINK.match(name)
        if link is not None and ("_SERVICE_" in name or link["port"] or _ADDRESS.match(value)):
            links.setdefault(link["service"].lower().replace("_", "-"), []).append(name)
    for names in links.values():
        for name in names:
            del given[name]
    return [
        Problem(
            ", ".join(sorted(names)),
            f"Kubernetes sets {'these' if len(names) > 1 else 'this'} for the Service named {service}, and nobody "
            "meant a setting",
            "set enableServiceLinks: false in the pod's spec",
        )
        for service, names in sorted(links.items())
    ]


def _relations(settings: Settings, roles: tuple[Role, ...] | None, broken: set[str]) -> list[Problem]:
    """Returns the settings that conflict. `broken` names settings that have a problem already and are left out."""
    found = [
        Problem(name, f"set either {name} or {name}_FILE, not both")
        for name, value, file in (
            ("HAKUNA_API_KEY", settings.hakuna_key_value, settings.hakuna_key_file),
            ("HAKO_API_KEY", settings.hako_key_value, settings.hako_key_file),
        )
        if value and file
    ]
    retention = "PROCESSOR_ORDER_RETENTION"
    if not broken & {retention, "PROCESSOR_PARK_FOR"} and settings.park_for_s >= settings.order_retention_s:
        what = f"must be shorter than {retention}, or an order would be forgotten while events wait for it"
        found.append(Problem("PROCESSOR_PARK_FOR", what, settings=(retention,)))
    if roles is not None:
        found += _lacking(settings, roles)
    return [problem for problem in found if problem.subject not in broken]


def _lacking(settings: Settings, roles: tuple[Role, ...]) -> Iterator[Problem]:
    """Returns the settings that these roles need and that are missing."""
    if not settings.bootstrap_servers:
        yield Problem("KAFKA_BOOTSTRAP_SERVERS", "not set", "such as kafka-1:9092,kafka-2:9092")
    if not roles:
        which = "SCHEMA_REGISTRY_URL, HAKUNA_API_KEY, HAKO_API_KEY"
        yield Problem(which, "none is set, so no role is configured")
    readers = [role for role in (Role.TRANSFORM, Role.REKEY, Role.HAKO) if role in roles]
    if readers and not settings.registry_url:
        yield Problem("SCHEMA_REGISTRY_URL", "not set", f"{readers[0]} needs the writers' schemas")
    if Role.REKEY in roles and not settings.rekey:
        remedy = "set it to on for both, or leave rekey out"
        yield Problem("PROCESSOR_REKEY", "off, so transform would not read what rekey writes", remedy)
    for role, key, name in (
        (Role.SEND, settings.hakuna_key, "HAKUNA_API_KEY"),
        (Role.HAKO, settings.hako_key, "HAKO_API_KEY"),
    ):
        if role in roles and key is None:
            yield Problem(name, "not set", f"{role} needs it, or {name}_FILE with the path of a file that holds it")
    if Role.HAKO in roles and settings.hako_quota is None:
        yield Problem("HAKO_QUOTA", "a quota such as 120/60s is needed: Hako allows no more")
