"""The state directory: whether it can be written, and has room. Leaves nothing behind.

A worker makes the directory if it has to. `check` does not: it tries the nearest one above that is there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from processor.config import Settings
from processor.preflight.findings import Area, Finding, problem, sound

ROOM_BYTES_MIN: Final = 256 * 1024 * 1024
"""What a worker needs before it has restored anything: RocksDB's logs and write buffers of some dozen partitions."""


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
        return [
            problem(
                Area.STATE, subject, room, f"free {ROOM_BYTES_MIN / 2**20:.0f} MiB and more, or mount a larger volume"
            )
        ]
    made = "" if place == root else f"; it is made in {place} at the start"
    return [sound(Area.STATE, subject, f"writable, {free / 2**30:.1f} GiB free{made}")]
