"""A real Prometheus and Alertmanager watch real workers of all roles under load: every query of every dashboard has an
answer, and a real outage rings for each destination, and ends.

The rules run with every duration a twentieth of what it is (`SPEED`), so that five minutes of an outage are fifteen
seconds; thresholds and expressions are what they are.
"""

import re
import time
from pathlib import Path

import pytest

from processor.topics import Topic
from tests.conftest import StartWorker
from tests.deploy.test_grafana import DASHBOARDS, loaded, queries
from tests.deploy.test_prometheus import RULE_FILES
from tests.deploy.watching import Load, Watched, watched
from tests.support.children import wait_until
from tests.support.commands import run
from tests.support.installation import Installation
from tests.support.topics import TopicSpace

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

SPEED = 20
SCRAPE_S = 1
LOADED_SECONDS_MAX = 90.0
RINGS_SECONDS_MAX = 90.0
UNITS_S = {"s": 1, "m": 60, "h": 3600}
DOWN = {("ProcessorDestinationDown", "hakuna"), ("ProcessorDestinationDown", "hako")}


def hastened(text: str) -> str:
    """Rules with every duration divided by SPEED, none below two scrapes."""

    def shorter(match: re.Match[str]) -> str:
        return f"{max(2 * SCRAPE_S, round(int(match[1]) * UNITS_S[match[2]] / SPEED))}s"

    return re.sub(r"(?<=[\[ ])(\d+)([smh])(?=[\]\n )])", shorter, text)


def silent(seen: Watched) -> list[str]:
    """The queries of all dashboards that have not had an answer at any time since the beginning. Those of rekey ask for
    what send and transform are asked for as well, and the role is off here."""
    span = {"start": seen.began, "end": time.time(), "step": 2}
    return [
        f"{path.stem}: {name}: {query}"
        for path in DASHBOARDS
        for name, query in queries(loaded(path))
        if 'role="rekey"' not in query
        and not any(
            sample[1] != "NaN"
            for series in seen.asked("query_range", query=hastened_range(query), **span)["result"]
            for sample in series["values"]
        )
    ]


def hastened_range(query: str) -> str:
    """The run lasts a minute; a rate over a minute would see all of it, or nothing."""
    return query.replace("[1m]", "[10s]").replace("[1m:15s]", "[30s:1s]")


def replay_what_was_refused(installation: Installation) -> None:
    """What transform refused: with a quota that live traffic uses up, what Hakuna did would wait for its turn."""
    letters = Topic.ORDER_DEAD_LETTERS
    wait_until(lambda: any(installation.space.end_offsets(letters).values()), what="a dead letter", timeout_s=60)
    pace = ("--canary", "0", "--stop-on-error-share", "1", "--rate", "50", "--wait-max", "20s")
    said = run("dead-letters", "replay", "--topic", letters, *pace, environment=installation.environment)
    assert "will be sent again" in said.err


def firing(seen: Watched) -> set[tuple[str, str]]:
    """As Prometheus has them; Alertmanager keeps an alert for a while after its end."""
    alerts = [one["labels"] for one in seen.asked("alerts")["alerts"] if one["state"] == "firing"]
    return {(labels["alertname"], labels.get("destination", labels.get("role", ""))) for labels in alerts}


@pytest.mark.timeout(420)
def test_every_query_has_an_answer_under_load_and_an_outage_rings_and_ends(
    topic_space: TopicSpace, schema_registry: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    rules = {path.name: hastened(path.read_text()) for path in RULE_FILES}
    installation = Installation(topic_space, schema_registry, partitions=4)
    with watched(installation, start_worker, tmp_path, Load(), rules, SCRAPE_S) as seen:
        replay_what_was_refused(installation)
        deadline_s = time.monotonic() + LOADED_SECONDS_MAX
        while missing := silent(seen):
            assert time.monotonic() < deadline_s, "without an answer:\n" + "\n".join(missing)
            time.sleep(3)
        health = seen.asked("rules")["groups"]
        assert [rule["name"] for group in health for rule in group["rules"] if rule["health"] != "ok"] == []
        assert not DOWN & seen.told()

        seen.apis.down()
        wait_until(lambda: seen.told() >= DOWN, what="The alert for both", timeout_s=RINGS_SECONDS_MAX)
        assert all(worker.running for worker in seen.workers.values())
        seen.apis.up()
        wait_until(lambda: not DOWN & firing(seen), what="The end of the alert", timeout_s=RINGS_SECONDS_MAX)
