"""What a replay says before it does anything: how many letters, which orders, how long, at which part of the quota."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import click
import msgspec
import pytest
from click.testing import CliRunner

from processor.cli.dead_letters.filters import Filters, filters
from processor.cli.dead_letters.runs import in_turn, refuse_resolved, say, say_unread
from processor.letters.resolutions import resolution_key
from processor.operate.replay.campaign import Refused, Report, Summary
from processor.operate.replay.replay import Ending
from processor.operate.replay.selection import Selection
from processor.operate.replay.survey import Field, Route
from processor.topics import Topic
from tests.fakes.clock import FakeClock
from tests.fakes.crash_points import Crash, Point
from tests.support.commands import told
from tests.support.json_output import printed
from tests.unit.operate.replay.world import World

SUMMARY = Summary(
    topic="hakuna.dead-letters",
    replay_id="r1",
    resumed=False,
    goes=3_000,
    of_which_follow=12,
    orders=2_988,
    held_orders=9,
    order_ids=tuple(f"ord-{number}" for number in range(20)),
    reasons={"location_unsupported": 2_988, "held": 12},
    stays={"it was replayed as often as --max-replays allows": 1},
    superseded={},
    letters=("hakuna.dead-letters/0/7: it was replayed as often as --max-replays allows",),
    rate_s=0.4,
    paced_by="20% of the quota 120/60s, live traffic goes first",
    seconds=7_500.0,
)


def test_the_plan_names_what_goes_which_orders_how_long_and_what_stays() -> None:
    said: list[str] = []
    say(SUMMARY, "sent again", said.append)
    assert said == [
        "hakuna.dead-letters: 3,000 letters of 2,988 orders will be sent again; 12 of them wait behind the selected "
        "ones; 2.1 h or longer at 0.4 a second (20% of the quota 120/60s, live traffic goes first)",
        "  orders: ord-0, ord-1, ord-2, ord-3, ord-4 and 2,983 more",
        "         9  of the orders are held: what comes live of them goes behind",
        "      2988  location_unsupported",
        "        12  held",
        "         1  stay: it was replayed as often as --max-replays allows",
        "            hakuna.dead-letters/0/7: it was replayed as often as --max-replays allows",
    ]


def test_one_letter_is_one_letter() -> None:
    one = msgspec.structs.replace(SUMMARY, goes=1, orders=1, order_ids=("ord-7",), of_which_follow=0, seconds=2.5)
    said: list[str] = []
    say(one, "sent again", said.append)
    assert "1 letter of 1 order will be sent again; 2.5 s or longer at 0.4 a second" in said[0]
    assert "  orders: ord-7" in said


def test_a_topic_that_nobody_reads_is_named_with_what_to_start() -> None:
    said: list[str] = []
    say_unread({"p.hakuna.outbox": "p.hakuna-processor.send"}, said.append)
    assert said[0].startswith("nobody reads p.hakuna.outbox: the group p.hakuna-processor.send has no member.")
    assert "`hakuna-processor run --role send`" in said[0]


REPORT = Report(
    topic="orders.dead-letters", replay_id="r1", ending="done", sent=3, accepted=3, absorbed=0, parked=0, returned={},
    superseded=0, followed=0, released_orders=0, held_again_orders=0, stays={}, under_way=0, left=0, seconds=0.1,
)  # fmt: skip
STOPPED = msgspec.structs.replace(REPORT, topic="hakuna.dead-letters", ending=Ending.BY_HAND.value, left=2)


def turned(results: dict[str, Report | Exception], output: str, capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """The topics that were begun, how it ended, and what was printed."""
    begun: list[str] = []

    def do(field: Field) -> Report:
        begun.append(field.letters)
        result = results[field.letters]
        if isinstance(result, Exception):
            raise result
        return result

    fields = [Field(topic, "", "", "", "", "", Route.FOREIGN, {}) for topic in results]
    try:
        in_turn(fields, do, output)
    except (SystemExit, Refused) as ended:
        return [begun, ended, capsys.readouterr().out]
    return [begun, None, capsys.readouterr().out]


@pytest.mark.parametrize("output", ["json", "table"])
def test_what_was_done_of_one_topic_is_told_though_the_next_one_fails(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = Refused("an earlier run on b is not finished")
    begun, ended, out = turned({"a": REPORT, "b": refused, "c": REPORT}, output, capsys)
    assert (begun, ended) == (["a", "b"], refused)
    assert "orders.dead-letters" in out
    if output == "json":
        assert printed("dead-letters.replay", out) == [msgspec.to_builtins(REPORT)]
    assert turned({"a": refused}, output, capsys)[2] == "", "nothing was done"


def test_after_one_topic_that_stopped_early_no_other_is_begun(capsys: pytest.CaptureFixture[str]) -> None:
    begun, ended, out = turned({"a": REPORT, "b": STOPPED, "c": REPORT}, "json", capsys)
    assert begun == ["a", "b"]
    assert ended.code == 1
    assert [one["left"] for one in printed("dead-letters.replay", out)] == [0, 2]


def test_a_named_letter_is_refused_once_it_is_resolved_but_the_same_command_goes_on_with_its_run() -> None:
    world = World(random.Random(1))
    world.refused({"o-1": 1})
    (letter,) = world.letters()
    named = Selection(letters=(str(letter.position),))

    def dies_when_it_is_sent(point: Point) -> BaseException | None:
        sent = any(record.key == resolution_key(letter.position) for record in world.broker.records(Topic.RESOLUTIONS))
        return Crash("killed") if sent and point.done else None

    goes_on = world.broker.points.decide
    world.broker.points.decide = dies_when_it_is_sent
    assert world.replay(named) is None
    world.broker.points.decide = goes_on
    refuse_resolved(*world.asked(), named)
    report = world.replayed(named)
    assert (report.ending, report.accepted, world.held()) == ("done", 1, set())
    with pytest.raises(click.ClickException, match=r"hakuna\.dead-letters/1/0 was replayed by a test at "):
        refuse_resolved(*world.asked(), named)


@pytest.mark.parametrize("verb", [("replay",), ("replay", "--dry-run"), ("discard", "--reason", "x")])
def test_every_letter_is_meant_only_where_it_is_said(verb: tuple[str, ...]) -> None:
    assert "name letters or a filter, or say --everything" in told(1, "dead-letters", *verb)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_at_which_nothing_would_be_sent_is_refused_with_what_to_say_instead(rate: str) -> None:
    said = told(1, "dead-letters", "replay", "--everything", "--rate", rate)
    assert "say how many, or leave it out (a fifth of the quota)" in said


def test_a_share_that_is_no_number_is_refused_since_a_replay_would_never_stop_at_it() -> None:
    said = told(1, "dead-letters", "replay", "--everything", "--stop-on-error-share", "nan")
    assert "Invalid value for --stop-on-error-share: no number: a share from 0 to 1" in said


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    assert "--since has to be before --until" in told(1, "order", "ord-1", "--since", "1h", "--until", "2h")

    class Desk:
        clock = FakeClock()

        def topics(self, _named: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
            return ["hakuna.dead-letters"], ()

    @click.command()
    @filters()
    def list_letters(filters: Filters) -> None:
        filters.resolved(cast("Any", Desk()))

    assert CliRunner().invoke(list_letters, ["--since", "2h", "--until", "1h"]).exit_code == 0
    listed = CliRunner().invoke(list_letters, ["--since", "2026-05-09", "--until", "2026-05-09"])
    assert (listed.exit_code, "--since has to be before --until" in listed.output) == (2, True)
