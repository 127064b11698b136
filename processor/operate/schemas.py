"""What `schemas register` will do with a subject, and how the registered versions are read, field by field. Pure.

The registry decides, but says little of its reasons. So compatibility is judged here first, in the directions that the
subject's level asks for, as strictly as a registry does (`Plan.strict_refusal`):

    BACKWARD   our schema reads what was written with the latest version
    FORWARD    the latest version's schema reads what is written with ours
    FULL       both             …_TRANSITIVE   of all versions, not only of the latest           NONE   nothing

A worker reads with the schemas in `schemas/`, and reads more than a registry allows. So a latest version that it cannot
read is refused at every level.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from processor.edges.avro_plan import judged
from processor.edges.avro_steps import What
from processor.edges.registry import Version


class SchemaAction(StrEnum):
    """What is done about a subject."""

    REGISTER = "register"
    LEAVE = "leave"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class FieldRead:
    """How one field of a version is read; `field` is its path, empty for the whole record."""

    field: str
    what: What
    why: str


@dataclass(frozen=True, slots=True)
class VersionRead:
    """How records of one version are read."""

    version: int
    readable: bool
    fields: tuple[FieldRead, ...]


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One subject's part of a plan."""

    subject: str
    action: SchemaAction
    why: str
    versions: tuple[VersionRead, ...]


def schema_step(subject: str, ours: str, there: Sequence[Version], level: str) -> SchemaStep:
    """Returns the step for one subject. `there` are all of its versions in their order."""
    action, why = _step(ours, there, level)
    return SchemaStep(subject, action, why, tuple(_read(ours, version) for version in there))


def _step(ours: str, there: Sequence[Version], level: str) -> tuple[SchemaAction, str]:
    if not there:
        return SchemaAction.REGISTER, "nothing is registered there yet"
    latest = there[-1]
    why = judged(ours, latest.schema, latest.references).refusal
    if why is not None:
        return SchemaAction.REFUSE, f"our schema cannot read records of version {latest.number}: {why}"
    if _same(ours, latest.schema):
        return SchemaAction.LEAVE, f"version {latest.number} is the same"
    for version in there if level.endswith("_TRANSITIVE") else there[-1:]:
        if level.startswith(("BACKWARD", "FULL")):
            why = judged(ours, version.schema, version.references).strict_refusal
            if why is not None:
                which = f"our schema cannot read all records of version {version.number}"
                return SchemaAction.REFUSE, f"{level}: {which}: {why}"
        if level.startswith(("FORWARD", "FULL")):
            why = judged(version.schema, ours, ours=version.references).strict_refusal
            if why is not None:
                which = f"version {version.number} cannot read all records of our schema"
                return SchemaAction.REFUSE, f"{level}: {which}: {why}"
    return SchemaAction.REGISTER, f"differs from version {latest.number}, and goes together with it ({level})"


def _read(ours: str, version: Version) -> VersionRead:
    plan = judged(ours, version.schema, version.references)
    fields = tuple(FieldRead(finding.path, finding.what, finding.why) for finding in plan.findings)
    return VersionRead(version.number, plan.refusal is None, fields)


def _same(ours: str, theirs: str) -> bool:
    try:
        parsed: bool = json.loads(ours) == json.loads(theirs)
    except ValueError:
        return False
    return parsed
