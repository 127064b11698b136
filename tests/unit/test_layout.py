"""The arrows between packages point one way, and only the edges import what talks to the outside."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import processor

ROOT = Path(processor.__file__).parent

FOREIGN = {
    "confluent_kafka": ("edges", "sandbox"),
    "fastavro": ("edges", "sandbox"),
    "rocksdict": ("edges",),
    "prometheus_client": ("edges", "sandbox"),
    "httptools": ("edges", "sandbox"),
    "opentelemetry": ("edges",),
    "uvicorn": ("sandbox",),
}
"""Libraries that talk to the outside, and the packages that may import them."""

ARROWS = {
    # What a package may import of ours, beside the nouns that all may.
    "transform": {"transform", "hakuna", "letters"},
    "rekey": {"rekey", "letters"},
    "send": {"send", "letters"},
    "hakuna": {"hakuna"},
    "hako": {"hako", "send", "letters"},
    "letters": {"letters"},
    "operate": {"operate", "edges", "hakuna", "hako", "letters", "transform", "send", "run"},
    "edges": {"edges", "transform", "send", "hakuna", "letters"},
}
WINGS = (("send/kafka_thread", "send/event_loop"), ("send/event_loop", "send/kafka_thread"))
"""The Kafka thread never does HTTP, the event loop never calls Kafka: neither imports the other."""
NOUNS = {"records", "errors", "interfaces", "config", "topics", "api", "watch", "moments", "sources"}
KAFKA = {"Record", "Headers", "Position", "TopicPartition"}
"""What knows of Kafka among the nouns."""
PURE = (
    "records",
    "errors",
    "hakuna",
    "hako/changes",
    "hako/answers",
    "hako/destination",
    "hako/gathering",
    "hako/kinds",
    "hako/parked",
    "api",
    "send/event_loop/retries",
    "transform/rules",
    "transform/placed",
    "transform/transitions",
    "transform/unheard",
    "transform/units",
    "edges/avro_schema",
    "edges/avro_plan",
    "edges/avro_steps",
    "edges/avro_reader",
    "edges/avro_wire",
    "sources",
)
CLOCKS = {"time", "random", "datetime.now", "asyncio", "socket", "threading"}


def modules(package: str) -> Iterator[Path]:
    place = ROOT / package
    yield from sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, whole names."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case _:
                pass


@pytest.mark.parametrize("library", FOREIGN)
def test_only_the_edges_import_what_talks_to_the_outside(library: str) -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in FOREIGN[library]
        and any(name == library or name.startswith(library + ".") for name in imported(path))
    ]
    assert not guilty


@pytest.mark.parametrize("package", ARROWS)
def test_imports_point_one_way(package: str) -> None:
    allowed = ARROWS[package] | NOUNS
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imported(path)
        if name.startswith("processor.") and name.split(".")[1] not in allowed
    ]
    assert not wrong


def test_a_package_imports_only_from_lines_below_its_own_in_the_table_of_packages() -> None:
    told = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The packages")[2].partition("## ")[0]
    order = re.findall(r"^\| `processor/(\w+)/` \|", told, re.MULTILINE)
    assert sorted(order) == sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    upward = [
        f"{path.relative_to(ROOT)} imports {name}"
        for number, package in enumerate(order)
        for path in modules(package)
        for name in imported(path)
        if name.startswith("processor.") and name.split(".")[1] in order[:number]
    ]
    assert not upward


@pytest.mark.parametrize(("wing", "other"), WINGS)
def test_the_two_wings_of_send_import_nothing_of_each_other(wing: str, other: str) -> None:
    name = "processor." + other.replace("/", ".")
    assert not [path for path in modules(wing) if any(one.startswith(name) for one in imported(path))]


def test_transform_and_send_meet_in_the_outbox_alone() -> None:
    for package, other in (("transform", "send"), ("send", "transform")):
        assert not [path for path in modules(package) if any(f"processor.{other}" in name for name in imported(path))]


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_no_clock_no_chance_and_no_io(module: str) -> None:
    for path in modules(module):
        assert not CLOCKS & set(imported(path)), path


def test_what_hako_wants_knows_no_word_of_kafka() -> None:
    for path in (ROOT / "hako" / f"{module}.py" for module in ("changes", "answers", "destination")):
        names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not KAFKA & names, path


def test_every_module_says_what_it_is() -> None:
    silent = [path for path in sorted(ROOT.rglob("*.py")) if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert not silent


def test_kafka_clients_are_made_in_one_place() -> None:
    """And in `properties.py`, which finds out what librdkafka refuses by trying."""
    makes = re.compile(r"\b(?:ck\.)?(?:Producer|Consumer|AdminClient)\(")
    places = {path.name for path in modules("edges") if makes.search(path.read_text(encoding="utf-8"))}
    assert places == {"properties.py"}


LINES_MAX = {"file": 500, "class": 350, "function": 50}
"""What a reader keeps in view."""


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT)
    if (lines := len(text.splitlines())) > LINES_MAX["file"]:
        yield f"{place}: {lines}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LINES_MAX["class" if isinstance(node, ast.ClassDef) else "function"]:
                yield f"{place} {node.name}: {lines}"


def test_no_file_no_class_and_no_function_is_too_long() -> None:
    assert [one for path in sorted(ROOT.rglob("*.py")) for one in too_long(path)] == []


HARD_TO_PARSE = re.compile(r"\b(whoever|quota of theirs|is none of ours|are none of ours)\b", re.IGNORECASE)


def test_words_that_a_reader_has_to_parse_twice_stand_in_no_docstring_and_no_message() -> None:
    found = [
        f"{path}:{node.lineno}: {hard.group()}"
        for path in modules("")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for hard in HARD_TO_PARSE.finditer(node.value)
    ]
    assert not found
