"""A purge of several topics deletes nothing where it refuses one, and tells what was deleted if the next one fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from processor.cli.dead_letters.desk import Desk
from processor.config import load
from processor.errors import BrokerOutage
from processor.operate.replay.purge import Cut
from tests.fakes.clock import FakeClock
from tests.support.commands import Said, ask
from tests.support.json_output import printed

deleted: list[str] = []


class FakePurge:
    """Deletes a letter of each topic; the brokers are gone when it comes to Hako's."""

    def __init__(self, *_: object) -> None:
        deleted.clear()

    def cuts(self, topic: str, _older_than_ms: int) -> list[Cut]:
        if topic == "hako.dead-letters":
            raise BrokerOutage("no broker answers")
        return [Cut(topic=topic, partition=0, offset=1, deleted=1, stays=0)]

    def delete(self, cuts: list[Cut]) -> None:
        deleted.extend(cut.topic for cut in cuts)

    def forget(self, _topic: str, _ledger: object) -> None:
        pass


def purged(monkeypatch: pytest.MonkeyPatch, *, unfinished: str = "") -> Said:
    """It failed."""
    desk = Desk.__new__(Desk)
    desk.settings, desk.clock, desk.resolutions, desk._open = load({}, None), FakeClock(), "resolutions", []  # type: ignore[assignment]
    desk.offsets = SimpleNamespace(partitions=lambda _topic: 1)  # type: ignore[assignment]
    clients = SimpleNamespace(reading=None, ledger=None)
    monkeypatch.setattr(desk, "working", lambda: clients)
    monkeypatch.setattr(desk, "deletion", lambda: None)
    monkeypatch.setattr("processor.cli.dead_letters.desk_of", lambda _file: desk)
    monkeypatch.setattr("processor.cli.dead_letters.runs.has_rights", lambda *_, **__: True)
    monkeypatch.setattr("processor.cli.dead_letters.runs.Purge", FakePurge)
    run = SimpleNamespace(replay_id="r1")
    monkeypatch.setattr(
        "processor.cli.dead_letters.runs.unfinished", lambda _, field: run if field.letters == unfinished else None
    )
    said = ask("dead-letters", "purge", "--older-than", "1d", "--output", "json")
    assert said.code == 1
    return said


def test_what_was_deleted_of_one_topic_is_told_though_the_next_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    said = purged(monkeypatch)
    assert "no broker answers" in said.err
    cuts = printed("dead-letters.purge", said.out)["partitions"]
    assert [cut["topic"] for cut in cuts] == deleted == ["orders.dead-letters", "hakuna.dead-letters"]


def test_nothing_is_deleted_while_a_run_on_any_of_the_topics_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    said = purged(monkeypatch, unfinished="hako.dead-letters")
    assert "r1 on hako.dead-letters is not finished, and needs its letters" in said.err
    assert (said.out, deleted) == ("", [])
