"""The state directory, and the registry.

The directory must be writable and have room. A worker makes it if it is missing; `check` leaves nothing behind, and
tries the nearest directory above that exists. The schemas in the registry must be readable: the same question as at a
worker's start.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from processor.config import Role, Settings
from processor.edges.avro import reader_schema
from processor.edges.avro_plan import judged
from processor.edges.avro_steps import What
from processor.edges.registry import Registry
from processor.errors import RegistryOutage
from processor.letters.letter import shortened
from processor.operate.check.findings import Area, Finding, note, problem, sound
from processor.topics import ORDER_TOPICS, STOCK_TOPICS

ROOM_BYTES_MIN: Final = 256 * 1024 * 1024
"""What a worker needs before a restore: RocksDB's logs and write buffers of some dozen partitions."""


def check_disk(settings: Settings) -> list[Finding]:
    root = Path(settings.state_dir)
    place = next((one for one in (root, *root.parents) if one.exists()), Path("/"))
    subject = f"PROCESSOR_STATE_DIR {root}"
    mount = "mount a volume there that this user may write to"
    if not place.is_dir():
        return [problem(Area.STATE, subject, f"{place} is no directory", mount)]
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".check-") as tried:
            tried.write(b"x")
            tried.flush()
        free = shutil.disk_usage(place).free
    except OSError as refused:
        return [problem(Area.STATE, subject, f"{place} cannot be written to: {refused.strerror}", mount)]
    if free < ROOM_BYTES_MIN:
        room = f"{free / 2**20:.0f} MiB are free"
        remedy = f"free {ROOM_BYTES_MIN / 2**20:.0f} MiB and more, or mount a larger volume"
        return [problem(Area.STATE, subject, room, remedy)]
    made = "" if place == root else f"; it is made in {place} at the start"
    return [sound(Area.STATE, subject, f"writable, {free / 2**30:.1f} GiB free{made}")]


_SOURCES: Final = {Role.TRANSFORM: ORDER_TOPICS, Role.REKEY: ORDER_TOPICS, Role.HAKO: STOCK_TOPICS}
"""The topics of each role that are written with a schema."""


def check_schemas(settings: Settings, roles: Sequence[Role]) -> list[Finding]:
    """Checks the schemas of the sources of these roles."""
    registry = Registry.at(settings)
    try:
        registry.subjects()
        found = [sound(Area.REGISTRY, settings.registry_url, "answers")]
        for topic in [topic for role in roles for topic in _SOURCES.get(role, ())]:
            found.append(_subject(registry, f"{settings.topic(topic)}-value", reader_schema(topic)))
    except RegistryOutage as outage:
        remedy = outage.remedy or "correct SCHEMA_REGISTRY_URL, or let this machine through to it"
        return [problem(Area.REGISTRY, settings.registry_url, outage.what, remedy)]
    return found


def _subject(registry: Registry, subject: str, ours: str) -> Finding:
    latest = registry.version(subject, "latest")
    if latest is None:
        what = "nothing is registered yet; producers do so, or `hakuna-processor schemas register`"
        return note(Area.REGISTRY, subject, what)
    plan = judged(ours, latest.schema, latest.references)
    why = plan.refusal
    if why is None:
        can = f"version {latest.number} can be read"
        partly = [str(finding) for finding in plan.findings if finding.what is What.PARTLY]
        if partly:
            return note(Area.REGISTRY, subject, shortened(f"{can}, but {'; '.join(partly)}"))
        return sound(Area.REGISTRY, subject, can)
    what = f"version {latest.number} cannot be read with this worker's schema: {why}"
    return problem(Area.REGISTRY, subject, what, "deploy a version of this worker that can, or take the schema back")
