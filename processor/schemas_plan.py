"""What `schemas register` will do with a subject, and whether it may, as a planner says it. Pure.

The registry has the last word, but says little of why; so compatibility is judged here first, by Avro's own rules
(`edges/avro_compat.py` names the field), in the directions that the subject's level asks for:

    BACKWARD   our schema reads what was written with the latest version
    FORWARD    the latest version's schema reads what is written with ours
    FULL       both             …_TRANSITIVE   of all versions, not the latest alone             NONE   nothing

A worker reads with the schemas in `schemas/` whatever is registered; so a latest version that these cannot read is
refused at every level.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

Unreadable = Callable[[str, str], str | None]
"""Why records of the second schema cannot be read with the first, the field named; None where they can."""


class SchemaAction(StrEnum):
    """What is done about a subject."""

    REGISTER = "register"
    LEAVE = "leave"
    REFUSE = "refuse"


class Registered(NamedTuple):
    """A version that is there."""

    number: int
    schema: str


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One subject's part of a plan."""

    subject: str
    action: SchemaAction
    why: str


def schema_step(subject: str, ours: str, there: Sequence[Registered], level: str, unreadable: Unreadable) -> SchemaStep:
    """`there` are a subject's versions in their order, all of them or the latest alone, as `level` asks."""
    if not there:
        return SchemaStep(subject, SchemaAction.REGISTER, "nothing is registered there yet")
    latest = there[-1]
    why = unreadable(ours, latest.schema)
    if why is not None:
        return SchemaStep(
            subject, SchemaAction.REFUSE, f"our schema cannot read records of version {latest.number}: {why}"
        )
    if _same(ours, latest.schema):
        return SchemaStep(subject, SchemaAction.LEAVE, f"version {latest.number} is the same")
    judged = there if level.endswith("_TRANSITIVE") else there[-1:]
    for version in judged:
        if level.startswith(("BACKWARD", "FULL")) and (why := unreadable(ours, version.schema)) is not None:
            return SchemaStep(
                subject,
                SchemaAction.REFUSE,
                f"{level}: our schema cannot read records of version {version.number}: {why}",
            )
        if level.startswith(("FORWARD", "FULL")) and (why := unreadable(version.schema, ours)) is not None:
            return SchemaStep(
                subject,
                SchemaAction.REFUSE,
                f"{level}: version {version.number} cannot read records of our schema: {why}",
            )
    return SchemaStep(
        subject, SchemaAction.REGISTER, f"differs from version {latest.number}, and goes together with it ({level})"
    )


def _same(ours: str, theirs: str) -> bool:
    try:
        parsed: bool = json.loads(ours) == json.loads(theirs)
    except ValueError:
        return False
    return parsed
