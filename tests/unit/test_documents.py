"""The README's tables say what the code says: settings, metrics, files, functions and the tests of each guarantee."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram

import processor
from processor.config import declarations
from processor.edges import metrics

ROOT = Path(processor.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = README.splitlines()


@pytest.mark.parametrize("declared", declarations(), ids=lambda declared: declared.name)
def test_each_setting_stands_in_the_table_with_its_default_and_meaning(declared: object) -> None:
    name, default, unit, meaning = (getattr(declared, field) for field in ("name", "default", "unit", "meaning"))
    shown = f"`{default}`" if default else ""
    assert f"| `{name}` | {shown} | {unit.replace('|', 'or')} | {meaning} |" in LINES


def test_the_settings_table_names_nothing_else() -> None:
    listed = re.findall(r"^\| `((?:KAFKA|SCHEMA|HAKUNA|HAKO|PROCESSOR)_[A-Z_]+)` \|", README, re.MULTILINE)
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
    assert any(line.startswith(f"| `{name}` | {', '.join(labels)} | ") for line in LINES)


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`((?:processor|tests|schemas|deploy)/[\w/.-]*)", README))
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_test_that_is_named_is_there() -> None:
    for path, name in re.findall(r"`(tests/[\w/.-]+\.py)::(\w+)`", README):
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


def test_every_function_of_the_journey_is_there() -> None:
    """`path`, `Class.method` or `function` stand side by side in the journey's table."""
    pairs = re.findall(r"`(processor/[\w/]+\.py)`, `([\w.]+)`", README)
    assert len(pairs) > 8
    for path, symbol in pairs:
        text = (ROOT / path).read_text(encoding="utf-8")
        *owner, name = symbol.split(".")
        assert re.search(rf"def {name}\b", text), f"{path}: {symbol}"
        assert not owner or f"class {owner[0]}" in text, f"{path}: {symbol}"
