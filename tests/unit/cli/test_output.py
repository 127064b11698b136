"""The schema of what commands print as JSON has each command, each word and each field that the code has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any

import click
import pytest

from processor.cli import main
from processor.config import Role
from processor.edges.avro_steps import What
from processor.letters.families import Family
from processor.letters.resolutions import How, Resolution
from processor.operate.check.findings import Area
from processor.operate.check.rights import Grant
from processor.operate.erase import Left
from processor.operate.order.story import Kind
from processor.operate.recover import Move
from processor.operate.replay.campaign import Report, Summary
from processor.operate.replay.purge import Cut
from processor.operate.replay.replay import Ending
from processor.operate.schemas import SchemaAction
from processor.operate.state.grow import Moved
from processor.sources.survey import Weight
from processor.topics import Action
from processor.transform.order_state import Standing
from tests.support.children import REPOSITORY
from tests.support.commands import ask
from tests.support.json_output import printed

DEFINED: dict[str, Any] = json.loads((REPOSITORY / "schemas" / "command-output.schema.json").read_text("utf-8"))[
    "$defs"
]
SHARED = {"topics.plan": "topics", "topics.create": "topics", "schemas.check": "schemas", "schemas.register": "schemas"}
"""Commands that print the same."""


def with_output(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from with_output(found, f"{name}.{below}" if name else below)
    elif any(param.name == "output" for param in command.params):
        yield name


@pytest.mark.parametrize("name", sorted(with_output(main, "")))
def test_what_each_command_prints_as_json_is_defined(name: str) -> None:
    assert SHARED.get(name, name) in DEFINED


def at(path: str) -> Any:
    """What stands in the definitions: a name, then properties and items."""
    name, *way = path.split("/")
    found = DEFINED[name]
    for step in way:
        found = found["items"] if step == "[]" else found["properties"][step]
    return found


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("status/partitions/[]/role", Role),
        ("check/findings/[]/area", Area),
        ("check/findings/[]/verdict", Weight),
        ("topics/[]/action", Action),
        ("schemas/[]/action", SchemaAction),
        ("schemas/[]/versions/[]/fields/[]/what", What),
        ("dead-letters.letter/family", Family),
        ("dead-letters.letter/resolution/how", How),
        ("dead-letters.report/ending", Ending),
    ],
)
def test_the_words_of_the_schema_are_the_codes(path: str, words: type[Enum]) -> None:
    assert set(at(path)["enum"]) == {word.value for word in words}


def test_an_order_may_stand_as_the_code_says_and_each_kind_of_line_is_defined() -> None:
    assert set(at("order.state/standing")["enum"]) >= {standing.name.lower() for standing in Standing}
    assert {kind.value for kind in Kind} == {name.removeprefix("order.") for name in DEFINED if "order." in name[:6]}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("dead-letters.report", Report.__struct_fields__),
        ("dead-letters.summary", Summary.__struct_fields__),
        ("dead-letters.purge/partitions/[]", Cut.__struct_fields__),
        ("dead-letters.letter/resolution", Resolution.__struct_fields__),
        ("erase/left/[]", Left.__struct_fields__),
        ("rewind/[]", Move._fields),
        ("topics.grow", ("was", "partitions", "partitioner", *Moved._fields)),
    ],
)
def test_the_fields_of_the_schema_are_the_codes(path: str, fields: tuple[str, ...]) -> None:
    assert set(at(path)["properties"]) == set(fields)


def test_rights_are_printed_as_they_are_defined() -> None:
    code, out, _ = ask("check", "--rights", "--output", "json", environment={"PROCESSOR_REKEY": "on"})
    assert code == 0
    told = printed("check.rights", out)
    assert told.keys() == {*(f"kafka-{role}" for role in Role), "kafka-operator"}
    assert {len(grant) for grants in told.values() for grant in grants} == {len(Grant._fields)}
