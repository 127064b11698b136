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


def test_each_finding_has_its_line_in_the_index() -> None:
    index = (ROOT / "findings" / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([^`]+)` \|", index, re.MULTILINE)
    assert listed == sorted(path.name for path in (ROOT / "findings").glob("*.sh"))


def test_each_package_has_a_tour() -> None:
    """Without `__init__.py` a folder is a package all the same, and nobody misses the tour."""
    folders = {path.parent for path in (ROOT / "processor").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


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


DRAWN = re.compile(r"[─│┌┐└┘├┤┬┴┼▲▼►◄═║]")
GAP = re.compile(r"\S {2,}(?=\S)")


def pictures(text: str) -> list[list[str]]:
    """The drawings and tables of a docstring: indented paragraphs with arrows, or with columns in two lines or more."""
    paragraphs = [paragraph.splitlines() for paragraph in re.split(r"\n\s*\n", text)]
    indented = [lines for lines in paragraphs if len(lines) > 1 and all(line.startswith("  ") for line in lines)]
    return [
        lines
        for lines in indented
        if any(DRAWN.search(line) for line in lines) or sum(bool(GAP.search(line)) for line in lines) > 1
    ]


def wrapped(picture: list[str]) -> list[str]:
    """Lines that begin where the picture's lines begin and have neither a column nor a stroke: the rest of the line
    before. And, in a table, lines whose columns are nobody else's."""
    first = min(len(line) - len(line.lstrip()) for line in picture)
    table = not any(DRAWN.search(line) for line in picture)
    columns = [{gap.end() for gap in GAP.finditer(line)} for line in picture]
    found = []
    for number, line in enumerate(picture):
        begins = len(line) - len(line.lstrip()) == first
        others = set().union(*(columns[other] for other in range(len(picture)) if other != number))
        rest = begins and number > 0 and not columns[number] and not DRAWN.search(line)
        astray = table and sum(map(bool, columns)) > 3 and columns[number] and not columns[number] & others
        if rest or astray:
            found.append(line)
    return found


@pytest.mark.parametrize("package", ["processor", "tests"])
def test_no_line_of_a_picture_is_wrapped(package: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for picture in pictures(ast.get_docstring(node) or "")
        for line in wrapped(picture)
    ]
    assert not broken


def test_a_wrapped_line_is_found() -> None:
    (drawn,) = pictures("x\n\n    a ─► b ─► exit\n    78\n           └─ c")
    assert wrapped(drawn) == ["    78"]
    (table,) = pictures("x\n\n    a      it is\n    b      it was\n    c      it will be\n    of that d      it goes")
    assert wrapped(table) == ["    of that d      it goes"]


def test_every_module_that_a_docstring_or_comment_names_is_there() -> None:
    """By its path, from the repository, from `processor/` or from beside it; or by a name that some module has."""
    paths = [path for package in ("processor", "tests") for path in sorted((ROOT / package).rglob("*.py"))]
    known = {path.name for path in paths}
    lost = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in re.findall(r"`([a-z_/]+\.py)`", path.read_text(encoding="utf-8"))
        if not any((root / name).exists() for root in (ROOT, ROOT / "processor", ROOT / "tests", path.parent))
        and not ("/" not in name and name in known)
    ]
    assert not lost
