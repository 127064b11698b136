"""Replays of Hako's letters: nothing but the group's commit and another letter shows what became of a copy."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from processor.interfaces import Committed
from processor.letters.letter import Refusal, letter_headers
from processor.operate.replay.selection import Selection
from processor.operate.replay.survey import Route, Task
from processor.records import Record, Stage, TopicPartition
from processor.topics import Topic
from tests.fakes.crash_points import Point
from tests.unit.operate.replay.world import World

LEVELS = TopicPartition(Topic.LEVELS, 0)
GROUP = "hako"


class Stock(World):
    """Levels that Hako has refused. `takes_s` is how long Hako's quota lets it take over an array, `refuses` what it
    says; `held_up`: a level that waits for its item stands before everything."""

    def __init__(self, letters: int, *, takes_s: float, refuses: bool = False, held_up: bool = False) -> None:
        super().__init__(random.Random(1))
        self._takes_s, self._refuses, self._held_up = takes_s, refuses, held_up
        self._came_s: dict[int, float] = {}
        self._next = 0
        for number in range(letters):
            key = b"w/sku-%d" % number
            offset = self.broker.append(*LEVELS, key, b"level")
            self.letter(Record(*LEVELS, offset, 1, key, b"level", []))
            self._next = offset + 1
        self.broker.group(GROUP).committed[LEVELS] = Committed(0 if held_up else self._next, "")

    def letter(self, level: Record) -> None:
        refusal = Refusal(stage=Stage.SEND, reason="http_400", message="", group=GROUP, failed_ms=self.clock.now_ms())
        headers = letter_headers(level, refusal)
        self.broker.append(Topic.HAKO_DEAD_LETTERS, 0, level.key, level.value, headers, level.timestamp_ms)

    def _at_point(self, point: Point) -> BaseException | None:
        log = self.broker.logs[LEVELS]
        levels, position = log.read(self._next, 100)
        now_s = self.clock.monotonic_s()
        for level in levels:
            if now_s < self._came_s.setdefault(level.offset, now_s) + self._takes_s:
                return None
            if self._refuses:
                self.letter(level)
            self._next = level.offset + 1
        self._next = position
        if not self._held_up:
            self.broker.group(GROUP).committed[LEVELS] = Committed(position, "")
        return None

    def _task(self, selection: Selection, more: dict[str, Any]) -> Task:
        task = super()._task(selection, more)
        field = task.field._replace(letters=Topic.HAKO_DEAD_LETTERS, route=Route.FOREIGN)
        return replace(task, field=field, tells=None, groups={LEVELS.topic: GROUP})


def test_the_canary_waits_for_hako_however_long_its_quota_makes_it_take() -> None:
    world = Stock(6, takes_s=12.0, refuses=True)
    report = world.replayed(canary=2, share_max=0.5)
    assert (report.ending, report.sent, report.returned) == ("too many came back", 2, {"http_400": 2})
    assert report.left == 6


def test_what_hako_has_finished_without_a_letter_is_done_at_once() -> None:
    world = Stock(6, takes_s=0.5)
    began_s = world.clock.monotonic_s()
    report = world.replayed(canary=2, share_max=0.5)
    assert (report.ending, report.absorbed, report.left) == ("done", 6, 0)
    assert world.clock.monotonic_s() - began_s < 10.0


@pytest.mark.parametrize("refuses", [True, False])
def test_a_commit_that_stands_behind_something_else_holds_no_replay_up_for_good(refuses: bool) -> None:
    world = Stock(6, takes_s=12.0, refuses=refuses, held_up=True)
    report = world.replayed(canary=2, share_max=0.5)
    assert report.ending == ("too many came back" if refuses else "done")
    assert (report.sent, report.absorbed) == ((2, 0) if refuses else (6, 6))
