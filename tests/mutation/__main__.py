"""`python -m tests.mutation [NAME…]`: mutmut on one module after another, in a copy, at low priority."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import click

from tests.support.children import REPOSITORY, ChildProcess, own_directory


class Target(NamedTuple):
    """A module, and the tests that speak of it alone: seconds each, for they run once a mutant."""

    module: str
    tests: tuple[str, ...]


_RULES: Final = tuple(
    f"tests/unit/transform/{name}.py"
    for name in ("test_rules", "test_reference_examples", "test_rules_properties", "test_rules_interleavings")
)
TARGETS: Final = {
    "avro_plan": Target(
        "processor/edges/avro_plan.py", ("tests/unit/edges/test_avro_plan.py", "tests/unit/edges/test_avro_reader.py")
    ),
    "avro_reader": Target(
        "processor/edges/avro_reader.py", ("tests/unit/edges/test_avro_reader.py", "tests/unit/edges/test_avro.py")
    ),
    "lanes": Target("processor/send/event_loop/lanes.py", ("tests/unit/send/event_loop/test_lanes.py",)),
    "limit": Target("processor/send/event_loop/limit.py", ("tests/unit/send/event_loop/test_limit.py",)),
    "merge": Target("processor/sources/merge.py", ("tests/unit/sources/test_merge.py",)),
    "offsets": Target("processor/send/kafka_thread/offsets.py", ("tests/unit/send/kafka_thread/test_offsets.py",)),
    "pace": Target(
        "processor/send/event_loop/pace.py",
        ("tests/unit/send/event_loop/test_pace.py", "tests/unit/send/event_loop/test_replay_share.py"),
    ),
    "placements": Target("processor/sources/placements.py", ("tests/unit/sources/test_placements.py",)),
    "rules": Target("processor/transform/rules.py", _RULES),
    "units": Target("processor/transform/units.py", ("tests/unit/transform/test_units.py", *_RULES)),
    "verdicts": Target("processor/api/verdicts.py", ("tests/unit/api",)),
}
_COPIED: Final = ("processor", "tests", "schemas", "deploy", "README.md", "pyproject.toml", "Makefile")
_MUTMUT: Final = (sys.executable, "-m", "mutmut")


def settings(target: Target) -> str:
    """mutmut's `setup.cfg`."""
    lines = ["[mutmut]", "source_paths=processor", f"only_mutate={target.module}"]
    lines += ["pytest_add_cli_args_test_selection=", *(f"    {test}" for test in target.tests)]
    lines += ["pytest_add_cli_args=", "    -p", "    tests.mutation.quick"]
    lines += ["timeout_multiplier=3", "timeout_constant=10"]  # not 15: a loop without end is one after some seconds too
    lines += ["also_copy=", *(f"    {name}" for name in _COPIED if name != "processor")]
    return "\n".join(lines) + "\n"


def outcomes(told: str) -> dict[str, str]:
    """By mutant how it ended, from what `mutmut results --all true` says."""
    pairs = (line.strip().partition(": ") for line in told.splitlines() if "__mutmut_" in line)
    return {name: outcome for name, _, outcome in pairs}


def score(counts: Counter[str]) -> str:
    """Killed of those that were tried; a mutant that never ends is seen as well."""
    killed = counts["killed"] + counts["timeout"]
    tried = counts.total() - counts["not checked"] - counts["skipped"]
    return f"{killed} of {tried} killed, {killed / max(tried, 1):.0%}; {dict(counts)}"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--minutes", type=float, default=30.0, show_default=True, help="The most for one module.")
@click.option("--only", multiple=True, help="Try only mutants of such names, as '*_fits__mutmut_*'; may be repeated.")
def main(names: tuple[str, ...], minutes: float, only: tuple[str, ...]) -> None:
    """Mutate modules, one after the other; print the score of each and its survivors."""
    unknown = set(names) - TARGETS.keys()
    if unknown:
        raise click.UsageError(f"no such names: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    for name in names or TARGETS:
        with own_directory("mutation") as directory:
            for one in _COPIED:
                source = REPOSITORY / one
                (shutil.copytree if source.is_dir() else shutil.copy)(source, directory / one)
            (directory / "setup.cfg").write_text(settings(TARGETS[name]))
            _run(directory, "run", "--max-children", "1", *only, seconds=minutes * 60)
            found = outcomes(_run(directory, "results", "--all", "true", seconds=60.0))
            click.echo(f"{name}: {score(Counter(found.values()))}")
            for mutant, outcome in found.items():
                if outcome not in ("killed", "timeout", "not checked"):
                    changed = _run(directory, "show", mutant, seconds=60.0).splitlines()
                    lines = [line for line in changed if line[:1] in "+-" and line[:3] not in ("+++", "---")]
                    click.echo("\n".join([f"  {mutant}: {outcome}", *(f"    {line}" for line in lines)]))


def _run(directory: Path, *arguments: str, seconds: float) -> str:
    """What it says; whatever it has not come to after so long is left out."""
    log = directory / f"{arguments[0]}.log"
    log.unlink(missing_ok=True)
    child = ChildProcess(["nice", "-n", "15", *_MUTMUT, *arguments], log=log, cwd=directory)
    try:
        child.wait(seconds)
    except TimeoutError:
        child.kill()
    return log.read_text(errors="replace")


if __name__ == "__main__":
    main()
