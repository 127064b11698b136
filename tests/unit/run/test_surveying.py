"""A survey beside transform: what it finds is said once, and its trouble stops nobody."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from processor.errors import BrokerOutage
from processor.run.surveying import Surveying
from processor.sources.placements import Sample
from processor.sources.survey import Surveyed, judged
from tests.support.children import wait_until
from tests.unit.sources.test_survey import KEEP, topic


def test_what_a_survey_finds_is_learnt_and_said_once() -> None:
    learnt: list[Mapping[str, Sample]] = []
    found = {"placed": topic("murmur2"), "fulfilled": topic("crc32")}
    surveying = Surveying(lambda: found, partial(judged, configs=dict.fromkeys(found, KEEP)), learnt.append)
    with structlog.testing.capture_logs() as lines:
        surveying.look()
        surveying.look()
    (line,) = lines
    assert (line["log_level"], line["topic"]) == ("warning", "fulfilled")
    assert [one["topic"] for one in surveying.status()] == ["fulfilled"]
    assert learnt == [{name: one.sample for name, one in found.items()}] * 2


def test_an_outage_is_no_end_of_it_and_a_stop_is() -> None:
    asked: list[int] = []

    def down() -> Mapping[str, Surveyed]:
        asked.append(1)
        raise BrokerOutage("no broker answers")

    surveying = Surveying(down, lambda found: [])
    surveying.start()
    wait_until(lambda: bool(asked), what="a first survey", timeout_s=10)
    surveying.ask_to_stop()
    surveying.join()
    assert surveying.said == ()
