"""Kafka Streams, Kafka Connect, Spring Kafka and share groups themselves write what is recorded of them, and it is read
for what it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from processor.letters.families import letter_facts
from processor.records import Record
from tests.support.jars import class_path
from tests.support.letters_of_others import POM, TOOLS, letter, refused
from tests.unit.letters import written_by_others as others

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    class_path("letters", POM)
    with refused() as address:
        yield address


@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_tool_writes_is_what_was_recorded_of_it(servers: str, tool: str, tmp_path: Path) -> None:
    written = others.record_of(letter(servers, tool, tmp_path))
    recorded = others.LETTERS[tool]
    assert (written.key, written.value, written.partition) == (recorded.key, recorded.value, recorded.partition)
    assert steady(written) == steady(recorded)
    if tool in ("streams", "connect"):  # the letters of others bear the time of the failure
        assert written.timestamp_ms == recorded.timestamp_ms
    told, expected = letter_facts(written), letter_facts(recorded)
    assert (told.family, told.origin, told.reason, told.message, told.group, told.original_ms) == (
        expected.family, expected.origin, expected.reason, expected.message, expected.group, expected.original_ms
    )  # fmt: skip


def steady(letter: Record) -> list[tuple[str, bytes | None]]:
    """Without the stack traces, which name threads and generated classes."""
    return [(name, None if "stacktrace" in name else value) for name, value in letter.headers]
