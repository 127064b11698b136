"""The documents say what the code says: settings, metrics, files, functions, tours and the tests of each guarantee."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

import processor
from processor.config import declarations
from processor.edges import metrics

ROOT = Path(processor.__file__).parents[1]
DOCUMENTS = (
    "README.md",
    "processor/README.md",
    "schemas/README.md",
    "tests/README.md",
    "deploy/README.md",
    "deploy/RUNBOOK.md",
    "deploy/SETTINGS.md",
    "deploy/METRICS.md",
    "deploy/SIZING.md",
    "deploy/THREATS.md",
)
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS}
INSIDE = TEXTS["processor/README.md"]
SETTINGS = TEXTS["deploy/SETTINGS.md"]


@pytest.mark.parametrize("declared", declarations(), ids=lambda declared: declared.name)
def test_each_setting_stands_in_the_table_with_its_default_and_meaning(declared: object) -> None:
    name, default, unit, meaning = (getattr(declared, field) for field in ("name", "default", "unit", "meaning"))
    shown = f"`{default}`" if default else ""
    assert f"| `{name}` | {shown} | {unit.replace('|', 'or')} | {meaning} |" in SETTINGS.splitlines()


def test_the_settings_table_names_nothing_else() -> None:
    listed = re.findall(r"^\| `((?:KAFKA|SCHEMA|HAKUNA|HAKO|PROCESSOR)_[A-Z_]+)` \|", SETTINGS, re.MULTILINE)
    assert set(listed) - {"KAFKA_A_B"} == {declared.name for declared in declarations()}


def declared_metrics() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            found[name] = tuple(metric._labelnames)
    return found


@pytest.mark.parametrize(("name", "labels"), declared_metrics().items(), ids=lambda value: str(value))
def test_each_metric_stands_in_the_table_with_its_labels(name: str, labels: tuple[str, ...]) -> None:
    assert any(
        line.startswith(f"| `{name}` | {', '.join(labels)} | ") for line in TEXTS["deploy/METRICS.md"].splitlines()
    )


def test_every_file_that_is_named_is_there() -> None:
    named = {
        path
        for text in TEXTS.values()
        for path in re.findall(r"`((?:processor|tests|schemas|deploy)/[\w/.-]*[/.][\w.-]*)`", text)
    }
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_test_that_is_named_is_there() -> None:
    named = [pair for text in TEXTS.values() for pair in re.findall(r"`(tests/[\w/.-]+\.py)::(\w+)`", text)]
    assert named
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_every_function_of_the_journey_is_there() -> None:
    """`path`, `Class.method` or `function` stand side by side in the journey's table."""
    pairs = re.findall(r"`(processor/[\w/]+\.py)`, `([\w.]+)`", INSIDE)
    assert len(pairs) > 8
    for path, symbol in pairs:
        text = (ROOT / path).read_text(encoding="utf-8")
        *owner, name = symbol.split(".")
        assert re.search(rf"def {name}\b", text), f"{path}: {symbol}"
        assert not owner or f"class {owner[0]}" in text, f"{path}: {symbol}"


@pytest.mark.parametrize(
    "tour", sorted((ROOT / "processor").rglob("__init__.py")), ids=lambda tour: str(tour.parent.name)
)
def test_each_package_names_each_of_its_modules(tour: Path) -> None:
    told = ast.get_docstring(ast.parse(tour.read_text(encoding="utf-8"))) or ""
    modules = {path.name for path in tour.parent.glob("*.py") if path != tour}
    packages = {f"{path.parent.name}/" for path in tour.parent.glob("*/__init__.py")}
    assert not {name for name in modules | packages if name not in told}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_between_the_documents_leads_somewhere(name: str) -> None:
    for page in re.findall(r"\]\((?!https?:)([\w./-]+)(?:#[^)]*)?\)", TEXTS[name]):
        assert ((ROOT / name).parent / page).exists(), page
