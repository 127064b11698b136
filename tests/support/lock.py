"""Whether the lock files still belong to pyproject.toml: `python -m tests.support.lock stamp|check`.

Each lock begins with a digest of what it was resolved from. Resolving again would need the network and
would fail on the day somebody publishes a release; comparing the digest needs neither, and catches what
goes wrong in practice: a dependency that was changed without `make lock`.
"""

import hashlib
import json
import sys
import tomllib

from tests.support.children import REPOSITORY

LOCKS = tuple(REPOSITORY / ".lock" / name for name in ("runtime.txt", "otel.txt", "dev.txt", "uv.txt"))
MARK = "# resolved from pyproject.toml with dependencies sha256:"


def expected_mark() -> str:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project = pyproject["project"]
    inputs = [
        project["requires-python"],
        sorted(project["dependencies"]),
        {extra: sorted(names) for extra, names in sorted(project["optional-dependencies"].items())},
        {group: sorted(names) for group, names in sorted(pyproject["dependency-groups"].items())},
    ]
    return MARK + hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def stamp() -> None:
    """Write the mark at the top of each lock, in place of an older one."""
    for lock in LOCKS:
        lines = [line for line in lock.read_text().splitlines() if not line.startswith(MARK)]
        lock.write_text("\n".join([expected_mark(), *lines]) + "\n")


def stale() -> list[str]:
    """The locks that were made from other dependencies."""
    return [lock.name for lock in LOCKS if not lock.is_file() or lock.read_text().split("\n")[0] != expected_mark()]


def main(command: str) -> int:
    if command == "stamp":
        stamp()
        return 0
    if found := stale():
        sys.stderr.write(f"Stale: .lock/{', .lock/'.join(found)}. Run: make lock\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
