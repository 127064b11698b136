"""The programs that judge what stands in deploy/: found, or the reason why a test cannot run here."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.children import REPOSITORY, Unavailable

DEPLOY = REPOSITORY / "deploy"
SECONDS_MAX = 60.0
"""A tool that hangs fails its test, not the run."""


def tool(name: str, remedy: str) -> str:
    """The path of a program: of this environment (PyPI brings some), else of the machine. Skips the test without it,
    or fails it in CI."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name}: {remedy}")
    return found


def run(
    command: Sequence[str], *, cwd: Path = DEPLOY, text: str | None = None, timeout_s: float = SECONDS_MAX
) -> subprocess.CompletedProcess[str]:
    """What the command says; whether it failed is the caller's to judge."""
    return subprocess.run(command, cwd=cwd, input=text, capture_output=True, text=True, check=False, timeout=timeout_s)
